//! The error limit (and the latency limit) as an anytime-valid test (decision.md 2.3). Pure.
//!
//! Null hypothesis: the conditional probability of a bad request is at most θ, at all times. The
//! evidence is a mixture over alternatives and over starts every minute; it never exceeds a
//! nonnegative supermartingale, so looking at it every tick costs nothing (Ville).

use super::{counter::Tally, tuning::*};
use crate::domain::Seconds;
use std::collections::{BTreeMap, VecDeque};

/// The limit under test and the alternatives to it.
#[derive(Debug, Clone)]
pub(super) struct Hypothesis {
    theta: f64,
    /// ln(q/θ) and ln((1−q)/(1−θ)) of each alternative.
    grid: Vec<(f64, f64)>,
}

impl Hypothesis {
    pub(super) fn new(theta: f64) -> Self {
        let mut alternatives: Vec<f64> = GRID.iter().map(|k| k * theta).chain([GRID_TOP]).collect();
        alternatives.retain(|&q| q > theta && q <= GRID_MAX);
        let grid = alternatives.iter().map(|q| ((q / theta).ln(), ((1.0 - q) / (1.0 - theta)).ln())).collect();
        Self { theta, grid }
    }

    pub(super) fn theta(&self) -> f64 {
        self.theta
    }

    /// Log likelihood ratio of the mixture of alternatives; 0 when the limit is so high that no
    /// alternative is left.
    pub(super) fn log_lr(&self, tally: Tally) -> f64 {
        if self.grid.is_empty() || tally.total <= 0.0 {
            return 0.0;
        }
        let good = tally.total - tally.bad;
        log_sum_exp(self.grid.iter().map(|(up, down)| tally.bad * up + good * down)) - (self.grid.len() as f64).ln()
    }
}

fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + terms.map(|term| (term - top).exp()).sum::<f64>().ln()
}

/// When tests start, and how much each start is believed beforehand. Fixed before the data is
/// seen, or the mixture would not be a fair bet.
#[derive(Debug, Clone)]
struct Prior {
    spacing: Seconds,
    starts: u32,
    decay_sum: f64,
}

impl Prior {
    fn new(watch: Seconds) -> Self {
        let spacing = START_EVERY.max(watch / STARTS);
        let starts = (watch / spacing).floor() as u32 + 1;
        let decay_sum = (0..starts).map(|i| Self::decay(i, spacing)).sum();
        Self { spacing, starts, decay_sum }
    }

    fn decay(i: u32, spacing: Seconds) -> f64 {
        (-f64::from(i) * spacing / START_HALF_LIFE).exp2()
    }

    /// Weight of start `j`; all of them, without end, sum to 1.
    fn weight(&self, j: u32) -> f64 {
        let (round, i) = (j / self.starts, j % self.starts);
        let share = match round {
            0 => 1.0 - LATE_PRIOR,
            k => LATE_PRIOR / (f64::from(k) * f64::from(k + 1)),
        };
        share * (0.5 * Self::decay(i, self.spacing) / self.decay_sum + 0.5 / f64::from(self.starts))
    }
}

/// What was counted between one start and the next.
#[derive(Debug, Clone, Default)]
struct Segment {
    begin: Seconds,
    weight: f64,
    /// New pods, tempered: what the test sees.
    tempered: Tally,
    new: Tally,
    old: Tally,
    /// New and old pods, tick by tick brought down to the requests of the one that had fewer.
    beside: (Tally, Tally),
    first_bad: Option<Seconds>,
}

/// One pod's requests in one tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) pod: u32,
    pub(super) new: bool,
    /// Whether its cold start is over.
    pub(super) warm: bool,
    pub(super) tally: Tally,
}

/// One pod's requests by segment (absolute number).
#[derive(Debug, Clone)]
pub(super) struct Arm {
    pub(super) new: bool,
    by_segment: VecDeque<(u32, Tally)>,
}

/// Since when the data speaks against the limit, by the start that explains it best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Onset {
    /// First tick with a bad request since that start.
    pub(super) t: Seconds,
    /// New pods since that start.
    pub(super) new: Tally,
    /// Old pods since that start.
    pub(super) old: Tally,
    /// New and old pods as if both had served equally much at every moment: while pods move over, most of one
    /// arm's requests lie before a change and most of the other's after it.
    pub(super) beside: (Tally, Tally),
    segment: usize,
}

/// The running test of one signal of one rollout.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    hypothesis: Hypothesis,
    pace: [Seconds; 2],
    prior: Prior,
    segments: VecDeque<Segment>,
    /// Segments that were dropped at the front.
    dropped: u32,
    /// Weight of all starts so far, dropped ones included.
    spent: f64,
    arms: BTreeMap<u32, Arm>,
    log_m: f64,
    log_e: f64,
    surge: bool,
    /// New pods by tick: all, and the warm ones.
    recent: VecDeque<(Seconds, Tally, Tally)>,
    old_seen: Option<Seconds>,
    new: Tally,
    old: Tally,
    fired: bool,
}

impl Evidence {
    /// `pace`: seconds of bad time to a conviction when at least half fails, and otherwise.
    pub(super) fn new(theta: f64, pace: [Seconds; 2], watch: Seconds) -> Self {
        Self {
            hypothesis: Hypothesis::new(theta),
            pace,
            prior: Prior::new(watch),
            segments: VecDeque::new(),
            dropped: 0,
            spent: 0.0,
            arms: BTreeMap::new(),
            log_m: 0.0,
            log_e: 0.0,
            surge: false,
            recent: VecDeque::new(),
            old_seen: None,
            new: Tally::default(),
            old: Tally::default(),
            fired: false,
        }
    }

    /// One tick over (`from`, `t`]. `rise` is the time by which evidence may have risen: it is
    /// shorter than the tick after a gap. `dispersion` is φ ≥ 1 of the baseline.
    pub(super) fn step(&mut self, from: Seconds, t: Seconds, rise: Seconds, shares: &[Share], dispersion: f64) {
        let new: Tally = shares.iter().filter(|s| s.new).map(|s| s.tally).sum();
        let old: Tally = shares.iter().filter(|s| !s.new).map(|s| s.tally).sum();
        if self.segments.is_empty() && new.total <= 0.0 {
            // The first start waits for the first request: without any there is nothing to test.
            return;
        }
        self.open_starts(from);
        let temper = (1.0 / dispersion.max(1.0)).min(REQUESTS_PER_TICK / new.total.max(1.0)).min(1.0);
        let number = self.dropped + self.segments.len() as u32 - 1;
        if let Some(segment) = self.segments.back_mut() {
            segment.tempered += new.scaled(temper);
            segment.new += new;
            segment.old += old;
            let fewer = new.total.min(old.total);
            if fewer > 0.0 {
                segment.beside.0 += new.scaled(fewer / new.total);
                segment.beside.1 += old.scaled(fewer / old.total);
            }
            if new.bad > 0.0 {
                segment.first_bad.get_or_insert(from);
            }
        }
        for share in shares {
            let arm = self.arms.entry(share.pod).or_insert_with(|| Arm { new: share.new, by_segment: VecDeque::new() });
            match arm.by_segment.back_mut() {
                Some((last, tally)) if *last == number => *tally += share.tally,
                _ => arm.by_segment.push_back((number, share.tally)),
            }
        }
        self.new += new;
        self.old += old;
        if old.total > 0.0 {
            self.old_seen = Some(t);
        }
        let warm = shares.iter().filter(|s| s.new && s.warm).map(|s| s.tally).sum();
        self.recent.push_back((t, new, warm));
        while self.recent.front().is_some_and(|(then, _, _)| *then <= t - RELEASE) {
            self.recent.pop_front();
        }
        self.weigh(t, t - from, rise, new);
    }

    /// Slew limit and fading (2.3): evidence rises only so fast per second of bad time, and fades,
    /// so that bursts far apart do not add up.
    fn weigh(&mut self, t: Seconds, elapsed: Seconds, rise: Seconds, new: Tally) {
        let half = new.ratio().is_some_and(|r| r >= HALF);
        let fast = half && (new.total >= HALF_REQUESTS || self.surge);
        self.surge = half;
        let before = self.log_m;
        if new.total > 0.0 {
            self.log_m = self.mixture(&|segment| segment.tempered);
        }
        self.log_e = if self.log_m > before {
            let nearly_all = new.total >= HALF_REQUESTS && new.ratio().is_some_and(|r| r >= NEARLY_ALL);
            let pace = match (nearly_all, fast) {
                (true, _) => self.pace[0] * NEARLY_ALL_PACE,
                (false, true) => self.pace[0],
                (false, false) => self.pace[1],
            };
            self.log_m.min(self.log_e.max(0.0) + LEVEL * rise / pace)
        } else {
            self.log_m.min(self.log_e * (-elapsed / FADE).exp2())
        };
        self.fired = if self.fired {
            let within = self.last(t, RELEASE).0.ratio().is_some_and(|ratio| ratio <= self.hypothesis.theta);
            self.log_e >= LEVEL / 2.0 && !within
        } else {
            let (all, warm) = self.last(t, NOW);
            let over = |tally: Tally| tally.ratio().is_some_and(|ratio| ratio > self.hypothesis.theta);
            let catastrophic = all.ratio().is_some_and(|ratio| ratio >= HALF);
            // Steps of a quarter of the level make the level, whatever the last bit says.
            self.log_e >= LEVEL - 1e-9 && over(all) && (catastrophic || over(warm))
        };
    }

    fn open_starts(&mut self, from: Seconds) {
        let Some(anchor) = self.segments.front().map(|s| s.begin) else {
            self.open_start(from);
            return;
        };
        // Starts lie on the grid of the first one; a dropped front moves the anchor by whole steps.
        let due = ((from - anchor + 1e-6) / self.prior.spacing).floor() as u32;
        let keep = (2 * self.prior.starts) as usize;
        while (self.segments.len() as u32) <= due {
            let begin = anchor + self.prior.spacing * self.segments.len() as f64;
            self.open_start(begin);
            // A daemon that slept for days must not make a start for each minute of them.
            if self.segments.len() > 2 * keep {
                break;
            }
        }
        while self.segments.len() > keep {
            self.segments.pop_front();
            self.dropped += 1;
        }
        let dropped = self.dropped;
        self.arms.retain(|_, arm| {
            while arm.by_segment.front().is_some_and(|(number, _)| *number < dropped) {
                arm.by_segment.pop_front();
            }
            !arm.by_segment.is_empty()
        });
    }

    fn open_start(&mut self, begin: Seconds) {
        let weight = self.prior.weight(self.dropped + self.segments.len() as u32);
        self.spent += weight;
        self.segments.push_back(Segment { begin, weight, ..Segment::default() });
    }

    /// log M of the counts that `pick` chooses from each segment.
    fn mixture(&self, pick: &dyn Fn(&Segment) -> Tally) -> f64 {
        let mut since = Tally::default();
        let mut terms = Vec::with_capacity(self.segments.len() + 1);
        for segment in self.segments.iter().rev() {
            since += pick(segment);
            terms.push(segment.weight.ln() + self.hypothesis.log_lr(since));
        }
        // Starts not yet reached are bets not yet made.
        terms.push((1.0 - self.spent).max(0.0).ln());
        log_sum_exp(terms.iter().copied())
    }

    pub(super) fn theta(&self) -> f64 {
        self.hypothesis.theta()
    }

    pub(super) fn log_e(&self) -> f64 {
        self.log_e
    }

    /// Whether the evidence convicts, before any gate.
    pub(super) fn fired(&self) -> bool {
        self.fired
    }

    /// All requests of new pods so far.
    pub(super) fn new_total(&self) -> Tally {
        self.new
    }

    /// All requests of old pods in the same time.
    pub(super) fn old_total(&self) -> Tally {
        self.old
    }

    /// When old pods last served anything.
    pub(super) fn old_seen(&self) -> Option<Seconds> {
        self.old_seen
    }

    /// Requests of new pods in the window before `t`: all, and of warm pods.
    fn last(&self, t: Seconds, window: Seconds) -> (Tally, Tally) {
        let recent = || self.recent.iter().filter(|(then, _, _)| *then > t - window);
        (recent().map(|(_, all, _)| *all).sum(), recent().map(|(_, _, warm)| *warm).sum())
    }

    /// The start that explains the data best (gate 4: ĵ = argmax LR_j).
    pub(super) fn onset(&self) -> Option<Onset> {
        let mut since = Tally::default();
        let mut best: Option<(f64, usize)> = None;
        for (i, segment) in self.segments.iter().enumerate().rev() {
            since += segment.tempered;
            let log = self.hypothesis.log_lr(since);
            if best.is_none_or(|(top, _)| log >= top) {
                best = Some((log, i));
            }
        }
        let (_, segment) = best?;
        let rest = || self.segments.iter().skip(segment);
        let t = rest().find_map(|s| s.first_bad).or_else(|| rest().next().map(|s| s.begin))?;
        let beside = (rest().map(|s| s.beside.0).sum(), rest().map(|s| s.beside.1).sum());
        Some(Onset { t, new: rest().map(|s| s.new).sum(), old: rest().map(|s| s.old).sum(), beside, segment })
    }

    /// What each pod served since the onset.
    pub(super) fn by_pod(&self, onset: &Onset) -> impl Iterator<Item = (u32, bool, Tally)> {
        let first = self.dropped + onset.segment as u32;
        self.arms.iter().map(move |(pod, arm)| {
            (*pod, arm.new, arm.by_segment.iter().filter(|(n, _)| *n >= first).map(|(_, tally)| *tally).sum())
        })
    }

    /// log M had these new pods not existed (gate 5).
    pub(super) fn without(&self, pods: &[u32]) -> f64 {
        let mut gone = vec![Tally::default(); self.segments.len()];
        for arm in pods.iter().filter_map(|pod| self.arms.get(pod)).filter(|arm| arm.new) {
            for (number, tally) in &arm.by_segment {
                if let Some(slot) = number.checked_sub(self.dropped).and_then(|i| gone.get_mut(i as usize)) {
                    *slot += *tally;
                }
            }
        }
        let rest: Vec<Tally> = self
            .segments
            .iter()
            .zip(gone)
            .map(|(segment, gone)| {
                // Tempering is the same for every pod of a tick, and nearly so in a segment.
                let temper = if segment.new.total > 0.0 { segment.tempered.total / segment.new.total } else { 1.0 };
                let mut left = segment.tempered;
                left -= gone.scaled(temper);
                Tally::new(left.bad.min(left.total), left.total)
            })
            .collect();
        let mut since = Tally::default();
        let mut terms = vec![(1.0 - self.spent).max(0.0).ln()];
        for (segment, tally) in self.segments.iter().zip(rest).rev() {
            since += tally;
            terms.push(segment.weight.ln() + self.hypothesis.log_lr(since));
        }
        log_sum_exp(terms.iter().copied())
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
