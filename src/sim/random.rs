//! Chance from a seed (SplitMix64): the same seed plays the same story.

/// A small generator; never for anything secret.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Letters of generated names: Kubernetes leaves out vowels and what looks like them.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Above this many expected hits and misses a draw is taken from the normal curve: a step costs the same
/// whatever its requests.
const MANY: f64 = 25.0;

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// How many of `n` come out with chance `p` each.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p.is_nan() || p <= 0.0 {
            return 0;
        }
        if p >= 1.0 {
            return n;
        }
        let (hits, misses) = (n as f64 * p, n as f64 * (1.0 - p));
        if hits > MANY && misses > MANY {
            let drawn = hits + (hits * (1.0 - p)).sqrt() * self.normal();
            return (drawn.round().max(0.0) as u64).min(n);
        }
        // Jumps from hit to hit; so also few hits among many cost little.
        if misses < hits {
            return n - self.binomial(n, 1.0 - p);
        }
        let (scale, mut at, mut count) = ((1.0 - p).ln(), 0.0, 0);
        loop {
            at += ((1.0 - self.uniform()).ln() / scale).floor() + 1.0;
            if at > n as f64 {
                return count;
            }
            count += 1;
        }
    }

    /// A random part of a name.
    pub fn suffix(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(LETTERS[(self.bits() % LETTERS.len() as u64) as usize])).collect()
    }
}

/// A number as Kubernetes writes hashes into names.
pub fn safe_name(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_right_mean_and_stay_inside() {
        let mut random = Random::new(7);
        for (n, p) in [(40, 0.12), (10_000, 0.12), (10_000, 0.0005), (1_000, 0.999), (300, 0.5)] {
            let rounds = 2_000;
            let drawn: Vec<u64> = (0..rounds).map(|_| random.binomial(n, p)).collect();
            assert!(drawn.iter().all(|d| *d <= n));
            let mean = drawn.iter().sum::<u64>() as f64 / f64::from(rounds);
            let (wanted, error) = (n as f64 * p, (n as f64 * p * (1.0 - p) / f64::from(rounds)).sqrt());
            assert!((mean - wanted).abs() < 5.0 * error + 1e-9, "{n} × {p}: {mean} instead of {wanted}");
        }
        assert_eq!((random.binomial(9, 0.0), random.binomial(9, 1.0), random.binomial(9, f64::NAN)), (0, 9, 0));
    }

    #[test]
    fn the_same_seed_gives_the_same_names() {
        assert_eq!(Random::new(3).suffix(5), Random::new(3).suffix(5));
        assert_ne!(Random::new(3).suffix(5), Random::new(4).suffix(5));
    }
}
