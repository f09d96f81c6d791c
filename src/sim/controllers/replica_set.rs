//! ReplicaSets: so many pods of one template, no more and no fewer.

use super::{
    super::{
        object::{active, available_at, deleting, name, number, ready_since, uid},
        random::Random,
        resource::{Key, Resource},
        store::{Manager, Store},
    },
    owned, pods, sooner,
    status::{Condition, write},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One step: makes or gives up pods, and tells how many there are.
pub fn reconcile(store: &mut Store, random: &mut Random, key: &Key) -> Option<Timestamp> {
    let set = store.get(key)?.clone();
    let namespace = key.namespace.clone();
    let wanted = number(&set, "/spec/replicas").unwrap_or(1).max(0) as usize;
    let mut mine = pods::active_of(store, &namespace, uid(&set));
    let mut refused = None;
    if !deleting(&set) {
        for _ in mine.len()..wanted {
            let mut pod = pods::from_template(&set, "ReplicaSet", &set["spec"]["template"]);
            pod["metadata"]["name"] = format!("{}-{}", name(&set), random.suffix(5)).into();
            pod["metadata"]["generateName"] = format!("{}-", name(&set)).into();
            if let Err(refusal) = pods::create(store, &namespace, pod) {
                refused = Some(refusal.message);
                break;
            }
        }
        mine.sort_by_cached_key(|(_, pod)| pods::rank(pod));
        for (key, _) in mine.iter().take(mine.len().saturating_sub(wanted)) {
            pods::delete(store, key);
        }
    }
    tell(store, key, &set, refused)
}

fn tell(store: &mut Store, key: &Key, set: &Value, refused: Option<String>) -> Option<Timestamp> {
    let (now, min_ready) = (store.now(), number(set, "/spec/minReadySeconds").unwrap_or(0));
    let all = owned(store, Resource::Pods, &key.namespace, uid(set));
    let mine = || all.iter().map(|(_, pod)| pod).filter(|pod| active(pod));
    let ready = mine().filter(|pod| ready_since(pod).is_some()).count();
    let times = || mine().filter_map(|pod| available_at(pod, min_ready));
    let available = times().filter(|at| *at <= now).count();
    let failure = refused.map(|why| Condition::new("ReplicaFailure", "True", "FailedCreate", why));
    write(store, key, Manager::CONTROLLERS, now, |status| {
        let generation = number(set, "/metadata/generation").unwrap_or(0);
        let counts = [
            ("replicas", mine().count()),
            ("fullyLabeledReplicas", mine().count()),
            ("readyReplicas", ready),
            ("availableReplicas", available),
        ];
        for (field, count) in counts {
            // As in Go: a zero is left out, but for the one field that is always there.
            if count > 0 || field == "replicas" {
                status.insert(field.into(), json!(count));
            } else {
                status.remove(field);
            }
        }
        status.insert("observedGeneration".into(), json!(generation));
        failure.into_iter().collect()
    });
    // A refused pod is tried again after a while; a Ready one becomes available.
    let retry = (failure_stands(store, key)).then(|| super::super::object::after(now, 5.0));
    sooner(times().filter(|at| *at > now).min(), retry)
}

fn failure_stands(store: &Store, key: &Key) -> bool {
    store.get(key).is_some_and(|set| super::super::object::condition(set, "ReplicaFailure").is_some())
}
