//! What was measured lately of every workload: the "before" of a rollout that may begin. Pure.
//!
//! The daemon reads it by range query when a rollout begins; a trace cannot be asked again.

use crate::domain::{Buckets, Observation, Observed, PodId, Seconds, WorkloadId};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// As far back as any baseline or veto looks, and a little more.
const KEPT: Seconds = 2700.0;
/// Pruning everything at every look would cost more than it frees.
const PRUNE_EVERY: Seconds = 60.0;
/// Kinds of histograms whose bounds are shared; a trace with more of them costs memory, nothing else.
const BOUNDS_MAX: usize = 32;

/// Lately, by workload.
#[derive(Default)]
pub(super) struct Past {
    owners: HashMap<PodId, WorkloadId>,
    lately: BTreeMap<WorkloadId, Lately>,
    /// Bounds of histograms that were seen; few programs have their own.
    bounds: Vec<Arc<Vec<f64>>>,
    pruned: Seconds,
}

#[derive(Default)]
struct Lately {
    /// The state of each living pod, as it was before what `recent` holds.
    pods: BTreeMap<PodId, Observed>,
    recent: VecDeque<Observed>,
}

fn latency_of(what: &mut Observation) -> Option<&mut Buckets> {
    match what {
        Observation::Counters { counts, .. } | Observation::Callers { counts, .. } => counts.latency.as_mut(),
        _ => None,
    }
}

/// Nearly all that is kept are readings of a histogram, and what is the same in all of them is kept once.
fn share_bounds(known: &mut Vec<Arc<Vec<f64>>>, latency: &mut Buckets) {
    if !known.iter().any(|known| latency.share(known)) && known.len() < BOUNDS_MAX {
        known.push(Arc::clone(latency.bounds()));
    }
}

impl Past {
    /// Keeps an observation of a workload; tells whose it is.
    pub fn keep<'a>(&'a mut self, observed: &'a Observed) -> Option<&'a WorkloadId> {
        if let Observation::Pod(state) = &observed.what
            && !self.owners.contains_key(&state.pod)
        {
            self.owners.insert(state.pod.clone(), state.workload.clone());
        }
        let owner = match &observed.what {
            Observation::Pod(state) => &state.workload,
            Observation::Counters { pod, .. } | Observation::Memory { pod, .. } => self.owners.get(pod)?,
            Observation::Callers { workload, .. } => workload,
            Observation::Probe(probe) => &probe.workload,
            _ => return None,
        };
        let mut kept = observed.clone();
        if let Some(latency) = latency_of(&mut kept.what) {
            share_bounds(&mut self.bounds, latency);
        }
        match self.lately.get_mut(owner) {
            Some(lately) => lately.recent.push_back(kept),
            None => self.lately.entry(owner.clone()).or_default().recent.push_back(kept),
        }
        Some(owner)
    }

    /// What is kept of a workload: its pods as they stood, then everything since, in order.
    pub fn of(&self, workload: &WorkloadId) -> impl Iterator<Item = Observed> {
        self.lately.get(workload).into_iter().flat_map(|lately| lately.pods.values().chain(&lately.recent).cloned())
    }

    /// Forgets a workload.
    pub fn forget(&mut self, workload: &WorkloadId) {
        self.lately.remove(workload);
        self.owners.retain(|_, owner| owner != workload);
    }

    /// Lets go of what is too old at `t`.
    pub fn prune(&mut self, t: Seconds) {
        if (t - self.pruned).abs() < PRUNE_EVERY {
            return;
        }
        self.pruned = t;
        for lately in self.lately.values_mut() {
            while lately.recent.front().is_some_and(|first| first.t < t - KEPT) {
                let Some(old) = lately.recent.pop_front() else { break };
                let Observation::Pod(state) = &old.what else { continue };
                let pod = state.pod.clone();
                if state.deleted {
                    lately.pods.remove(&pod);
                    self.owners.remove(&pod);
                } else {
                    lately.pods.insert(pod, old);
                }
            }
        }
    }
}
