//! Are bad requests shared as traffic is shared? Two arms, any stopping time. Pure.

use super::{counter::Tally, tuning::SPLIT_PRIOR};
use statrs::function::gamma::ln_gamma;

/// Log e-value against "the new pods fail no more often than the old ones": Dirichlet mixture over
/// the split of bad requests, against the split of all requests (decision.md, theory). 0 when
/// there is nothing to compare, and when the old pods are the worse ones.
pub(super) fn log_split(new: Tally, old: Tally) -> f64 {
    let total = new.total + old.total;
    if !(total > 0.0 && new.total > 0.0 && old.total > 0.0) || new.bad * old.total <= old.bad * new.total {
        return 0.0;
    }
    let share = new.total / total;
    log_dirichlet(new.bad, old.bad, share)
}

fn log_dirichlet(new_bad: f64, old_bad: f64, share: f64) -> f64 {
    let bad = new_bad + old_bad;
    let mut log = ln_gamma(SPLIT_PRIOR) - ln_gamma(SPLIT_PRIOR + bad);
    for (count, share) in [(new_bad, share), (old_bad, 1.0 - share)] {
        let prior = SPLIT_PRIOR * share;
        log += ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln();
    }
    if log.is_finite() { log } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_split() {
        let log = log_split(Tally::new(10.0, 200.0), Tally::new(0.0, 800.0));
        assert!((log - 7.06).abs() < 0.005, "{log}");
    }

    #[test]
    fn only_the_new_pods_can_be_blamed() {
        assert!(log_split(Tally::new(0.0, 200.0), Tally::new(50.0, 800.0)).abs() < 1e-12);
        assert!(log_split(Tally::new(5.0, 100.0), Tally::new(0.0, 0.0)).abs() < 1e-12);
        assert!(log_split(Tally::new(f64::NAN, 100.0), Tally::new(0.0, 10.0)).abs() < 1e-12);
        assert!(log_split(Tally::new(50.0, 500.0), Tally::new(50.0, 500.0)) < 0.1);
    }
}
