//! When a rollout has been good for long enough (decision.md 2.6). Pure.

use super::tuning::{NO_DATA, PASS_ANYWAY};
use crate::domain::Seconds;

/// What the rule looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Oven {
    /// Since the first new pod was Ready.
    pub(super) age: Option<Seconds>,
    pub(super) watch: Seconds,
    pub(super) requests: f64,
    pub(super) min_requests: f64,
    pub(super) all_ready: bool,
    /// Whether errors or latency are counted and tested.
    pub(super) counted: bool,
    /// Whether any source measured anything of the new pods.
    pub(super) seen: bool,
    /// Whether the evidence of every family that is tested speaks for the rollout.
    pub(super) clean: bool,
    pub(super) saturated: bool,
    /// Seconds until the memory of a new pod has grown to its limit, if it goes on as it does; 0 if it did.
    pub(super) runs_out: Option<Seconds>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Baked {
    /// No new pod is Ready yet, or not all are any more.
    NotReady,
    /// Seconds of the watch that are left.
    Baking(Seconds),
    /// The time is over; the evidence does not yet speak for it.
    Unsettled,
    NoData,
    TooFew,
    Saturated,
    /// Seconds for which growing memory keeps it from passing, at most.
    Leaking(Seconds),
    Pass,
}

/// Pass ⇔ the watch is over, requests are enough (or three hours went by), all new pods are Ready, something was
/// measured of them and the evidence of each family is negative. Where memory runs out within another watch, that is
/// waited for.
pub(super) fn judge(oven: &Oven) -> Baked {
    let Some(age) = oven.age else { return Baked::NotReady };
    if !oven.seen {
        // However long nobody looks: that proves nothing.
        return if age > NO_DATA { Baked::NoData } else { Baked::Baking(oven.watch - age) };
    }
    if age < oven.watch {
        return Baked::Baking(oven.watch - age);
    }
    if !oven.all_ready {
        return Baked::NotReady;
    }
    if !oven.clean {
        return Baked::Unsettled;
    }
    let long = age >= PASS_ANYWAY.max(oven.watch);
    // `>=` and not `<`, so that what is no number is not enough.
    let enough = oven.requests >= oven.min_requests && oven.counted;
    if !enough && !long {
        return Baked::TooFew;
    }
    if oven.saturated {
        return Baked::Saturated;
    }
    match 2.0 * oven.watch - age {
        left if left > 0.0 && oven.runs_out.is_some_and(|seconds| seconds < oven.watch) => Baked::Leaking(left),
        _ => Baked::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Oven = Oven {
        age: Some(1800.0),
        watch: 1800.0,
        requests: 300.0,
        min_requests: 300.0,
        all_ready: true,
        counted: true,
        seen: true,
        clean: true,
        saturated: false,
        runs_out: None,
    };

    #[test]
    fn every_condition_is_needed() {
        assert_eq!(judge(&DONE), Baked::Pass);
        assert_eq!(judge(&Oven { age: None, ..DONE }), Baked::NotReady);
        assert_eq!(judge(&Oven { age: Some(1799.0), ..DONE }), Baked::Baking(1.0));
        assert_eq!(judge(&Oven { requests: 299.0, ..DONE }), Baked::TooFew);
        assert_eq!(judge(&Oven { requests: f64::NAN, ..DONE }), Baked::TooFew);
        assert_eq!(judge(&Oven { counted: false, ..DONE }), Baked::TooFew);
        assert_eq!(judge(&Oven { all_ready: false, ..DONE }), Baked::NotReady);
        assert_eq!(judge(&Oven { clean: false, ..DONE }), Baked::Unsettled);
        assert_eq!(judge(&Oven { saturated: true, ..DONE }), Baked::Saturated);
    }

    #[test]
    fn memory_that_runs_out_soon_is_waited_for_as_long_again() {
        let leaks = Oven { runs_out: Some(900.0), ..DONE };
        assert_eq!(judge(&leaks), Baked::Leaking(1800.0));
        assert_eq!(judge(&Oven { age: Some(3500.0), ..leaks }), Baked::Leaking(100.0));
        assert_eq!(judge(&Oven { age: Some(3600.0), ..leaks }), Baked::Pass);
        assert_eq!(judge(&Oven { runs_out: Some(1800.0), ..leaks }), Baked::Pass);
        assert_eq!(judge(&Oven { clean: false, ..leaks }), Baked::Unsettled);
    }

    #[test]
    fn three_hours_make_up_for_requests_but_neither_for_readiness_nor_for_sight() {
        let quiet = Oven { age: Some(10_800.0), requests: 0.0, counted: false, ..DONE };
        assert_eq!(judge(&quiet), Baked::Pass);
        assert_eq!(judge(&Oven { age: Some(10_799.0), ..quiet }), Baked::TooFew);
        assert_eq!(judge(&Oven { all_ready: false, ..quiet }), Baked::NotReady);
        let unseen = Oven { seen: false, ..quiet };
        assert_eq!(judge(&unseen), Baked::NoData);
        assert_eq!(judge(&Oven { age: Some(100.0), ..unseen }), Baked::Baking(1700.0));
    }
}
