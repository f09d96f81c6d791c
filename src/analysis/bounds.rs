//! Confidence bounds of a share. Pure.

use statrs::function::{beta::checked_beta_reg, gamma::ln_gamma};

/// Enough for halves alone; Newton's steps need about six.
const STEPS_MAX: usize = 60;

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

/// Where the regularised incomplete beta function reaches `target`: by Newton's steps, and by halves where a step
/// leaves what is left of 0..1. The function is monotone, so this cannot diverge, and ends when nothing moves any more.
fn root(a: f64, b: f64, target: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    let mut x = a / (a + b);
    let ln_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    for _ in 0..STEPS_MAX {
        let beyond = checked_beta_reg(a, b, x).map_or(f64::INFINITY, |value| value - target);
        if beyond < 0.0 {
            low = x;
        } else {
            high = x;
        }
        let density = ((a - 1.0) * x.ln() + (b - 1.0) * (-x).ln_1p() - ln_beta).exp();
        let newton = x - beyond / density;
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - x).abs() <= f64::EPSILON * x {
            break;
        }
        x = next;
    }
    x
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

    /// However small the share and however many the requests: what was found is where the function has its value.
    #[test]
    fn a_bound_is_where_its_confidence_is_reached() {
        for total in [1.0, 2.5, 40.0, 3e3, 7e5, 2e8] {
            for share in [0.0, 1e-6, 0.004, 0.05, 0.5, 0.93, 1.0] {
                for confidence in [0.5, 0.9, 0.95, 0.999, 0.9999] {
                    let bad = total * share;
                    // Of less the bound is 0 or 1 in every digit.
                    if total - bad > 0.4 {
                        let x = upper(bad, total, confidence);
                        let reached = checked_beta_reg(bad + 1.0, total - bad, x).unwrap();
                        assert!((reached - confidence).abs() < 1e-7, "{bad} of {total}: {x} reaches {reached}");
                    }
                    if bad > 0.4 {
                        let x = lower(bad, total, confidence);
                        let reached = 1.0 - checked_beta_reg(bad, total - bad + 1.0, x).unwrap();
                        assert!((reached - confidence).abs() < 1e-7, "{bad} of {total}: {x} reaches {reached}");
                    }
                }
            }
        }
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
