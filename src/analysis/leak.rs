//! Memory that grows until it runs out (decision.md 2.6). Pure.
//!
//! A leak is no fault yet, and memory alone convicts nobody: caches fill as well. It is told, and a rollout whose pods
//! would be killed within the time of another watch does not pass until that time is over.
//!
//! The slope is Theil's and Sen's: the median of the slopes of all pairs of readings, which a third of wild readings
//! does not move; its interval follows from Kendall's S (P. K. Sen, Journal of the American Statistical Association
//! 63 (1968), 1379–1389).

use super::{roster::Pod, trial::Trial, tuning::*};
use crate::domain::{PodId, Seconds};
use std::collections::VecDeque;

/// Memory of one pod over time, a reading a minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    readings: VecDeque<(Seconds, f64)>,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slope {
    low: f64,
    median: f64,
    high: f64,
}

impl Usage {
    /// Takes a reading in bytes; `false` when it is none.
    pub(super) fn read(&mut self, t: Seconds, bytes: f64) -> bool {
        if !(bytes.is_finite() && bytes >= 0.0) {
            return false;
        }
        let Some((last, held)) = self.readings.back().copied() else {
            self.readings.push_back((t, bytes));
            return true;
        };
        if bytes < held / 2.0 && t > last {
            // A process that began anew.
            self.readings.clear();
        } else if t < last + USAGE_EVERY {
            return true;
        }
        self.readings.push_back((t, bytes));
        if self.readings.len() > USAGE_MAX {
            self.readings.pop_front();
        }
        true
    }

    /// How it grows from `since` on; `None` with too few readings.
    fn slope(&self, since: Seconds) -> Option<Slope> {
        let readings: Vec<(Seconds, f64)> = self.readings.iter().filter(|(t, _)| *t >= since).copied().collect();
        if readings.len() < USAGE_LEAST {
            return None;
        }
        let after = |i: usize| readings.get(i + 1..).unwrap_or_default();
        let pairs =
            readings.iter().enumerate().flat_map(|(i, a)| after(i).iter().map(move |b| (b.1 - a.1) / (b.0 - a.0)));
        let mut slopes: Vec<f64> = pairs.collect();
        slopes.sort_by(f64::total_cmp);
        let (n, all) = (readings.len() as f64, slopes.len() as f64);
        let spread = LEAK_SURE * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let at = |rank: f64| slopes.get(rank.clamp(0.0, all - 1.0) as usize).copied();
        Some(Slope {
            low: at((all - spread) / 2.0 - 1.0)?,
            median: at(all / 2.0)?,
            high: at((all + spread) / 2.0 + 1.0)?,
        })
    }
}

/// How the memory of the new pods grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Leak {
    /// Bytes a second: of the new pod that runs out first, and of old pods, if they were measured.
    pub(super) new: f64,
    pub(super) old: Option<f64>,
    /// Bytes that it may hold, and until then.
    pub(super) limit: f64,
    pub(super) left: Seconds,
}

impl Trial {
    /// Takes a reading of a pod's memory.
    pub(super) fn memory(&mut self, t: Seconds, pod: &PodId, bytes: f64) {
        let taken = self.roster.get_mut(pod).is_some_and(|pod| pod.usage.read(t, bytes));
        self.skipped += u64::from(!taken);
    }

    /// Looks how memory grows, if it was not looked at just now.
    pub(super) fn weigh_memory(&mut self, t: Seconds) {
        if t >= self.weighed + USAGE_EVERY {
            self.weighed = t;
            let warm_up = self.at_most_a_quarter(LEAK_WARM_UP);
            self.leak = find((t, warm_up), self.roster.of(&self.to), self.roster.not_of(&self.to));
        }
    }
}

/// Whether at least half of the new pods hold more and more, beyond chance and faster than old pods did, from
/// `warm_up` seconds after each was Ready.
fn find<'a>(
    (t, warm_up): (Seconds, Seconds),
    new: impl Iterator<Item = &'a Pod>,
    old: impl Iterator<Item = &'a Pod>,
) -> Option<Leak> {
    let mut before: Vec<Slope> = old.take(LEAK_PODS).filter_map(|pod| pod.usage.slope(f64::MIN)).collect();
    before.sort_by(|a, b| a.median.total_cmp(&b.median));
    let usual = before.get(before.len() / 2);
    let faster = usual.map_or(0.0, |slope| slope.high.max(0.0));
    let measured: Vec<(&Pod, Slope)> =
        new.take(LEAK_PODS).filter_map(|pod| Some((pod, pod.usage.slope(pod.first_ready? + warm_up)?))).collect();
    let grows = || measured.iter().filter(|(_, slope)| slope.low > faster);
    if grows().count() * 2 < measured.len().max(1) {
        return None;
    }
    let ends = grows().filter_map(|(pod, slope)| {
        let (limit, (at, held)) = (pod.state.memory_limit?, *pod.usage.readings.back()?);
        let left = (at + (limit - held).max(0.0) / slope.median - t).max(0.0);
        Some(Leak { new: slope.median, old: usual.map(|slope| slope.median), limit, left })
    });
    ends.min_by(|a, b| a.left.total_cmp(&b.left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::random::Random;

    const MIB: f64 = 1_048_576.0;

    fn usage(per_minute: f64, noise: f64, minutes: u32, random: &mut Random) -> Usage {
        let mut usage = Usage::default();
        for i in 0..minutes {
            let wobble = noise * (random.uniform() - 0.5);
            assert!(usage.read(60.0 * f64::from(i), (100.0 + per_minute * f64::from(i) + wobble) * MIB));
        }
        usage
    }

    #[test]
    fn a_slope_is_that_of_the_readings_and_wild_ones_do_not_move_it() {
        let mut random = Random::new(3);
        let mut grows = usage(2.0, 4.0, 30, &mut random);
        grows.readings[7].1 = 900.0 * MIB;
        grows.readings[20].1 = 1.0 * MIB;
        let slope = grows.slope(f64::MIN).unwrap();
        assert!((slope.median * 60.0 / MIB - 2.0).abs() < 0.2, "{slope:?}");
        assert!(0.0 < slope.low && slope.low < slope.median && slope.median < slope.high, "{slope:?}");
    }

    #[test]
    fn what_only_wobbles_seldom_looks_like_growth() {
        let mut random = Random::new(5);
        let grown = (0..2000).filter(|_| usage(0.0, 20.0, 25, &mut random).slope(f64::MIN).unwrap().low > 0.0).count();
        // One in 1,600 by the interval's 3.2 standard errors.
        assert!(grown <= 4, "{grown} of 2000");
    }

    #[test]
    fn readings_are_a_minute_apart_a_new_process_begins_anew_and_few_say_nothing() {
        let mut usage = Usage::default();
        for i in 0..100 {
            usage.read(15.0 * f64::from(i), (100.0 + f64::from(i)) * MIB);
        }
        assert_eq!(usage.readings.len(), 34, "one in three quarters of a minute");
        assert!(!usage.read(1500.0, f64::NAN) && !usage.read(1500.0, -1.0));
        assert!(usage.read(1501.0, 20.0 * MIB));
        assert_eq!((usage.readings.len(), usage.slope(f64::MIN)), (1, None));
        for i in 0..1000 {
            usage.read(2000.0 + 60.0 * f64::from(i), 20.0 * MIB);
        }
        assert_eq!(usage.readings.len(), USAGE_MAX);
    }
}
