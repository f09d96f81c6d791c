//! One tick: every source is read once for all live trials, then the verdicts are said.

use super::{
    Watchdog,
    live::{Live, Purpose},
    snapshot,
};
use crate::{
    domain::{Decision, Observation, Observed, PEERS, Seconds, SourceState, Verdict},
    sources::Reading,
    telemetry::metrics,
};
use std::sync::Arc;
use tokio::time::Instant;

/// A conviction that could not be acted on is told again this often: a freeze may end, a lease may come.
const SAY_AGAIN: Seconds = 30.0;

impl Watchdog {
    pub(super) async fn on_reading(&mut self, reading: Reading) {
        if reading.source == PEERS {
            self.on_peers(reading);
        } else {
            self.on_signals(&reading);
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        if self.outstanding == 0 && !self.witnesses.owed {
            self.judge().await;
        }
    }

    fn on_signals(&mut self, reading: &Reading) {
        let now = self.inputs.clock.now();
        for observed in &reading.observed {
            if let Observation::Source { source, ok, reason } = &observed.what {
                let before = self.source_states.get(source).map(|state| state.ok);
                if before != Some(*ok) {
                    tracing::info!(
                        source,
                        ok,
                        reason,
                        "{}",
                        if *ok { "a source answers" } else { "a source is blind" }
                    );
                }
                let last_good = self.source_states.get(source).and_then(|state| state.last_good);
                let last_good = if *ok { Some(now) } else { last_good };
                self.source_states.insert(source.clone(), SourceState { ok: *ok, last_good, reason: reason.clone() });
                metrics::source_read(reading.source, *ok, reading.took, now);
            }
            self.take(observed);
        }
    }

    pub(super) async fn on_tick(&mut self) {
        // What a slow source still owes is not waited for.
        if self.outstanding > 0 {
            self.judge().await;
        }
        self.close_old();
        // Who is undecided after its watch is read seldom.
        let resting = self.docket.resting(self.inputs.clock.now());
        let awake = self.live.iter().filter(|(id, _)| !resting.contains(id));
        let targets: Vec<_> = awake.filter_map(|(_, live)| live.target()).collect();
        self.outstanding = if targets.is_empty() { 0 } else { self.inputs.sources.start(Arc::new(targets)) };
        self.plan_late();
        self.ask_peers();
        for left_out in self.inputs.sources.left_out() {
            metrics::source_skipped(left_out.source, left_out.reads);
        }
        if self.outstanding == 0 && !self.witnesses.owed {
            self.judge().await;
        }
    }

    /// Says the verdicts of this tick, and tells those that changed.
    pub(super) async fn judge(&mut self) {
        let started = Instant::now();
        let now = self.inputs.clock.now();
        let judgements = self.docket.judge(now);
        let unheard = self.hear_peers_first();
        self.record(&[Observed { t: now, what: Observation::Look { unheard } }]);
        for judgement in judgements {
            if unheard && matches!(judgement.verdict, Verdict::Fail(_)) {
                // A moment later, with what the others did.
                continue;
            }
            // After an undo the convicting trial stays in the docket until the watch of the undo takes it over.
            let of_trial = |live: &&mut Live| live.purpose == Purpose::Trial && live.to == judgement.to;
            let Some(live) = self.live.get_mut(&judgement.workload).filter(of_trial) else { continue };
            if judgement.baseline_good == Some(false) && !std::mem::replace(&mut live.doubted, true) {
                let (workload, uid) = (judgement.workload.clone(), live.view.uid.clone());
                self.decide(Decision::Doubted { workload, uid, revision: judgement.from.clone() }).await;
            }
            let Some(live) = self.live.get_mut(&judgement.workload) else { continue };
            let due = live.due(&judgement, now, SAY_AGAIN);
            let changed = live.judgement.as_ref().is_none_or(|old| old.verdict != judgement.verdict);
            live.judgement = Some(judgement.clone());
            if !due {
                continue;
            }
            live.said = Some((judgement.verdict, now));
            let (uid, began) = (live.view.uid.clone(), live.began.unwrap_or(now));
            if changed {
                metrics::verdict(judgement.verdict);
                tracing::info!(
                    workload = %judgement.workload, revision = %judgement.to, verdict = %judgement.verdict,
                    log_e = judgement.log_e, "{}", judgement.explanation
                );
            }
            let passed = judgement.verdict == Verdict::Pass;
            let id = judgement.workload.clone();
            self.decide(Decision::Judged { judgement: Box::new(judgement.clone()), uid, began, changed }).await;
            if passed {
                self.passed(&id);
                self.finished.insert(id, (now, judgement));
            }
        }
        for recovery in self.docket.recoveries(now) {
            if let Some(live) = self.live.get_mut(&recovery.workload) {
                live.recovery = Some(recovery.clone());
                self.decide(Decision::Recovery(Box::new(recovery))).await;
            }
        }
        self.look_late().await;
        let recoveries = self.live.values().filter(|l| l.purpose == Purpose::Recovery).count();
        metrics::recoveries(recoveries);
        metrics::trials(self.live.len() - recoveries);
        metrics::tick(started.elapsed());
        self.publish();
    }

    pub(super) async fn decide(&self, decision: Decision) {
        metrics::decision_queue(self.decisions.max_capacity() - self.decisions.capacity());
        // The receiver outlives the loop; a closed channel means that the daemon is stopping.
        let _ = self.decisions.send(decision).await;
    }

    pub(super) fn publish(&mut self) {
        let snapshot = snapshot::take(self);
        metrics::observe(&snapshot);
        self.snapshot.send_replace(Arc::new(snapshot));
    }
}
