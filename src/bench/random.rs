//! Chance, seeded: the same seed makes the same run on every machine. Pure.
//!
//! xoshiro256++ seeded by SplitMix64 (both public domain, Blackman and Vigna). Counts are drawn exactly where
//! they are small, and by the normal approximation where its error is far below what any rule here can see.

/// Above this mean a count is drawn from the normal approximation: at 60 its skew is 0.13, and evidence sums
/// over many draws.
const EXACT_MEAN: f64 = 60.0;

/// A seeded source of chance.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Log-uniform in [low, high): every order of magnitude is as likely as the next.
    pub fn magnitude(&mut self, low: f64, high: f64) -> f64 {
        (self.between(low.ln(), high.ln())).exp()
    }

    /// A whole number in [low, high].
    pub fn whole(&mut self, low: usize, high: usize) -> usize {
        low + (self.uniform() * (high - low + 1) as f64) as usize
    }

    /// True with this chance.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.whole(0, of.len() - 1)]
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// How many arrivals, when `mean` are expected.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        if mean > EXACT_MEAN {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        // Inversion: one uniform, walked up the distribution.
        let (mut left, mut p, mut count) = (self.uniform(), (-mean).exp(), 0.0);
        while left > p && p > 0.0 {
            left -= p;
            count += 1.0;
            p *= mean / count;
        }
        count
    }

    /// How many of `n` succeed, when each does with chance `p`.
    pub fn binomial(&mut self, n: f64, p: f64) -> f64 {
        if n <= 0.0 || p <= 0.0 {
            return 0.0;
        }
        if p >= 1.0 {
            return n;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n * p;
        if mean > EXACT_MEAN {
            return (mean + (mean * (1.0 - p)).sqrt() * self.normal()).round().clamp(0.0, n);
        }
        self.few(n, p, (-p).ln_1p())
    }

    /// As [`Random::binomial`], where the logarithm of 1 − p is known: it is half of the work.
    pub(super) fn binomial_of(&mut self, n: f64, p: f64, ln_rest: f64) -> f64 {
        if n > 0.0 && p > 0.0 && p <= 0.5 && n * p <= EXACT_MEAN {
            self.few(n, p, ln_rest)
        } else {
            self.binomial(n, p)
        }
    }

    /// Inversion, for p up to one half and a small mean.
    fn few(&mut self, n: f64, p: f64, ln_rest: f64) -> f64 {
        let mut left = self.uniform();
        if left <= 1.0 - n * p {
            // The chance of none is at least that (Bernoulli's inequality).
            return 0.0;
        }
        let odds = p / (1.0 - p);
        let (mut chance, mut count) = ((n * ln_rest).exp(), 0.0);
        while left > chance && count < n && chance > 0.0 {
            left -= chance;
            chance *= odds * (n - count) / (count + 1.0);
            count += 1.0;
        }
        count
    }

    /// Beta with this mean and precision (a + b): how far a ratio wanders from tick to tick.
    pub fn beta(&mut self, mean: f64, precision: f64) -> f64 {
        if !precision.is_finite() || mean <= 0.0 || mean >= 1.0 {
            return mean;
        }
        let (a, b) = (self.gamma(mean * precision), self.gamma((1.0 - mean) * precision));
        if a + b > 0.0 { a / (a + b) } else { mean }
    }

    /// Marsaglia and Tsang (2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = self.uniform().max(f64::MIN_POSITIVE).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().max(f64::MIN_POSITIVE).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let all: Vec<f64> = (0..40_000).map(|_| draw()).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        (mean, all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64)
    }

    fn near(found: f64, wanted: f64, by: f64) {
        assert!((found - wanted).abs() <= by * wanted.abs().max(1e-9), "{found} is not {wanted}");
    }

    #[test]
    fn counts_have_their_mean_and_variance() {
        let mut r = Random::new(1);
        for mean in [0.2, 3.0, 59.0, 61.0, 4_000.0] {
            let (m, v) = moments(|| r.poisson(mean));
            near(m, mean, 0.02);
            near(v, mean, 0.05);
        }
        for (n, p) in [(10.0, 0.3), (3_000.0, 0.004), (300.0, 0.9), (40_000.0, 0.05)] {
            let (m, v) = moments(|| r.binomial(n, p));
            near(m, n * p, 0.02);
            near(v, n * p * (1.0 - p), 0.05);
        }
        let (m, v) = moments(|| r.beta(0.03, 20.0));
        near(m, 0.03, 0.03);
        near(v, 0.03 * 0.97 / 21.0, 0.06);
    }

    #[test]
    fn a_seed_is_a_stream() {
        let draws = |seed| {
            let mut r = Random::new(seed);
            [r.uniform(), r.poisson(5.0), r.binomial(90.0, 0.2), r.normal()]
        };
        assert_eq!(draws(7).map(f64::to_bits), draws(7).map(f64::to_bits));
        assert_ne!(draws(7).map(f64::to_bits), draws(8).map(f64::to_bits));
    }
}
