//! The edges that read signals: Prometheus, the pods' own `/metrics`, health probes.
//!
//! Each source has its own task, deadline and limit of parallel requests; one that hangs holds up
//! nobody. A source whose last read still runs is not started again, so reads never pile up. What
//! cannot be read is *no data* and never zero: a failed, partial or stale answer gives a
//! [`Observation::Source`] that says so and no measurement. Sources know trials only by
//! [`TrialTarget`]; the join from pod to revision is the analysis'.

mod address;
mod error;
mod families;
mod health;
mod http;
mod prometheus;
mod scrape;
mod totals;

pub use error::SourceError;
pub use http::Fault;
pub use prometheus::history;

use crate::{
    clock::Clock,
    config::{SourceSettings, Switch},
    domain::{Observation, Observed, PEERS, Seconds, TrialTarget, WorkloadId},
    wire::Wire,
};
use address::Guard;
use futures::future::BoxFuture;
use prometheus::Prometheus;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, timeout},
};

/// Readings that may wait for the watchdog before sources hold back.
const WAITING: usize = 64;

/// What one source read at one tick.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Which source: `prometheus`, `scrape` or `health`.
    pub source: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What it saw; the last one is always an [`Observation::Source`], but of [`PEERS`]. `ok: false` means that
    /// this reading holds no measurement; `ok: true` with a reason names what is missing from it.
    pub observed: Vec<Observed>,
    /// Who calls whom, as far as a mesh says.
    pub calls: Vec<(WorkloadId, Vec<WorkloadId>)>,
    /// Of [`PEERS`]: what is missing. It is nobody's outage: a conviction waits for them, and not for ever.
    pub missing: Option<String>,
}

/// Which workloads without a trial are to be read.
#[derive(Debug, Clone, Default)]
pub struct PeerQuestion {
    /// Those on trial: who calls whom is asked among all.
    pub trials: Vec<TrialTarget>,
    /// Those without a trial, the most telling first.
    pub peers: Vec<TrialTarget>,
    /// Of so many of them, from the first on, latency is wanted as well.
    pub slow: usize,
}

/// What a reading of workloads without a trial says.
#[derive(Debug, Default)]
struct PeerRead {
    observed: Vec<Observed>,
    calls: Vec<(WorkloadId, Vec<WorkloadId>)>,
    failed: Option<String>,
}

/// The state of one read: what was measured, and how it went.
#[derive(Debug, Default)]
struct Read {
    observed: Vec<Observed>,
    ok: bool,
    reason: Option<String>,
}

impl Read {
    fn failed(reason: impl Into<String>) -> Self {
        Self { observed: Vec::new(), ok: false, reason: Some(reason.into()) }
    }
}

/// One edge that reads.
trait Source: Send + Sync {
    /// Its name in observations, logs and metrics.
    fn name(&self) -> &'static str;
    /// Whether these trials give it anything to do.
    fn wanted(&self, trials: &[TrialTarget]) -> bool;
    /// The last line of defence: a read that takes longer is dropped.
    fn deadline(&self) -> Duration;
    /// Reads once for all trials.
    fn read(&self, trials: Arc<Vec<TrialTarget>>) -> BoxFuture<'_, Read>;
    /// Reads the totals of workloads without a trial; `None` when it cannot.
    fn peers(&self, question: PeerQuestion) -> Option<BoxFuture<'_, PeerRead>> {
        let _ = question;
        None
    }
    /// Whether it works at all.
    fn check(&self) -> BoxFuture<'_, Result<String, String>>;
    /// Samples, lines and series skipped as malformed since the start.
    fn malformed(&self) -> u64;
}

/// A source and whether it is reading.
struct Slot {
    source: Arc<dyn Source>,
    busy: Arc<AtomicBool>,
    skipped: AtomicU64,
}

/// What a source has left out since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Which source.
    pub source: &'static str,
    /// Ticks at which its previous read still ran.
    pub reads: u64,
    /// Samples, lines and series that were malformed.
    pub samples: u64,
}

/// All sources.
pub struct Sources {
    slots: Vec<Slot>,
    /// Who reads workloads without a trial.
    witness: Option<Slot>,
    prometheus: Option<Arc<Prometheus>>,
    clock: Clock,
    runtime: Handle,
    readings: mpsc::Sender<Reading>,
}

impl Sources {
    /// Builds every configured source; readings come out of the receiver. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SourceError::Settings`] when a URL, header, certificate or secret file cannot work,
    /// [`SourceError::NoRuntime`] outside a tokio runtime.
    pub fn new(settings: &SourceSettings, clock: Clock) -> Result<(Self, mpsc::Receiver<Reading>), SourceError> {
        Self::guarded(settings, clock, Guard::Strict, &Wire::Network)
    }

    /// As [`Sources::new`], for a simulated cluster, whose pods serve on loopback or behind a simulated wire.
    /// Prometheus alone is always asked over the network.
    ///
    /// # Errors
    /// As [`Sources::new`].
    pub fn simulated(
        settings: &SourceSettings,
        clock: Clock,
        wire: &Wire,
    ) -> Result<(Self, mpsc::Receiver<Reading>), SourceError> {
        Self::guarded(settings, clock, Guard::Loopback, wire)
    }

    fn guarded(
        settings: &SourceSettings,
        clock: Clock,
        guard: Guard,
        wire: &Wire,
    ) -> Result<(Self, mpsc::Receiver<Reading>), SourceError> {
        let runtime = Handle::try_current().map_err(|_| SourceError::NoRuntime)?;
        let prometheus = match &settings.prometheus {
            Some(prometheus) => Some(Arc::new(Prometheus::new(prometheus, clock)?)),
            None => None,
        };
        let mut all: Vec<Arc<dyn Source>> = Vec::new();
        if let Some(prometheus) = &prometheus {
            all.push(Arc::clone(prometheus) as Arc<dyn Source>);
        }
        let scrape = match settings.scrape.enabled {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => prometheus.is_none(),
        };
        if scrape {
            all.push(Arc::new(scrape::Scrape::new(&settings.scrape, clock, guard, wire.clone())?));
        }
        // What counts requests: Prometheus, else the pods themselves.
        let slot = |source| Slot { source, busy: Arc::default(), skipped: AtomicU64::new(0) };
        let witness = all.first().cloned().map(slot);
        all.push(Arc::new(health::Health::new(&settings.health, clock, guard, wire.clone())));
        let (readings, received) = mpsc::channel(WAITING);
        let slots = all.into_iter().map(slot).collect();
        Ok((Self { slots, witness, prometheus, clock, runtime, readings }, received))
    }

    /// Starts one read in every source that is idle and has something to do for these trials; a source
    /// whose last read still runs (or still waits to be received) is left alone and counted.
    /// Never blocks. Without trials nothing is sent at all. Tells how many readings will come of it.
    #[allow(clippy::needless_pass_by_value, reason = "each source's task keeps its own handle on the trials")]
    pub fn start(&self, trials: Arc<Vec<TrialTarget>>) -> usize {
        let mut started = 0;
        for slot in self.slots.iter().filter(|s| s.source.wanted(&trials)) {
            if slot.busy.swap(true, Ordering::AcqRel) {
                slot.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            started += 1;
            let reading = one_reading(Arc::clone(&slot.source), Arc::clone(&trials), self.clock);
            let (readings, busy) = (self.readings.clone(), Arc::clone(&slot.busy));
            self.runtime.spawn(async move {
                let reading = reading.await;
                // A closed channel means that the watchdog is gone; so is whoever would care.
                let _ = readings.send(reading).await;
                busy.store(false, Ordering::Release);
            });
        }
        started
    }

    /// Whether workloads without a trial are read at their pods, whose addresses must then be known.
    pub fn needs_addresses_of_peers(&self) -> bool {
        self.prometheus.is_none()
    }

    /// Starts one read of workloads without a trial, as totals of each; see [`PEERS`]. It ends before `deadline`,
    /// whatever it has not read by then is missing. Tells whether a reading will come of it: not when there is nobody
    /// to ask or the read before still runs.
    pub fn start_peers(&self, question: PeerQuestion, deadline: Duration) -> bool {
        let Some(slot) = self.witness.as_ref().filter(|_| !question.peers.is_empty()) else { return false };
        if slot.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (source, readings, busy) = (Arc::clone(&slot.source), self.readings.clone(), Arc::clone(&slot.busy));
        self.runtime.spawn(async move {
            let began = Instant::now();
            let mut task = tokio::spawn(async move {
                match source.peers(question) {
                    Some(read) => read.await,
                    None => PeerRead::default(),
                }
            });
            let missing = |why: String| PeerRead { failed: Some(why), ..PeerRead::default() };
            let read = match timeout(deadline, &mut task).await {
                Ok(Ok(read)) => read,
                Ok(Err(_)) => missing("the read broke off (a defect in Lastgood)".into()),
                Err(_) => {
                    task.abort();
                    missing(SourceError::Deadline(deadline).to_string())
                }
            };
            let PeerRead { observed, calls, failed: missing } = read;
            let reading = Reading { source: PEERS, took: began.elapsed(), observed, calls, missing };
            // As for a trial's reading.
            let _ = readings.send(reading).await;
            busy.store(false, Ordering::Release);
        });
        true
    }

    /// The past of one trial's pods: raw cumulative counters by range query, ordered by time.
    /// Only pods in `trial.pods`, and gone ones that `trial.gone` names, are reported. Empty when there is no Prometheus.
    ///
    /// # Errors
    /// Any [`SourceError`] of the counting queries; a past that is partial is an error, not a past.
    /// A failed latency query alone leaves `latency` out.
    pub async fn history(
        &self,
        trial: &TrialTarget,
        from: Seconds,
        to: Seconds,
        step: Duration,
    ) -> Result<Vec<Observed>, SourceError> {
        match &self.prometheus {
            Some(prometheus) => prometheus.history(trial, from, to, step).await,
            None => Ok(Vec::new()),
        }
    }

    /// Asks each source whether it works: for start-up and `check`. `Ok` says what is there, `Err` what is
    /// wrong, both in one sentence.
    pub async fn check(&self) -> Vec<(&'static str, Result<String, String>)> {
        let checks = self.slots.iter().map(|slot| async move {
            let found = timeout(slot.source.deadline(), slot.source.check()).await;
            (slot.source.name(), found.unwrap_or_else(|_| Err("no answer before the deadline".into())))
        });
        futures::future::join_all(checks).await
    }

    /// Names of the sources that are in use.
    pub fn names(&self) -> Vec<&'static str> {
        self.slots.iter().map(|s| s.source.name()).collect()
    }

    /// What each source has left out since the start, for telemetry.
    pub fn left_out(&self) -> Vec<LeftOut> {
        let of = |s: &Slot| LeftOut {
            source: s.source.name(),
            reads: s.skipped.load(Ordering::Relaxed),
            samples: s.source.malformed(),
        };
        self.slots.iter().map(of).collect()
    }
}

/// One read under its deadline. A read that panics is a failed read: the source stays usable.
async fn one_reading(source: Arc<dyn Source>, trials: Arc<Vec<TrialTarget>>, clock: Clock) -> Reading {
    let (name, deadline, began) = (source.name(), source.deadline(), Instant::now());
    let mut task = tokio::spawn(async move { source.read(trials).await });
    let read = match timeout(deadline, &mut task).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => Read::failed("the read broke off (a defect in Lastgood)"),
        Err(_) => {
            task.abort();
            Read::failed(SourceError::Deadline(deadline).to_string())
        }
    };
    let mut observed = read.observed;
    let what = Observation::Source { source: name.into(), ok: read.ok, reason: read.reason };
    observed.push(Observed { t: clock.now(), what });
    Reading { source: name, took: began.elapsed(), observed, calls: Vec::new(), missing: None }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
