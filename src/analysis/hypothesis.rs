//! The limit under test, the alternatives to it, and how much each start of the test is believed beforehand
//! (decision.md 2.3). Pure.

use super::{counter::Tally, tuning::*};
use crate::domain::Seconds;

/// The limit under test and the alternatives to it.
#[derive(Debug, Clone)]
pub(super) struct Hypothesis {
    theta: f64,
    /// ln(q/θ), ln((1−q)/(1−θ)) and the log of the stake of each alternative.
    grid: Vec<(f64, f64, f64)>,
}

impl Hypothesis {
    pub(super) fn new(theta: f64) -> Self {
        Self::with(theta, GRID.into_iter(), GRID_TOP)
    }

    /// Alternatives that are not between the limit and 1 leave their stakes to the others.
    fn with(theta: f64, multiples: impl Iterator<Item = (f64, f64)>, top: (f64, f64)) -> Self {
        let all = multiples.map(|(k, stake)| (k * theta, stake)).chain([top]);
        let kept: Vec<(f64, f64)> = all.filter(|(q, _)| *q > theta && *q <= GRID_MAX).collect();
        let sum: f64 = kept.iter().map(|(_, stake)| stake).sum();
        let grid = kept
            .iter()
            .map(|(q, stake)| ((q / theta).ln(), ((1.0 - q) / (1.0 - theta)).ln(), (stake / sum).ln()))
            .collect();
        Self { theta, grid }
    }

    /// The grid that the golden values of decision.md were computed with: the same stake on each.
    #[cfg(test)]
    pub(super) fn uniform(theta: f64) -> Self {
        Self::with(theta, [1.2, 1.5, 2.0, 3.0, 5.0, 10.0].into_iter().map(|k| (k, 1.0)), (0.9, 1.0))
    }

    pub(super) fn theta(&self) -> f64 {
        self.theta
    }

    /// What a bet becomes on average over so many requests of which each is bad with probability `share`.
    pub(super) fn bet(&self, share: f64, requests: f64) -> f64 {
        let one = |(up, down, stake): &(f64, f64, f64)| {
            (stake + requests * (share * up.exp() + (1.0 - share) * down.exp()).ln()).exp()
        };
        self.grid.iter().map(one).sum()
    }

    /// How much the best alternative of all explains it better than the limit; 0 where the limit is kept.
    pub(super) fn best_lr(&self, tally: Tally) -> f64 {
        let Some(p) = tally.ratio().filter(|p| *p > self.theta) else { return 0.0 };
        let good = tally.total - tally.bad;
        let rest = if good > 0.0 { good * ((1.0 - p) / (1.0 - self.theta)).ln() } else { 0.0 };
        tally.bad * (p / self.theta).ln() + rest
    }

    /// Log likelihood ratio of the mixture of alternatives; 0 when the limit is so high that no
    /// alternative is left.
    pub(super) fn log_lr(&self, tally: Tally) -> f64 {
        if self.grid.is_empty() || tally.total <= 0.0 {
            return 0.0;
        }
        let good = tally.total - tally.bad;
        log_sum_exp(self.grid.iter().map(|(up, down, stake)| stake + tally.bad * up + good * down))
    }
}

/// A term that is smaller by so many nats than the largest is lost in its last bit, and `exp` is slow there.
const NOTHING: f64 = 40.0;

pub(super) fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + terms.map(|term| if term < top - NOTHING { 0.0 } else { (term - top).exp() }).sum::<f64>().ln()
}

/// When tests start, and how much each start is believed beforehand. Fixed before the data is
/// seen, or the mixture would not be a fair bet.
#[derive(Debug, Clone)]
pub(super) struct Prior {
    pub(super) spacing: Seconds,
    pub(super) starts: u32,
    /// The least distance of two starts by the tick, and its share of the watch.
    pub(super) tick: Seconds,
    pub(super) tick_share: f64,
    decay_sum: f64,
}

impl Prior {
    pub(super) fn new(watch: Seconds) -> Self {
        let spacing = START_EVERY.max(watch / STARTS);
        let starts = (watch / spacing).floor() as u32 + 1;
        let decay_sum = (0..starts).map(|i| Self::decay(i, spacing)).sum();
        let tick = spacing / 4.0;
        Self { spacing, starts, tick, tick_share: tick / watch.max(tick), decay_sum }
    }

    fn decay(i: u32, spacing: Seconds) -> f64 {
        (-f64::from(i) * spacing / START_HALF_LIFE).exp2()
    }

    /// Stake on start `j` by the clock; all of them, without end, sum to what other starts leave of 1.
    pub(super) fn weight(&self, j: u32) -> f64 {
        let (round, i) = (j / self.starts, j % self.starts);
        let share = match round {
            0 => 1.0 - LATE_PRIOR - FIRST_PRIOR - TICK_PRIOR - SUSPECT_PRIOR,
            k => LATE_PRIOR / (f64::from(k) * f64::from(k + 1)),
        };
        let first = if j == 0 { FIRST_PRIOR } else { 0.0 };
        first + share * (0.5 * Self::decay(i, self.spacing) / self.decay_sum + 0.5 / f64::from(self.starts))
    }
}
