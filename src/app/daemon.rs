//! The daemon itself: what watches, judges, acts and tells, made from its surroundings and stopped in order.
//!
//! Its surroundings are a real cluster and the network, or a simulated cluster; it cannot tell.

use super::{AppError, own_namespace, permissions};
use super::{
    dispatch::{Dispatch, WRITES_AT_ONCE},
    tell::Teller,
};
use crate::{
    clock::Clock,
    cluster::{Cluster, ReadError, Recent, recent_revisions, watch_freezes, watch_workloads},
    config::{ActiveThresholds, Facts, Settings},
    domain::{Conviction, FailReason, Rules, Seconds, Snapshot, WorkloadId},
    executor::{Executor, workload_of},
    record::{Incident, Incidents, Leadership, Pins, RecentIncidents, elect},
    report::{Context, events::Events, notify::Notifiers},
    serve::Heartbeat,
    sources::{Reading, Sources},
    telemetry::metrics,
    watchdog::{AskWorkloads, Inputs, Tape, Watchdog},
    wire::Wire,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc, watch};

/// Decisions that may wait for those who act.
const DECISIONS: usize = 256;
/// Outcomes that may wait to be told; what does not fit is swept up later.
const OUTCOMES: usize = 256;
/// Observations that a recording may lag behind before it loses some: some ticks of many trials.
const TAPE: usize = 16_384;
/// Questions that may wait for the loop.
const ASKS: usize = 4;
/// The loop turns at least once a tick; this long without a turn it is stuck (I16).
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How long what was begun may go on when the daemon stops; Kubernetes kills it after 30 s. An undo that is
/// still being verified then is taken up by whoever leads next.
const GRACE: Duration = Duration::from_secs(15);
/// What is older is not looked for at start: no watch is longer.
const LONGEST_WATCH: Seconds = 7.0 * 86_400.0;
/// How long the first list of Incidents is waited for at start.
const INCIDENTS_WITHIN: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// While a permission is missing it is asked for this often, so that granting it is noticed; else only now and
/// then, since whatever is refused is told where it happens, too.
const MISSING_EVERY: Duration = Duration::from_secs(300);
const PERMISSIONS_EVERY: Duration = Duration::from_secs(3600);
/// However much is refused, they are not asked for more often than this.
const PERMISSIONS_AGAIN: Duration = Duration::from_secs(30);

/// What a daemon lives in.
pub struct Surroundings {
    /// Its settings.
    pub settings: Settings,
    /// The thresholds in force.
    pub thresholds: watch::Receiver<Arc<ActiveThresholds>>,
    /// The cluster that it watches and acts on.
    pub cluster: Cluster,
    /// The sources, and where their readings come out.
    pub sources: (Sources, mpsc::Receiver<Reading>),
    /// What carries notices.
    pub wire: Wire,
    /// The one clock.
    pub clock: Clock,
    /// A name for this replica, for the Lease and Events.
    pub identity: String,
}

/// A daemon, ready to run.
pub struct Daemon {
    around: Surroundings,
    own: String,
    context: Context,
    notifiers: Notifiers,
    heartbeat: Heartbeat,
    served: (watch::Sender<Arc<Snapshot>>, watch::Receiver<Arc<Snapshot>>),
    asks: (mpsc::Sender<AskWorkloads>, mpsc::Receiver<AskWorkloads>),
    tape: Tape,
}

impl Daemon {
    /// Puts a daemon together. Nothing is sent yet.
    ///
    /// # Errors
    /// [`AppError::Report`] when a notifier cannot work.
    pub fn new(around: Surroundings) -> Result<Self, AppError> {
        let own = own_namespace(&around.settings, &around.cluster);
        let context = Context {
            environment: around.settings.environment.clone(),
            cluster: around.settings.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let notifiers = Notifiers::new(&around.settings.notifiers, context.clone(), around.clock, around.wire.clone())?;
        let (heartbeat, served) = (Heartbeat::new("watchdog", STUCK_AFTER), watch::channel(Arc::default()));
        let (asks, tape) = (mpsc::channel(ASKS), Tape::new(TAPE));
        Ok(Self { around, own, context, notifiers, heartbeat, served, asks, tape })
    }

    /// What the daemon knows, for whoever shows it; of each workload only [`Daemon::workloads`] tells.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.served.1.clone()
    }

    /// Takes the question what is known of each workload; it is put together for whoever asks.
    pub fn workloads(&self) -> mpsc::Sender<AskWorkloads> {
        self.asks.0.clone()
    }

    /// Everything that the analysis is told from now on.
    pub fn tape(&self) -> Tape {
        self.tape.clone()
    }

    /// Beats at every turn of the loop (I16).
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Runs until `stop` turns true, then stops in order; the lease is given back last.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { around, own, context, notifiers, heartbeat, served, asks, tape } = self;
        let Surroundings { settings, thresholds, cluster, sources: (sources, readings), clock, identity, .. } = around;
        let sources = Arc::new(sources);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), cluster = cluster.url, namespace = own, "lastgood starts");

        // The lease is given back last of all, after the executor has put down its work.
        let (release, released) = watch::channel(false);
        let (leadership, election) = if settings.leader_election {
            let (leadership, task) = elect(&cluster, &own, identity.clone(), clock, released);
            (leadership, Some(task))
        } else {
            (Leadership::alone(), None)
        };
        let freezes = watch_freezes(&cluster, &own);
        let missing = watch_permissions(&cluster, &own, &settings);
        let (snapshot_tx, snapshot_rx) = watch::channel(Arc::new(Snapshot::default()));
        tokio::spawn(serve_snapshot(snapshot_rx, served.0, leadership.clone(), missing));
        tokio::spawn(check(sources.clone()));

        let (outcomes_tx, outcomes_rx) = mpsc::channel(OUTCOMES);
        let executor = Arc::new(Executor::new(
            cluster.clone(),
            leadership.clone(),
            clock,
            settings.environment.clone(),
            outcomes_tx,
            Some(freezes.clone()),
        ));
        let mut recent = RecentIncidents::watch(&cluster, clock);
        let events = Arc::new(Events::new(cluster.writer.clone(), clock, identity));
        let teller = Teller {
            incidents: Incidents::new(cluster.writer.clone(), clock, &cluster.namespaces),
            recent: recent.clone(),
            events: events.clone(),
            notifiers,
            context,
            folder: settings.reports.folder.clone(),
            leadership: leadership.clone(),
            clock,
        };
        let (silence, silenced) = watch::channel(false);
        let telling = tokio::spawn(teller.run(outcomes_rx, silenced));
        tokio::spawn(sweep(executor.clone(), recent.clone(), leadership.clone(), cluster.clone(), thresholds.clone()));

        let (decisions_tx, decisions_rx) = mpsc::channel(DECISIONS);
        let dispatch = Dispatch {
            cluster: cluster.clone(),
            executor: executor.clone(),
            pins: Pins::new(cluster.writer.clone()),
            events,
            leadership,
            thresholds: thresholds.clone(),
            working: Arc::default(),
            turns: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
        };
        let dispatching = tokio::spawn(dispatch.run(decisions_rx));

        let Some(remembered) = wait_for_cluster(&cluster, clock, &heartbeat, &mut stop).await else { return };
        if tokio::time::timeout(INCIDENTS_WITHIN, recent.listed()).await.is_err() {
            tracing::warn!(
                "incidents have not been read: an undo that is still being verified is so by the limits of its policy"
            );
        }
        let inputs = Inputs {
            recent: remembered,
            convictions: recent.open().iter().filter_map(|i| conviction(i)).collect(),
            seen: watch_workloads(&cluster),
            cluster,
            sources,
            readings,
            thresholds,
            freezes,
            asked: asks.1,
            tape,
            clock,
            interval: settings.interval,
        };
        Watchdog::new(inputs, decisions_tx, snapshot_tx).run(stop.clone(), || heartbeat.beat()).await;

        let _ = stop.wait_for(|stop| *stop).await;
        tracing::info!("stopping: no new work is taken");
        let orderly = async {
            let _ = dispatching.await;
            let _ = silence.send(true);
            let _ = telling.await;
        };
        if tokio::time::timeout(GRACE, orderly).await.is_err() {
            tracing::warn!("an undo is still being verified; whoever leads next goes on with it");
        }
        let _ = release.send(true);
        if let Some(election) = election {
            let _ = tokio::time::timeout(Duration::from_secs(5), election).await;
        }
    }
}

/// Undo id → what the verdict rested on that led to it.
fn conviction(incident: &Incident) -> Option<(String, Conviction)> {
    let undo_id = incident.status.as_ref()?.undo_id.clone()?;
    let reason = FailReason::ALL.iter().find(|reason| reason.as_str() == incident.spec.reason).copied();
    Some((undo_id, Conviction { reason, limits: incident.spec.limits }))
}

/// Says at start what each source has to offer.
async fn check(sources: Arc<Sources>) {
    for (source, result) in sources.check().await {
        match result {
            Ok(said) => tracing::info!(source, "{said}"),
            Err(why) => tracing::warn!(source, "{why}"),
        }
    }
}

/// Waits until the API server answers, and says so while it does not. `None` when the daemon is stopped.
async fn wait_for_cluster(
    cluster: &Cluster,
    clock: Clock,
    heartbeat: &Heartbeat,
    stop: &mut watch::Receiver<bool>,
) -> Option<Recent> {
    let mut pause = Duration::from_secs(1);
    loop {
        heartbeat.beat();
        match recent_revisions(cluster, clock.now() - LONGEST_WATCH).await {
            Ok(recent) => return Some(recent),
            // Not our right to read is not unreachable: those workloads are then judged from their next rollout on.
            Err(ReadError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(s) if s.code == 403) => {
                return Some(Recent::default());
            }
            Err(error) => tracing::warn!(%error, "the cluster cannot be read; waiting for it"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(30)),
            _ = stop.wait_for(|stop| *stop) => return None,
        }
    }
}

/// While this replica leads, what was left open by a crash, a change of leader or a bad moment is taken up:
/// at once when it takes the lead, then again and again.
async fn sweep(
    executor: Arc<Executor>,
    mut incidents: RecentIncidents,
    mut leadership: Leadership,
    cluster: Cluster,
    thresholds: watch::Receiver<Arc<ActiveThresholds>>,
) {
    incidents.listed().await;
    loop {
        let mut led = leadership.leads();
        if led {
            for incident in incidents.open() {
                let rules = rules_now(&cluster, &thresholds, &workload_of(&incident)).await;
                let executor = executor.clone();
                tokio::spawn(async move { Box::pin(executor.resume(&incident, &rules)).await });
            }
        }
        let again = tokio::time::sleep(SWEEP_EVERY);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                () = leadership.changed() => {
                    let leads = leadership.leads();
                    if leads && !led {
                        break;
                    }
                    led = leads;
                }
            }
        }
    }
}

/// The rules of a workload as it is now.
pub(super) async fn rules_now(
    cluster: &Cluster,
    thresholds: &watch::Receiver<Arc<ActiveThresholds>>,
    id: &WorkloadId,
) -> Arc<Rules> {
    let Ok(view) = crate::cluster::get_view(&cluster.reader, id).await else { return Arc::default() };
    let facts = Facts {
        namespace: &id.namespace,
        kind: id.kind,
        name: &id.name,
        labels: &view.labels,
        annotations: &view.annotations,
    };
    thresholds.borrow().thresholds.rules_for(&facts).rules
}

/// The missing permissions, asked for again now and then.
fn watch_permissions(cluster: &Cluster, own: &str, settings: &Settings) -> watch::Receiver<Vec<String>> {
    let (tx, rx) = watch::channel(Vec::new());
    let contact = cluster.contact.clone();
    let (client, own, scopes, lease) =
        (cluster.reader.clone(), own.to_owned(), settings.namespaces.clone(), settings.leader_election);
    tokio::spawn(async move {
        loop {
            let missing = permissions::missing(&client, &own, &scopes, lease).await;
            if *tx.borrow() != missing {
                missing.iter().for_each(|what| tracing::warn!("{what}"));
            }
            let pause = if missing.is_empty() { PERMISSIONS_EVERY } else { MISSING_EVERY };
            if tx.send(missing).is_err() {
                return;
            }
            tokio::time::sleep(PERMISSIONS_AGAIN).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A right that is taken away is noticed when it is needed, not an hour later.
                () = contact.refused() => {}
            }
        }
    });
    rx
}

/// What is served is what the loop knows, and who leads, and what may not be done.
async fn serve_snapshot(
    mut from: watch::Receiver<Arc<Snapshot>>,
    to: watch::Sender<Arc<Snapshot>>,
    leadership: Leadership,
    mut missing: watch::Receiver<Vec<String>>,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    let mut served = None;
    loop {
        tokio::select! {
            changed = from.changed() => if changed.is_err() { return },
            Ok(()) = missing.changed() => {}
            _ = tick.tick() => {}
        }
        let (leads, trouble, latest) = (leadership.leads(), leadership.trouble(), from.borrow_and_update().clone());
        // What is served is made anew only when something changed.
        let said = (latest.t.to_bits(), leads, trouble.clone(), missing.borrow().clone());
        if served.as_ref() == Some(&said) {
            continue;
        }
        served = Some(said);
        let mut snapshot = (*latest).clone();
        snapshot.leader = leads;
        snapshot.degraded.extend(missing.borrow().iter().cloned());
        snapshot.degraded.extend(trouble.map(|why| format!("the lease cannot be used: {why}")));
        metrics::leader(snapshot.leader);
        to.send_replace(Arc::new(snapshot));
    }
}
