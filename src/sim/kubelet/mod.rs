//! The kubelets and the scheduler: pods get a node, a life in virtual time by what their image does, and a status
//! as a real kubelet writes it.

mod life;
mod status;

use super::{
    address::Addresses,
    behaviour::{Behaviour, Behaviours},
    controllers::node_of,
    object::{deleting, flag, number, text, uid},
    resource::{Key, Resource},
    store::{Manager, Store},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr};

pub use life::{Life, Served};

/// All kubelets of the cluster.
#[derive(Debug, Default)]
pub struct Kubelet {
    /// Up to which write the log was read.
    seen: u64,
    /// By uid.
    pods: BTreeMap<String, Life>,
    by_key: BTreeMap<Key, String>,
}

impl Kubelet {
    /// Brings every pod up to the store's time.
    pub fn sync(&mut self, store: &mut Store, behaviours: &Behaviours, addresses: &mut Addresses) {
        if store.revision() != self.seen {
            self.seen = store.revision();
            self.take_in(store, behaviours, addresses);
        }
        let now = store.now();
        let due: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, life)| life.due().is_some_and(|at| at <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            let Some(life) = self.pods.get_mut(&uid) else { continue };
            if life.advance(now, addresses) {
                addresses.release(life.address());
                // Somebody may have been quicker.
                let _ = store.remove(&life.key);
            } else {
                status::write(store, life);
            }
        }
    }

    /// When a pod changes next.
    pub fn next(&self) -> Option<Timestamp> {
        self.pods.values().filter_map(Life::due).min()
    }

    /// The pod that serves at an address now.
    pub fn at(&self, address: SocketAddr) -> Option<&Life> {
        self.pods.values().find(|life| life.address() == Some(address) && life.serves())
    }

    /// A pod.
    pub fn pod(&self, key: &Key) -> Option<&Life> {
        self.pods.get(self.by_key.get(key)?)
    }

    /// A pod, to count what it served.
    pub fn pod_mut(&mut self, key: &Key) -> Option<&mut Life> {
        self.pods.get_mut(self.by_key.get(key)?)
    }

    /// Ends the container of a pod at once, as a kernel does.
    pub fn kill(&mut self, key: &Key, now: Timestamp) -> bool {
        self.pod_mut(key).is_some_and(|life| life.kill(now))
    }

    /// New pods are admitted and bound; of others it is noted that they must go, or are gone.
    fn take_in(&mut self, store: &mut Store, behaviours: &Behaviours, addresses: &mut Addresses) {
        let now = store.now();
        let mut fresh: Vec<(Key, Value)> = Vec::new();
        let mut stored = BTreeMap::new();
        for (key, pod) in store.list(Resource::Pods, None) {
            match self.pods.get_mut(uid(pod)) {
                Some(life) if deleting(pod) => life.leave(now, number(pod, "/metadata/deletionGracePeriodSeconds")),
                Some(_) => {}
                None => fresh.push((key.clone(), pod.clone())),
            }
            stored.insert(key.clone(), uid(pod).to_owned());
        }
        self.pods.retain(|uid, life| {
            let there = stored.get(&life.key) == Some(uid);
            if !there {
                addresses.release(life.address());
            }
            there
        });
        self.by_key = stored;
        for (key, pod) in fresh {
            self.admit(store, behaviours, &key, &pod);
        }
    }

    fn admit(&mut self, store: &mut Store, behaviours: &Behaviours, key: &Key, pod: &Value) {
        let Some(node) = self.place(store, pod) else { return };
        if text(pod, "/spec/nodeName").is_empty() {
            let bound = store.update(key, Manager::SCHEDULER, |pod| pod["spec"]["nodeName"] = node.clone().into());
            if bound.is_err() {
                return;
            }
        }
        let image = text(pod, "/spec/containers/0/image").to_owned();
        let behaviour = behaviours.of(&image);
        let life = Life::new(key.clone(), pod, node, image, behaviour, store.now());
        self.pods.insert(uid(pod).to_owned(), life);
    }

    /// The node that a pod is bound to or meant for, else the one with the fewest pods.
    fn place(&self, store: &Store, pod: &Value) -> Option<String> {
        let meant = node_of(pod);
        if !meant.is_empty() {
            return Some(meant.to_owned());
        }
        let open = store.list(Resource::Nodes, None).filter(|(_, node)| !flag(node, "/spec/unschedulable"));
        let load = |node: &str| self.pods.values().filter(|life| life.node == node).count();
        open.map(|(key, _)| key.name.clone()).min_by_key(|node| (load(node), node.clone()))
    }

    /// What an image does from now on also holds for the containers that run it already.
    pub fn change(&mut self, image: &str, behaviour: &Behaviour, now: Timestamp) {
        for life in self.pods.values_mut().filter(|life| life.image == image) {
            life.change(behaviour.clone(), now);
        }
    }
}

/// A node as it registers itself.
pub fn node(name: &str, now: Timestamp) -> Value {
    let since = super::object::time(now);
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                "lastHeartbeatTime": since, "lastTransitionTime": since,
            }],
            "addresses": [{"type": "Hostname", "address": name}],
        },
    })
}

#[cfg(test)]
mod tests;
