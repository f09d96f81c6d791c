//! The error limit (and the latency limit) as an anytime-valid test (decision.md 2.3). Pure.
//!
//! Null hypothesis: the conditional probability of a bad request is at most θ, at all times. The
//! evidence is a mixture over alternatives and over starts every minute; it never exceeds a
//! nonnegative supermartingale, so looking at it every tick costs nothing (Ville).

use super::{
    arm::{Arm, Share},
    counter::Tally,
    hypothesis::Hypothesis,
    lately::{Doubt, Lately, Moment},
    series::Series,
    starts::Starts,
    tuning::*,
};
use crate::domain::Seconds;
use std::collections::BTreeMap;

/// Since when the data speaks against the limit, by the start that explains it best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Onset {
    /// First tick with a bad request since that start.
    pub(super) t: Seconds,
    /// New pods since that start.
    pub(super) new: Tally,
    /// Old pods since that start.
    pub(super) old: Tally,
    /// New and old pods since `t`, in the seconds in which both served: nothing else tells them apart.
    pub(super) beside: [Tally; 2],
    /// The same with proven old pods only, if others served as well.
    pub(super) beside_proven: Option<[Tally; 2]>,
    /// Proven old pods since the bin of `t`, that one included, whoever served beside them.
    pub(super) old_then: Tally,
    segment: usize,
}

/// The running test of one signal of one rollout.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    hypothesis: Hypothesis,
    pace: [Seconds; 3],
    starts: Starts,
    /// Whether the tick before looked bad.
    suspected: bool,
    arms: BTreeMap<u32, Arm>,
    log_m: f64,
    log_e: f64,
    /// The last tick that had requests.
    previous: Tally,
    lately: Lately,
    /// New and old pods by time, finer than the starts: when it began, and who served beside whom.
    fine: [Series; 2],
    /// Old pods that were proven good, if others served as well.
    proven: Option<Series>,
    /// When new and when old pods last served.
    new_at: Option<Seconds>,
    old_seen: Option<Seconds>,
    new: Tally,
    old: Tally,
    fired: bool,
    doubt: Option<Doubt>,
}

impl Evidence {
    /// `pace`: seconds of bad time to a conviction when nearly all fails beside clean old pods, when at
    /// least half fails, and otherwise.
    pub(super) fn new(theta: f64, pace: [Seconds; 3], watch: Seconds) -> Self {
        Self {
            hypothesis: Hypothesis::new(theta),
            pace,
            starts: Starts::new(watch),
            suspected: false,
            arms: BTreeMap::new(),
            log_m: 0.0,
            log_e: 0.0,
            previous: Tally::default(),
            lately: Lately::default(),
            fine: Default::default(),
            proven: None,
            new_at: None,
            old_seen: None,
            new: Tally::default(),
            old: Tally::default(),
            fired: false,
            doubt: None,
        }
    }

    /// One tick over (`from`, `t`]. `rise` is the time by which evidence may have risen: it is
    /// shorter than the tick after a gap. `dispersion` is φ ≥ 1 of the baseline.
    pub(super) fn step(&mut self, from: Seconds, t: Seconds, rise: Seconds, shares: &[Share], dispersion: f64) {
        let new: Tally = shares.iter().filter(|s| s.new).map(|s| s.tally).sum();
        let old: Tally = shares.iter().filter(|s| !s.new).map(|s| s.tally).sum();
        if self.starts.is_empty() && new.total <= 0.0 {
            // The first start waits for the first request: without any there is nothing to test.
            return;
        }
        // What the first reading brings happened since its pods were Ready, however close the ticks are.
        let ready = shares.iter().filter(|s| s.new && s.tally.total > 0.0).filter_map(|s| s.ready).reduce(f64::min);
        let served = ready.map_or(f64::MAX, |ready| (t - ready).max(0.0));
        let rare = new.total > 0.0 && new.total < SOME_TRAFFIC;
        let rise = match self.new_at {
            None if ready.is_some() => served.min(FIRST_READING).max(rise),
            // Where requests are rare, what fails now has been failing since the one before.
            // Where they are not, what comes after a silence is what a source that had stood still catches up on.
            Some(last) if rare && from > last => (t - last).min(FIRST_READING).max(rise),
            _ => rise,
        };
        let (number, closed) = self.starts.open(from, self.suspected);
        if let Some(closed) = closed {
            self.tidy(closed);
        }
        let temper = (1.0 / dispersion.max(1.0)).min(REQUESTS_PER_TICK / new.total.max(1.0)).min(1.0);
        self.starts.count(from, new, old, temper, &self.hypothesis);
        if new.total > 0.0 {
            self.suspected = self.hypothesis.best_lr(new.scaled(temper)) >= SUSPECT;
        }
        for share in shares {
            let arm = self.arms.entry(share.pod).or_insert_with(|| Arm::new(share.new));
            arm.add(number, from, share.tally, self.hypothesis.theta());
        }
        if new.total > 0.0 {
            self.new_at = Some(t);
        }
        self.new += new;
        self.old += old;
        if old.total > 0.0 {
            self.old_seen = Some(t);
        }
        let warm = shares.iter().filter(|s| s.new && s.warm).map(|s| s.tally).sum();
        self.lately.add(Moment { t, rise, new, warm, old });
        let unproved: Tally = shares.iter().filter(|s| s.unproved).map(|s| s.tally).sum();
        if unproved.total > 0.0 && self.proven.is_none() {
            self.proven = Some(self.fine[1].clone());
        }
        if let Some(proven) = self.proven.as_mut().filter(|_| old.total > unproved.total) {
            let mut tally = old;
            tally -= unproved;
            proven.add(t, tally);
        }
        for (series, tally) in self.fine.iter_mut().zip([new, old]) {
            if tally.total > 0.0 {
                series.add(t, tally);
            }
        }
        self.weigh(t, t - from, [rise, rise.min(served)], new);
    }

    /// What happened up to `t` was not seen: a failure that is seen next has not been going on for that long.
    pub(super) fn interrupted(&mut self, t: Seconds) {
        self.new_at = self.new_at.map(|last| last.max(t));
    }

    /// Whether old pods that serve in the same seconds are clean: then no burst of the cluster's explains it.
    fn beside_clean(&self, t: Seconds) -> bool {
        let old = self.lately.of_old(t, BESIDE);
        old.total >= SOME_TRAFFIC && old.ratio().is_some_and(|ratio| ratio <= self.hypothesis.theta())
    }

    /// Whether at least half of a tick's requests fail, beyond the chance of a tick; or of two in a row, beyond theirs.
    fn catastrophic(&mut self, new: Tally) -> bool {
        if new.total <= 0.0 {
            return false;
        }
        let half = |tally: Tally| tally.ratio().is_some_and(|ratio| ratio >= HALF);
        let both = [new, self.previous].into_iter().sum::<Tally>();
        let twice = half(new) && half(self.previous) && both.surely(NEARLY_HALF);
        self.previous = new;
        twice || new.total >= HALF_REQUESTS && new.surely(HALF)
    }

    /// Slew limit and fading (2.3): evidence rises only so fast per second of bad time, and fades,
    /// so that bursts far apart do not add up.
    fn weigh(&mut self, t: Seconds, elapsed: Seconds, [rise, served]: [Seconds; 2], new: Tally) {
        let fast = self.catastrophic(new);
        let before = self.log_m;
        if new.total > 0.0 {
            self.log_m = self.starts.log_m();
        }
        self.log_e = if self.log_m > before {
            let nearly_all = new.ratio().is_some_and(|r| r >= NEARLY_ALL);
            let pace = match (nearly_all && new.total >= HALF_REQUESTS, fast) {
                (true, _) => self.pace[1] * NEARLY_ALL_PACE,
                (false, true) => self.pace[1],
                (false, false) => self.pace[2],
            };
            // A reading that covers a minute does not say for how much of it it was bad.
            let mut step = (rise / pace).min(ONE_READING);
            if nearly_all && new.total >= BESIDE_REQUESTS && self.beside_clean(t) {
                step = step.max(served / self.pace[0]);
            }
            // Targets are not scraped all at once: a fault that has ended is still seen by some for one more
            // tick, which is bad time only as far as it is as bad as the minute before.
            let usual = self.lately.of_new(t, NOW).ratio().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            let as_bad = new.ratio().map_or(1.0, |ratio| (ratio / (AS_BAD * usual)).min(1.0));
            self.log_m.min(self.log_e.max(0.0) + LEVEL * step * as_bad)
        } else {
            // Without any request nothing speaks for it either.
            let fade = if new.total > 0.0 { FADE } else { FADE_SILENT };
            self.log_m.min(self.log_e * (-elapsed / fade).exp2())
        };
        // Steps of a quarter of the level make the level, whatever the last bit says.
        let enough = self.log_e >= LEVEL - 1e-9;
        self.doubt = if enough { self.lately.doubt(&self.hypothesis, t, new) } else { None };
        self.fired = match self.fired {
            true => self.log_e >= LEVEL / 2.0 && self.over(t, RELEASE) != Some(false),
            false => enough && self.doubt.is_none(),
        };
    }

    /// Keeps of each pod what the segments keep, the first of which to go was `closed`.
    fn tidy(&mut self, closed: u32) {
        let (starts, oldest) = (&self.starts, self.starts.oldest());
        self.arms.retain(|_, arm| {
            while arm.by_segment.front().is_some_and(|(name, _)| *name < oldest) {
                arm.by_segment.pop_front();
            }
            arm.merge(starts, closed);
            !arm.by_segment.is_empty()
        });
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

    /// Why evidence that is enough does not convict, at the last tick.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt.filter(|_| !self.fired)
    }

    /// Whether it speaks for the new pods: against the limit's being broken, and by all that was counted.
    pub(super) fn speaks_for(&self) -> bool {
        self.log_e < 0.0 && self.new.ratio().is_none_or(|ratio| ratio <= self.theta())
    }

    fn over(&self, t: Seconds, window: Seconds) -> Option<bool> {
        self.lately.over(&self.hypothesis, t, window)
    }

    /// Whether the share of bad requests lies above the limit now.
    pub(super) fn over_now(&self, t: Seconds) -> bool {
        self.over(t, NOW) == Some(true)
    }

    /// Whether there were requests in the last minute, and the limit was kept.
    pub(super) fn kept_now(&self, t: Seconds) -> bool {
        self.over(t, NOW) == Some(false)
    }

    /// The same test with nothing seen yet.
    pub(super) fn anew(&self, watch: Seconds) -> Self {
        Self::new(self.hypothesis.theta(), self.pace, watch)
    }

    /// All requests of new pods so far.
    pub(super) fn new_total(&self) -> Tally {
        self.new
    }

    /// All requests of old pods in the same time.
    pub(super) fn old_total(&self) -> Tally {
        self.old
    }

    /// Requests of old pods in the last minutes, since `t` at the earliest.
    pub(super) fn old_since(&self, t: Seconds) -> Tally {
        self.lately.old_since(t)
    }

    /// Requests of new pods since the bin of `t`.
    pub(super) fn since(&self, t: Seconds) -> Tally {
        self.fine[0].sum(t, f64::MAX)
    }

    /// When old pods last served anything.
    pub(super) fn old_seen(&self) -> Option<Seconds> {
        self.old_seen
    }

    /// The start that explains the data best (gate 4: ĵ = argmax LR_j).
    pub(super) fn onset(&self) -> Option<Onset> {
        let segment = self.starts.best()?;
        let rest = || self.starts.all().iter().skip(segment);
        let begin = rest().find_map(|s| s.first_bad).or_else(|| rest().next().map(|s| s.begin))?;
        let [new, old] = &self.fine;
        let t = new.onset(&self.hypothesis, begin).unwrap_or(begin).max(begin);
        let beside = new.beside(old, t + PEER_BIN);
        let beside_proven = self.proven.as_ref().map(|proven| new.beside(proven, t + PEER_BIN));
        Some(Onset {
            t,
            new: rest().map(|s| s.new).sum(),
            old: rest().map(|s| s.old).sum(),
            beside,
            beside_proven,
            old_then: self.proven.as_ref().unwrap_or(old).sum(t, f64::MAX),
            segment,
        })
    }

    /// When it may have begun: new pods were beyond the limit on the whole since then, too.
    pub(super) fn earliest(&self, onset: &Onset) -> Seconds {
        self.fine[0].earliest_above(self.theta()).map_or(onset.t, |earliest| earliest.min(onset.t))
    }

    /// What each pod served since the onset.
    pub(super) fn by_pod(&self, onset: &Onset) -> impl Iterator<Item = (u32, bool, Tally)> {
        let first = self.starts.name(onset.segment);
        self.arms.iter().map(move |(pod, arm)| {
            (*pod, arm.new, arm.by_segment.iter().filter(|(n, _)| *n >= first).map(|(_, tally)| *tally).sum())
        })
    }

    /// Since when a pod has been beyond the limit without a break.
    pub(super) fn bad_since(&self, pod: u32) -> Option<Seconds> {
        self.arms.get(&pod).and_then(|arm| arm.bad_since)
    }

    /// log M had these new pods not existed (gate 5).
    pub(super) fn without(&self, pods: &[u32]) -> f64 {
        let mut gone = vec![Tally::default(); self.starts.all().len()];
        for arm in pods.iter().filter_map(|pod| self.arms.get(pod)).filter(|arm| arm.new) {
            for (name, tally) in &arm.by_segment {
                if let Some(slot) = self.starts.place(*name).and_then(|place| gone.get_mut(place)) {
                    *slot += *tally;
                }
            }
        }
        let rest = self.starts.all().iter().zip(gone).map(|(segment, gone)| {
            // Tempering is the same for every pod of a tick, and nearly so in a segment.
            let temper = if segment.new.total > 0.0 { segment.tempered.total / segment.new.total } else { 1.0 };
            let mut left = segment.tempered;
            left -= gone.scaled(temper);
            Tally::new(left.bad.min(left.total), left.total)
        });
        self.starts.log_m_of(&self.hypothesis, &rest.collect::<Vec<_>>())
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
