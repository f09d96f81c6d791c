//! Confidence bounds of a share. Pure.

use statrs::function::beta::checked_beta_reg;

/// A two-sided interval of a share, both in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's 95 % score interval of `bad` of `total`, for display; 0..1 without requests.
pub fn wilson(bad: f64, total: f64) -> Interval {
    score(bad, total, 1.959_963_984_540_054)
}

/// Wilson's interval of `z` standard errors.
pub(super) fn score(bad: f64, total: f64, z: f64) -> Interval {
    if !(total > 0.0 && bad >= 0.0 && bad <= total) {
        return Interval { low: 0.0, high: 1.0 };
    }
    let p = bad / total;
    let z2 = z * z / total;
    let centre = p + z2 / 2.0;
    let half = z * (p * (1.0 - p) / total + z2 / (4.0 * total)).sqrt();
    Interval { low: ((centre - half) / (1.0 + z2)).max(0.0), high: ((centre + half) / (1.0 + z2)).min(1.0) }
}

/// Clopper and Pearson's exact interval with the given two-sided confidence, for proof.
pub fn clopper_pearson(bad: f64, total: f64, confidence: f64) -> Interval {
    let side = f64::midpoint(1.0, confidence);
    Interval { low: lower(bad, total, side), high: upper(bad, total, side) }
}

/// One-sided exact upper bound: shares above it are ruled out with `confidence`; 1 without requests.
pub(super) fn upper(bad: f64, total: f64, confidence: f64) -> f64 {
    if !(total > 0.0 && bad >= 0.0 && bad < total) {
        return 1.0;
    }
    root(bad + 1.0, total - bad, confidence)
}

/// One-sided exact lower bound; 0 without requests.
pub(super) fn lower(bad: f64, total: f64, confidence: f64) -> f64 {
    if !(total > 0.0 && bad > 0.0 && bad <= total) {
        return 0.0;
    }
    root(bad, total - bad + 1.0, 1.0 - confidence)
}

/// Where the regularised incomplete beta function reaches `target`. Bisection: it is monotone, and
/// fifty halvings are exact enough and cannot diverge.
fn root(a: f64, b: f64, target: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        match checked_beta_reg(a, b, middle) {
            Ok(value) if value < target => low = middle,
            _ => high = middle,
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(interval: Interval, low: f64, high: f64) {
        assert!((interval.low - low).abs() < 6e-5 && (interval.high - high).abs() < 6e-5, "{interval:?}");
    }

    #[test]
    fn golden_intervals() {
        close(wilson(3.0, 20.0), 0.0524, 0.3604);
        close(wilson(0.0, 20.0), 0.0, 0.1611);
        close(wilson(8.0, 100.0), 0.0411, 0.1500);
        close(clopper_pearson(3.0, 20.0, 0.95), 0.0321, 0.3789);
        close(clopper_pearson(0.0, 20.0, 0.95), 0.0, 0.1684);
        close(clopper_pearson(8.0, 100.0, 0.95), 0.0352, 0.1516);
    }

    #[test]
    fn fifty_nine_clean_requests_are_needed() {
        assert!(upper(0.0, 59.0, 0.95) < 0.05);
        assert!(upper(0.0, 58.0, 0.95) > 0.05);
    }

    #[test]
    fn nonsense_says_nothing() {
        for (bad, total) in [(0.0, 0.0), (f64::NAN, 10.0), (1.0, f64::NAN), (-1.0, 10.0)] {
            close(clopper_pearson(bad, total, 0.95), 0.0, 1.0);
            close(wilson(bad, total), 0.0, 1.0);
        }
        assert!((upper(10.0, 10.0, 0.95) - 1.0).abs() < f64::EPSILON);
    }
}
