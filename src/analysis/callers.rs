//! The whole workload as its callers or the ingress see it (decision.md 2.3, stream ii). Pure.
//!
//! Old and new pods are mixed here, so this stream cannot tell them apart. It convicts only where new pods
//! are silent or do not show what their callers see, where it beats its own past, and where peers say that it
//! is not the cluster (gate 2). Else it is shown, and stands in the way of a pass.

use super::{
    arm::Share,
    baseline::{Baseline, ErrorBaseline},
    counter::{PairCounter, Reading, Tally},
    evidence::Evidence,
    tuning::*,
};
use crate::domain::{Counts, Rules, Seconds};

/// The callers' view of one rollout.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    t0: Seconds,
    limit: f64,
    watch: Seconds,
    counter: PairCounter,
    baseline: Baseline,
    pending: Tally,
    fresh: bool,
    stepped: Seconds,
    test: Option<(ErrorBaseline, Evidence)>,
}

impl Callers {
    pub(super) fn new(t0: Seconds, rules: &Rules) -> Self {
        Self {
            t0,
            limit: rules.errors.max,
            watch: rules.watch.as_secs_f64(),
            counter: PairCounter::default(),
            baseline: Baseline::new(t0),
            pending: Tally::default(),
            fresh: false,
            stepped: t0,
            test: None,
        }
    }

    /// `false` when a value was no count.
    pub(super) fn observe(&mut self, t: Seconds, counts: &Counts, interval: Seconds) -> bool {
        let (Some(requests), Some(errors)) = (counts.requests, counts.errors) else { return true };
        match self.counter.read(t, requests, errors, interval) {
            None => return false,
            Some(Reading::Since(_, tally)) if self.baseline.covers(t) => self.baseline.add(t, tally),
            Some(Reading::Since(_, tally)) if t > self.t0 => {
                self.pending += tally;
                self.fresh = true;
            }
            Some(_) => {}
        }
        true
    }

    /// Forgets the evidence and keeps the limit.
    pub(super) fn anew(&mut self) {
        if let Some((_, evidence)) = &mut self.test {
            *evidence = evidence.anew(self.watch);
        }
    }

    pub(super) fn freeze(&mut self, t: Seconds) {
        self.pending = Tally::default();
        self.fresh = false;
        self.stepped = t;
    }

    /// Before the first new pod is Ready, callers only see old ones: that is no evidence.
    pub(super) fn advance(&mut self, t: Seconds, gap: Seconds, first_ready: Option<Seconds>) {
        let from = self.stepped;
        if !self.fresh && t - from <= gap {
            return;
        }
        self.stepped = t;
        self.fresh = false;
        let tally = std::mem::take(&mut self.pending);
        if first_ready.is_none_or(|ready| from < ready) || (self.test.is_none() && tally.total <= 0.0) {
            return;
        }
        let (_, evidence) = self.test.get_or_insert_with(|| {
            let baseline = self.baseline.errors(self.limit);
            (baseline, Evidence::new(baseline.theta, ERROR_PACE, self.watch))
        });
        let share = Share { pod: 0, new: true, unproved: false, warm: true, ready: None, tally };
        evidence.step(from, t, (t - from).min(gap), &[share], 1.0);
    }

    /// The running test, once it has begun.
    pub(super) fn test(&self) -> Option<(&ErrorBaseline, &Evidence)> {
        self.test.as_ref().map(|(baseline, evidence)| (baseline, evidence))
    }
}
