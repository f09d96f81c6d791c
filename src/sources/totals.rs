//! Pure. One monotone counter per workload out of the counters of many: of the proxies that call it, or, where
//! its pods are not told apart, of its pods. Here each of them is a caller.
//!
//! A sum over proxies drops when one of them goes away, and a drop reads as a counter reset: the whole
//! sum would count as new requests and new errors at once. So each caller is differenced by itself.
//! A caller's first sight and any drop of its own count nothing; losing a few requests is safe, inventing
//! them is not.

use crate::domain::{Counts, Seconds, WorkloadId};
use std::collections::BTreeMap;

/// Callers not seen for this long are forgotten, seconds.
const FORGET: Seconds = 600.0;

/// One caller of one workload: the labels of its series.
pub(super) type Caller = String;

/// Running totals.
#[derive(Debug, Default)]
pub(super) struct Totals {
    workloads: BTreeMap<WorkloadId, Total>,
}

#[derive(Debug, Default)]
struct Total {
    counts: Counts,
    callers: BTreeMap<Caller, (Seconds, Counts)>,
    seen: Seconds,
}

impl Totals {
    /// Takes in what all callers of a workload say at `t`; returns the workload's totals.
    /// Of two readings of one time the second changes nothing; an older one is ignored.
    pub(super) fn add(&mut self, workload: &WorkloadId, t: Seconds, callers: BTreeMap<Caller, Counts>) -> Counts {
        let total = self.workloads.entry(workload.clone()).or_default();
        if t > total.seen {
            total.seen = t;
            for (caller, now) in callers {
                let before = total.callers.get(&caller).map(|(_, counts)| counts);
                total.counts.add(&now, before);
                // A signal that is missing this time keeps its last value to be differenced from.
                let kept = before.map_or_else(|| now.clone(), |before| now.clone().or(before));
                total.callers.insert(caller, (t, kept));
            }
            total.callers.retain(|_, (seen, _)| t - *seen <= FORGET);
        }
        total.counts.clone()
    }

    /// When a workload was last counted.
    pub(super) fn counted(&self, workload: &WorkloadId) -> Option<Seconds> {
        self.workloads.get(workload).map(|total| total.seen)
    }

    /// Forgets workloads that nobody asked about for a while.
    pub(super) fn forget(&mut self, now: Seconds) {
        self.workloads.retain(|_, total| now - total.seen <= FORGET);
    }
}

/// Small arithmetic on counts.
trait Arithmetic {
    fn add(&mut self, now: &Counts, before: Option<&Counts>);
    fn or(self, other: &Counts) -> Counts;
}

fn fell(now: Option<f64>, before: Option<f64>) -> bool {
    matches!((now, before), (Some(now), Some(before)) if now < before)
}

impl Arithmetic for Counts {
    fn add(&mut self, now: &Counts, before: Option<&Counts>) {
        let none = Counts::default();
        let before = before.unwrap_or(&none);
        let bucket_fell = match (&now.latency, &before.latency) {
            (Some(now), Some(before)) => before.iter().any(|(le, was)| fell(now.get(le), Some(was))),
            _ => false,
        };
        // One of a caller's counters fell: all of them began anew.
        let anew = bucket_fell || fell(now.requests, before.requests) || fell(now.errors, before.errors);
        let grown = |now: f64, before: Option<f64>| match before {
            Some(before) if !anew => now - before,
            _ => 0.0,
        };
        for (total, now, before) in
            [(&mut self.requests, now.requests, before.requests), (&mut self.errors, now.errors, before.errors)]
        {
            if let Some(now) = now {
                *total.get_or_insert(0.0) += grown(now, before);
            }
        }
        if let Some(buckets) = &now.latency {
            let total = self.latency.get_or_insert_default();
            for (le, now) in buckets.iter() {
                let before = before.latency.as_ref().and_then(|b| b.get(le));
                total.add(le, grown(now, before));
            }
        }
    }

    fn or(mut self, other: &Counts) -> Counts {
        self.requests = self.requests.or(other.requests);
        self.errors = self.errors.or(other.errors);
        self.latency = self.latency.or_else(|| other.latency.clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    fn counts(requests: f64, errors: f64) -> Counts {
        let latency = [(0.1, requests - errors), (f64::INFINITY, requests)].into_iter().collect();
        Counts { requests: Some(requests), errors: Some(errors), latency: Some(latency) }
    }

    fn at(totals: &mut Totals, t: f64, callers: &[(&str, Counts)]) -> Counts {
        let workload = WorkloadId::new("shop", Kind::Deployment, "checkout");
        totals.add(&workload, t, callers.iter().map(|(c, n)| ((*c).to_owned(), n.clone())).collect())
    }

    #[test]
    fn a_caller_that_goes_away_is_no_reset_and_one_that_comes_counts_from_there() {
        let mut totals = Totals::default();
        assert_eq!(at(&mut totals, 1.0, &[("a", counts(1000.0, 10.0)), ("b", counts(500.0, 5.0))]), counts(0.0, 0.0));
        assert_eq!(at(&mut totals, 2.0, &[("a", counts(1010.0, 11.0)), ("b", counts(520.0, 5.0))]), counts(30.0, 1.0));
        assert_eq!(at(&mut totals, 3.0, &[("b", counts(530.0, 5.0))]), counts(40.0, 1.0));
        assert_eq!(at(&mut totals, 4.0, &[("b", counts(530.0, 5.0)), ("c", counts(900.0, 900.0))]), counts(40.0, 1.0));
        assert_eq!(at(&mut totals, 5.0, &[("c", counts(903.0, 902.0))]), counts(43.0, 3.0));
    }

    #[test]
    fn a_reset_of_one_counter_is_a_reset_of_that_caller() {
        let mut totals = Totals::default();
        at(&mut totals, 1.0, &[("a", counts(100.0, 5.0))]);
        assert_eq!(at(&mut totals, 2.0, &[("a", counts(120.0, 4.0))]), counts(0.0, 0.0));
        assert_eq!(at(&mut totals, 3.0, &[("a", counts(130.0, 5.0))]), counts(10.0, 1.0));
        assert_eq!(at(&mut totals, 3.0, &[("a", counts(999.0, 999.0))]), counts(10.0, 1.0));
    }

    #[test]
    fn a_signal_missing_once_is_made_up_for_later() {
        let mut totals = Totals::default();
        at(&mut totals, 1.0, &[("a", counts(100.0, 5.0))]);
        let only = Counts { requests: Some(110.0), errors: Some(6.0), latency: None };
        assert_eq!(at(&mut totals, 2.0, &[("a", only)]).requests, Some(10.0));
        let all = at(&mut totals, 3.0, &[("a", counts(120.0, 7.0))]);
        assert_eq!(all, counts(20.0, 2.0));
    }
}
