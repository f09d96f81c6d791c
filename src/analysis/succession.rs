//! When one rollout cuts another short: what may be presumed of a revision whose own trial has not ended. Pure.

use crate::domain::{Judgement, Seconds, Verdict};

/// Whether a revision may be presumed good although its trial has not ended: its numbers speak for it, or it
/// went through the whole `watch` (seconds) and nothing speaks against it. `watched` is how long its first pod has
/// been Ready.
pub fn speaks_for_itself(judgement: Option<&Judgement>, watched: Option<Seconds>, watch: Seconds) -> bool {
    let Some(judgement) = judgement else { return false };
    let soaked = watched.is_some_and(|watched| watched >= watch);
    match judgement.verdict {
        _ if judgement.baseline_good == Some(false) => judgement.verdict == Verdict::Pass,
        Verdict::Pass => true,
        Verdict::Watching => judgement.log_e < 0.0 || soaked,
        Verdict::Unknown(_) => soaked,
        Verdict::Fail(_) | Verdict::Hold(_) => false,
    }
}
