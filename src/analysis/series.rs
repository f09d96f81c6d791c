//! Counts by time, kept short, and the question that is asked of them: did this break, and when? Pure.
//!
//! This is what is known of a workload that is not on trial. Bins are made only where something was
//! counted, so an idle workload costs nothing; what is older than [`PEER_MEMORY`] is dropped.

use super::{
    bounds,
    counter::Tally,
    hypothesis::{Hypothesis, log_sum_exp},
    tuning::*,
};
use crate::domain::Seconds;
use std::collections::VecDeque;

/// Tallies by bins of [`PEER_BIN`] seconds, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    bins: VecDeque<(i64, Tally)>,
}

/// A time as the number of its bin.
fn bin(t: Seconds) -> i64 {
    // What was read at the end of a bin happened in it.
    (t / PEER_BIN).ceil().clamp(-1e15, 1e15) as i64
}

impl Series {
    /// Adds what was read at `t`. Late readings count where they belong.
    pub(super) fn add(&mut self, t: Seconds, tally: Tally) {
        let number = bin(t);
        match self.bins.back_mut() {
            Some((last, sum)) if *last == number => *sum += tally,
            Some((last, _)) if *last > number => {
                if let Some((_, sum)) = self.bins.iter_mut().rev().find(|(n, _)| *n == number) {
                    *sum += tally;
                }
            }
            _ => self.bins.push_back((number, tally)),
        }
        let oldest = number - (PEER_MEMORY / PEER_BIN) as i64;
        while self.bins.front().is_some_and(|(n, _)| *n < oldest) {
            self.bins.pop_front();
        }
    }

    /// When it began, at the earliest in the bin of `from`: the bin since which the data speaks loudest.
    pub(super) fn onset(&self, hypothesis: &Hypothesis, from: Seconds) -> Option<Seconds> {
        let window: Vec<(Seconds, Tally)> = self.within(from - PEER_BIN, f64::MAX).collect();
        loudest(&window, hypothesis).map(|(_, t, _)| t)
    }

    /// The begin of the longest stretch up to the end of which more than `theta` of all requests were bad.
    pub(super) fn earliest_above(&self, theta: f64) -> Option<Seconds> {
        let mut since = Tally::default();
        let stretches = self.bins.iter().rev().map(|(number, tally)| {
            since += *tally;
            ((number - 1) as Seconds * PEER_BIN, since.ratio())
        });
        stretches.filter(|(_, ratio)| ratio.is_some_and(|ratio| ratio > theta)).last().map(|(t, _)| t)
    }

    /// What this and another one counted after the bin of `from`, in the bins in which both did. The first
    /// bin is left out: who served in its calm half only was never beside what broke in the other.
    pub(super) fn beside(&self, other: &Self, from: Seconds) -> [Tally; 2] {
        let mut sums = [Tally::default(); 2];
        let mut others = other.bins.iter().peekable();
        for (number, tally) in self.bins.iter().filter(|(n, _)| *n > bin(from)) {
            while others.next_if(|(n, _)| n < number).is_some() {}
            if let Some((_, beside)) = others.peek().filter(|(n, _)| n == number) {
                // As if both had served equally much at every moment: while pods move over, most of one arm's
                // requests lie before a change and most of the other's after it.
                let fewer = tally.total.min(beside.total);
                if fewer > 0.0 {
                    sums[0] += tally.scaled(fewer / tally.total);
                    sums[1] += beside.scaled(fewer / beside.total);
                }
            }
        }
        sums
    }

    /// The most alarming stretch of bins that is about as long as `length`: the one whose share of bad
    /// requests is certainly the highest. A shorter one would excuse what lasts longer.
    pub(super) fn worst(&self, length: Seconds) -> Tally {
        let most = (length / PEER_BIN).ceil().max(1.0);
        let least = (most * STRETCH_LEAST).ceil() as i64;
        let mut worst = (0.0, Tally::default());
        for (i, (first, _)) in self.bins.iter().enumerate() {
            let mut stretch = Tally::default();
            for (number, tally) in self.bins.iter().skip(i).take_while(|(n, _)| *n < first + most as i64) {
                stretch += *tally;
                let low = bounds::wilson(stretch.bad, stretch.total).low;
                if number - first + 1 >= least && stretch.bad > 0.0 && low > worst.0 {
                    worst = (low, stretch);
                }
            }
        }
        worst.1
    }

    /// The end of the newest bin; before all times when there is none.
    pub(super) fn latest(&self) -> Seconds {
        self.bins.back().map_or(f64::NEG_INFINITY, |(number, _)| *number as Seconds * PEER_BIN)
    }

    /// What was counted in (`from`, `to`].
    pub(super) fn sum(&self, from: Seconds, to: Seconds) -> Tally {
        self.within(from, to).map(|(_, tally)| tally).sum()
    }

    /// Bins in (`from`, `to`], each with the time at which it begins.
    pub(super) fn within(&self, from: Seconds, to: Seconds) -> impl Iterator<Item = (Seconds, Tally)> {
        let (from, to) = (bin(from), bin(to));
        let inside = self.bins.iter().filter(move |(n, _)| *n > from && *n <= to);
        inside.map(|(n, tally)| ((*n - 1) as Seconds * PEER_BIN, *tally))
    }
}

/// What is asked of somebody else's signal when ours broke.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// When ours broke.
    pub(super) onset: Seconds,
    /// Now.
    pub(super) t: Seconds,
    /// The limit that the signal has to keep.
    pub(super) limit: f64,
    /// By how much our share of bad requests rose; not comparable where that is another signal.
    pub(super) shift: Option<f64>,
}

/// Since when somebody else's signal is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Break {
    pub(super) onset: Seconds,
    pub(super) after: Tally,
    /// The last two minutes of `after`.
    pub(super) lately: Tally,
}

impl Break {
    /// Whether it is as bad now as it was before, by half at least.
    pub(super) fn goes_on(&self) -> bool {
        let ratios = self.lately.ratio().zip(self.after.ratio());
        ratios.is_none_or(|(lately, after)| lately >= after / 2.0)
    }
}

/// What somebody else's signal says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Told {
    /// Too little was counted to tell.
    TooLittle,
    Fine,
    /// Not broken beyond chance yet, but on its way there.
    Rising,
    Broken(Break),
}

impl Told {
    /// Since when, if it is broken.
    pub(super) fn broken(self) -> Option<Break> {
        match self {
            Told::Broken(found) => Some(found),
            _ => None,
        }
    }
}

/// Whether the signal broke within three minutes of ours: above its limit beyond chance, or above what it
/// was before by more than half of our own rise, beyond chance (decision.md 2.5.2).
pub(super) fn ask(series: &Series, question: &Question) -> Told {
    let begin = question.onset - PEER_ONSET;
    let before = series.sum(begin - BASELINE, begin);
    let window: Vec<(Seconds, Tally)> = series.within(begin, question.t).collect();
    let total: Tally = window.iter().map(|(_, tally)| *tally).sum();
    if total.total <= 0.0 {
        return Told::TooLittle;
    }
    // What broke a few minutes before ours has its own cause: what it was like last counts as usual.
    let last = series.sum(begin - LAST_MINUTES, begin);
    let usual = [before, last].into_iter().filter(|tally| tally.total >= SOME_TRAFFIC);
    let usual = usual.filter_map(|tally| Some((tally.ratio()?, tally)));
    let usual = usual.reduce(|a, b| if b.0 > a.0 { b } else { a });
    let highest = |tally: Tally| bounds::upper(tally.bad, tally.total, BASELINE_CONFIDENCE);
    // Above the limit; where that was broken before, above what it was.
    let own = match usual {
        Some((ratio, tally)) if ratio > question.limit => question.limit.max(highest(tally)),
        _ => question.limit,
    };
    let own = above(&window, own, own);
    let beyond_chance = |found: &(f64, Seconds, Tally)| found.0 >= PEER_LEVEL;
    let mut broken = own.filter(beyond_chance);
    if let (None, Some(shift), Some((ratio, tally))) = (broken, question.shift, usual)
        && before.total >= RECOVERY_REQUESTS
        && ever_above(&window, ratio + shift / 2.0)
    {
        broken = above(&window, highest(tally).max(1e-4), ratio + shift / 2.0).filter(beyond_chance);
    }
    if let Some((_, onset, after)) = broken {
        let lately = series.sum(question.t - LAST_MINUTES, question.t);
        return Told::Broken(Break { onset, after, lately });
    }
    if own.is_some_and(|(log, ..)| log >= PEER_RISING) {
        return Told::Rising;
    }
    // Had it broken as ours did, it would show by now.
    let since: Tally = window.iter().filter(|(t, _)| *t >= question.onset - PEER_BIN).map(|(_, tally)| *tally).sum();
    let expected = since.total * question.shift.unwrap_or(question.limit).max(question.limit);
    if expected >= PEER_EXPECTED { Told::Fine } else { Told::TooLittle }
}

/// The start since which the share of bad requests lies above `theta` and above `least`, and the evidence of any start.
fn above(window: &[(Seconds, Tally)], theta: f64, least: f64) -> Option<(f64, Seconds, Tally)> {
    if !(theta > 0.0 && theta < GRID_MAX) {
        return None;
    }
    let hypothesis = Hypothesis::new(theta);
    let logs = starts(window, &hypothesis).map(|(log, _, _)| log).collect::<Vec<f64>>();
    let mixed = log_sum_exp(logs.iter().copied()) - (logs.len().max(1) as f64).ln();
    let (_, onset, after) = loudest(window, &hypothesis)?;
    after.ratio().is_some_and(|ratio| ratio > theta && ratio > least).then_some((mixed, onset, after))
}

/// Every bin as a start, the last first: when, and all that was counted since.
fn since_each(window: &[(Seconds, Tally)]) -> impl Iterator<Item = (Seconds, Tally)> {
    let mut since = Tally::default();
    window.iter().rev().map(move |(t, tally)| {
        since += *tally;
        (*t, since)
    })
}

/// Whether there is any start since which the share of bad requests lies above `least`.
fn ever_above(window: &[(Seconds, Tally)], least: f64) -> bool {
    since_each(window).any(|(_, since)| since.ratio().is_some_and(|ratio| ratio > least))
}

/// Every bin as a start, the last first: log likelihood ratio of all since, when, and what that is.
fn starts(window: &[(Seconds, Tally)], hypothesis: &Hypothesis) -> impl Iterator<Item = (f64, Seconds, Tally)> {
    since_each(window).map(|(t, since)| (hypothesis.log_lr(since), t, since))
}

/// The start since which the data speaks loudest, of those that begin with something bad.
fn loudest(window: &[(Seconds, Tally)], hypothesis: &Hypothesis) -> Option<(f64, Seconds, Tally)> {
    let bad = window.iter().rev().map(|(_, tally)| tally.bad > 0.0);
    let starts = starts(window, hypothesis).zip(bad).filter(|(_, bad)| *bad).map(|(start, _)| start);
    starts.reduce(|best, start| if start.0 >= best.0 { start } else { best })
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    const T: Seconds = 30_000.0;

    fn series(seed: u64, per_bin: f64, until: Seconds, share: &dyn Fn(Seconds) -> f64) -> Series {
        let mut random = Random::new(seed);
        let mut series = Series::default();
        let mut t = T - 2400.0;
        while t <= until {
            let requests = random.poisson(per_bin);
            series.add(t, Tally::new(f64::from(random.binomial(requests, share(t))), f64::from(requests)));
            t += PEER_BIN;
        }
        series
    }

    fn question(t: Seconds, shift: f64) -> Question {
        Question { onset: T, t, limit: 0.05, shift: Some(shift) }
    }

    #[test]
    fn a_break_in_the_same_minutes_is_seen() {
        for seed in 0..50 {
            let peer = series(seed, 75.0, T + 60.0, &|t| if t > T { 0.3 } else { 0.005 });
            let Told::Broken(found) = ask(&peer, &question(T + 60.0, 0.3)) else { panic!("seed {seed}") };
            assert!((found.onset - T).abs() <= 2.0 * PEER_BIN, "{}", found.onset);
            // Below the limit, but by more than half of our own rise.
            let peer = series(seed, 750.0, T + 60.0, &|t| if t > T { 0.04 } else { 0.005 });
            assert!(matches!(ask(&peer, &question(T + 60.0, 0.05)), Told::Broken(_)));
            assert!(matches!(ask(&peer, &question(T + 60.0, 0.4)), Told::Fine));
        }
    }

    #[test]
    fn the_earliest_begin_is_that_of_the_longest_stretch_beyond_the_limit() {
        let mut bins = Series::default();
        for (i, bad) in [0.0, 0.0, 12.0, 0.0, 30.0].into_iter().enumerate() {
            bins.add(PEER_BIN * i as Seconds, Tally::new(bad, 100.0));
        }
        assert_eq!(bins.earliest_above(0.2), Some(3.0 * PEER_BIN), "the last bin alone");
        assert_eq!(bins.earliest_above(0.11), Some(PEER_BIN), "42 of 300, and 42 of 400 is too little");
        assert_eq!((bins.earliest_above(0.5), Series::default().earliest_above(0.0)), (None, None));
    }

    #[test]
    fn clean_peers_stay_clean_at_every_tick() {
        let mut broken = 0;
        for seed in 0..400 {
            let share = [0.001, 0.01, 0.045][seed as usize % 3];
            for t in [15.0, 30.0, 60.0, 120.0, 300.0, 900.0] {
                let peer = series(seed, [1.0, 15.0, 150.0][seed as usize / 3 % 3], T + t, &|_| share);
                broken += usize::from(matches!(ask(&peer, &question(T + t, 0.1)), Told::Broken(_)));
            }
        }
        assert!(broken <= 12, "{broken} of 2400");
    }

    #[test]
    fn what_broke_long_before_or_is_silent_says_nothing() {
        let peer = series(1, 75.0, T + 60.0, &|_| 0.3);
        assert!(!matches!(ask(&peer, &question(T + 60.0, 0.3)), Told::Broken(_)), "it was so before");
        assert_eq!(ask(&Series::default(), &question(T + 60.0, 0.3)), Told::TooLittle);
        let few = series(2, 0.2, T + 30.0, &|_| 0.0);
        assert_eq!(ask(&few, &question(T + 30.0, 0.3)), Told::TooLittle);
    }

    #[test]
    fn memory_is_bounded_and_time_may_jump() {
        let mut series = Series::default();
        for i in 0..100_000 {
            series.add(f64::from(i) * 7.0, Tally::new(0.0, 1.0));
        }
        assert!(series.bins.len() <= (PEER_MEMORY / PEER_BIN) as usize + 1);
        series.add(f64::MAX, Tally::new(0.0, 1.0));
        series.add(-1e300, Tally::new(0.0, 1.0));
        assert!(series.sum(f64::MIN, f64::MAX).total <= 2.0);
    }
}
