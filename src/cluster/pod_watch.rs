//! Watches on pods, while a rollout is under watch.
//!
//! All rollouts of one namespace share one watch: over HTTP/1.1 each watch is a connection of its own, and
//! hundreds of them cost more memory than all else. It shows every pod of the namespace; each is trimmed at
//! once, and told to the workload that it is a member of. The watch ends with the last rollout that needs it.
//!
//! Fails: a watch that breaks is begun anew, and its list says which pods are gone; that it is broken is told
//! by the watches on workloads.

use super::{
    connect::Cluster,
    pods::{Members, PodSeen, PodView},
    watch::guarded,
};
use crate::domain::{PodTarget, WorkloadId};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::{sync::mpsc, task::AbortHandle};

/// The open pod watches, one for each namespace that needs one.
pub struct PodWatches {
    cluster: Cluster,
    tx: mpsc::Sender<PodSeen>,
    open: BTreeMap<String, Weak<Namespace>>,
    next: u64,
}

/// A workload whose pods are watched; dropping it ends that, and the watch if nobody else needs it.
pub struct PodWatch {
    namespace: Arc<Namespace>,
    number: u64,
}

/// The watch of one namespace.
struct Namespace {
    known: Arc<Mutex<Known>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Known {
    pods: BTreeMap<String, PodView>,
    /// Names of the list that is being read.
    listed: BTreeSet<String>,
    watched: BTreeMap<u64, Members>,
}

impl PodWatches {
    /// None yet. What they see is sent to `tx`.
    pub fn new(cluster: Cluster, tx: mpsc::Sender<PodSeen>) -> Self {
        Self { cluster, tx, open: BTreeMap::new(), next: 0 }
    }

    /// Watches the pods of one workload. Answers with those that are known already; later news is sent.
    pub fn watch(&mut self, members: Members) -> (PodWatch, Vec<PodSeen>) {
        let name = members.namespace().to_owned();
        self.open.retain(|_, watch| watch.strong_count() > 0);
        let namespace = self.open.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let known = Arc::<Mutex<Known>>::default();
            let api = Api::namespaced(self.cluster.reader.clone(), &name);
            let task = tokio::spawn(follow(api, known.clone(), self.tx.clone())).abort_handle();
            let namespace = Arc::new(Namespace { known, task });
            self.open.insert(name, Arc::downgrade(&namespace));
            namespace
        });
        self.next += 1;
        let number = self.next;
        let pods = {
            let mut known = lock(&namespace.known);
            let pods = known.pods.values().filter_map(|pod| members.own(pod)).collect();
            known.watched.insert(number, members);
            pods
        };
        (PodWatch { namespace, number }, pods)
    }

    /// Ready pods of a workload that is not watched itself, at most so many: where their namespace is watched for
    /// another one's sake, they are known.
    pub fn neighbours(&self, id: &WorkloadId, uid: &str, most: usize) -> Vec<PodTarget> {
        let Some(namespace) = self.open.get(&id.namespace).and_then(Weak::upgrade) else { return Vec::new() };
        let known = lock(&namespace.known);
        known.pods.values().filter_map(|pod| pod.neighbour(id, uid)).take(most).collect()
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        lock(&self.namespace.known).watched.remove(&self.number);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(api: Api<DeserializeGuard<Pod>>, known: Arc<Mutex<Known>>, tx: mpsc::Sender<PodSeen>) {
    let mut events = guarded(api);
    while let Some(event) = events.next().await {
        // Errors are told by the workload watches; the pods come back with the next list.
        let Ok(event) = event else { continue };
        let news = lock(&known).take(event);
        for seen in news {
            if tx.send(seen).await.is_err() {
                return;
            }
        }
    }
}

impl Known {
    /// What an event tells those who watch.
    fn take(&mut self, event: Event<DeserializeGuard<Pod>>) -> Vec<PodSeen> {
        let views: Vec<PodView> = match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                // A pod that cannot be read is still there: it must not look deleted.
                self.listed.insert(pod.name_any());
                self.keep(pod).into_iter().collect()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> = self.pods.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                gone.iter().filter_map(|name| self.pods.remove(name)).map(PodView::gone).collect()
            }
            Event::Apply(pod) => self.keep(pod).into_iter().collect(),
            Event::Delete(pod) => self.pods.remove(&pod.name_any()).map(PodView::gone).into_iter().collect(),
        };
        views.iter().flat_map(|view| self.watched.values().filter_map(|members| members.own(view))).collect()
    }

    fn keep(&mut self, pod: DeserializeGuard<Pod>) -> Option<PodView> {
        let view = PodView::of(&pod.0.ok()?);
        self.pods.insert(view.name.name.clone(), view.clone());
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{RevisionEntry, TemplateMark},
        domain::{Kind, Revision, WorkloadId},
    };
    use serde_json::json;

    fn members(kind: Kind, name: &str, object: &str) -> Members {
        let entry = RevisionEntry {
            mark: TemplateMark::of(&json!({})),
            number: 1,
            created: 0.0,
            object: object.into(),
            pod_label: "9d7".into(),
            change_cause: None,
            template: json!({}),
        };
        let id = WorkloadId::new("shop", kind, name);
        Members::new(&id, "uid-of-it", &[entry], |_| Revision::from("a"))
    }

    fn pod(name: &str, owner: (&str, &str, &str)) -> DeserializeGuard<Pod> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "labels": {"controller-revision-hash": "9d7"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "controller": true, "kind": owner.0, "name": owner.1, "uid": owner.2,
                }],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a pod")
    }

    fn told(seen: &[PodSeen]) -> Vec<String> {
        let word = |s: &PodSeen| if s.state.deleted { "gone" } else { "there" };
        seen.iter().map(|s| format!("{} {} {}", s.state.workload.name, s.state.pod.name, word(s))).collect()
    }

    #[test]
    fn each_workload_is_told_of_its_own_pods_only() {
        let mut known = Known::default();
        known.watched.insert(1, members(Kind::Deployment, "web", "ReplicaSet/web-5c98"));
        known.watched.insert(2, members(Kind::DaemonSet, "agent", "ControllerRevision/agent-9d7"));
        let of_web = ("ReplicaSet", "web-5c98", "u1");
        assert_eq!(told(&known.take(Event::Apply(pod("web-1", of_web)))), ["web web-1 there"]);
        let of_agent = ("DaemonSet", "agent", "uid-of-it");
        assert_eq!(told(&known.take(Event::Apply(pod("agent-1", of_agent)))), ["agent agent-1 there"]);
        // Of the same revision hash, but another's; and one that a Job made.
        for owner in [("DaemonSet", "other", "u2"), ("Job", "web-5c98", "u3"), ("ReplicaSet", "api-77", "u4")] {
            assert!(known.take(Event::Apply(pod("x", owner))).is_empty(), "{owner:?}");
        }
        assert_eq!(known.pods.len(), 3, "kept for rollouts that begin later");
    }

    #[test]
    fn a_neighbours_ready_pods_are_known_by_their_controller() {
        let id = |kind, name: &str| WorkloadId::new("shop", kind, name);
        let of = |owner, id: &WorkloadId| {
            PodView::of(&pod("x", owner).0.expect("a pod")).neighbour(id, "uid-of-it").is_some()
        };
        let web_api = ("ReplicaSet", "web-api-5c98", "u1");
        assert!(of(web_api, &id(Kind::Deployment, "web-api")));
        assert!(!of(web_api, &id(Kind::Deployment, "web")), "of another whose name begins alike");
        assert!(of(("DaemonSet", "agent", "uid-of-it"), &id(Kind::DaemonSet, "agent")));
        assert!(!of(("DaemonSet", "agent", "u2"), &id(Kind::DaemonSet, "agent")), "of an earlier one of that name");
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut known = Known::default();
        known.watched.insert(1, members(Kind::Deployment, "web", "ReplicaSet/web-5c98"));
        let of_web = ("ReplicaSet", "web-5c98", "u1");
        known.take(Event::Apply(pod("web-1", of_web)));
        known.take(Event::Apply(pod("web-2", of_web)));
        known.take(Event::Init);
        known.take(Event::InitApply(pod("web-2", of_web)));
        assert_eq!(told(&known.take(Event::InitDone)), ["web web-1 gone"]);
        assert_eq!(told(&known.take(Event::Delete(pod("web-2", of_web)))), ["web web-2 gone"]);
        assert!(known.pods.is_empty());
    }
}
