//! One server on loopback that answers for every pod of every run, and the list of targets that Prometheus follows.
//!
//! Fails as pods do: one that crashed, or is gone, is not answered for.
use super::{Play, end, now};
use crate::{fail::Result, plane::prometheus::write_targets};
use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::StatusCode,
};
use lastgood::bench::Sample;
use serde_json::{Value, json};
use std::{fmt::Write, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

/// Seconds between two looks at which pods there are: service discovery is about as quick.
const DISCOVERY: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Shown {
    plays: Arc<Vec<(Instant, Arc<Play>)>>,
}

/// Serves until what it returns is dropped.
pub(super) async fn start(plays: Vec<(Instant, Arc<Play>)>, folder: &Path) -> Result<JoinSet<()>> {
    let shown = Shown { plays: Arc::new(plays) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/{run}/{pod}", axum::routing::get(answer)).with_state(shown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(axum::serve(listener, router).await) });
    let folder = folder.to_owned();
    tasks.spawn(async move {
        let (mut tick, mut before) = (tokio::time::interval(DISCOVERY), Vec::new());
        loop {
            tick.tick().await;
            let targets = targets(&shown.plays, address);
            if targets != before && write_targets(&folder, &targets).is_ok() {
                before = targets;
            }
        }
    });
    Ok(tasks)
}

fn targets(plays: &[(Instant, Arc<Play>)], address: SocketAddr) -> Vec<Value> {
    let pods = plays.iter().enumerate().flat_map(|(run, (start, play))| {
        let t = now(*start).filter(|t| *t < end());
        let there = play.tape.pods.iter().enumerate().filter(move |(_, pod)| t.is_some_and(|t| pod.is_target(t)));
        there.map(move |(which, _)| {
            let id = &play.world.services[play.tape.pods[which].service].id;
            json!({
                "targets": [address.to_string()],
                "labels": {
                    "__metrics_path__": format!("/{run}/{which}"),
                    "namespace": play.namespace(&id.namespace), "pod": super::puppet::pod_name(play, which),
                },
            })
        })
    });
    pods.collect()
}

async fn answer(State(shown): State<Shown>, UrlPath((run, pod)): UrlPath<(usize, usize)>) -> (StatusCode, String) {
    let sample = shown.plays.get(run).and_then(|(start, play)| play.tape.pods.get(pod)?.sample(now(*start)?));
    match sample {
        Some(sample) => (StatusCode::OK, text(&sample)),
        None => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
    }
}

/// As a Go program tells it.
fn text(sample: &Sample) -> String {
    let mut text = String::from("# TYPE http_requests_total counter\n");
    for (code, count) in [("200", sample.well), ("500", sample.failed)] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "http_requests_total{{code=\"{code}\"}} {count}");
    }
    text.push_str("# TYPE http_request_duration_seconds histogram\n");
    for (bound, count) in &sample.upto {
        let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        let _ = writeln!(text, "http_request_duration_seconds_bucket{{le=\"{bound}\"}} {count}");
    }
    let all = sample.well + sample.failed;
    let _ = writeln!(text, "http_request_duration_seconds_count {all}\nhttp_request_duration_seconds_sum 0");
    text
}
