//! The Mann-Whitney U test: p-value, and the interval of the shift between two samples. Pure.
//!
//! The asymptotic form with midranks, tie correction and continuity correction, as in R's `wilcox.test(…,
//! exact = FALSE, correct = TRUE, conf.int = TRUE)`, which Kayenta's judge ports.

use statrs::distribution::{ContinuousCDF, Normal};

/// What the shift of `experiment` against `control` is: lower end, upper end, estimate.
pub(super) type Shift = (f64, f64, f64);

/// The standardised rank sum of `experiment − shift` against `control`, less `quantile`; `None` when all values
/// are tied.
fn standardised(experiment: &[f64], control: &[f64], shift: f64, correct: bool) -> Option<f64> {
    let (nx, ny) = (experiment.len() as f64, control.len() as f64);
    let mut all: Vec<(f64, bool)> =
        experiment.iter().map(|x| (x - shift, true)).chain(control.iter().map(|y| (*y, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut ties, mut i) = (0.0, 0.0, 0);
    while i < all.len() {
        let mut j = i;
        while j < all.len() && all[j].0.total_cmp(&all[i].0).is_eq() {
            j += 1;
        }
        let rank = (i + j + 1) as f64 / 2.0;
        ranks += rank * all[i..j].iter().filter(|(_, new)| *new).count() as f64;
        let tied = (j - i) as f64;
        ties += tied.powi(3) - tied;
        i = j;
    }
    let z = ranks - nx * (nx + 1.0) / 2.0 - nx * ny / 2.0;
    let n = nx + ny;
    let sigma = (nx * ny / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))).sqrt();
    let correction = if correct && z.abs() > 0.0 { 0.5 * z.signum() } else { 0.0 };
    (sigma > 0.0).then(|| (z - correction) / sigma)
}

/// Two-sided p-value, and the standardised statistic: above zero when `experiment` tends to be higher.
pub(super) fn p_value(experiment: &[f64], control: &[f64]) -> Option<(f64, f64)> {
    let z = standardised(experiment, control, 0.0, true)?;
    Some((2.0 * Normal::standard().sf(z.abs()), z))
}

/// The interval of the shift with this confidence, and its (Hodges-Lehmann) estimate.
pub(super) fn shift(experiment: &[f64], control: &[f64], confidence: f64) -> Option<Shift> {
    let least = |values: &[f64]| values.iter().copied().reduce(f64::min);
    let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let (low, high) = (least(experiment)? - most(control)?, most(experiment)? - least(control)?);
    let quantile = Normal::standard().inverse_cdf(1.0 - (1.0 - confidence) / 2.0);
    // The statistic falls as the shift grows; the root is where it passes the quantile.
    let root = |quantile: f64, correct: bool| -> Option<f64> {
        let at = |shift: f64| standardised(experiment, control, shift, correct).map(|z| z - quantile);
        if at(low)? <= 0.0 {
            return Some(low);
        }
        if at(high)? >= 0.0 {
            return Some(high);
        }
        let (mut a, mut b) = (low, high);
        for _ in 0..60 {
            let mid = (a + b) / 2.0;
            if at(mid)? > 0.0 { a = mid } else { b = mid }
        }
        Some((a + b) / 2.0)
    };
    Some((root(quantile, true)?, root(-quantile, true)?, root(0.0, true)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Means of 30 draws around 10, two samples, and 30 around 20: the published test data of Kayenta's
    /// `ClassifierSuite` (Apache-2.0), rounded to four places.
    pub(in crate::bench::rivals) const TEN: [f64; 30] = [
        9.7767, 10.5871, 7.8376, 9.3243, 8.3775, 8.9359, 8.2708, 9.7484, 11.6237, 9.2753, 8.1538, 10.5620, 13.4981,
        11.0544, 6.9539, 12.5210, 9.0216, 4.9235, 11.2514, 11.5984, 8.4352, 11.1102, 10.7006, 8.9213, 10.0862, 11.4211,
        9.3792, 7.7980, 10.6234, 11.9096,
    ];
    pub(in crate::bench::rivals) const TEN_AGAIN: [f64; 30] = [
        11.1454, 9.9618, 7.0686, 7.3013, 9.7945, 9.6038, 6.1868, 12.3456, 10.3719, 8.6094, 9.9132, 10.3614, 14.2068,
        10.9462, 10.2159, 11.7398, 10.9076, 12.8234, 8.1019, 8.4982, 12.1134, 13.2722, 10.1146, 6.9464, 6.2105,
        10.1604, 8.3458, 8.3838, 7.0020, 10.7558,
    ];
    pub(in crate::bench::rivals) const TWENTY: [f64; 30] = [
        20.8784, 21.7855, 19.7083, 15.8599, 19.5101, 19.3920, 22.9265, 17.1565, 18.6551, 23.4226, 24.0558, 22.6269,
        21.9795, 21.6593, 20.0677, 22.1196, 16.4404, 21.5596, 21.0002, 17.7794, 17.8060, 18.5372, 20.5556, 19.5529,
        21.7711, 21.8096, 20.9618, 20.9776, 19.1063, 16.9769,
    ];

    #[test]
    fn the_interval_holds_the_shift() {
        let (low, high, estimate) = shift(&TWENTY, &TEN_AGAIN, 0.95).unwrap();
        assert!(low < estimate && estimate < high, "{low} {estimate} {high}");
        assert!((9.0..11.5).contains(&estimate), "{estimate}");
        let (low, high, _) = shift(&TEN, &TEN_AGAIN, 0.95).unwrap();
        assert!(low < 0.0 && high > 0.0, "{low} {high}");
    }

    #[test]
    fn ties_and_sides() {
        assert_eq!(p_value(&[1.0, 1.0], &[1.0, 1.0]), None);
        let (p, z) = p_value(&TWENTY, &TEN).unwrap();
        assert!(p < 1e-9 && z > 0.0, "{p} {z}");
        let (p, _) = p_value(&TEN, &TEN_AGAIN).unwrap();
        assert!(p > 0.3, "{p}");
    }
}
