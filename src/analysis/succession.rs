//! When one rollout cuts another short: what may be presumed of a revision whose own trial has not ended. Pure.

use crate::domain::{Judgement, Seconds, Verdict};

/// Latency says nothing in the first minute of a pod, and a slow revision needs another to be seen: before that,
/// silence about it is no praise (I2).
const HEARD: Seconds = 120.0;
/// Ten to one against a revision: too much to presume it good, too little to convict it.
const AGAINST: f64 = 2.3;

/// Whether a revision may be presumed good although its trial has not ended: its numbers speak for it and have had
/// time to, or it went through the whole `watch` (seconds) and nothing speaks against it. `watched` is how long its
/// first pod has been Ready; a `first` deploy has nothing better before it.
pub fn speaks_for_itself(judgement: Option<&Judgement>, watched: Option<Seconds>, watch: Seconds, first: bool) -> bool {
    let Some(judgement) = judgement else { return false };
    if judgement.baseline_good == Some(false) {
        return judgement.verdict == Verdict::Pass;
    }
    let watched = watched.unwrap_or(0.0);
    let soaked = watched >= watch && judgement.log_e < AGAINST;
    let heard = first || watched >= HEARD.min(watch / 4.0);
    match judgement.verdict {
        Verdict::Pass => true,
        Verdict::Watching => heard && judgement.log_e < 0.0 || soaked,
        Verdict::Unknown(_) => soaked,
        Verdict::Fail(_) | Verdict::Hold(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FailReason, Kind, UnknownReason, WorkloadId};

    const WATCH: Seconds = 1800.0;

    fn presumed(verdict: Verdict, log_e: f64, watched: Seconds) -> bool {
        let judgement = Judgement {
            t: 0.0,
            workload: WorkloadId::new("shop", Kind::Deployment, "web"),
            from: "a".into(),
            to: "b".into(),
            verdict,
            log_e,
            explanation: String::new(),
            findings: Vec::new(),
            harm_since: None,
            baseline_good: None,
            worse_than_before: false,
            severity: None,
            convicted: None,
            limits: Default::default(),
        };
        speaks_for_itself(Some(&judgement), Some(watched), WATCH, false)
    }

    #[test]
    fn whoever_is_half_convicted_is_not_presumed_good_however_long_it_ran() {
        assert!(presumed(Verdict::Watching, 1.0, WATCH));
        assert!(!presumed(Verdict::Watching, 1.0, WATCH - 1.0));
        assert!(!presumed(Verdict::Watching, 5.0, WATCH), "bad, and restarted right after its watch");
        assert!(!presumed(Verdict::Watching, f64::NAN, WATCH));
        assert!(presumed(Verdict::Unknown(UnknownReason::NoData), 0.0, WATCH));
        assert!(!presumed(Verdict::Fail(FailReason::Errors), 12.0, WATCH));
    }

    #[test]
    fn a_revision_must_be_heard_before_its_silence_is_praise() {
        assert!(!presumed(Verdict::Watching, -1.0, 20.0), "latency says nothing in the first minute");
        assert!(presumed(Verdict::Watching, -1.0, HEARD));
        assert!(!speaks_for_itself(None, Some(WATCH), WATCH, true), "nobody has looked at it");
    }
}
