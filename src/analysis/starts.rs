//! When the bets against a limit begin, and what was counted since each (decision.md 2.3). Pure.
//!
//! The evidence is a mixture over starts, because nobody knows beforehand when a fault begins. What is staked on a
//! start is fixed before its first request is seen, and all stakes together never exceed 1: that makes the mixture a
//! fair bet at every moment. There are three kinds. Starts by the clock come every minute and are kept for the
//! whole watch. Starts by the tick are closed again as soon as they are lost: where many requests come, the calm
//! seconds before a fault would outweigh the seconds after it until the next minute begins. And where the tick before
//! looked bad, much is staked on what follows it: the past may choose the bet, it only may not be part of it.

use super::{
    counter::Tally,
    hypothesis::{Hypothesis, Prior, log_sum_exp},
    tuning::*,
};
use crate::domain::Seconds;
use std::collections::VecDeque;

/// What was counted between one start and the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    pub(super) begin: Seconds,
    /// Its name for those who count by pod; names rise, and those of closed starts are left out.
    number: u32,
    stake: f64,
    log_stake: f64,
    /// Whether it is kept although nothing is left of its stake.
    by_clock: bool,
    /// New pods, tempered: what the test sees.
    pub(super) tempered: Tally,
    pub(super) new: Tally,
    pub(super) old: Tally,
    pub(super) first_bad: Option<Seconds>,
    /// How much everything since its begin speaks against the limit, in nats: what a bet on this start has won.
    won: f64,
}

impl Segment {
    /// What its stake has become (natural log).
    fn worth(&self) -> f64 {
        self.log_stake + self.won
    }

    fn absorb(&mut self, later: &Self) {
        self.tempered += later.tempered;
        self.new += later.new;
        self.old += later.old;
        self.first_bad = self.first_bad.or(later.first_bad);
    }
}

/// All starts of one test.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    prior: Prior,
    segments: VecDeque<Segment>,
    next: u32,
    /// The first start by the clock, and how many there were.
    anchor: Seconds,
    by_clock: u32,
    /// All stakes so far, closed ones included.
    spent: f64,
    /// What is left for starts by the tick, and for those that look bad.
    by_tick: f64,
    spare: f64,
}

impl Starts {
    pub(super) fn new(watch: Seconds) -> Self {
        Self {
            prior: Prior::new(watch),
            segments: VecDeque::new(),
            next: 0,
            anchor: 0.0,
            by_clock: 0,
            spent: 0.0,
            by_tick: TICK_PRIOR,
            spare: SUSPECT_PRIOR,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn all(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// Opens what is due at `from`; `suspected`: the tick that ended then looked bad. Tells the name of the segment
    /// that counts from now on, and of those that were closed the first: all before it keep their places.
    pub(super) fn open(&mut self, from: Seconds, suspected: bool) -> (u32, Option<u32>) {
        if self.is_empty() {
            self.anchor = from;
        }
        let due = ((from - self.anchor + 1e-6) / self.prior.spacing).floor() as u32 + 1;
        let keep = 2 * self.prior.starts;
        // A daemon that slept for days must not make a start for each minute of them.
        self.by_clock = self.by_clock.max(due.saturating_sub(keep));
        while self.by_clock < due {
            let begin = self.anchor + self.prior.spacing * f64::from(self.by_clock);
            let stake = self.prior.weight(self.by_clock);
            self.by_clock += 1;
            self.stake(begin, stake, true);
        }
        let late = |start: &Segment, least: Seconds| from - start.begin >= least - 1e-6;
        if self.by_tick > 0.0 && self.segments.back().is_some_and(|last| late(last, self.prior.tick)) {
            let stake = (TICK_PRIOR * self.prior.tick_share).min(self.by_tick);
            self.by_tick -= stake;
            self.stake(from, stake, false);
        }
        let bet = self.spare * SUSPECT_SHARE;
        if suspected && bet >= SUSPECT_LEAST {
            self.spare -= bet;
            self.stake(from, bet, false);
        }
        let mut closed = self.close(from);
        while self.segments.len() > keep as usize + SUSPECTS {
            closed = self.segments.pop_front().map(|first| first.number);
        }
        (self.segments.back().map_or(0, |last| last.number), closed)
    }

    fn stake(&mut self, begin: Seconds, stake: f64, by_clock: bool) {
        self.spent += stake;
        if let Some(last) = self.segments.back_mut()
            && last.begin >= begin - 1e-6
        {
            // Nothing was counted in it yet: the same start.
            last.stake += stake;
            last.log_stake = last.stake.ln();
            last.by_clock |= by_clock;
            return;
        }
        let (number, log_stake) = (self.next, stake.ln());
        self.segments.push_back(Segment { begin, number, stake, log_stake, by_clock, ..Segment::default() });
        self.next += 1;
    }

    /// Closes starts between those by the clock of which next to nothing is left, or next to nothing beside the best:
    /// what they counted belongs to the start before. Tells the name of the first.
    fn close(&mut self, from: Seconds) -> Option<u32> {
        let best = self.segments.iter().map(Segment::worth).fold(0.0, f64::max);
        let young = from - self.prior.tick;
        let lost = |segment: &Segment| !segment.by_clock && segment.begin < young && segment.worth() < LOST + best;
        let mut first = None;
        // From the back: what is removed moves nobody in front of it. The first has none before it.
        for place in (1..self.segments.len()).rev() {
            if self.segments.get(place).is_some_and(lost)
                && let Some(gone) = self.segments.remove(place)
                && let Some(before) = self.segments.get_mut(place - 1)
            {
                before.absorb(&gone);
                first = Some(gone.number);
            }
        }
        first
    }

    /// Counts one tick.
    pub(super) fn count(&mut self, from: Seconds, new: Tally, old: Tally, temper: f64, hypothesis: &Hypothesis) {
        let Some(segment) = self.segments.back_mut() else { return };
        segment.tempered += new.scaled(temper);
        segment.new += new;
        segment.old += old;
        if new.bad > 0.0 {
            segment.first_bad.get_or_insert(from);
        }
        if new.total > 0.0 {
            let mut since = Tally::default();
            for segment in self.segments.iter_mut().rev() {
                since += segment.tempered;
                segment.won = hypothesis.log_lr(since);
            }
        }
    }

    /// The first name that still counts.
    pub(super) fn oldest(&self) -> u32 {
        self.segments.front().map_or(0, |first| first.number)
    }

    /// Name of a segment by its place.
    pub(super) fn name(&self, place: usize) -> u32 {
        self.segments.get(place).map_or(u32::MAX, |segment| segment.number)
    }

    /// Place of the segment in which something of that name counts now.
    pub(super) fn place(&self, name: u32) -> Option<usize> {
        self.segments.partition_point(|segment| segment.number <= name).checked_sub(1)
    }

    /// log M: what all bets together have become.
    pub(super) fn log_m(&self) -> f64 {
        self.together(self.segments.iter().rev().map(Segment::worth))
    }

    /// log M if these had been the counts, one for each segment.
    pub(super) fn log_m_of(&self, hypothesis: &Hypothesis, counts: &[Tally]) -> f64 {
        let mut since = Tally::default();
        let bets = self.segments.iter().rev().zip(counts.iter().rev());
        let worth = bets.map(|(segment, tally)| {
            since += *tally;
            segment.log_stake + hypothesis.log_lr(since)
        });
        self.together(worth.collect::<Vec<f64>>().into_iter())
    }

    fn together(&self, worth: impl Iterator<Item = f64> + Clone) -> f64 {
        // Starts not yet reached are bets not yet made.
        log_sum_exp(worth.chain([(1.0 - self.spent).max(0.0).ln()]))
    }

    /// The place of the start that explains the data best; of equal ones the first.
    pub(super) fn best(&self) -> Option<usize> {
        let all = self.segments.iter().map(|segment| segment.won).enumerate().rev();
        all.reduce(|best, start| if start.1 >= best.1 { start } else { best }).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;
    use proptest::prelude::*;

    const THETA: f64 = 0.05;
    const TICK: Seconds = 15.0;

    /// A test as `evidence` runs it: what was seen chooses what is staked next.
    struct Bets {
        hypothesis: Hypothesis,
        starts: Starts,
        suspected: bool,
        t: Seconds,
    }

    impl Bets {
        fn new(watch: Seconds) -> Self {
            Self { hypothesis: Hypothesis::new(THETA), starts: Starts::new(watch), suspected: false, t: 0.0 }
        }

        fn open(&mut self) {
            self.starts.open(self.t, self.suspected);
        }

        fn count(&mut self, tally: Tally, temper: f64, length: Seconds) {
            self.starts.count(self.t, tally, Tally::default(), temper, &self.hypothesis);
            self.suspected = self.hypothesis.best_lr(tally.scaled(temper)) >= SUSPECT;
            self.t += length;
        }

        /// What the mixture becomes on average over the next tick, where each request is bad with chance `p`.
        fn expected(&self, requests: u32, temper: f64, p: f64) -> f64 {
            let mut chance = (1.0 - p).powf(f64::from(requests));
            let mut sum = 0.0;
            for bad in 0..=requests {
                let mut next = self.starts.clone();
                let tally = Tally::new(f64::from(bad), f64::from(requests));
                next.count(self.t, tally, Tally::default(), temper, &self.hypothesis);
                sum += chance * next.log_m().exp();
                chance *= f64::from(requests - bad) / f64::from(bad + 1) * p / (1.0 - p);
            }
            sum
        }
    }

    proptest! {
        /// Whatever was seen, neither what is staked and closed next nor a tick within the limit makes more of the
        /// mixture on average. That alone makes it a supermartingale, and every look at it free (Ville).
        #[test]
        fn no_bet_gains_on_average(
            ticks in prop::collection::vec((0u32..6, 0u32..60, 1u32..6), 1..120),
            (next, share, tempered) in (0u32..40, 0.0f64..=1.0, any::<bool>()),
        ) {
            let temper = if tempered { 0.4 } else { 1.0 };
            let mut bets = Bets::new(600.0);
            for (bad, good, length) in ticks {
                bets.open();
                bets.count(Tally::new(f64::from(bad), f64::from(bad + good)), temper, f64::from(length) * 5.0);
                let before = bets.starts.log_m();
                bets.open();
                prop_assert!(bets.starts.log_m() <= before + 1e-9, "opening made {} of {before}", bets.starts.log_m());
            }
            let now = bets.starts.log_m().exp();
            let then = bets.expected(next, temper, THETA);
            prop_assert!(then <= now * (1.0 + 1e-9), "{then} of {now}");
            if !tempered {
                prop_assert!(then >= now * (1.0 - 1e-9), "a fair bet loses nothing at the limit: {then} of {now}");
            }
            prop_assert!(bets.expected(next, temper, THETA * share) <= now * (1.0 + 1e-9), "below the limit");
        }
    }

    /// The same, counted: the share of rollouts at the limit whose mixture ever reaches 1/α.
    #[test]
    fn at_the_limit_false_alarms_are_as_rare_as_promised() {
        const SEEDS: u32 = 2_000;
        for requests in [0.5, 8.0, 40.0] {
            let mut tops: Vec<f64> = (0..SEEDS)
                .map(|seed| {
                    let mut random = Random::new(u64::from(seed) + 7_000);
                    let mut bets = Bets::new(1800.0);
                    let mut top = 0.0_f64;
                    for _ in 0..120 {
                        bets.open();
                        let total = random.poisson(requests);
                        let bad = random.binomial(total, THETA);
                        bets.count(Tally::new(f64::from(bad), f64::from(total)), 1.0, TICK);
                        top = top.max(bets.starts.log_m());
                    }
                    top
                })
                .collect();
            tops.sort_by(f64::total_cmp);
            for alpha in [0.2_f64, 0.05, 0.01] {
                let level = (1.0 / alpha).ln();
                let alarms = tops.iter().filter(|top| **top >= level).count() as f64 / f64::from(SEEDS);
                let most = alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(SEEDS)).sqrt();
                assert!(alarms <= most, "{alarms} of the rollouts reach 1/{alpha} at {requests} requests a tick");
            }
        }
    }
}
