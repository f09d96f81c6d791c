//! The read-only API: what the command line shows comes from here.

use super::Served;
use crate::domain::{Kind, Snapshot, WorkloadId, WorkloadStatus};
use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::oneshot;

/// The loop turns within moments.
const PATIENCE: Duration = Duration::from_secs(3);
/// Version of the answers.
const API_VERSION: &str = "lastgood.dev/v1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a, T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Fault {
    error: String,
}

/// All that the daemon knows now.
pub(super) async fn snapshot(State(served): State<Served>) -> Response {
    let mut snapshot = Snapshot::clone(&served.snapshot.borrow().clone());
    match workloads(&served).await {
        Some(workloads) => snapshot.workloads = workloads,
        // The loop does not turn before it has reached the cluster.
        None if !snapshot.synced => {}
        None => return busy(),
    }
    json::<Snapshot>(StatusCode::OK, "Snapshot", &snapshot)
}

/// One workload.
pub(super) async fn workload(
    State(served): State<Served>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
) -> Response {
    let kind: Kind = match kind.parse() {
        Ok(kind) => kind,
        Err(error) => return fault(StatusCode::BAD_REQUEST, error),
    };
    let id = WorkloadId::new(namespace, kind, name);
    let workloads = workloads(&served).await;
    match workloads.iter().flatten().find(|w| w.workload == id) {
        Some(found) => json::<WorkloadStatus>(StatusCode::OK, "Workload", found),
        None if !served.snapshot.borrow().synced => {
            fault(StatusCode::SERVICE_UNAVAILABLE, "the first list of workloads is not complete yet".into())
        }
        None if workloads.is_none() => busy(),
        None => fault(StatusCode::NOT_FOUND, format!("{id} is not watched")),
    }
}

/// The answer to any other path.
pub(super) async fn no_such_page() -> Response {
    fault(
        StatusCode::NOT_FOUND,
        "no such page; there are /metrics, /livez, /readyz, /api/v1/snapshot, /api/v1/observations, /api/v1/workloads/{namespace}/{kind}/{name}"
            .into(),
    )
}

/// What the loop knows of each workload; `None` when it does not answer in time.
async fn workloads(served: &Served) -> Option<Vec<WorkloadStatus>> {
    let (tx, rx) = oneshot::channel();
    let asked = async {
        served.workloads.send(tx).await.ok()?;
        rx.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

fn busy() -> Response {
    fault(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy; try again".into())
}

fn fault(code: StatusCode, error: String) -> Response {
    json(code, "Error", &Fault { error })
}

fn json<T: Serialize>(code: StatusCode, kind: &'static str, body: &T) -> Response {
    match serde_json::to_vec(&Answer { api_version: API_VERSION, kind, body }) {
        Ok(bytes) => (code, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the answer: {error}\n")).into_response()
        }
    }
}
