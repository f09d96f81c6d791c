//! Routes decisions to those who act and tell. Nothing here waits for a write: the loop that decides is
//! never held up.

use super::daemon::rules_now;
use crate::{
    cluster::{Cluster, ReadError, revisions},
    config::ActiveThresholds,
    domain::{Decision, Judgement, Revision, Seconds, Verdict, WorkloadId},
    executor::{Choice, Executor, Gate, UndoError, UndoRequest},
    record::{Leadership, PinState, Pins, Trigger},
    report::events::{EventReason, Events},
    telemetry::metrics,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

/// Pins and Events that are written at once: a burst of rollouts must not open hundreds of connections, and
/// an undo must not wait behind them.
pub(super) const WRITES_AT_ONCE: usize = 4;

/// Whoever is told of decisions.
pub(super) struct Dispatch {
    pub cluster: Cluster,
    pub executor: Arc<Executor>,
    pub pins: Pins,
    pub events: Arc<Events>,
    pub leadership: Leadership,
    pub thresholds: watch::Receiver<Arc<ActiveThresholds>>,
    /// Workloads whose undo is under way, and the gate that stopped the last try.
    pub working: Arc<Mutex<BTreeMap<WorkloadId, Option<Gate>>>>,
    /// Shared by pins and Events.
    pub turns: Arc<Semaphore>,
}

impl Dispatch {
    /// Runs until the loop that decides has ended, then waits for what is under way.
    pub async fn run(self, mut decisions: mpsc::Receiver<Decision>) {
        let mut tasks = JoinSet::new();
        while let Some(decision) = decisions.recv().await {
            while tasks.try_join_next().is_some() {}
            // Whoever acts must know what is said now, also when another replica leads at this moment.
            if let Decision::Judged { judgement, .. } = &decision {
                self.executor.judged(judgement);
            }
            match decision {
                Decision::Recovery(recovery) => self.executor.recovery(*recovery),
                // Only the leader writes and tells; the others judge along, to be ready.
                _ if !self.leadership.leads() => {}
                Decision::Began { workload, uid, from, vouched, .. } => {
                    if vouched {
                        self.pin(&mut tasks, workload, uid, from, PinState::Presumed);
                    }
                }
                Decision::Doubted { workload, uid, revision } => {
                    self.pin(&mut tasks, workload, uid, revision, PinState::Doubted);
                }
                Decision::Late { seen, uid } => {
                    let broke = seen.broken.is_some();
                    let reason = if broke { EventReason::RolloutBrokeLater } else { EventReason::RolloutRecovered };
                    self.tell(&mut tasks, seen.workload, uid, reason, seen.explanation);
                }
                Decision::Judged { judgement, uid, began, changed } => {
                    if changed {
                        let reason = EventReason::of_verdict(judgement.verdict);
                        let (id, note) = (judgement.workload.clone(), judgement.explanation.clone());
                        self.tell(&mut tasks, id, uid.clone(), reason, note);
                    }
                    match judgement.verdict {
                        Verdict::Pass => {
                            let (workload, to) = (judgement.workload.clone(), judgement.to.clone());
                            self.pin(&mut tasks, workload, uid, to, PinState::Passed);
                        }
                        Verdict::Fail(_) => self.convict(&mut tasks, *judgement, uid, began),
                        _ => {}
                    }
                }
            }
        }
        // Stopping: what was begun is finished or stays in the Incident for the next leader.
        while tasks.join_next().await.is_some() {}
    }

    fn pin(&self, tasks: &mut JoinSet<()>, id: WorkloadId, uid: String, revision: Revision, state: PinState) {
        let (cluster, pins, turns) = (self.cluster.clone(), self.pins.clone(), self.turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            match pin(&cluster, &pins, &id, &uid, &revision, state).await {
                Ok(true) => tracing::info!(workload = %id, revision = %revision, "marked as {}", state.as_str()),
                Ok(false) => {
                    tracing::warn!(workload = %id, revision = %revision, "not marked as {}: history keeps it no more", state.as_str());
                }
                Err(why) => tracing::warn!(workload = %id, revision = %revision, why, "not marked as {}", state.as_str()),
            }
        });
    }

    fn tell(&self, tasks: &mut JoinSet<()>, id: WorkloadId, uid: String, reason: EventReason, note: String) {
        let (events, turns) = (self.events.clone(), self.turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            // Failures are logged and counted where they happen.
            let _ = events.publish(&id, &uid, reason, &note).await;
        });
    }

    fn convict(&self, tasks: &mut JoinSet<()>, judgement: Judgement, uid: String, began: Seconds) {
        let id = judgement.workload.clone();
        let before = {
            let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
            match working.get(&id) {
                Some(None) => return,
                _ => working.insert(id.clone(), None).flatten(),
            }
        };
        let known = self.working.clone();
        let executor = self.executor.clone();
        let (cluster, thresholds) = (self.cluster.clone(), self.thresholds.clone());
        tasks.spawn(async move {
            // Read afresh: a person may have disarmed it since the trial began.
            let rules = rules_now(&cluster, &thresholds, &id).await;
            if let Some(since) = judgement.harm_since {
                metrics::detected(judgement.t - since);
            }
            let request = UndoRequest {
                id: id.clone(),
                uid: uid.clone(),
                bad: judgement.to.clone(),
                from: Some(judgement.from.clone()),
                rules,
                judgement: Some(judgement),
                began: Some(began),
                by: Trigger { by: "Lastgood".into(), manual: false, note: None },
                choice: Choice::LastGood,
            };
            let stopped_by = match executor.undo(request).await {
                Ok(_) => None,
                Err(UndoError::Blocked(blocked, _)) => {
                    metrics::gate(blocked.gate.as_str());
                    if before != Some(blocked.gate) {
                        tracing::info!(workload = %id, gate = %blocked.gate, "not undone: {}", blocked.why);
                    }
                    Some(blocked.gate)
                }
                Err(UndoError::Failed(why)) => {
                    tracing::error!(workload = %id, why, "the verdict could not be acted on, and nothing was written; trying again");
                    None
                }
            };
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match stopped_by {
                Some(gate) => known.insert(id, Some(gate)),
                None => known.remove(&id),
            };
        });
    }
}

/// Keeps a copy of a revision; `false` when history keeps it no more.
async fn pin(
    cluster: &Cluster,
    pins: &Pins,
    id: &WorkloadId,
    uid: &str,
    revision: &Revision,
    state: PinState,
) -> Result<bool, String> {
    let said = |e: ReadError| e.to_string();
    let view = crate::cluster::get_view(&cluster.reader, id).await.map_err(said)?;
    let entries = revisions(&cluster.reader, id, uid, &view.selector).await.map_err(said)?;
    let Some(entry) = entries.iter().find(|e| e.mark.revision == *revision) else { return Ok(false) };
    pins.pin(id, uid, entry, state).await.map(|()| true).map_err(|e| e.to_string())
}
