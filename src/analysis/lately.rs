//! The last minutes of one test, tick by tick: whether it goes on, and what else it may be. Pure.

use super::{counter::Tally, hypothesis::Hypothesis, split, tuning::*};
use crate::domain::Seconds;
use std::collections::VecDeque;

/// One tick, kept for as long as a conviction looks back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) t: Seconds,
    /// For how long it stands.
    pub(super) rise: Seconds,
    pub(super) new: Tally,
    /// Of those, pods whose cold start is over.
    pub(super) warm: Tally,
    pub(super) old: Tally,
}

/// Why evidence that is enough does not convict yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The limit is kept again.
    Over,
    /// Pods that are past their cold start do not show it.
    ColdStart,
    /// It has not lasted longer than bursts do.
    Burst,
}

/// The ticks of the last minutes.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately(VecDeque<Moment>);

impl Lately {
    pub(super) fn add(&mut self, moment: Moment) {
        self.0.push_back(moment);
        while self.0.front().is_some_and(|first| first.t <= moment.t - BEFORE) {
            self.0.pop_front();
        }
    }

    /// The ticks that ended in the window before `t`, the latest first.
    fn within(&self, t: Seconds, window: Seconds) -> impl Iterator<Item = &Moment> {
        let until = self.0.iter().rev().skip_while(move |moment| moment.t > t);
        until.take_while(move |moment| moment.t > t - window)
    }

    /// Requests of new pods in the window before `t`.
    pub(super) fn of_new(&self, t: Seconds, window: Seconds) -> Tally {
        self.within(t, window).map(|moment| moment.new).sum()
    }

    /// Requests of old pods in the window before `t`.
    pub(super) fn of_old(&self, t: Seconds, window: Seconds) -> Tally {
        self.within(t, window).map(|moment| moment.old).sum()
    }

    /// Requests of old pods in the last minutes, since `t` at the earliest.
    pub(super) fn old_since(&self, t: Seconds) -> Tally {
        self.0.iter().rev().take_while(|moment| moment.t > t).map(|moment| moment.old).sum()
    }

    /// Whether the share of bad requests lay above the limit in the window before `t`; nothing without requests.
    pub(super) fn over(&self, hypothesis: &Hypothesis, t: Seconds, window: Seconds) -> Option<bool> {
        self.of_new(t, window).ratio().map(|ratio| ratio > hypothesis.theta())
    }

    /// What else than this rollout's fault it may be at `t`, whose tick brought `new`.
    pub(super) fn doubt(&self, hypothesis: &Hypothesis, t: Seconds, new: Tally) -> Option<Doubt> {
        let over = |window| self.over(hypothesis, t, window);
        match () {
            () if over(NOW) != Some(true) || over(STILL) == Some(false) => Some(Doubt::Over),
            () if self.is_cold(hypothesis, t) => Some(Doubt::ColdStart),
            () if self.is_a_burst(hypothesis, t, new) => Some(Doubt::Burst),
            () => None,
        }
    }

    /// Whether it may still be a burst, as services have them. Not where surely half of the requests fail.
    fn is_a_burst(&self, hypothesis: &Hypothesis, t: Seconds, new: Tally) -> bool {
        !new.surely(HALF) && !self.of_new(t, TWO_SCRAPES).surely(HALF) && self.bad_time(hypothesis, t) < BURST
    }

    /// For how long it has been as bad as in the worst half of the last minute. Targets are not read all at once, so
    /// the first and the last reading of a burst are less bad than those between.
    fn bad_time(&self, hypothesis: &Hypothesis, t: Seconds) -> Seconds {
        let halves = self.within(t, NOW).filter_map(|end| self.of_new(end.t, TWO_SCRAPES).ratio());
        let as_bad = AS_BAD * halves.fold(0.0, f64::max);
        let ticks = self.0.iter().filter_map(|moment| Some((moment.rise, moment.new.ratio()?)));
        let beyond = ticks.filter(|(_, ratio)| *ratio > hypothesis.theta());
        beyond.map(|(rise, ratio)| rise * (ratio / as_bad).min(1.0)).sum()
    }

    /// Whether it may be a cold start: until pods that are past theirs are bad beyond chance, and not clearly less than
    /// those that are not. Where all are warm by now, what cold ones left behind does not convict by a hair.
    fn is_cold(&self, hypothesis: &Hypothesis, t: Seconds) -> bool {
        let all = self.of_new(t, NOW);
        if all.ratio().is_some_and(|ratio| ratio >= HALF) {
            return false;
        }
        let warm: Tally = self.within(t, NOW).map(|moment| moment.warm).sum();
        let mut cold = all;
        cold -= warm;
        let tell = hypothesis.best_lr(warm);
        if cold.total < 1.0 { tell < WARM_ALONE } else { tell < WARM || split::log_split(cold, warm) >= ALIKE }
    }
}
