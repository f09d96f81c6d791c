//! Rollouts that have passed: looked at every five minutes, until a day after they began.
//!
//! They are read as peers are, as totals of each workload and of the time since the look before: one set of queries does
//! for up to 200 of them, and no pods are watched for their sake. (Only where each pod is asked itself, without a
//! Prometheus, their namespace's pod watch stays open: an address must not be another pod's by then.) Fails: what cannot
//! be read at one look comes with the next.

use super::Watchdog;
use crate::{
    analysis::next_late_look,
    cluster::PodWatch,
    domain::{Decision, LateWatch, Seconds, WorkloadId},
    telemetry::metrics,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the loop keeps of those that passed; the rest is in the docket.
#[derive(Default)]
pub(super) struct Passed {
    pods: BTreeMap<WorkloadId, PodWatch>,
    /// Who is still to be read at this look, and when the next one begins.
    due: BTreeSet<WorkloadId>,
    next: Seconds,
}

impl Passed {
    pub fn forget(&mut self, id: &WorkloadId) {
        self.pods.remove(id);
        self.due.remove(id);
    }

    /// Who is to be read now.
    pub fn due(&self) -> &BTreeSet<WorkloadId> {
        &self.due
    }

    /// This look is over.
    pub fn rest(&mut self) {
        self.due.clear();
    }

    /// These are being read.
    pub fn read<'a>(&mut self, ids: impl Iterator<Item = &'a WorkloadId>) {
        for id in ids {
            self.due.remove(id);
        }
    }
}

impl Watchdog {
    /// The trial of a workload that passed ends; it is watched on.
    pub(super) fn passed(&mut self, id: &WorkloadId) {
        self.docket.passed(id);
        let pods = self.live.remove(id).and_then(|mut live| live.pod_watch.take());
        if let Some(pods) = pods.filter(|_| self.inputs.sources.needs_addresses_of_peers()) {
            self.passed.pods.insert(id.clone(), pods);
        }
    }

    /// Begins the next look when it is time, and lets go of those whose day is over.
    pub(super) fn plan_late(&mut self) {
        let now = self.inputs.clock.now();
        if now < self.passed.next {
            return;
        }
        self.passed.next = next_late_look(now);
        self.passed.due = self.docket.late_ids().cloned().collect();
        let Self { passed, docket, .. } = self;
        let watched: BTreeSet<&WorkloadId> = docket.late_ids().collect();
        passed.pods.retain(|id, _| watched.contains(id));
        metrics::late(watched.len());
    }

    /// Tells what broke after it had passed, and what keeps its limit again.
    pub(super) async fn look_late(&mut self) {
        for seen in self.docket.look_late(self.inputs.clock.now()) {
            let LateWatch { workload, revision, broken, explanation, .. } = &seen;
            metrics::late_fault(broken.is_some());
            match broken {
                Some(_) => tracing::warn!(%workload, %revision, "{explanation}"),
                None => tracing::info!(%workload, %revision, "it keeps its limit again: {explanation}"),
            }
            if let Some(uid) = self.tracker.get(workload).map(|view| view.uid.clone()) {
                self.decide(Decision::Late { seen: Box::new(seen), uid }).await;
            }
        }
    }
}
