//! The wiring: what the process has once (logs, metrics, its address, its files) is made here; `daemon` puts
//! together what watches and acts.

mod daemon;
mod dispatch;
mod permissions;
pub mod simulated;
mod tell;

pub use daemon::{Daemon, Surroundings};

use crate::{
    clock::Clock,
    cluster::{Cluster, ClusterOptions, ConnectError, connect},
    config::{Faults, Loaded, Reload, Settings, watch_thresholds},
    report::ReportError,
    serve::{self, ServeError, Served},
    sources::{SourceError, Sources},
    telemetry::{TelemetryError, metrics},
    wire::Wire,
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::sync::watch;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Faults),
    /// There is no cluster to talk to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The address is taken, or the server broke.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A source cannot be built from its settings.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A notifier cannot be built from its settings.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Logs or metrics cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The machine slept, or its clock was set: nothing that is known can be believed any more.
    #[error(
        "the machine's clock went {0:#} away from the time that has passed (did it sleep?): stopped, to begin afresh; start it again"
    )]
    ClockJumped(SignedDuration),
}

/// How often the two clocks are compared.
const COMPARE_CLOCKS: Duration = Duration::from_secs(10);

/// Runs the daemon until `stop` turns true.
///
/// # Errors
/// What is wrong with the configuration or the surroundings; never what is wrong with one workload.
pub async fn run(loaded: Loaded, cluster: &ClusterOptions, stop: watch::Receiver<bool>) -> Result<(), AppError> {
    let clock = Clock::system();
    loaded.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let (thresholds, text) = loaded.load_thresholds()?;
    let title = loaded.thresholds.display().to_string();
    let reload = Reload::new(title, thresholds, text.as_deref(), clock.now());
    let (thresholds, watching) = watch_thresholds(loaded.thresholds.clone(), reload, clock);
    tokio::spawn(watching);
    let settings = loaded.settings;
    let exporter = metrics::install()?;
    tokio::spawn(metrics::upkeep(exporter.clone()));
    let server = serve::bind(settings.listen).await?;
    let sources = Sources::new(&settings.sources, clock)?;
    let cluster = ClusterOptions { namespaces: settings.namespaces.clone(), ..cluster.clone() };
    let cluster = connect(&cluster).await?;
    let surroundings =
        Surroundings { settings, thresholds, cluster, sources, wire: Wire::Network, clock, identity: identity() };
    let daemon = Daemon::new(surroundings)?;
    let served = Served {
        snapshot: daemon.snapshot(),
        workloads: daemon.workloads(),
        tape: daemon.tape(),
        heartbeats: vec![daemon.heartbeat()],
        metrics: exporter.renderer(),
        clock,
    };
    let (halt, halted) = watch::channel(false);
    let halting = tokio::spawn(halt_on(stop, halt, clock));
    let serving = tokio::spawn(server.run(served, halted.clone()));
    daemon.run(halted).await;
    serving.await.unwrap_or(Ok(()))?;
    tracing::info!("stopped");
    match halting.await {
        Ok(Some(jump)) => Err(AppError::ClockJumped(jump)),
        _ => Ok(()),
    }
}

/// Halts the daemon when `stop` turns true, or when the clocks have gone apart; then tells by how much. Whoever
/// starts it again gets a daemon that has rebuilt all it knows.
async fn halt_on(mut stop: watch::Receiver<bool>, halt: watch::Sender<bool>, clock: Clock) -> Option<SignedDuration> {
    let jumped = async {
        let mut tick = tokio::time::interval(COMPARE_CLOCKS);
        loop {
            tick.tick().await;
            if let Some(jump) = clock.astray(Timestamp::now()) {
                return jump;
            }
        }
    };
    let jump = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => None,
        jump = jumped => Some(jump),
    };
    halt.send_replace(true);
    jump
}

/// The namespace of the daemon's own objects: from the settings, else `POD_NAMESPACE`, else the kubeconfig's.
pub fn own_namespace(settings: &Settings, cluster: &Cluster) -> String {
    [settings.namespace.clone(), std::env::var("POD_NAMESPACE").unwrap_or_default()]
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or_else(|| cluster.default_namespace.clone())
}

/// A name for this replica: the pod's, else host-like and unique.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "lastgood".into());
    format!("{host}-{}", std::process::id())
}
