//! Reads counters from anything that speaks the Prometheus HTTP API.
//!
//! A read asks a fixed number of instant queries for all trials at one time and joins the answers to the
//! pods under trial. Mapping of names for the callers' side: `destination_workload` (Istio), else the
//! Service, route or Traefik service must have the workload's name. A group's requests and failures are
//! used together or not at all; a failed latency query only leaves the latency out.
//!
//! For users: per-pod families need the labels `namespace` and `pod` on every series, as the Prometheus
//! operator and the common `kubernetes-pods` job set them. A pod scraped by two jobs is counted twice.

mod connection;
mod edges;
mod envelope;
pub mod history;
mod join;
mod peers;
mod plan;
mod promql;
mod sanity;

use super::{PeerQuestion, PeerRead, Read, Source, SourceError, totals::Totals};
use crate::{
    clock::Clock,
    config::PrometheusSettings,
    domain::{Observed, Seconds, TrialTarget},
};
use connection::Connection;
use envelope::Series;
use futures::{StreamExt, future::BoxFuture, stream};
use join::{Joined, Targets};
use plan::{Ask, Part, Plan};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Queries in flight at once.
const CONCURRENCY: usize = 4;
/// After a backend did not tell its start time, it is not asked for this many reads.
const RUNTIME_INFO_PAUSE: u32 = 40;
/// Memory is asked for this often, in seconds.
const MEMORY_EVERY: f64 = 60.0;

/// Times of a query, seconds since the epoch.
#[derive(Clone, Copy)]
enum When {
    At(Seconds),
    Range(Seconds, Seconds, Duration),
}

/// The Prometheus source.
pub(super) struct Prometheus {
    connection: Connection,
    clock: Clock,
    totals: Mutex<Totals>,
    peers: Mutex<peers::Lately>,
    peers_latency: Mutex<peers::Lately>,
    silent: Mutex<sanity::Silent>,
    memory_asked: Mutex<f64>,
    malformed: AtomicU64,
    no_runtime_info: AtomicU32,
}

impl Prometheus {
    /// # Errors
    /// [`SourceError::Settings`].
    pub(super) fn new(settings: &PrometheusSettings, clock: Clock) -> Result<Self, SourceError> {
        Ok(Self {
            connection: Connection::new(settings, clock)?,
            clock,
            totals: Mutex::default(),
            peers: Mutex::default(),
            peers_latency: Mutex::default(),
            silent: Mutex::default(),
            memory_asked: Mutex::default(),
            malformed: AtomicU64::new(0),
            no_runtime_info: AtomicU32::new(0),
        })
    }

    async fn read_all(&self, trials: &[TrialTarget]) -> Read {
        // Whole milliseconds, so that what is sent, checked and reported is one number.
        let t = (self.clock.now() * 1e3).round() / 1e3;
        let plan = Plan::of(trials);
        let plan = if self.wants_memory(t) { plan } else { plan.without(Part::Memory) };
        let answers = self.ask_all(&plan.asks, When::At(t));
        let (answers, sane) = tokio::join!(answers, self.sane(&plan, trials, t));
        let mut failures: Vec<String> = Vec::new();
        let (mut counted, mut tainted) = (false, false);
        if let Err(error) = sane {
            return Read::failed(error.to_string());
        }
        let targets = Targets::of(trials);
        let mut joined = Joined::default();
        for (at, group) in plan.groups.iter().enumerate() {
            let of_group = || plan.asks.iter().zip(&answers).filter(|(ask, _)| ask.group == at);
            for (ask, answer) in of_group() {
                if let Err(error) = answer {
                    tainted |= error.taints_the_read();
                    failures.push(format!("{} {}: {error}", group.name(), ask.part.name()));
                }
            }
            let counts_failed = of_group().any(|(ask, answer)| !ask.part.dispensable() && answer.is_err());
            if counts_failed {
                continue;
            }
            counted = true;
            for (ask, answer) in of_group() {
                if let Ok(series) = answer {
                    joined.add(&targets, group, ask.part, series, Some(t));
                }
            }
        }
        self.malformed.fetch_add(joined.malformed, Ordering::Relaxed);
        let reason = (!failures.is_empty()).then(|| summary(failures));
        if tainted || !(counted || plan.groups.is_empty()) {
            return Read { observed: Vec::new(), ok: false, reason };
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.forget(t);
        Read { observed: joined.finish(&mut totals), ok: true, reason }
    }

    /// Whether it is time to ask for memory again: its slope needs no more than a reading a minute.
    fn wants_memory(&self, t: f64) -> bool {
        let mut asked = self.memory_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (t - *asked).abs() >= MEMORY_EVERY;
        if due {
            *asked = t;
        }
        due
    }

    /// Asks every query of a plan, a few at a time; answers are in the order of the asks.
    async fn ask_all(&self, asks: &[Ask], when: When) -> Vec<Result<Vec<Series>, SourceError>> {
        // Some slow queries of one policy must not use up the time of all.
        let (all, end) = (self.connection.deadline() * 3, Instant::now() + self.connection.deadline() * 3);
        let ask = |at: usize| async move {
            let expression = &asks[at].expression;
            let answer = async {
                match when {
                    When::At(t) => self.connection.instant(expression, t).await,
                    When::Range(from, to, step) => self.connection.range(expression, from, to, step).await,
                }
            };
            timeout_at(end, answer).await.unwrap_or(Err(SourceError::Deadline(all)))
        };
        stream::iter(0..asks.len()).map(ask).buffered(CONCURRENCY).collect().await
    }

    /// Whether the monitoring itself can be believed now (gate 6).
    async fn sane(&self, plan: &Plan, trials: &[TrialTarget], t: f64) -> Result<(), SourceError> {
        if let Some(expression) = &plan.sanity {
            let answer = self.connection.instant(expression, t).await?;
            self.silent.lock().unwrap_or_else(PoisonError::into_inner).judge(trials, &answer, t)?;
        }
        let pause = self.no_runtime_info.load(Ordering::Relaxed);
        if pause > 0 {
            self.no_runtime_info.store(pause - 1, Ordering::Relaxed);
            return Ok(());
        }
        match self.connection.started().await {
            Some((started, now)) => sanity::old_enough(started, now),
            None => {
                self.no_runtime_info.store(RUNTIME_INFO_PAUSE, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// See [`super::Sources::history`].
    pub(super) async fn history(
        &self,
        trial: &TrialTarget,
        from: Seconds,
        to: Seconds,
        step: Duration,
    ) -> Result<Vec<Observed>, SourceError> {
        let trials = std::slice::from_ref(trial);
        let plan = Plan::of(trials);
        // An earlier day, or the hours after a watch: there no slope is asked for.
        let plan = if step.as_secs_f64() < MEMORY_EVERY { plan } else { plan.without(Part::Memory) };
        self.past(trials, &plan, (from, to), step, &mut Totals::default()).await
    }

    /// The past of several trials in one read; `totals` go on from one stretch to the next.
    async fn past(
        &self,
        trials: &[TrialTarget],
        plan: &Plan,
        (from, to): (Seconds, Seconds),
        step: Duration,
        totals: &mut Totals,
    ) -> Result<Vec<Observed>, SourceError> {
        if !(from.is_finite() && to.is_finite()) || from.ceil() > to.floor() {
            return Ok(Vec::new());
        }
        let answers = self.ask_all(&plan.asks, When::Range(from, to, step)).await;
        let targets = Targets::of(trials);
        let mut joined = Joined::default();
        for (ask, answer) in plan.asks.iter().zip(answers) {
            match answer {
                Ok(series) => joined.add(&targets, &plan.groups[ask.group], ask.part, &series, None),
                Err(error) if ask.part.dispensable() && !error.taints_the_read() => {
                    let (workload, part) = (trials.first().map(|trial| trial.workload.to_string()), ask.part.name());
                    tracing::warn!(workload, part, %error, "a part of the past is missing");
                }
                Err(error) => return Err(error),
            }
        }
        self.malformed.fetch_add(joined.malformed, Ordering::Relaxed);
        Ok(joined.finish(totals))
    }
}

/// Several failures in one line.
fn summary(failures: Vec<String>) -> String {
    let more = failures.len().saturating_sub(3);
    let mut text = failures.into_iter().take(3).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

impl Source for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn wanted(&self, trials: &[TrialTarget]) -> bool {
        !trials.is_empty()
    }

    fn deadline(&self) -> Duration {
        // A few rounds of queries; each has its own deadline.
        self.connection.deadline() * 4
    }

    fn read(&self, trials: Arc<Vec<TrialTarget>>) -> BoxFuture<'_, Read> {
        Box::pin(async move { self.read_all(&trials).await })
    }

    fn peers(&self, question: PeerQuestion) -> Option<BoxFuture<'_, PeerRead>> {
        Some(Box::pin(async move { self.read_peers(&question).await }))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let place = self.connection.place();
            let t = (self.clock.now() * 1e3).round() / 1e3;
            let answer = self.connection.instant("count(up)", t).await.map_err(|e| format!("{place}: {e}"))?;
            match answer.first().and_then(|s| s.points.first()) {
                Some((_, targets)) if *targets > 0.0 => Ok(format!("{place} knows {targets} targets")),
                _ => Err(format!(
                    "{place} answers, but knows no target (count(up) is empty): nothing is scraped, or it is another tenant"
                )),
            }
        })
    }

    fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
