//! Requests, failures and latencies, drawn scrape by scrape instead of request by request. Pure.
//!
//! The latency of a service is lognormal; a histogram over fixed buckets is drawn as a multinomial from
//! precomputed shares, one conditional binomial per bucket.

use super::random::Random;
use statrs::function::erf::erfc;

/// Counts of a process since it started.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Requests in each bucket, not cumulative; the last is `+Inf`.
    pub(super) buckets: Vec<f64>,
}

impl Counted {
    pub(super) fn new(buckets: usize) -> Self {
        Self { buckets: vec![0.0; buckets + 1], ..Self::default() }
    }

    pub(super) fn reset(&mut self) {
        self.requests = 0.0;
        self.errors = 0.0;
        self.buckets.iter_mut().for_each(|count| *count = 0.0);
    }
}

/// Standard normal: chance to be above `z`.
pub(super) fn above(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// How the latencies of one service fall into its buckets, for each factor that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    median: f64,
    sigma: f64,
    bounds: &'static [f64],
    /// Factor in percent → the chance of each bucket given that no bucket before it was hit, and ln of the rest.
    shares: Vec<(i32, Vec<(f64, f64)>)>,
}

impl Latencies {
    pub(super) fn new(median: f64, sigma: f64, bounds: &'static [f64]) -> Self {
        Self { median, sigma, bounds, shares: Vec::new() }
    }

    fn shares(&mut self, factor: f64) -> usize {
        // One percent is finer than any limit here tells apart.
        let key = (factor * 100.0).round() as i32;
        if let Some(i) = self.shares.iter().position(|(known, _)| *known == key) {
            return i;
        }
        let median = self.median * f64::from(key.max(1)) / 100.0;
        let mut left = 1.0;
        let shares = self
            .bounds
            .iter()
            .map(|bound| {
                let beyond = above((bound / median).ln() / self.sigma);
                let share = if left > 1e-12 { ((left - beyond) / left).clamp(0.0, 1.0) } else { 1.0 };
                left = beyond;
                (share, (-share).ln_1p())
            })
            .collect();
        self.shares.push((key, shares));
        self.shares.len() - 1
    }

    /// Adds so many requests, slowed down by `factor`, to the buckets.
    pub(super) fn draw(&mut self, random: &mut Random, requests: f64, factor: f64, buckets: &mut [f64]) {
        let which = self.shares(factor);
        let mut left = requests;
        for ((share, rest), bucket) in self.shares[which].1.iter().zip(buckets.iter_mut()) {
            if left <= 0.0 {
                return;
            }
            let here = random.binomial_of(left, *share, *rest);
            *bucket += here;
            left -= here;
        }
        if let Some(last) = buckets.last_mut() {
            *last += left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::world::BUCKETS;

    #[test]
    fn buckets_hold_the_lognormal() {
        let (mut random, mut latencies) = (Random::new(3), Latencies::new(0.1, 0.7, BUCKETS));
        let mut buckets = vec![0.0; BUCKETS.len() + 1];
        for _ in 0..2_000 {
            latencies.draw(&mut random, 100.0, 2.0, &mut buckets);
        }
        let total: f64 = buckets.iter().sum();
        assert!((total - 200_000.0).abs() < 0.5, "no request is lost");
        let mut below = 0.0;
        for (bound, count) in BUCKETS.iter().zip(&buckets) {
            below += count / total;
            let wanted = 1.0 - above((bound / 0.2_f64).ln() / 0.7);
            assert!((below - wanted).abs() < 0.005, "{bound}: {below} is not {wanted}");
        }
    }
}
