//! The controllers of kube-controller-manager that move workloads, as synchronous functions over the store.
//!
//! A write makes the objects that it concerns due; each due object is reconciled, which may write again, until
//! nothing is due. Every controller reads what is stored and writes the next small step, as the real ones do, so
//! that a rollout passes through the same states. Semantics: safety.md 2.1.

mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod pods;
mod progress;
mod replica_set;
mod revisions;
mod rolling;
mod stateful_set;
mod status;
mod template;

use super::{
    object::{list, text},
    random::Random,
    resource::{Key, Resource},
    store::Store,
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub use daemon_set::{count_template, node_of};
pub use endpoints::SERVICE;

/// Reconciles in one step; more means that two controllers fight, which tests must see.
const MOST: usize = 100_000;

/// What is due, and when.
#[derive(Debug, Clone, Default)]
pub struct Controllers {
    /// Up to which write the log was read.
    seen: u64,
    due: BTreeMap<Key, Timestamp>,
    runaway: bool,
}

impl Controllers {
    /// Reconciles until nothing is due now.
    pub fn settle(&mut self, store: &mut Store, random: &mut Random) {
        for _ in 0..MOST {
            self.read_log(store);
            let now = store.now();
            let Some(key) = self.due.iter().find(|(_, at)| **at <= now).map(|(key, _)| key.clone()) else { return };
            self.due.remove(&key);
            let again = match key.resource {
                Resource::Deployments => deployment::reconcile(store, &key),
                Resource::ReplicaSets => replica_set::reconcile(store, random, &key),
                Resource::StatefulSets => stateful_set::reconcile(store, &key),
                Resource::DaemonSets => daemon_set::reconcile(store, random, &key),
                Resource::Services => endpoints::reconcile(store, random, &key),
                Resource::PodDisruptionBudgets => disruption::reconcile(store, &key),
                _ => None,
            };
            if let Some(at) = again {
                self.due.insert(key, at);
            }
        }
        self.runaway = true;
    }

    /// When something is to be looked at again although nobody writes.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.values().min().copied()
    }

    /// Whether the controllers once went round in circles: a defect of the simulation.
    pub fn ran_away(&self) -> bool {
        self.runaway
    }

    fn read_log(&mut self, store: &Store) {
        if store.revision() == self.seen {
            return;
        }
        let mut due = BTreeSet::new();
        match store.since(self.seen) {
            Some(entries) => {
                for entry in entries {
                    let before = entry.before.as_deref();
                    concerned(store, &entry.key, std::iter::once(entry.object.as_ref()).chain(before), &mut due);
                }
            }
            // The log does not reach back so far: everything is looked at.
            None => {
                for resource in [
                    Resource::Deployments,
                    Resource::ReplicaSets,
                    Resource::StatefulSets,
                    Resource::DaemonSets,
                    Resource::Services,
                    Resource::PodDisruptionBudgets,
                ] {
                    due.extend(store.list(resource, None).map(|(key, _)| key.clone()));
                }
            }
        }
        self.seen = store.revision();
        self.due.extend(due.into_iter().map(|key| (key, Timestamp::MIN)));
    }
}

/// Who must look when an object changes: itself, its owners up to the top, the Services around a pod.
fn concerned<'a>(store: &Store, key: &Key, states: impl Iterator<Item = &'a Value>, due: &mut BTreeSet<Key>) {
    match key.resource {
        Resource::Deployments
        | Resource::ReplicaSets
        | Resource::StatefulSets
        | Resource::DaemonSets
        | Resource::Services
        | Resource::PodDisruptionBudgets => {
            due.insert(key.clone());
        }
        Resource::Pods => {
            for around in [Resource::Services, Resource::PodDisruptionBudgets] {
                due.extend(store.list(around, Some(&key.namespace)).map(|(key, _)| key.clone()));
            }
        }
        Resource::Nodes => due.extend(store.list(Resource::DaemonSets, None).map(|(key, _)| key.clone())),
        Resource::EndpointSlices | Resource::ControllerRevisions => {}
        _ => return,
    }
    for state in states {
        for owner in list(state, "/metadata/ownerReferences") {
            let kind = Resource::of_kind(text(owner, "/apiVersion"), text(owner, "/kind"));
            let Some(kind) = kind else { continue };
            let owner = Key::new(kind, &*key.namespace, text(owner, "/name"));
            if due.insert(owner.clone())
                && let Some(object) = store.get(&owner)
            {
                concerned(store, &owner, std::iter::once(object), due);
            }
        }
    }
}

/// The objects of a kind that a controller owns, by its uid.
fn owned(store: &Store, resource: Resource, namespace: &str, uid: &str) -> Vec<(Key, Value)> {
    let keys = store.owned_by(uid).filter(|key| key.resource == resource && key.namespace == namespace);
    keys.filter_map(|key| Some((key.clone(), store.get(key)?.clone())))
        .filter(|(_, object)| super::object::controller(object) == uid)
        .collect()
}

/// The earlier of two times, either of which may be missing.
fn sooner(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests;
