//! Whose pod is whose, and what was counted of a pod before it was introduced. Pure.

use super::tuning::*;
use crate::domain::{Observed, PodId, Seconds, WorkloadId};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The workload of each pod.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    /// Shared: it is asked for at every reading.
    known: HashMap<PodId, Arc<WorkloadId>>,
    unclaimed: HashMap<PodId, VecDeque<Observed>>,
}

impl Owners {
    pub(super) fn of(&self, pod: &PodId) -> Option<&Arc<WorkloadId>> {
        self.known.get(pod)
    }

    /// Introduces a pod; what waited for that comes back.
    pub(super) fn claim(&mut self, pod: &PodId, workload: &WorkloadId) -> VecDeque<Observed> {
        self.known.insert(pod.clone(), Arc::new(workload.clone()));
        self.unclaimed.remove(pod).unwrap_or_default()
    }

    /// Keeps the last counters of a pod that nobody introduced yet; `false` when there is no room.
    pub(super) fn keep(&mut self, pod: &PodId, observed: &Observed) -> bool {
        if !self.unclaimed.contains_key(pod) && self.unclaimed.len() >= UNCLAIMED_PODS {
            return false;
        }
        let kept = self.unclaimed.entry(pod.clone()).or_default();
        kept.push_back(observed.clone());
        if kept.len() > UNCLAIMED_EACH {
            kept.pop_front();
        }
        true
    }

    /// Pods that were counted and never introduced.
    pub(super) fn strangers(&self) -> usize {
        self.unclaimed.len()
    }

    /// Lets go of counters that have waited for too long.
    pub(super) fn expire(&mut self, t: Seconds) {
        self.unclaimed.retain(|_, kept| kept.back().is_some_and(|observed| t - observed.t <= BEFORE));
    }

    /// Whether there are so many that those that nobody knows should be forgotten.
    pub(super) fn crowded(&self) -> bool {
        self.known.len() >= OWNERS_MAX
    }

    /// Forgets pods that are not known any more.
    pub(super) fn retain(&mut self, known: impl Fn(&PodId, &WorkloadId) -> bool) {
        self.known.retain(|pod, owner| known(pod, owner));
    }
}
