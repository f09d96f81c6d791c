//! What the daemon knows now, for people and probes. Of each workload it is told only when somebody asks:
//! of thousands nothing is copied at every tick.

use super::{Watchdog, live::Live};
use crate::domain::{Snapshot, WorkloadStatus};

/// Everything but the workloads.
pub(super) fn take(w: &Watchdog) -> Snapshot {
    let now = w.inputs.clock.now();
    let freezes = w.inputs.freezes.borrow().clone();
    let active = w.inputs.thresholds.borrow().clone();
    let mut degraded: Vec<String> = w.trouble.values().cloned().collect();
    degraded.extend(
        freezes
            .unreadable
            .iter()
            .map(|(what, why)| format!("pauses cannot be read, so nothing is undone ({what}: {why})")),
    );
    degraded.extend(active.state.rejected.iter().cloned());
    for (id, faults) in &w.malformed {
        degraded.extend(faults.iter().map(|fault| format!("{id}: {fault}")));
    }
    let mut watches = w.inputs.cluster.contact.staleness();
    watches.retain(|resource, _| crate::domain::Kind::ALL.iter().any(|kind| kind.plural() == resource));
    Snapshot {
        t: now,
        synced: w.synced.len() >= w.expected_kinds,
        leader: false,
        watches,
        sources: w.source_states.clone(),
        degraded,
        thresholds: active.state.clone(),
        workloads: Vec::new(),
        skipped: w.skipped,
    }
}

/// Every watched workload.
pub(super) fn workloads(w: &Watchdog) -> Vec<WorkloadStatus> {
    let now = w.inputs.clock.now();
    let freezes = w.inputs.freezes.borrow().clone();
    w.tracker
        .views()
        .map(|view| {
            let id = &view.id;
            let live = w.live.get(id);
            let rules = w.rules_of(id);
            let judgement = live.and_then(|l| l.judgement.clone());
            WorkloadStatus {
                workload: id.clone(),
                revision: view.template.revision.clone(),
                images: view.template.images.clone(),
                mode: rules.mode,
                policy: rules.policy.clone(),
                owner: view.owner,
                held_by: view
                    .paused
                    .then(|| "spec.paused".to_owned())
                    .or_else(|| freezes.why(&id.namespace, &view.annotations, now)),
                judgement: judgement.or_else(|| w.finished.get(id).map(|(_, j)| j.clone())),
                began: live.and_then(|l| l.began),
                watch_until: live.and_then(watch_until),
                late_until: live.and_then(|l| Some(l.began? + l.rules.as_ref()?.late_watch.as_secs_f64())),
                late: w.docket.late(id, now),
                recovery: w.recovery_of(id),
                under_watch: live.is_some(),
            }
        })
        .collect()
}

fn watch_until(live: &Live) -> Option<f64> {
    Some(live.watch_from? + live.rules.as_ref()?.watch.as_secs_f64())
}
