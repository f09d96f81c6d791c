//! DaemonSets: one pod on each node.
//!
//! Not built: `maxSurge` above zero, node selectors and taints.

use super::{
    super::{
        object::{
            active, annotate, annotation, available_at, count_or_share, deleting, flag, label, name, number, put_label,
            ready_since, text, uid,
        },
        random::Random,
        resource::{Key, Resource},
        store::{Manager, Store},
    },
    owned, pods, revisions,
    status::write,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const REVISION: &str = "controller-revision-hash";
/// Counts the templates that a DaemonSet has had.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// One step.
pub fn reconcile(store: &mut Store, random: &mut Random, key: &Key) -> Option<Timestamp> {
    let set = store.get(key)?.clone();
    if deleting(&set) {
        return None;
    }
    let live = revisions::live(store, key, &set, Some(REVISION))?;
    let nodes: Vec<String> = store
        .list(Resource::Nodes, None)
        .filter(|(_, node)| !flag(node, "/spec/unschedulable"))
        .map(|(key, _)| key.name.clone())
        .collect();
    let hash = revisions::hash_of(&live).to_owned();
    manage(store, random, key, &set, &nodes, &hash);
    if text(&set, "/spec/updateStrategy/type") != "OnDelete" {
        roll(store, key, &set, &nodes, &hash);
    }
    let again = tell(store, key, &set, &nodes, &hash);
    let used = owned(store, Resource::Pods, &key.namespace, uid(&set));
    let in_use = |revision: &Value| {
        let hash = revisions::hash_of(revision);
        name(revision) == name(&live) || used.iter().any(|(_, pod)| label(pod, REVISION) == hash)
    };
    revisions::clean_up(store, key, &set, in_use);
    again
}

/// Where a pod runs, or is meant to run.
pub fn node_of(pod: &Value) -> &str {
    let bound = text(pod, "/spec/nodeName");
    if !bound.is_empty() {
        return bound;
    }
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let fields =
        super::super::object::list(pod, terms).flat_map(|term| super::super::object::list(term, "/matchFields"));
    let mut named = fields.filter(|field| text(field, "/key") == "metadata.name");
    named.find_map(|field| field.pointer("/values/0")?.as_str()).unwrap_or("")
}

fn by_node(store: &Store, key: &Key, set: &Value) -> BTreeMap<String, Vec<(Key, Value)>> {
    let mut nodes: BTreeMap<String, Vec<(Key, Value)>> = BTreeMap::new();
    for (key, pod) in owned(store, Resource::Pods, &key.namespace, uid(set)) {
        nodes.entry(node_of(&pod).to_owned()).or_default().push((key, pod));
    }
    nodes
}

fn manage(store: &mut Store, random: &mut Random, key: &Key, set: &Value, nodes: &[String], hash: &str) {
    let by_node = by_node(store, key, set);
    for (node, pods) in &by_node {
        for (at, (key, pod)) in pods.iter().filter(|(_, pod)| !deleting(pod)).enumerate() {
            // A second pod, one that ended, one on a node that is gone.
            if at > 0 || !active(pod) || !nodes.contains(node) {
                pods::delete(store, key);
            }
        }
    }
    for node in nodes.iter().filter(|node| by_node.get(*node).is_none_or(|pods| pods.is_empty())) {
        let mut pod = pods::from_template(set, "DaemonSet", &set["spec"]["template"]);
        pod["metadata"]["name"] = format!("{}-{}", name(set), random.suffix(5)).into();
        pod["metadata"]["generateName"] = format!("{}-", name(set)).into();
        put_label(&mut pod, REVISION, hash);
        let generation = annotation(set, TEMPLATE_GENERATION);
        if !generation.is_empty() {
            put_label(&mut pod, "pod-template-generation", generation);
        }
        let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        let _ = pods::create(store, &key.namespace, pod);
    }
}

/// Deletes old pods: those that serve nobody at once, others as `maxUnavailable` allows.
fn roll(store: &mut Store, key: &Key, set: &Value, nodes: &[String], hash: &str) {
    let now = store.now();
    let one = json!(1);
    let most =
        set.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable").filter(|v| !v.is_null()).unwrap_or(&one);
    let most = count_or_share(most, nodes.len() as i64, true).unwrap_or(1).max(1);
    let min_ready = number(set, "/spec/minReadySeconds").unwrap_or(0);
    let available = |pod: &Value| !deleting(pod) && available_at(pod, min_ready).is_some_and(|at| at <= now);
    let by_node = by_node(store, key, set);
    let (mut missing, mut dead, mut old) = (0, Vec::new(), Vec::new());
    for node in nodes {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if !pods.iter().any(|(_, pod)| available(pod)) {
            missing += 1;
        }
        for (key, pod) in pods.iter().filter(|(_, pod)| !deleting(pod) && label(pod, REVISION) != hash) {
            if available(pod) { old.push(key) } else { dead.push(key) }
        }
    }
    let room = (most - missing).max(0) as usize;
    for key in dead.into_iter().chain(old.into_iter().take(room)) {
        pods::delete(store, key);
    }
}

fn tell(store: &mut Store, key: &Key, set: &Value, nodes: &[String], hash: &str) -> Option<Timestamp> {
    let (now, min_ready) = (store.now(), number(set, "/spec/minReadySeconds").unwrap_or(0));
    let by_node = by_node(store, key, set);
    let one =
        |node: &String| by_node.get(node).and_then(|pods| pods.iter().map(|(_, pod)| pod).find(|pod| active(pod)));
    let here: Vec<&Value> = nodes.iter().filter_map(one).collect();
    let count = |wanted: &dyn Fn(&Value) -> bool| here.iter().filter(|pod| wanted(pod)).count() as i64;
    let available = count(&|pod| available_at(pod, min_ready).is_some_and(|at| at <= now));
    let misscheduled = by_node.keys().filter(|node| !nodes.contains(node)).count();
    let desired = nodes.len() as i64;
    write(store, key, Manager::CONTROLLERS, now, |status| {
        let always = [
            ("currentNumberScheduled", here.len() as i64),
            ("desiredNumberScheduled", desired),
            ("numberMisscheduled", misscheduled as i64),
            ("numberReady", count(&|pod| ready_since(pod).is_some())),
        ];
        for (field, count) in always {
            status.insert(field.into(), json!(count));
        }
        for (field, count) in [
            ("updatedNumberScheduled", count(&|pod| label(pod, REVISION) == hash)),
            ("numberAvailable", available),
            ("numberUnavailable", desired - available),
        ] {
            if count > 0 {
                status.insert(field.into(), json!(count));
            } else {
                status.remove(field);
            }
        }
        status.insert("observedGeneration".into(), set["metadata"]["generation"].clone());
        Vec::new()
    });
    here.iter().filter_map(|pod| available_at(pod, min_ready)).filter(|at| *at > now).min()
}

/// What the API server does when a DaemonSet is written: it counts the templates.
pub fn count_template(old: Option<&Value>, new: &mut Value) {
    let counted = old.map_or(0, |old| annotation(old, TEMPLATE_GENERATION).parse().unwrap_or(1));
    let changed = old.is_none_or(|old| old.pointer("/spec/template") != new.pointer("/spec/template"));
    let next: i64 = if changed { counted + 1 } else { counted };
    annotate(new, TEMPLATE_GENERATION, next.to_string());
}
