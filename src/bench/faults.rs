//! Which fault is on which pod when, and what it does to a stretch of requests. Pure.

use super::{
    rolling::{Life, Lives},
    world::{Effect, Fault, Harm, Moment, Who, World},
};
use crate::domain::Seconds;

/// A fault with its times known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    fault: Fault,
    from: Seconds,
}

/// What goes wrong in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wrong {
    pub(super) errors_to: Option<f64>,
    pub(super) errors_plus: f64,
    pub(super) slower: f64,
    pub(super) retries: Option<(f64, f64)>,
    pub(super) refuse: bool,
    pub(super) more: f64,
    pub(super) uncounted: bool,
}

impl Default for Wrong {
    fn default() -> Self {
        Self {
            errors_to: None,
            errors_plus: 0.0,
            slower: 1.0,
            retries: None,
            refuse: false,
            more: 1.0,
            uncounted: false,
        }
    }
}

/// The time of a moment; never, when the rollout has no such moment.
pub(super) fn time_of(moment: Moment, lives: &Lives) -> Seconds {
    let of = |times: &[Option<Seconds>], deploy: usize| times.get(deploy).copied().flatten();
    match moment {
        Moment::At(t) => t,
        Moment::FirstReady(deploy, after) => of(&lives.first_ready, deploy).map_or(f64::INFINITY, |t| t + after),
        Moment::Done(deploy, after) => of(&lives.done, deploy).map_or(f64::INFINITY, |t| t + after),
    }
}

/// When a rollout begins to do harm.
pub(super) fn harm_of(world: &World, lives: &Lives, deploy: usize) -> Seconds {
    match world.deploys[deploy].harm {
        Harm::Begin => world.deploys[deploy].at,
        Harm::From(moment) => time_of(moment, lives),
    }
}

/// All faults of a world with their times.
pub(super) fn timed(world: &World, lives: &Lives) -> Vec<Timed> {
    world.faults.iter().map(|fault| Timed { fault: *fault, from: time_of(fault.from, lives) }).collect()
}

impl Timed {
    pub(super) fn is_on(&self, pod: &Life) -> bool {
        match self.fault.who {
            Who::All(service) => pod.service == service,
            Who::Revision(service, revision) => pod.service == service && pod.revision == revision,
            Who::Some(service, revision, n) => pod.service == service && pod.revision == revision && pod.nth < n,
            Who::Node(service, node) => pod.service == service && pod.node == node,
        }
    }

    /// When it begins on this pod.
    fn begin(&self, pod: &Life) -> Seconds {
        if self.fault.since_ready {
            // What was there before the run has had its cold start.
            pod.created.and(pod.ready.first()).map_or(f64::INFINITY, |(from, _)| from + self.from)
        } else {
            self.from
        }
    }

    /// The times at which it changes on this pod, up to `end`.
    pub(super) fn edges(&self, pod: &Life, end: Seconds, out: &mut Vec<Seconds>) {
        let mut begin = self.begin(pod);
        while begin.is_finite() && begin < end {
            out.push(begin);
            if self.fault.lasts.is_finite() {
                out.push(begin + self.fault.lasts);
            }
            let Some(every) = self.fault.every else { return };
            begin += every;
        }
    }

    /// Adds what it does to this pod at `t`.
    pub(super) fn apply(&self, pod: &Life, t: Seconds, wrong: &mut Wrong) {
        let begin = self.begin(pod);
        if t < begin {
            return;
        }
        let since = t - begin;
        let phase = self.fault.every.map_or(since, |every| since % every);
        if phase >= self.fault.lasts {
            return;
        }
        match self.fault.effect {
            Effect::ErrorsTo(p) => wrong.errors_to = Some(wrong.errors_to.map_or(p, |q| q.max(p))),
            Effect::ErrorsPlus(p) => wrong.errors_plus = 1.0 - (1.0 - wrong.errors_plus) * (1.0 - p),
            Effect::ErrorsEachMinute(p) => {
                wrong.errors_plus = 1.0 - (1.0 - wrong.errors_plus) * (1.0 - (p * since / 60.0).min(1.0));
            }
            Effect::Slower(factor) => wrong.slower *= factor,
            Effect::SlowerEachMinute(share) => wrong.slower *= 1.0 + share * since / 60.0,
            Effect::Retries(p, times) => wrong.retries = Some((p, times)),
            Effect::Refuse => wrong.refuse = true,
            Effect::More(factor) => wrong.more *= factor,
            Effect::Uncounted => wrong.uncounted = true,
        }
    }
}
