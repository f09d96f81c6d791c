//! The one loop: rollout observations open and close trials; each tick reads every source once for all
//! live trials, feeds the analysis, and hands what it decides to those who act and tell.
//!
//! It knows nothing about writing. It may use analysis, sources, cluster. Fails: a source that hangs or
//! an opening that cannot read its history delays nobody; the trial goes on with what there is.
//! Recovers: whatever runs at start is told from the cluster's state, and the past of its signals is read
//! again.

mod live;
mod opening;
mod snapshot;

use crate::{
    analysis::Docket,
    clock::Clock,
    cluster::{Change, Cluster, Freezes, PodSeen, Seen, Tracker, WorkloadView, ended_recently, watch_pods},
    config::{ActiveThresholds, Facts},
    domain::{
        Decision, Kind, Mode, Observation, Observed, Recovery, Rules, Seconds, Snapshot, SourceState, WorkloadId,
    },
    sources::{Reading, Sources},
    telemetry::metrics,
};
use live::{Live, Purpose};
use opening::{Opened, Opening};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

/// A conviction that could not be acted on is told again this often: a freeze may end, a lease may come.
const SAY_AGAIN: Seconds = 30.0;
/// A trial that neither passed nor failed is given up after this long.
const LONGEST_TRIAL: Seconds = 86_400.0;
/// How long the last judgement of a finished trial is still shown.
const SHOWN_FOR: Seconds = 3600.0;
/// How long signals are read after an undo.
const RECOVERY_WATCH: Seconds = 900.0;

/// What the watchdog is given.
pub struct Inputs {
    /// For reads of history and pods.
    pub cluster: Cluster,
    /// The watches' events.
    pub seen: mpsc::Receiver<Seen>,
    /// The sources.
    pub sources: Arc<Sources>,
    /// Their readings.
    pub readings: mpsc::Receiver<Reading>,
    /// The thresholds in force.
    pub thresholds: watch::Receiver<Arc<ActiveThresholds>>,
    /// Freezes.
    pub freezes: watch::Receiver<Arc<Freezes>>,
    /// The one clock.
    pub clock: Clock,
    /// Time between two ticks.
    pub interval: Duration,
}

/// The loop's state.
pub struct Watchdog {
    inputs: Inputs,
    docket: Docket,
    tracker: Tracker,
    live: BTreeMap<WorkloadId, Live>,
    finished: BTreeMap<WorkloadId, (Seconds, crate::domain::Judgement)>,
    rules: BTreeMap<WorkloadId, Arc<Rules>>,
    /// What is wrong with one workload's annotations, by workload.
    malformed: BTreeMap<WorkloadId, Vec<String>>,
    trouble: BTreeMap<&'static str, String>,
    synced: BTreeSet<Kind>,
    expected_kinds: usize,
    skipped: u64,
    source_states: BTreeMap<String, SourceState>,
    /// Readings of this tick that are still out.
    outstanding: usize,
    decisions: mpsc::Sender<Decision>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    opened_tx: mpsc::Sender<Opened>,
    opened_rx: Option<mpsc::Receiver<Opened>>,
    pods_tx: mpsc::Sender<PodSeen>,
    pods_rx: Option<mpsc::Receiver<PodSeen>>,
}

impl Watchdog {
    /// Puts the loop together. `decisions` is the one bounded way out.
    pub fn new(inputs: Inputs, decisions: mpsc::Sender<Decision>, snapshot: watch::Sender<Arc<Snapshot>>) -> Self {
        // One opening per rollout is under way; a burst of a hundred waits in the tasks, not in memory.
        let (opened_tx, opened_rx) = mpsc::channel(64);
        let (pods_tx, pods_rx) = mpsc::channel(1024);
        Self {
            docket: Docket::with_interval(inputs.interval.as_secs_f64()),
            inputs,
            tracker: Tracker::default(),
            live: BTreeMap::new(),
            finished: BTreeMap::new(),
            rules: BTreeMap::new(),
            malformed: BTreeMap::new(),
            trouble: BTreeMap::new(),
            synced: BTreeSet::new(),
            expected_kinds: Kind::ALL.len(),
            skipped: 0,
            source_states: BTreeMap::new(),
            outstanding: 0,
            decisions,
            snapshot,
            opened_tx,
            opened_rx: Some(opened_rx),
            pods_tx,
            pods_rx: Some(pods_rx),
        }
    }

    /// Runs until `stop` turns true. `beat` is called at every turn, so that a stuck loop is seen (I16).
    pub async fn run(mut self, mut stop: watch::Receiver<bool>, beat: impl Fn()) {
        let (Some(mut opened), Some(mut pods)) = (self.opened_rx.take(), self.pods_rx.take()) else { return };
        let mut tick = tokio::time::interval(self.inputs.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                Some(seen) = self.inputs.seen.recv() => self.on_seen(seen).await,
                Some(opened) = opened.recv() => self.on_opened(opened).await,
                Some(pod) = pods.recv() => self.on_pod(pod),
                Some(reading) = self.inputs.readings.recv() => self.on_reading(reading).await,
                Ok(()) = self.inputs.thresholds.changed() => self.on_thresholds().await,
                _ = tick.tick() => self.on_tick().await,
            }
            beat();
        }
    }

    async fn on_seen(&mut self, seen: Seen) {
        let changes = match seen {
            Seen::Applied(view) => {
                self.read_rules(&view);
                self.tracker.apply(*view)
            }
            Seen::Removed(id) => {
                self.rules.remove(&id);
                self.malformed.remove(&id);
                self.tracker.remove(&id).into_iter().collect()
            }
            Seen::Synced(kind) => {
                self.trouble.remove(kind.plural());
                self.synced.insert(kind);
                Vec::new()
            }
            Seen::Skipped { kind, what } => {
                self.skipped += 1;
                metrics::object_skipped(kind.as_str());
                tracing::warn!(kind = %kind, what, "an object cannot be read and is skipped");
                Vec::new()
            }
            Seen::Trouble { kind, why, forbidden } => {
                metrics::watch_restarted(kind.plural());
                let need =
                    if forbidden { format!(" (needs list and watch on {})", kind.plural()) } else { String::new() };
                let said = format!("cannot watch {}: {why}{need}", kind.plural());
                if self.trouble.insert(kind.plural(), said.clone()).is_none() {
                    tracing::warn!("{said}; trying again");
                }
                Vec::new()
            }
        };
        for change in changes {
            self.on_change(change).await;
        }
    }

    async fn on_change(&mut self, change: Change) {
        let now = self.inputs.clock.now();
        match change {
            Change::Found { view, rolling } => {
                let rules = self.rules_of(&view.id);
                if view.undo_id.is_some() && (rolling || ended_recently(&view, now, RECOVERY_WATCH)) {
                    self.open(&view, Purpose::Recovery, None, None);
                } else if rolling || ended_recently(&view, now, rules.watch.as_secs_f64()) {
                    self.open(&view, Purpose::Trial, None, None);
                }
            }
            Change::Began { view, from, from_settled, restart_only } => {
                // A revision whose own trial has not ended was never seen good.
                let on_trial = self.live.get(&view.id).is_some_and(|l| l.purpose == Purpose::Trial && l.to == from);
                let vouched = from_settled && !on_trial;
                tracing::info!(workload = %view.id, from = %from, to = %view.template.revision, restart_only, "a rollout began");
                if self.rules_of(&view.id).mode != Mode::Off {
                    self.decide(Decision::Began {
                        workload: view.id.clone(),
                        uid: view.uid.clone(),
                        from: from.clone(),
                        to: view.template.revision.clone(),
                        vouched,
                        restart_only,
                    })
                    .await;
                }
                self.open(&view, Purpose::Trial, Some(from), Some(now));
            }
            Change::Undone { view, from, undo_id } => {
                tracing::info!(workload = %view.id, undo_id, "our undo is live; its effect is watched");
                self.open(&view, Purpose::Recovery, Some(from), Some(now));
            }
            Change::Condition { workload, condition } => {
                self.observe(now, Observation::Condition { workload: workload.clone(), condition });
                if condition == crate::domain::RolloutCondition::Deleted {
                    self.close(&workload);
                }
            }
            // Judged again from scratch: a paused rollout has no honest windows.
            Change::Resumed { workload } => {
                if let Some(view) = self.live.get(&workload).map(|l| l.view.clone()) {
                    self.open(&view, Purpose::Trial, None, Some(now));
                }
            }
            Change::Gone { workload } => {
                self.close(&workload);
                self.finished.remove(&workload);
            }
        }
    }

    /// Starts to look at a rollout: the history is read beside the loop.
    fn open(
        &mut self,
        view: &Arc<WorkloadView>,
        purpose: Purpose,
        from: Option<crate::domain::Revision>,
        began: Option<Seconds>,
    ) {
        self.close(&view.id);
        let rules = self.rules_of(&view.id);
        if rules.mode == Mode::Off {
            return;
        }
        let opening = Opening {
            cluster: self.inputs.cluster.clone(),
            sources: self.inputs.sources.clone(),
            clock: self.inputs.clock,
            step: self.inputs.interval,
            view: view.clone(),
            rules,
            from,
            began,
        };
        let task = tokio::spawn(opening.run(purpose, self.opened_tx.clone()));
        self.live.insert(view.id.clone(), Live::opening(view.clone(), purpose, task.abort_handle()));
    }

    async fn on_opened(&mut self, opened: Opened) {
        let id = opened.workload().clone();
        // A newer rollout may have begun meanwhile.
        let Some(live) = self.live.get_mut(&id).filter(|l| l.view.template.revision == *opened.to()) else { return };
        match opened {
            Opened::Revisions { view, from, to, began, labels, rules } => {
                live.start(from, to, began, rules);
                live.pod_watch = Some(watch_pods(&self.inputs.cluster, &view, labels, self.pods_tx.clone()));
            }
            Opened::Past { observed, .. } => self.begin(&id, &observed),
            Opened::Failed { why, .. } => {
                tracing::warn!(workload = %id, why, "the rollout cannot be judged");
                self.close(&id);
            }
        }
    }

    /// The trial begins with its past: what lies after the rollout's begin is judged tick by tick, as it
    /// would have been then. What the pod watch has shown meanwhile comes last.
    fn begin(&mut self, id: &WorkloadId, past: &[Observed]) {
        let Some(live) = self.live.get_mut(id) else { return };
        let (Some(began), Some(from), Some(rules)) = (live.began, live.from.clone(), live.rules.clone()) else {
            return;
        };
        let (to, waiting) = (live.to.clone(), std::mem::take(&mut live.waiting));
        live.past_read = true;
        let conditions = conditions(&live.view);
        match live.purpose {
            Purpose::Trial => self.docket.open(began, id.clone(), from, to, rules),
            Purpose::Recovery => self.docket.watch_recovery(began, id.clone(), from, to, rules),
        }
        let mut told = f64::MIN;
        for observed in past {
            if observed.t > told && told >= began {
                // A time before their last tick changes nothing in the other trials.
                self.docket.judge(told);
            }
            told = observed.t;
            self.docket.observe(observed);
        }
        let now = self.inputs.clock.now();
        waiting.into_iter().for_each(|observed| self.docket.observe(&observed));
        for condition in conditions {
            self.observe(now, Observation::Condition { workload: id.clone(), condition });
        }
    }

    fn on_pod(&mut self, pod: PodSeen) {
        let now = self.inputs.clock.now();
        let Some(live) = self.live.get_mut(&pod.state.workload) else { return };
        if pod.state.deleted {
            live.pods.remove(&pod.state.pod);
        } else {
            live.pods.insert(pod.state.pod.clone(), pod.target.clone());
        }
        if live.watch_from.is_none() && pod.state.ready && pod.state.revision == live.to {
            live.watch_from = Some(pod.state.ready_since.unwrap_or(now));
        }
        let observed = Observed { t: now, what: Observation::Pod(pod.state) };
        if live.past_read {
            self.docket.observe(&observed);
        } else {
            live.waiting.push(observed);
        }
    }

    async fn on_reading(&mut self, reading: Reading) {
        let now = self.inputs.clock.now();
        for observed in &reading.observed {
            if let Observation::Source { source, ok, reason } = &observed.what {
                let before = self.source_states.get(source).map(|state| state.ok);
                if before != Some(*ok) {
                    tracing::info!(source, ok, reason, "{}", if *ok { "a source answers" } else { "a source is blind" });
                }
                let last_good = self.source_states.get(source).and_then(|state| state.last_good);
                let last_good = if *ok { Some(now) } else { last_good };
                self.source_states.insert(source.clone(), SourceState { ok: *ok, last_good, reason: reason.clone() });
                metrics::source_read(reading.source, *ok, reading.took, now);
            }
            self.docket.observe(observed);
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.outstanding == 0 {
            self.judge().await;
        }
    }

    /// New thresholds hold from now on, for live trials too.
    async fn on_thresholds(&mut self) {
        let views: Vec<Arc<WorkloadView>> = self.tracker.views().cloned().collect();
        for view in views {
            self.read_rules(&view);
            let rules = self.rules_of(&view.id);
            let Some(live) = self.live.get_mut(&view.id) else { continue };
            let Some(old) = live.rules.clone().filter(|old| *old != rules) else { continue };
            let same_limits =
                Rules { mode: rules.mode, undo: rules.undo.clone(), policy: rules.policy.clone(), ..(*old).clone() }
                    == *rules;
            if same_limits && rules.mode != Mode::Off {
                live.rules = Some(rules);
            } else {
                // Other limits: the trial is judged anew from its past, as after a restart.
                let (purpose, from, began) = (live.purpose, live.from.clone(), live.began);
                self.open(&view, purpose, from, began);
            }
        }
        self.publish();
    }

    async fn on_tick(&mut self) {
        // What a slow source still owes is not waited for.
        if self.outstanding > 0 {
            self.judge().await;
        }
        self.close_old();
        let targets: Vec<_> = self.live.values().filter_map(Live::target).collect();
        self.outstanding = if targets.is_empty() { 0 } else { self.inputs.sources.start(Arc::new(targets)) };
        for left_out in self.inputs.sources.left_out() {
            metrics::source_skipped(left_out.source, left_out.reads);
        }
        if self.outstanding == 0 {
            self.judge().await;
        }
    }

    /// Says the verdicts of this tick, and tells those that changed.
    async fn judge(&mut self) {
        let started = Instant::now();
        let now = self.inputs.clock.now();
        for judgement in self.docket.judge(now) {
            let Some(live) = self.live.get_mut(&judgement.workload) else { continue };
            let due = live.due(&judgement, now, SAY_AGAIN);
            let changed = live.judgement.as_ref().is_none_or(|old| old.verdict != judgement.verdict);
            live.judgement = Some(judgement.clone());
            if !due {
                continue;
            }
            live.said = Some((judgement.verdict, now));
            let (Some(rules), uid, began) = (live.rules.clone(), live.view.uid.clone(), live.began.unwrap_or(now))
            else {
                continue;
            };
            if changed {
                metrics::verdict(judgement.verdict);
                tracing::info!(
                    workload = %judgement.workload, revision = %judgement.to, verdict = %judgement.verdict,
                    log_e = judgement.log_e, "{}", judgement.explanation
                );
            }
            let passed = judgement.verdict == crate::domain::Verdict::Pass;
            let id = judgement.workload.clone();
            self.decide(Decision::Judged { judgement: Box::new(judgement.clone()), rules, uid, began, changed }).await;
            if passed {
                self.close(&id);
                self.finished.insert(id, (now, judgement));
            }
        }
        for recovery in self.docket.recoveries(now) {
            if let Some(live) = self.live.get_mut(&recovery.workload) {
                live.recovery = Some(recovery.clone());
                self.decide(Decision::Recovery(Box::new(recovery))).await;
            }
        }
        let recoveries = self.live.values().filter(|l| l.purpose == Purpose::Recovery).count();
        metrics::recoveries(recoveries);
        metrics::trials(self.live.len() - recoveries);
        metrics::tick(started.elapsed());
        self.publish();
    }

    async fn decide(&self, decision: Decision) {
        metrics::decision_queue(self.decisions.max_capacity() - self.decisions.capacity());
        // The receiver outlives the loop; a closed channel means that the daemon is stopping.
        let _ = self.decisions.send(decision).await;
    }

    fn close(&mut self, id: &WorkloadId) {
        self.docket.close(id);
        self.live.remove(id);
    }

    fn close_old(&mut self) {
        let now = self.inputs.clock.now();
        let old = |live: &Live| {
            let longest = if live.purpose == Purpose::Trial { LONGEST_TRIAL } else { RECOVERY_WATCH };
            live.began.is_some_and(|began| now - began > longest)
        };
        let ended: Vec<WorkloadId> = self.live.iter().filter(|(_, l)| old(l)).map(|(id, _)| id.clone()).collect();
        for id in ended {
            if let Some(judgement) = self.live.get_mut(&id).and_then(|l| l.judgement.take()) {
                self.finished.insert(id.clone(), (now, judgement));
            }
            self.close(&id);
        }
        self.finished.retain(|_, (at, _)| now - *at < SHOWN_FOR);
    }

    fn observe(&mut self, t: Seconds, what: Observation) {
        self.docket.observe(&Observed { t, what });
    }

    /// The rules of a workload, read when it changes; malformed annotations are told and disarm it.
    fn read_rules(&mut self, view: &WorkloadView) {
        let facts = Facts {
            namespace: &view.id.namespace,
            kind: view.id.kind,
            name: &view.id.name,
            labels: &view.labels,
            annotations: &view.annotations,
        };
        let found = self.inputs.thresholds.borrow().thresholds.rules_for(&facts);
        if found.faults.is_empty() {
            self.malformed.remove(&view.id);
        } else if self.malformed.get(&view.id) != Some(&found.faults) {
            for fault in &found.faults {
                tracing::warn!(workload = %view.id, "{fault}");
            }
            self.malformed.insert(view.id.clone(), found.faults);
        }
        self.rules.insert(view.id.clone(), found.rules);
    }

    fn rules_of(&self, id: &WorkloadId) -> Arc<Rules> {
        self.rules.get(id).cloned().unwrap_or_default()
    }

    fn publish(&mut self) {
        let snapshot = snapshot::take(self);
        metrics::observe(&snapshot);
        self.snapshot.send_replace(Arc::new(snapshot));
    }

    fn recovery_of(&self, id: &WorkloadId) -> Option<Recovery> {
        self.live.get(id).and_then(|l| l.recovery.clone())
    }
}

fn conditions(view: &WorkloadView) -> Vec<crate::domain::RolloutCondition> {
    use crate::domain::RolloutCondition::{Paused, ProgressDeadlineExceeded};
    [(view.paused, Paused), (view.progress.deadline_exceeded, ProgressDeadlineExceeded)]
        .into_iter()
        .filter_map(|(holds, condition)| holds.then_some(condition))
        .collect()
}
