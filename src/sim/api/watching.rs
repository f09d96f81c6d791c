//! Watches: what was written, as a stream of lines.

use super::route::{Query, Route};
use crate::sim::{Refusal, Sim, store::Change};
use axum::body::Body;
use serde_json::{Value, json};

pub(super) fn watch(sim: &Sim, route: &Route, query: &Query) -> Result<Body, Refusal> {
    let from = query.number("resourceVersion")?.unwrap_or(0);
    let mut first = Vec::new();
    let from = sim.with(|world| {
        if from != 0 && world.store.since(from).is_none() {
            return Err(Refusal::expired("too old resource version"));
        }
        if from == 0 || query.is("sendInitialEvents") {
            let found = world.store.list(route.resource, route.namespace.as_deref());
            first.extend(found.map(|(_, object)| line("ADDED", object)));
            let revision = world.store.revision();
            if query.is("sendInitialEvents") {
                first.push(line("BOOKMARK", &json!({
                    "kind": route.resource.kind(), "apiVersion": route.resource.api_version(),
                    "metadata": {"resourceVersion": revision.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}},
                })));
            }
            return Ok(revision);
        }
        Ok(from)
    })?;
    let (sim, route) = (sim.clone(), route.clone());
    let written = sim.written();
    let stream = futures::stream::unfold(
        (sim, route, from, written, Some(first)),
        |(sim, route, mut from, mut written, first)| async move {
            if let Some(first) = first {
                return Some((Ok::<_, std::convert::Infallible>(first.concat()), (sim, route, from, written, None)));
            }
            loop {
                written.borrow_and_update();
                let lines: Vec<String> = sim.with(|world| {
                    let entries = world.store.since(from).unwrap_or_default();
                    let ours = entries.iter().filter(|e| {
                        e.key.resource == route.resource
                            && route.namespace.as_deref().is_none_or(|n| n == e.key.namespace)
                    });
                    let lines = ours
                        .map(|e| {
                            let kind = match e.change {
                                Change::Added => "ADDED",
                                Change::Modified => "MODIFIED",
                                Change::Deleted => "DELETED",
                            };
                            line(kind, &e.object)
                        })
                        .collect();
                    from = world.store.revision();
                    lines
                });
                if !lines.is_empty() {
                    return Some((Ok(lines.concat()), (sim, route, from, written, None)));
                }
                if written.changed().await.is_err() {
                    return None;
                }
            }
        },
    );
    Ok(Body::from_stream(stream))
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}
