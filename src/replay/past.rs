//! What was measured lately of every workload: the "before" of a rollout that may begin. Pure.
//!
//! The daemon reads it by range query when a rollout begins; a trace cannot be asked again.

use crate::domain::{Counts, Observation, Observed, PodId, Seconds, WorkloadId};
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
    bounds: Vec<Arc<[String]>>,
    pruned: Seconds,
}

#[derive(Default)]
struct Lately {
    /// The state of each living pod, as it was before what `recent` holds.
    pods: BTreeMap<PodId, Observed>,
    recent: VecDeque<Kept>,
}

/// One observation. Nearly all are readings of a histogram, and what is the same in all of them is kept once.
struct Kept {
    t: Seconds,
    what: Observation,
    /// Of a reading with a histogram, which then is not in `what`: its bounds and their counts.
    latency: Option<Buckets>,
}

/// Bounds of a histogram, and the count of each.
type Buckets = (Arc<[String]>, Box<[f64]>);

impl Kept {
    fn whole(&self) -> Observed {
        let mut what = self.what.clone();
        if let (Some((bounds, values)), Some(counts)) = (&self.latency, counts_of(&mut what)) {
            counts.latency = Some(bounds.iter().cloned().zip(values.iter().copied()).collect());
        }
        Observed { t: self.t, what }
    }
}

fn counts_of(what: &mut Observation) -> Option<&mut Counts> {
    match what {
        Observation::Counters { counts, .. } | Observation::Callers { counts, .. } => Some(counts),
        _ => None,
    }
}

impl Past {
    /// Keeps an observation of a workload; tells whose it is.
    pub fn keep(&mut self, observed: &Observed) -> Option<WorkloadId> {
        let owner = match &observed.what {
            Observation::Pod(state) => {
                if !self.owners.contains_key(&state.pod) {
                    self.owners.insert(state.pod.clone(), state.workload.clone());
                }
                state.workload.clone()
            }
            Observation::Counters { pod, .. } | Observation::Memory { pod, .. } => self.owners.get(pod)?.clone(),
            Observation::Callers { workload, .. } => workload.clone(),
            Observation::Probe(probe) => probe.workload.clone(),
            _ => return None,
        };
        let kept = self.kept(observed);
        self.lately.entry(owner.clone()).or_default().recent.push_back(kept);
        Some(owner)
    }

    fn kept(&mut self, observed: &Observed) -> Kept {
        let t = observed.t;
        let slim = |counts: &Counts| Counts { requests: counts.requests, errors: counts.errors, latency: None };
        let (what, latency) = match &observed.what {
            Observation::Counters { pod, counts } => {
                (Observation::Counters { pod: pod.clone(), counts: slim(counts) }, counts.latency.as_ref())
            }
            Observation::Callers { workload, counts } => {
                (Observation::Callers { workload: workload.clone(), counts: slim(counts) }, counts.latency.as_ref())
            }
            what => (what.clone(), None),
        };
        let latency = latency.map(|latency| (self.bounds_of(latency), latency.values().copied().collect()));
        Kept { t, what, latency }
    }

    fn bounds_of(&mut self, latency: &BTreeMap<String, f64>) -> Arc<[String]> {
        if let Some(known) = self.bounds.iter().find(|known| known.iter().eq(latency.keys())) {
            return Arc::clone(known);
        }
        let bounds: Arc<[String]> = latency.keys().cloned().collect();
        if self.bounds.len() < BOUNDS_MAX {
            self.bounds.push(Arc::clone(&bounds));
        }
        bounds
    }

    /// What is kept of a workload: its pods as they stood, then everything since, in order.
    pub fn of(&self, workload: &WorkloadId) -> impl Iterator<Item = Observed> {
        self.lately
            .get(workload)
            .into_iter()
            .flat_map(|lately| lately.pods.values().cloned().chain(lately.recent.iter().map(Kept::whole)))
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
                    lately.pods.insert(pod, old.whole());
                }
            }
        }
    }
}
