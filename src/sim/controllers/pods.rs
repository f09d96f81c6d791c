//! Pods as controllers make and rank them.

use super::super::{
    object::{active, annotation, list, name, owned_by, ready_since, text, unset, when},
    refusal::Refusal,
    resource::{Key, Resource},
    store::{Manager, Store},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::cmp::Reverse;

/// A pod from a template, owned by a controller. The caller names it and may add labels.
pub fn from_template(owner: &Value, kind: &str, template: &Value) -> Value {
    let mut pod = json!({
        "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
    });
    unset(&mut pod, "/metadata", "creationTimestamp");
    pod["metadata"]["ownerReferences"] = owned_by(owner, "apps/v1", kind);
    pod
}

/// Creates a pod. A refused one (a quota, an admission) is tried again when something changes.
pub fn create(store: &mut Store, namespace: &str, pod: Value) -> Result<(), Refusal> {
    store.create(Resource::Pods, namespace, pod, Manager::CONTROLLERS).map(drop)
}

/// Deletes a pod with its grace.
pub fn delete(store: &mut Store, key: &Key) {
    // One that is gone already needs no deleting.
    let _ = store.delete(key);
}

/// The pods that a controller owns and that count for it.
pub fn active_of(store: &Store, namespace: &str, uid: &str) -> Vec<(Key, Value)> {
    let mut pods = super::owned(store, Resource::Pods, namespace, uid);
    pods.retain(|(_, pod)| active(pod));
    pods
}

/// Order in which a ReplicaSet gives pods up: the least goes first (`ActivePodsWithRanks`).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i64,
    /// Ready for less long, restarted more often, created later: these go first.
    since: Option<Reverse<Timestamp>>,
    restarts: Reverse<i64>,
    created: Reverse<Timestamp>,
    name: String,
}

/// The rank of a pod.
pub fn rank(pod: &Value) -> Rank {
    let phase = match text(pod, "/status/phase") {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let ready = ready_since(pod);
    Rank {
        assigned: !text(pod, "/spec/nodeName").is_empty(),
        phase,
        ready: ready.is_some(),
        cost: annotation(pod, "controller.kubernetes.io/pod-deletion-cost").parse().unwrap_or(0),
        since: ready.map(Reverse),
        restarts: Reverse(restarts(pod)),
        created: Reverse(when(pod, "/metadata/creationTimestamp").unwrap_or(Timestamp::MAX)),
        name: name(pod).to_owned(),
    }
}

fn restarts(pod: &Value) -> i64 {
    list(pod, "/status/containerStatuses").filter_map(|container| container["restartCount"].as_i64()).max().unwrap_or(0)
}

/// Whether a pod runs and is Ready.
pub fn running_and_ready(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Running" && ready_since(pod).is_some()
}
