//! Cumulative counters → what happened in between. Pure.

use super::{bounds, tuning::GAP_INTERVALS};
use crate::domain::Seconds;
use std::ops::{AddAssign, SubAssign};

/// Requests, and how many of them were bad (failed or slow); fractions come from interpolation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) total: f64,
    pub(super) bad: f64,
}

impl Tally {
    pub(super) const fn new(bad: f64, total: f64) -> Self {
        Self { total, bad }
    }

    /// Share of bad requests; `None` without requests.
    pub(super) fn ratio(self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }

    /// Whether at least this share was bad, beyond chance (Wilson's interval).
    pub(super) fn surely(self, share: f64) -> bool {
        bounds::wilson(self.bad, self.total).low >= share
    }

    pub(super) fn scaled(self, by: f64) -> Self {
        Self { total: self.total * by, bad: self.bad * by }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.bad += other.bad;
    }
}

impl SubAssign for Tally {
    /// Never below zero: rounding must not make negative requests.
    fn sub_assign(&mut self, other: Self) {
        self.total = (self.total - other.total).max(0.0);
        self.bad = (self.bad - other.bad).max(0.0);
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum += one;
        }
        sum
    }
}

/// When a counter was last read, and how often it usually is.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse {
    last: Option<Seconds>,
    spacing: Option<Seconds>,
}

/// What one more reading means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Beat {
    /// The first one.
    First,
    /// Not after the one before: late, repeated, out of order.
    Late,
    /// Too long after the one before: what lies between cannot be placed.
    Gap,
    /// Regular; the interval began then.
    Regular(Seconds),
}

impl Pulse {
    /// Takes note of a reading at `t`. History may be read more coarsely than live ticks, so the
    /// closest spacing that this counter ever had is what a gap is measured by.
    pub(super) fn beat(&mut self, t: Seconds, interval: Seconds) -> Beat {
        let Some(last) = self.last else {
            self.last = Some(t);
            return Beat::First;
        };
        if t <= last {
            return Beat::Late;
        }
        let spacing = t - last;
        let usual = self.spacing.map_or(interval, |s| s.max(interval));
        self.last = Some(t);
        self.spacing = Some(self.spacing.map_or(spacing, |s| s.min(spacing)));
        // Half a second of slack: three intervals by a jittering clock are three intervals.
        if spacing > GAP_INTERVALS * usual + 0.5 { Beat::Gap } else { Beat::Regular(last) }
    }
}

/// What a reading of a cumulative counter says about the time since the reading before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading<T> {
    /// The first reading: everything since the process started.
    Lifetime(T),
    /// Since the reading at that time.
    Since(Seconds, T),
    /// Nothing usable: late, after a gap, or contradictory.
    Nothing,
}

/// The request and error counters of one pod, read together.
#[derive(Debug, Clone, Default)]
pub(super) struct PairCounter {
    pulse: Pulse,
    last: Tally,
}

impl PairCounter {
    /// The closest that two readings ever were.
    pub(super) fn spacing(&self) -> Option<Seconds> {
        self.pulse.spacing
    }

    /// `None` for a value that is no count (NaN, infinite, negative): nothing is remembered of it.
    pub(super) fn read(&mut self, t: Seconds, requests: f64, errors: f64, interval: Seconds) -> Option<Reading<Tally>> {
        if !(is_count(requests) && is_count(errors)) {
            return None;
        }
        let now = Tally::new(errors, requests);
        let before = self.last;
        let beat = self.pulse.beat(t, interval);
        if beat != Beat::Late {
            self.last = now;
        }
        Some(match beat {
            Beat::First => Reading::Lifetime(clamp(now)),
            Beat::Late | Beat::Gap => Reading::Nothing,
            // A restarted process counts from zero: all it shows happened since.
            Beat::Regular(from) if requests < before.total => Reading::Since(from, clamp(now)),
            // Errors that fall alone are no restart but a series that vanished: taking their
            // whole value as news would invent errors.
            Beat::Regular(_) if errors < before.bad => Reading::Nothing,
            Beat::Regular(from) => {
                Reading::Since(from, clamp(Tally::new(errors - before.bad, requests - before.total)))
            }
        })
    }
}

/// Two counters are never read at the same instant: more errors than requests is a race, not a ratio.
fn clamp(tally: Tally) -> Tally {
    Tally::new(tally.bad.min(tally.total), tally.total)
}

/// Whether a value can be a count at all.
pub(super) fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(reading: Option<Reading<Tally>>) -> Option<Tally> {
        match reading {
            Some(Reading::Since(_, tally)) => Some(tally),
            _ => None,
        }
    }

    #[test]
    fn counts_differences_and_resets() {
        let mut counter = PairCounter::default();
        assert_eq!(counter.read(0.0, 500.0, 5.0, 15.0), Some(Reading::Lifetime(Tally::new(5.0, 500.0))));
        assert_eq!(since(counter.read(15.0, 600.0, 7.0, 15.0)), Some(Tally::new(2.0, 100.0)));
        assert_eq!(since(counter.read(30.0, 40.0, 7.0, 15.0)), Some(Tally::new(7.0, 40.0)), "reset counts in full");
    }

    #[test]
    fn drops_gaps_late_readings_and_vanished_error_series() {
        let mut counter = PairCounter::default();
        counter.read(0.0, 100.0, 0.0, 15.0);
        assert_eq!(counter.read(60.0, 200.0, 90.0, 15.0), Some(Reading::Nothing), "gap of 4 intervals");
        assert_eq!(counter.read(60.0, 900.0, 900.0, 15.0), Some(Reading::Nothing), "same time again");
        assert_eq!(counter.read(50.0, 900.0, 900.0, 15.0), Some(Reading::Nothing), "late");
        assert_eq!(since(counter.read(75.0, 210.0, 91.0, 15.0)), Some(Tally::new(1.0, 10.0)));
        assert_eq!(counter.read(90.0, 300.0, 60.0, 15.0), Some(Reading::Nothing), "errors fell alone");
        assert_eq!(since(counter.read(105.0, 310.0, 61.0, 15.0)), Some(Tally::new(1.0, 10.0)));
    }

    #[test]
    fn coarse_history_is_no_gap() {
        let mut counter = PairCounter::default();
        counter.read(0.0, 0.0, 0.0, 15.0);
        assert_eq!(counter.read(60.0, 60.0, 0.0, 15.0), Some(Reading::Nothing), "not known to be usual yet");
        assert_eq!(since(counter.read(120.0, 120.0, 0.0, 15.0)), Some(Tally::new(0.0, 60.0)));
    }

    #[test]
    fn what_is_no_count_leaves_no_trace() {
        let mut counter = PairCounter::default();
        counter.read(0.0, 100.0, 1.0, 15.0);
        for (requests, errors) in [(f64::NAN, 0.0), (110.0, f64::NAN), (f64::INFINITY, 0.0), (-1.0, 0.0), (110.0, -2.0)]
        {
            assert_eq!(counter.read(15.0, requests, errors, 15.0), None);
        }
        assert_eq!(since(counter.read(15.0, 110.0, 2.0, 15.0)), Some(Tally::new(1.0, 10.0)));
    }

    #[test]
    fn errors_never_exceed_requests() {
        let mut counter = PairCounter::default();
        counter.read(0.0, 100.0, 1.0, 15.0);
        assert_eq!(since(counter.read(15.0, 110.0, 30.0, 15.0)), Some(Tally::new(10.0, 10.0)));
    }
}
