//! StatefulSets: pods with names, in order.
//!
//! OrderedReady waits for every pod before it goes on, also for one that can never become Ready: so a bad
//! template that was taken back leaves its pod stuck (k8s#67250), as on a real cluster. Not built: volume claims.

use super::{
    super::{
        object::{available_at, deleting, label, name, number, put_label, ready_since, text, uid},
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

/// One set at one look.
struct View {
    key: Key,
    set: Value,
    current: String,
    current_template: Value,
    update: String,
    pods: BTreeMap<i64, Value>,
}

/// One step.
pub fn reconcile(store: &mut Store, key: &Key) -> Option<Timestamp> {
    let set = store.get(key)?.clone();
    if deleting(&set) {
        return None;
    }
    let update = revisions::live(store, key, &set, None)?;
    let told = text(&set, "/status/currentRevision");
    let all = revisions::of(store, key, &set);
    // A current revision that history no longer has is the new one.
    let current = all.iter().find(|revision| name(revision) == told).unwrap_or(&update);
    let view = View {
        key: key.clone(),
        current: name(current).to_owned(),
        current_template: current["data"]["spec"]["template"].clone(),
        update: name(&update).to_owned(),
        pods: read_pods(store, key, &set),
        set,
    };
    view.step(store);
    let pods = read_pods(store, key, &view.set);
    let again = view.tell(store, &pods);
    let named = |revision: &Value| {
        [&view.current, &view.update].iter().any(|used| *used == name(revision))
            || pods.values().any(|pod| label(pod, REVISION) == name(revision))
    };
    revisions::clean_up(store, key, &view.set, named);
    again
}

fn read_pods(store: &Store, key: &Key, set: &Value) -> BTreeMap<i64, Value> {
    let ordinal = |pod: &Value| name(pod).rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
    let all = owned(store, Resource::Pods, &key.namespace, uid(set));
    all.into_iter().filter_map(|(_, pod)| Some((ordinal(&pod)?, pod))).collect()
}

impl View {
    fn wanted(&self) -> i64 {
        number(&self.set, "/spec/replicas").unwrap_or(1).max(0)
    }

    fn in_order(&self) -> bool {
        text(&self.set, "/spec/podManagementPolicy") != "Parallel"
    }

    fn on_delete(&self) -> bool {
        text(&self.set, "/spec/updateStrategy/type") == "OnDelete"
    }

    fn partition(&self) -> i64 {
        number(&self.set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)
    }

    fn pod_key(&self, pod: &Value) -> Key {
        Key::new(Resource::Pods, &*self.key.namespace, name(pod))
    }

    fn available(&self, pod: &Value, now: Timestamp) -> bool {
        let min_ready = number(&self.set, "/spec/minReadySeconds").unwrap_or(0);
        pods::running_and_ready(pod) && available_at(pod, min_ready).is_some_and(|at| at <= now)
    }

    /// `updateStatefulSet`: makes and heals what is wanted, gives up what is not, then moves one pod on.
    fn step(&self, store: &mut Store) {
        let now = store.now();
        for ordinal in 0..self.wanted() {
            match self.pods.get(&ordinal) {
                None => {
                    self.create(store, ordinal);
                    if self.in_order() {
                        return;
                    }
                }
                Some(pod) if matches!(text(pod, "/status/phase"), "Failed" | "Succeeded") => {
                    pods::delete(store, &self.pod_key(pod));
                    if self.in_order() {
                        return;
                    }
                }
                Some(pod) if self.in_order() && (deleting(pod) || !self.available(pod, now)) => return,
                Some(_) => {}
            }
        }
        for (_, pod) in self.pods.range(self.wanted()..).rev() {
            if !deleting(pod) {
                pods::delete(store, &self.pod_key(pod));
            }
            if self.in_order() {
                return;
            }
        }
        if self.on_delete() {
            return;
        }
        for ordinal in (self.partition()..self.wanted()).rev() {
            // One that was made just now is waited for, too.
            let Some(pod) = self.pods.get(&ordinal).filter(|pod| !deleting(pod)) else { return };
            if label(pod, REVISION) != self.update {
                pods::delete(store, &self.pod_key(pod));
                return;
            }
            if !self.available(pod, now) {
                return;
            }
        }
    }

    fn create(&self, store: &mut Store, ordinal: i64) {
        let old = !self.on_delete() && ordinal < self.partition();
        let (revision, template) =
            if old { (&self.current, &self.current_template) } else { (&self.update, &self.set["spec"]["template"]) };
        let mut pod = pods::from_template(&self.set, "StatefulSet", template);
        let pod_name = format!("{}-{ordinal}", name(&self.set));
        pod["metadata"]["name"] = pod_name.clone().into();
        pod["metadata"]["generateName"] = format!("{}-", name(&self.set)).into();
        pod["spec"]["hostname"] = pod_name.clone().into();
        let service = text(&self.set, "/spec/serviceName");
        if !service.is_empty() {
            pod["spec"]["subdomain"] = service.into();
        }
        put_label(&mut pod, REVISION, revision.clone());
        put_label(&mut pod, "statefulset.kubernetes.io/pod-name", pod_name);
        put_label(&mut pod, "apps.kubernetes.io/pod-index", ordinal.to_string());
        // A name that is still taken is free at a later look.
        let _ = pods::create(store, &self.key.namespace, pod);
    }

    fn tell(&self, store: &mut Store, pods: &BTreeMap<i64, Value>) -> Option<Timestamp> {
        let now = store.now();
        let count = |wanted: &dyn Fn(&Value) -> bool| pods.values().filter(|pod| wanted(pod)).count() as i64;
        let of = |revision: &str| count(&|pod| label(pod, REVISION) == revision && !deleting(pod));
        let (replicas, ready) = (pods.len() as i64, count(&pods::running_and_ready));
        let available = count(&|pod| self.available(pod, now));
        let (mut current, mut current_count, updated) = (&self.current, of(&self.current), of(&self.update));
        let moved = updated == replicas && ready == replicas && replicas == self.wanted();
        if !self.on_delete() && moved {
            (current, current_count) = (&self.update, updated);
        }
        write(store, &self.key, Manager::CONTROLLERS, now, |status| {
            let counts = [("readyReplicas", ready), ("currentReplicas", current_count), ("updatedReplicas", updated)];
            for (field, count) in counts {
                if count > 0 {
                    status.insert(field.into(), json!(count));
                } else {
                    status.remove(field);
                }
            }
            status.insert("replicas".into(), json!(replicas));
            status.insert("availableReplicas".into(), json!(available));
            status.insert("currentRevision".into(), json!(current));
            status.insert("updateRevision".into(), json!(self.update));
            status.insert("observedGeneration".into(), self.set["metadata"]["generation"].clone());
            status.entry("collisionCount").or_insert(json!(0));
            Vec::new()
        });
        let min_ready = number(&self.set, "/spec/minReadySeconds").unwrap_or(0);
        let times = pods.values().filter(|pod| ready_since(pod).is_some());
        times.filter_map(|pod| available_at(pod, min_ready)).filter(|at| *at > now).min()
    }
}
