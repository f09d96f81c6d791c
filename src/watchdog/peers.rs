//! Who else is looked at while the evidence against a rollout rises, and who calls whom: what the gates "cluster-wide"
//! and "dependency" need (decision.md 2.5).
//!
//! While nothing rises this costs nothing at all. What is read of peers is taken when it comes: a read that fails or
//! is late leaves the trials without witnesses, and says nothing of any source.

use super::{Watchdog, live::Live};
use crate::{
    cluster::WorkloadView,
    domain::{Mode, Observation, PEERS, TrialTarget, WorkloadId},
    sources::{PeerQuestion, Reading},
    telemetry::metrics,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Most workloads that are read, and pods of all of them together.
const MOST: Bounds = Bounds { workloads: 200, pods: 1000 };
/// The same where each pod is asked itself.
const MOST_SCRAPED: Bounds = Bounds { workloads: 20, pods: 1000 };
/// Pods whose latency is read, when it is slowness that rises: a histogram is fifteen counters.
const SLOW_PODS: i64 = 300;
/// Pods of one workload that are then asked.
const PODS_EACH: usize = 3;
/// Pods that namespaces may have to be asked for as a whole.
const CROWD: i64 = 3000;
/// Letters of names that one query can hold; in larger namespaces only so many workloads are read.
const NAMES: usize = 440;
/// A tick waits for its peers no longer than this.
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(6);

struct Bounds {
    workloads: usize,
    pods: i64,
}

/// What the loop keeps of peers.
#[derive(Default)]
pub(super) struct Witnesses {
    /// Whether they were wanted at the last look.
    wanted: bool,
    /// Whether the tick waits for a read of them.
    pub owed: bool,
    /// Whether a read is out that is only of those that passed.
    unhurried: bool,
    /// Whether the last read ran out of time: then no tick waits for the next one.
    late: bool,
    /// Who calls whom, as a mesh says.
    mesh: BTreeMap<WorkloadId, Vec<WorkloadId>>,
    /// What the analysis was told of that, and of what people wrote.
    told: BTreeMap<WorkloadId, Vec<WorkloadId>>,
    /// What was missing from the last read.
    missing: Option<String>,
    /// Whether the analysis was told that something is.
    unread: bool,
}

impl Witnesses {
    /// The analysis knows now whom a workload calls.
    pub fn told(&mut self, id: &WorkloadId, calls: &[WorkloadId]) {
        self.told.insert(id.clone(), calls.to_vec());
    }

    pub fn forget(&mut self, id: &WorkloadId) {
        self.mesh.remove(id);
        self.told.remove(id);
    }
}

impl Watchdog {
    /// Starts to read peers, if the evidence against anybody rises, and those that passed, if it is time. Tells whether
    /// the tick is to wait for them.
    pub(super) fn ask_peers(&mut self) -> bool {
        let rising: BTreeSet<WorkloadId> = self.docket.wants_peers().cloned().collect();
        let wanted = !rising.is_empty();
        if !wanted {
            if std::mem::take(&mut self.witnesses.wanted) {
                metrics::peers(0, 0);
            }
            self.say_unread(None);
            if self.passed.due().is_empty() {
                return false;
            }
        }
        let at_pods = self.inputs.sources.needs_addresses_of_peers();
        let called: BTreeSet<WorkloadId> = rising.iter().flat_map(|id| self.calls(id)).collect();
        let near: BTreeSet<&str> = rising.iter().map(|id| id.namespace.as_str()).collect();
        let rank = |view: &WorkloadView| match () {
            () if self.live.contains_key(&view.id) || view.deleting || size(view) == 0 => None,
            () if self.rules_of(&view.id).mode == Mode::Off => None,
            () if called.contains(&view.id) => Some(0),
            () if near.contains(view.id.namespace.as_str()) => Some(1),
            () if self.passed.due().contains(&view.id) => Some(2),
            () => (wanted && !at_pods).then_some(3),
        };
        let views: Vec<&WorkloadView> = self.tracker.views().map(AsRef::as_ref).collect();
        let (chosen, left_out) = choose(&views, rank, if at_pods { &MOST_SCRAPED } else { &MOST });
        if wanted {
            metrics::peers(chosen.len(), left_out);
        }
        let target = |view: &&WorkloadView| TrialTarget {
            workload: view.id.clone(),
            rules: self.rules_of(&view.id),
            pods: if at_pods { self.pod_watches.neighbours(&view.id, &view.uid, PODS_EACH) } else { Vec::new() },
            gone: Vec::new(),
        };
        let peers: Vec<TrialTarget> = chosen.iter().map(target).collect();
        let slow = if self.docket.wants_latency_of_peers() { leading(&chosen, SLOW_PODS) } else { 0 };
        for id in rising.iter().chain(peers.iter().map(|peer| &peer.workload)) {
            self.tell_calls(id);
        }
        let trials = self.live.values().filter_map(Live::target).collect();
        if peers.is_empty() {
            // Of those that were due nobody can be read: all are on trial again, off, or gone.
            self.passed.rest();
        }
        let read: Vec<WorkloadId> = peers.iter().map(|peer| peer.workload.clone()).collect();
        let question = PeerQuestion { trials, peers, slow };
        let started = self.inputs.sources.start_peers(question, self.patience());
        if started {
            self.passed.read(read.iter());
            self.witnesses.unhurried = !wanted;
        }
        // Behind a read that nobody was in need of, witnesses are asked as soon as it is in.
        let behind = !started && self.witnesses.unhurried;
        self.witnesses.wanted = wanted && !behind;
        let waits = wanted && (started && !self.witnesses.late || behind);
        self.witnesses.owed |= waits;
        waits
    }

    fn patience(&self) -> Duration {
        (self.inputs.interval / 2).clamp(*PATIENCE.start(), *PATIENCE.end())
    }

    /// When peers are wanted that were not wanted before, they are read at once, and not at the next tick: nobody is
    /// convicted unheard. Tells whether that is worth waiting for.
    pub(super) fn hear_peers_first(&mut self) -> bool {
        !self.witnesses.wanted && self.docket.wants_peers().next().is_some() && self.ask_peers()
    }

    /// What was read of peers.
    pub(super) fn on_peers(&mut self, reading: Reading) {
        self.witnesses.owed = false;
        let unhurried = std::mem::take(&mut self.witnesses.unhurried);
        if !unhurried {
            self.witnesses.late = reading.took >= self.patience();
        }
        for observed in &reading.observed {
            // A rollout that began meanwhile is measured by itself, and these counts are not comparable with its own.
            let on_trial = |workload| self.live.contains_key(workload);
            if !matches!(&observed.what, Observation::Callers { workload, .. } if on_trial(workload)) {
                self.take(observed);
            }
        }
        for (caller, callees) in reading.calls {
            self.witnesses.mesh.insert(caller.clone(), callees);
            self.tell_calls(&caller);
        }
        metrics::peers_read(reading.missing.is_none());
        if reading.missing.is_some() && self.witnesses.missing.is_none() {
            let missing = reading.missing.as_deref().unwrap_or_default();
            tracing::warn!(missing, "workloads without a rollout cannot all be read: there are fewer witnesses");
        }
        if !unhurried {
            self.say_unread(reading.missing.as_deref());
        }
        self.witnesses.missing = reading.missing;
    }

    /// Tells the analysis whether it is to wait for peers that could not be read.
    fn say_unread(&mut self, why: Option<&str>) {
        if std::mem::replace(&mut self.witnesses.unread, why.is_some()) || why.is_some() {
            let what = Observation::Source { source: PEERS.into(), ok: why.is_none(), reason: why.map(str::to_owned) };
            self.observe(self.inputs.clock.now(), what);
        }
    }

    /// Whom a workload calls, by what people wrote and by what a mesh says.
    pub(super) fn calls(&self, id: &WorkloadId) -> Vec<WorkloadId> {
        let written = self.rules_of(id);
        let written = written.calls.iter().map(|callee| callee.of(id, |id| self.tracker.get(id).is_some()));
        let seen = self.witnesses.mesh.get(id).into_iter().flatten().cloned();
        let all: BTreeSet<WorkloadId> = written.chain(seen).filter(|callee| callee != id).collect();
        all.into_iter().collect()
    }

    /// Tells the analysis whom a workload calls, if that is news.
    fn tell_calls(&mut self, id: &WorkloadId) {
        let calls = self.calls(id);
        if self.witnesses.told.get(id).map_or(&[][..], Vec::as_slice) == calls {
            return;
        }
        let Some(view) = self.tracker.get(id) else { return };
        let replicas = u32::try_from(view.progress.desired).unwrap_or(0);
        self.witnesses.told(id, &calls);
        let what = Observation::Workload { workload: id.clone(), replicas, calls: Some(calls) };
        self.observe(self.inputs.clock.now(), what);
    }
}

/// Its pods, at least.
fn size(view: &WorkloadView) -> i64 {
    view.progress.total.max(view.progress.desired)
}

/// How many workloads from the first on have not more pods than `most` together.
fn leading(views: &[&WorkloadView], most: i64) -> usize {
    let sums = views.iter().scan(0, |sum, view| {
        *sum += size(view);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= most).count()
}

/// The nearest workloads that fit, and how many are left out. `rank` says who may be read, the nearest first.
fn choose<'a>(
    views: &[&'a WorkloadView],
    rank: impl Fn(&WorkloadView) -> Option<u8>,
    most: &Bounds,
) -> (Vec<&'a WorkloadView>, usize) {
    let ranked = views.iter().filter_map(|view| Some((rank(view)?, *view)));
    let mut candidates: Vec<(u8, &WorkloadView)> = ranked.collect();
    candidates.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    let (mut pods, mut chosen) = (0, Vec::new());
    for (_, view) in &candidates {
        if chosen.len() < most.workloads && pods + size(view) <= most.pods {
            pods += size(view);
            chosen.push(*view);
        }
    }
    // What few names cannot narrow brings whole namespaces, with all that is in them.
    let namespaces: BTreeSet<&str> = chosen.iter().map(|view| view.id.namespace.as_str()).collect();
    let crowd: i64 = views.iter().filter(|view| namespaces.contains(view.id.namespace.as_str())).map(|v| size(v)).sum();
    if crowd > CROWD {
        let mut letters = 0;
        chosen.retain(|view| {
            letters += view.id.name.len().min(40) + 1;
            letters <= NAMES
        });
    }
    let left_out = candidates.len() - chosen.len();
    (chosen, left_out)
}

#[cfg(test)]
mod tests;
