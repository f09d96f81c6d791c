//! The revisions of one workload, on demand: raw templates from ReplicaSets, ControllerRevisions and
//! our own pins.

use super::{
    connect::READ_DEADLINE,
    template::{TemplateMark, restorable},
};
use crate::domain::{Kind, Revision, Seconds, WorkloadId};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;
use std::time::Duration;

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No answer in time.
    #[error("no answer in {} s while {doing}", deadline.as_secs())]
    Deadline {
        /// What was tried.
        doing: String,
        /// For how long.
        deadline: Duration,
    },
    /// The API server refused, or could not be reached.
    #[error("failed {doing}: {}", said(source))]
    Api {
        /// What was tried.
        doing: String,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such object.
    #[error("{0} does not exist")]
    Missing(String),
}

/// What the API server, or the way to it, said.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        kube::Error::Service(_) | kube::Error::HyperError(_) => format!("the API server cannot be reached ({error})"),
        other => other.to_string(),
    }
}

/// Runs one read of the API server with its deadline.
///
/// # Errors
/// What was being done, and what came back.
pub async fn within<T>(
    deadline: Duration,
    doing: impl Into<String>,
    read: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReadError> {
    match tokio::time::timeout(deadline, read).await {
        Err(_) => Err(ReadError::Deadline { doing: doing.into(), deadline }),
        Ok(Err(error)) => Err(ReadError::Api { doing: doing.into(), source: Box::new(error) }),
        Ok(Ok(value)) => Ok(value),
    }
}

/// One revision of a workload.
#[derive(Debug, Clone)]
pub struct RevisionEntry {
    /// Its names.
    pub mark: TemplateMark,
    /// The number that Kubernetes gives it now; it moves on an undo.
    pub number: i64,
    /// When its object was created.
    pub created: Seconds,
    /// `ReplicaSet/x` or `ControllerRevision/x`.
    pub object: String,
    /// Value of the pods' label that names this revision (`pod-template-hash`, `controller-revision-hash`).
    pub pod_label: String,
    /// `kubernetes.io/change-cause`, if people keep it.
    pub change_cause: Option<String>,
    /// The template as an undo would write it.
    pub template: Value,
}

/// An API for raw objects of one kind of `apps/v1`; raw, because a typed template loses fields.
pub fn raw_api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// One workload as raw JSON, from a quorum (no `resourceVersion`).
///
/// # Errors
/// [`ReadError::Missing`] when there is none.
pub async fn get_raw(client: &Client, id: &WorkloadId) -> Result<DynamicObject, ReadError> {
    let api = raw_api(client, &id.namespace, id.kind.as_str());
    within(READ_DEADLINE, format!("reading {id}"), api.get_opt(&id.name))
        .await?
        .ok_or_else(|| ReadError::Missing(id.to_string()))
}

/// The revisions of a workload that Kubernetes still keeps, newest number first.
///
/// # Errors
/// When the list cannot be read; one unreadable revision is left out.
pub async fn revisions(
    client: &Client,
    id: &WorkloadId,
    uid: &str,
    selector: &str,
) -> Result<Vec<RevisionEntry>, ReadError> {
    let kind = if id.kind == Kind::Deployment { "ReplicaSet" } else { "ControllerRevision" };
    let api = raw_api(client, &id.namespace, kind);
    let params = ListParams::default().labels(selector);
    let list = within(READ_DEADLINE, format!("listing the {kind}s of {id}"), api.list(&params)).await?;
    let mut entries: Vec<RevisionEntry> = list
        .items
        .iter()
        .filter(|object| owned_by(object, uid))
        .filter_map(|object| {
            if id.kind == Kind::Deployment { of_replica_set(object) } else { of_controller_revision(id.kind, object) }
        })
        .collect();
    // Of two with the same template the controller uses the older (safety.md 2.1).
    entries.sort_by(|a, b| b.number.cmp(&a.number).then(a.created.total_cmp(&b.created)));
    Ok(entries)
}

fn owned_by(object: &DynamicObject, uid: &str) -> bool {
    object.metadata.owner_references.iter().flatten().any(|o| o.controller == Some(true) && o.uid == uid)
}

fn of_replica_set(object: &DynamicObject) -> Option<RevisionEntry> {
    let annotations = object.metadata.annotations.as_ref();
    let number = annotations?.get("deployment.kubernetes.io/revision")?.parse().ok()?;
    let pod_label = object.metadata.labels.as_ref()?.get(super::template::POD_TEMPLATE_HASH)?.clone();
    entry(object, "ReplicaSet", number, pod_label, object.data.pointer("/spec/template")?)
}

fn of_controller_revision(kind: Kind, object: &DynamicObject) -> Option<RevisionEntry> {
    let number = object.data.get("revision")?.as_i64()?;
    let pod_label = match kind {
        Kind::StatefulSet => object.metadata.name.clone()?,
        _ => object.metadata.labels.as_ref()?.get("controller-revision-hash")?.clone(),
    };
    entry(object, "ControllerRevision", number, pod_label, object.data.pointer("/data/spec/template")?)
}

fn entry(
    object: &DynamicObject,
    kind: &str,
    number: i64,
    pod_label: String,
    template: &Value,
) -> Option<RevisionEntry> {
    let meta = &object.metadata;
    Some(RevisionEntry {
        mark: TemplateMark::of(template),
        number,
        created: meta.creation_timestamp.as_ref().map_or(0.0, |t| crate::clock::seconds(t.0)),
        object: format!("{kind}/{}", meta.name.as_deref()?),
        pod_label,
        change_cause: meta.annotations.as_ref().and_then(|a| a.get("kubernetes.io/change-cause")).cloned(),
        template: restorable(template),
    })
}

/// The revision that the live one replaced: the newest other one.
pub fn before<'a>(entries: &'a [RevisionEntry], live: &Revision) -> Option<&'a RevisionEntry> {
    entries.iter().find(|entry| entry.mark.revision != *live)
}

/// One workload as a trimmed view, read afresh.
///
/// # Errors
/// [`ReadError::Missing`] when there is none that can be read.
pub async fn get_view(client: &Client, id: &WorkloadId) -> Result<super::view::WorkloadView, ReadError> {
    let object = get_raw(client, id).await?;
    super::view::of_raw(id.kind, &object).ok_or_else(|| ReadError::Missing(format!("a readable {id}")))
}
