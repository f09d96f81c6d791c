//! The one loop: rollout observations open and close trials; each tick reads every source once for all
//! live trials, feeds the analysis, and hands what it decides to those who act and tell.
//!
//! It knows nothing about writing. It may use analysis, sources, cluster. Fails: a source that hangs or
//! an opening that cannot read its history delays nobody; the trial goes on with what there is.
//! Recovers: whatever runs at start is told from the cluster's state, and the past of its signals is read
//! again.

mod late;
mod live;
mod opening;
mod peers;
mod rollouts;
mod snapshot;
mod tick;

use crate::{
    analysis::Docket,
    clock::Clock,
    cluster::{Cluster, Freezes, PodSeen, PodWatches, Recent, Seen, Tracker},
    config::ActiveThresholds,
    domain::{
        Conviction, Decision, Judgement, Kind, Observation, Observed, Recovery, Rules, Seconds, Snapshot, SourceState,
        WorkloadId, WorkloadStatus,
    },
    sources::{Reading, Sources},
};
use live::Live;
use opening::{Opened, Turns};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::MissedTickBehavior,
};

/// The question what is known of each workload, answered at the loop's next turn.
pub type AskWorkloads = oneshot::Sender<Vec<WorkloadStatus>>;

/// Where observations go that are recorded, a rollout with all of its past at once; a listener that is too slow loses
/// some and is told so.
pub type Tape = broadcast::Sender<Arc<[Observed]>>;

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
    /// What the cluster remembered of recent rollouts at start.
    pub recent: Recent,
    /// Undo id → what the verdict rested on, for undos that were being verified at start.
    pub convictions: BTreeMap<String, Conviction>,
    /// Freezes.
    pub freezes: watch::Receiver<Arc<Freezes>>,
    /// Who asks what is known of each workload.
    pub asked: mpsc::Receiver<AskWorkloads>,
    /// Everything that the analysis is told, for whoever records it.
    pub tape: Tape,
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
    finished: BTreeMap<WorkloadId, (Seconds, Judgement)>,
    rules: BTreeMap<WorkloadId, Arc<Rules>>,
    /// What is wrong with one workload's annotations, by workload.
    malformed: BTreeMap<WorkloadId, Vec<String>>,
    trouble: BTreeMap<&'static str, String>,
    synced: BTreeSet<Kind>,
    expected_kinds: usize,
    skipped: u64,
    source_states: BTreeMap<String, SourceState>,
    witnesses: peers::Witnesses,
    passed: late::Passed,
    /// Readings of this tick that are still out.
    outstanding: usize,
    decisions: mpsc::Sender<Decision>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Openings take turns.
    turns: Arc<Turns>,
    opened_tx: mpsc::Sender<Opened>,
    opened_rx: Option<mpsc::Receiver<Opened>>,
    pod_watches: PodWatches,
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
            pod_watches: PodWatches::new(inputs.cluster.clone(), pods_tx),
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
            witnesses: peers::Witnesses::default(),
            passed: late::Passed::default(),
            outstanding: 0,
            decisions,
            snapshot,
            turns: Arc::default(),
            opened_tx,
            opened_rx: Some(opened_rx),
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
                () = stopped(&mut stop) => return,
                Some(seen) = self.inputs.seen.recv() => self.on_seen(seen).await,
                Some(opened) = opened.recv() => self.on_opened(opened).await,
                Some(pod) = pods.recv() => self.on_pod(pod),
                Some(reading) = self.inputs.readings.recv() => self.on_reading(reading).await,
                Some(answer) = self.inputs.asked.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(snapshot::workloads(&self));
                }
                Ok(()) = self.inputs.thresholds.changed() => self.on_thresholds(),
                _ = tick.tick() => self.on_tick().await,
            }
            beat();
        }
    }

    fn observe(&mut self, t: Seconds, what: Observation) {
        self.take(&Observed { t, what });
    }

    /// Nothing that is new reaches the analysis but through here, so that what is recorded is all that it knew.
    fn take(&mut self, observed: &Observed) {
        self.record(std::slice::from_ref(observed));
        self.docket.observe(observed);
    }

    /// Tells whoever records.
    fn record(&self, observed: &[Observed]) {
        if self.inputs.tape.receiver_count() > 0 {
            // Whoever listened may just have gone.
            let _ = self.inputs.tape.send(observed.into());
        }
    }

    fn recovery_of(&self, id: &WorkloadId) -> Option<Recovery> {
        self.live.get(id).and_then(|l| l.recovery.clone())
    }
}

/// Ends when `stop` turns true, or nobody can turn it any more; what it borrows does not outlive it.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
