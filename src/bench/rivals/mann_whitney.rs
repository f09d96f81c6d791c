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
    /// `ClassifierSuite` (Apache-2.0).
    pub(in crate::bench::rivals) const TEN: [f64; 30] = [
        9.7767343120109462,
        10.587071850477695,
        7.8375506388901766,
        9.3243326886113884,
        8.3774505409784421,
        8.9359264399606282,
        8.2707663324728511,
        9.7484308126716925,
        11.623746715547156,
        9.2753442679633942,
        8.1538047749171518,
        10.562020975754294,
        13.498135575451835,
        11.054419256110332,
        6.9538903590055092,
        12.521008342195479,
        9.0216358603546443,
        4.9234856699531662,
        11.251360203607172,
        11.598449508040337,
        8.435232204668182,
        11.110228516867279,
        10.70063380164755,
        8.9212773652115249,
        10.086167067942661,
        11.42107515483087,
        9.3792347813644952,
        7.7980320148552593,
        10.62339807275746,
        11.909642062063739,
    ];
    pub(in crate::bench::rivals) const TEN_AGAIN: [f64; 30] = [
        11.1453586774086,
        9.9618059885597017,
        7.068574306369829,
        7.3012661810483657,
        9.7944630265656727,
        9.6037918603687302,
        6.1867793350339388,
        12.345599159550174,
        10.371891733859533,
        8.6094300785016724,
        9.913162673361084,
        10.361375299003466,
        14.206800387518818,
        10.946153754753301,
        10.215876627044048,
        11.739760899484603,
        10.907627468626439,
        12.823353694464775,
        8.1018609771732137,
        8.4981616408804932,
        12.113441374697231,
        13.272210809932028,
        10.114579381663297,
        6.9463958767978067,
        6.2105278541727778,
        10.160401684903775,
        8.3457712066455461,
        8.383822063895833,
        7.0020205070083765,
        10.755757401808442,
    ];
    pub(in crate::bench::rivals) const TWENTY: [f64; 30] = [
        20.878412601720026,
        21.78550581191622,
        19.70828084717019,
        15.859946903461562,
        19.510058772176841,
        19.392005525270303,
        22.926528314912101,
        17.156530276709894,
        18.655117916226171,
        23.422607911610392,
        24.055817684156644,
        22.62689958516501,
        21.979472967817678,
        21.659318607218694,
        20.067707574072426,
        22.119570836305414,
        16.44037132663307,
        21.559622826341268,
        21.000181443489218,
        17.779369411412663,
        17.806006358943584,
        18.537200618386109,
        20.555550300210797,
        19.552928184468378,
        21.771118944087092,
        21.809622806176627,
        20.961762909905271,
        20.977571577503021,
        19.106303205498794,
        16.976918966987078,
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
