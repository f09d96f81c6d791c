//! The observation of one target, which is changed in place and lent from scrape to scrape. Pure.

use super::traffic::Counted;
use crate::domain::{Counts, Kind, Observation, Observed, Seconds, WorkloadId};

/// The observation of one target, changed in place.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) observed: Observed,
    last: Seconds,
}

impl Line {
    /// Of nobody yet.
    pub(super) fn blank(bounds: &[f64]) -> Self {
        let latency = bounds.iter().copied().chain([f64::INFINITY]).map(|bound| (bound, 0.0)).collect();
        let counts = Counts { latency: Some(latency), ..Counts::default() };
        let what = Observation::Callers { workload: WorkloadId::new("", Kind::Deployment, ""), counts };
        Self { observed: Observed { t: 0.0, what }, last: f64::NEG_INFINITY }
    }

    pub(super) fn about(&self, what: impl FnOnce(Counts) -> Observation) -> Self {
        let mut line = self.clone();
        let counts = line.counts().map(std::mem::take).unwrap_or_default();
        line.observed.what = what(counts);
        line
    }

    fn counts(&mut self) -> Option<&mut Counts> {
        match &mut self.observed.what {
            Observation::Counters { counts, .. } | Observation::Callers { counts, .. } => Some(counts),
            _ => None,
        }
    }

    pub(super) fn set(&mut self, t: Seconds, counted: &Counted) {
        // Time never goes back for one target, whatever the jitter.
        self.last = t.max(self.last);
        self.observed.t = self.last;
        if let Some(counts) = self.counts() {
            counts.requests = Some(counted.requests);
            counts.errors = Some(counted.errors);
            if let Some(latency) = &mut counts.latency {
                let mut sum = 0.0;
                for (cumulative, count) in latency.counts_mut().iter_mut().zip(&counted.buckets) {
                    sum += count;
                    *cumulative = sum;
                }
            }
        }
    }

    /// A value that is none: the error count is not a number, is absent, or all is.
    pub(super) fn spoil(&mut self, how: usize) {
        if let Some(counts) = self.counts() {
            match how {
                0 => counts.errors = Some(f64::NAN),
                1 => counts.errors = None,
                _ => (counts.requests, counts.errors) = (None, None),
            }
        }
    }
}
