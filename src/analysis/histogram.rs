//! Classic cumulative histograms: differences, quantiles, and the count above a fixed cut. Pure.

use super::{
    counter::{Beat, Pulse, Reading, is_count},
    tuning::PROBIT_LEAST,
};
use crate::domain::{Buckets, Seconds};
use statrs::function::erf::{erfc, erfc_inv};
use std::sync::Arc;

/// Bucket bounds (seconds, ascending) and the count at or below each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    bounds: Arc<Vec<f64>>,
    counts: Vec<f64>,
}

/// A quantile of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantile {
    /// Seconds, interpolated inside its bucket.
    At(f64),
    /// In the last bucket: above that many seconds, nobody knows how far.
    Saturated(f64),
    /// No requests.
    Empty,
}

/// How many requests were slower than a cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Above {
    /// Interpolated inside the bucket of the cut.
    pub(super) interpolated: f64,
    /// Certainly above: beyond the upper bound of that bucket.
    pub(super) certain: f64,
}

impl Histogram {
    /// Of what was observed; `None` when a bound or a count is none, or no bucket is there.
    pub(super) fn of(buckets: &Buckets) -> Option<Self> {
        usable(buckets).then(|| Self {
            bounds: Arc::clone(buckets.bounds()),
            // Buckets are read one after another while requests go on; cumulative means not falling.
            counts: running_most(buckets.counts().iter().copied()),
        })
    }

    pub(super) fn total(&self) -> f64 {
        self.counts.last().copied().unwrap_or(0.0)
    }

    /// Upper bounds of the buckets, ascending.
    pub(super) fn bounds(&self) -> impl Iterator<Item = f64> {
        self.bounds.iter().copied()
    }

    fn has_bounds(&self, bounds: &Arc<Vec<f64>>) -> bool {
        Arc::ptr_eq(&self.bounds, bounds) || self.bounds == *bounds
    }

    /// Becomes `now`, and tells what that added; all of it after a reset.
    fn advance(&mut self, now: &Buckets) -> Self {
        let reset = now.counts().iter().copied().fold(0.0, f64::max) < self.total();
        let mut reached = 0.0_f64;
        let added = self.counts.iter_mut().zip(now.counts()).map(|(mine, count)| {
            reached = reached.max(*count);
            let before = std::mem::replace(mine, reached);
            if reset { reached } else { reached - before }
        });
        Self { counts: running_most(added), bounds: Arc::clone(&self.bounds) }
    }

    /// Adds another one; `false` when its buckets differ and nothing was added.
    pub(super) fn add(&mut self, other: &Self) -> bool {
        if !self.has_bounds(&other.bounds) {
            return false;
        }
        for (mine, more) in self.counts.iter_mut().zip(&other.counts) {
            *mine += more;
        }
        true
    }

    /// The quantile `q`, linear inside its bucket like `histogram_quantile`, but honest about the last one.
    pub(super) fn quantile(&self, q: f64) -> Quantile {
        let rank = q * self.total();
        if self.total() <= 0.0 || !rank.is_finite() {
            return Quantile::Empty;
        }
        let i = self.counts.iter().position(|&count| count >= rank).unwrap_or(self.counts.len() - 1);
        let (low, below) = self.lower(i);
        let high = self.bounds.get(i).copied().unwrap_or(f64::INFINITY);
        if !high.is_finite() {
            return Quantile::Saturated(low);
        }
        let inside = self.counts[i] - below;
        let share = if inside > 0.0 { (rank - below) / inside } else { 1.0 };
        if let Some([a, b, at]) = self.probits([below, self.counts[i], rank])
            && low > 0.0
            && b > a
        {
            return Quantile::At(low * (high / low).powf(((at - a) / (b - a)).clamp(0.0, 1.0)));
        }
        Quantile::At(low + (high - low) * share)
    }

    /// Requests slower than `cut` seconds; `None` when the cut lies in the last bucket.
    pub(super) fn above(&self, cut: f64) -> Option<Above> {
        let i = self.bounds.iter().position(|&bound| bound >= cut)?;
        let high = self.bounds[i];
        if !high.is_finite() {
            return None;
        }
        let (low, below) = self.lower(i);
        let upto = self.counts[i];
        let share = if high > low { ((cut - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 };
        let total = self.total();
        let mut within = below + (upto - below) * share;
        if let Some([a, b, _]) = self.probits([below, upto, upto])
            && low > 0.0
            && high > low
        {
            let z = a + (b - a) * (cut / low).ln() / (high / low).ln();
            within = (total * normal_cdf(z)).clamp(below, upto);
        }
        Some(Above { interpolated: (total - within).max(0.0), certain: (total - upto).max(0.0) })
    }

    /// Counts as points of the normal distribution. Latency is close to lognormal: between the bounds of a
    /// bucket these points lie on a line over the logarithm, where a line over plain seconds would make a
    /// falling tail too heavy. Nothing where a point lies at infinity, or rests on too few.
    fn probits(&self, counts: [f64; 3]) -> Option<[f64; 3]> {
        let total = self.total();
        let few = counts.iter().any(|count| *count < PROBIT_LEAST || total - count < PROBIT_LEAST);
        (!few).then(|| counts.map(|count| normal_quantile(count / total)))
    }

    /// Lower bound of bucket `i` and the count below it.
    fn lower(&self, i: usize) -> (f64, f64) {
        match i.checked_sub(1) {
            Some(before) => (self.bounds[before], self.counts[before]),
            None => (0.0, 0.0),
        }
    }
}

fn usable(buckets: &Buckets) -> bool {
    let (bounds, counts) = (buckets.bounds(), buckets.counts());
    !bounds.is_empty() && bounds.iter().all(|bound| *bound >= 0.0) && counts.iter().all(|count| is_count(*count))
}

/// The largest so far, at each place.
fn running_most(counts: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut most = 0.0_f64;
    let reached = counts.map(|count| {
        most = most.max(count);
        most
    });
    reached.collect()
}

fn normal_cdf(z: f64) -> f64 {
    0.5 * erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
}

/// The latency histogram of one pod.
#[derive(Debug, Clone, Default)]
pub(super) struct HistogramCounter {
    pulse: Pulse,
    last: Option<Histogram>,
}

impl HistogramCounter {
    /// `None` for buckets that cannot be read: nothing is remembered of them.
    pub(super) fn read(&mut self, t: Seconds, buckets: &Buckets, interval: Seconds) -> Option<Reading<Histogram>> {
        if !usable(buckets) {
            return None;
        }
        let beat = self.pulse.beat(t, interval);
        if beat == Beat::Late {
            return Some(Reading::Nothing);
        }
        let added = match &mut self.last {
            Some(last) if last.has_bounds(buckets.bounds()) => Some(last.advance(buckets)),
            last => {
                *last = Histogram::of(buckets);
                None
            }
        };
        Some(match (beat, added) {
            (Beat::Regular(from), Some(added)) => Reading::Since(from, added),
            (Beat::First, _) => self.last.clone().map_or(Reading::Nothing, Reading::Lifetime),
            _ => Reading::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn buckets(pairs: &[(f64, f64)]) -> Buckets {
        pairs.iter().copied().collect()
    }

    fn histogram(pairs: &[(f64, f64)]) -> Histogram {
        Histogram::of(&buckets(pairs)).unwrap()
    }

    #[test]
    fn interpolates_and_says_what_is_certain() {
        let h = histogram(&[(0.1, 90.0), (0.2, 98.0), (0.4, 100.0), (INF, 100.0)]);
        assert_eq!(h.quantile(0.95), Quantile::At(0.1 + 0.1 * 5.0 / 8.0));
        let above = h.above(0.15).unwrap();
        assert!((above.interpolated - 6.0).abs() < 1e-9);
        assert!((above.certain - 2.0).abs() < 1e-9);
        let exact = h.above(0.2).unwrap();
        assert!((exact.interpolated - exact.certain).abs() < 1e-9, "a cut on a bound needs no guess");
    }

    #[test]
    fn the_order_of_buckets_does_not_matter() {
        let h = histogram(&[(10.0, 3.0), (2.5, 1.0), (5.0, 2.0), (INF, 3.0)]);
        assert!((h.above(5.0).unwrap().certain - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_last_bucket_saturates() {
        let h = histogram(&[(0.1, 50.0), (INF, 100.0)]);
        assert_eq!(h.quantile(0.95), Quantile::Saturated(0.1));
        assert_eq!(h.above(0.2), None);
        assert_eq!(histogram(&[(0.1, 0.0), (INF, 0.0)]).quantile(0.5), Quantile::Empty);
    }

    #[test]
    fn unusable_buckets_are_refused() {
        for (bound, count) in [(-1.0, 1.0), (0.1, f64::NAN), (0.1, -1.0), (f64::NAN, 1.0)] {
            assert!(Histogram::of(&buckets(&[(bound, count)])).is_none(), "{bound} {count}");
        }
        assert!(Histogram::of(&Buckets::default()).is_none());
    }

    #[test]
    fn differences_resets_and_changed_layouts() {
        let mut counter = HistogramCounter::default();
        let a = buckets(&[(0.1, 10.0), (INF, 20.0)]);
        let b = buckets(&[(0.1, 15.0), (INF, 30.0)]);
        let reset = buckets(&[(0.1, 1.0), (INF, 3.0)]);
        assert!(matches!(counter.read(0.0, &a, 15.0), Some(Reading::Lifetime(_))));
        let Some(Reading::Since(_, added)) = counter.read(15.0, &b, 15.0) else { panic!() };
        assert!((added.total() - 10.0).abs() < 1e-9);
        let Some(Reading::Since(_, added)) = counter.read(30.0, &reset, 15.0) else { panic!() };
        assert!((added.total() - 3.0).abs() < 1e-9);
        let other = buckets(&[(0.2, 1.0), (INF, 9.0)]);
        assert_eq!(counter.read(45.0, &other, 15.0), Some(Reading::Nothing));
    }
}
