//! Reads the pods' own `/metrics` when there is no Prometheus.
//!
//! Plain HTTP only, straight to the address that the API server gave, never through a proxy, never after a
//! redirect. Where: `prometheus.io/port` and `/path`, else the rules' port and path, else the first
//! container port and `/metrics`; a pod annotated `prometheus.io/scrape: "false"` or `scheme: https` is
//! left alone. The reading is bad when fewer than 80 % of the Ready pods that have an address answer at
//! all (gate 6); a pod that answers without metrics (404) is simply not measured.

mod exposition;

use super::{
    PeerQuestion, PeerRead, Read, Source,
    address::Guard,
    error::SourceError,
    families::{Candidates, PODS, serves},
    http::{Fault, builder, read_capped},
    totals::{Caller, Totals},
};
use crate::{
    clock::Clock,
    config::ScrapeSettings,
    domain::{Counts, Observation, Observed, PodId, PodTarget, Preset, TrialTarget, WorkloadId},
    wire::Wire,
};
use futures::{StreamExt, future::BoxFuture, stream};
use reqwest::{Url, header::ACCEPT};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Share of Ready pods that must answer.
const ANSWERING: f64 = 0.8;
/// Time for all pods together.
const ALL: Duration = Duration::from_secs(20);
/// Longest path that an annotation may ask for.
const LONGEST_PATH: usize = 1024;

/// The direct reader.
pub(super) struct Scrape {
    client: reqwest::Client,
    wire: Wire,
    settings: ScrapeSettings,
    clock: Clock,
    guard: Guard,
    malformed: AtomicU64,
    /// What pods of workloads without a trial have counted since they were first read.
    peers: Mutex<Totals>,
    /// Where to begin, so that with too many slow pods not the same ones starve each time.
    turn: AtomicUsize,
}

/// Why a pod gave no counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Miss {
    /// It did not answer.
    Fault(Fault),
    /// It answered, but not with metrics.
    Status(u16),
    /// It answered with metrics that no family of the preset knows.
    Nothing,
}

impl Miss {
    fn text(&self) -> String {
        match self {
            Self::Fault(fault) => fault.to_string(),
            Self::Status(status) => format!("HTTP {status}"),
            Self::Nothing => "no request metrics of the preset".into(),
        }
    }
}

/// What one pod told.
struct Scraped {
    t: f64,
    pod: PodId,
    counts: Counts,
    /// Bytes that its process holds.
    memory: Option<f64>,
}

impl Scraped {
    fn observed(self) -> impl Iterator<Item = Observed> {
        let Self { t, pod, counts, memory } = self;
        let memory = memory.map(|bytes| Observation::Memory { pod: pod.clone(), bytes });
        [Some(Observation::Counters { pod, counts }), memory]
            .into_iter()
            .flatten()
            .map(move |what| Observed { t, what })
    }
}

impl Scrape {
    /// # Errors
    /// [`SourceError::Settings`] when no HTTP client can be made.
    pub(super) fn new(settings: &ScrapeSettings, clock: Clock, guard: Guard, wire: Wire) -> Result<Self, SourceError> {
        let client = builder(Duration::from_secs(2), settings.timeout)
            // Plain HTTP needs no CA certificates; without this line it would.
            .tls_certs_only([])
            // Pods come and go, and so do the owners of addresses: no connection is kept.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|_| SourceError::Settings(Fault::Client.to_string()))?;
        let (malformed, turn) = (AtomicU64::new(0), AtomicUsize::new(0));
        Ok(Self { client, wire, settings: settings.clone(), clock, guard, malformed, peers: Mutex::default(), turn })
    }

    async fn scrape(&self, trial: &TrialTarget, pod: &PodTarget, url: Url) -> Result<Scraped, Miss> {
        let address = pod.address.ok_or(Miss::Fault(Fault::Dns))?;
        self.guard.admit(address).map_err(|f| Miss::Fault(Fault::Forbidden(f.0)))?;
        let request = self.client.get(url).header(ACCEPT, "text/plain;version=0.0.4");
        let sent = tokio::time::timeout(self.settings.timeout, self.wire.send(request));
        let response = match sent.await {
            Ok(sent) => sent.map_err(|e| Miss::Fault(Fault::from(&e)))?,
            Err(_) => return Err(Miss::Fault(Fault::Timeout)),
        };
        if response.status() != 200 {
            return Err(Miss::Status(response.status().as_u16()));
        }
        let body = read_capped(response, self.settings.max_bytes).await.map_err(Miss::Fault)?;
        let t = self.clock.now();
        let preset = trial.rules.metrics.preset;
        let (mut candidates, mut memory) = (Candidates::default(), None);
        let bad = exposition::parse(&body, |sample| {
            if sample.name == "process_resident_memory_bytes" {
                memory = Some(sample.value);
            }
            candidates.add(sample.name, sample.value, |l| sample.label(l));
        });
        self.malformed.fetch_add(bad, Ordering::Relaxed);
        candidates.0.retain(|at, _| serves(&PODS[*at], preset));
        let counts: Option<Counts> = candidates.best().and_then(|best| candidates.0.remove(&best));
        match counts {
            Some(counts) => Ok(Scraped { t, pod: pod.pod.clone(), counts, memory }),
            None => Err(Miss::Nothing),
        }
    }

    /// Reads the pods of workloads without a trial, once. They have no past here: what one was like is not known,
    /// only what it does from now on. A pod that does not answer is left out, and nobody's outage.
    async fn read_peers(&self, peers: &[TrialTarget]) -> PeerRead {
        let mut targets: Vec<(&TrialTarget, &PodTarget, Url)> = Vec::new();
        for peer in peers.iter().filter(|peer| readable(peer.rules.metrics.preset)) {
            targets.extend(peer.pods.iter().filter_map(|pod| Some((peer, pod, place(peer, pod)?))));
        }
        let scrape = |at: usize| {
            let (peer, pod, url) = &targets[at];
            async move { (&peer.workload, self.scrape(peer, pod, url.clone()).await) }
        };
        let mut answers = stream::iter(0..targets.len()).map(scrape).buffer_unordered(self.settings.concurrency.max(1));
        let mut read: BTreeMap<&WorkloadId, BTreeMap<Caller, Counts>> = BTreeMap::new();
        let mut silent = 0_usize;
        while let Some((workload, answer)) = answers.next().await {
            match answer {
                Ok(Scraped { pod, mut counts, .. }) => {
                    counts.latency = None;
                    read.entry(workload).or_default().insert(pod.name, counts);
                }
                Err(_) => silent += 1,
            }
        }
        let t = self.clock.now();
        let mut totals = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        totals.forget(t);
        let total = |(workload, pods): (&WorkloadId, _)| {
            let counts = totals.add(workload, t, pods);
            Observed { t, what: Observation::Callers { workload: workload.clone(), counts } }
        };
        let observed = read.into_iter().map(total).collect();
        let failed = (silent > 0).then(|| format!("{silent} of {} pods told nothing", targets.len()));
        PeerRead { observed, failed, ..PeerRead::default() }
    }

    async fn read_all(&self, trials: &[TrialTarget]) -> Read {
        let mut targets: Vec<(&TrialTarget, &PodTarget, Url)> = Vec::new();
        for trial in trials.iter().filter(|t| readable(t.rules.metrics.preset)) {
            targets.extend(trial.pods.iter().filter_map(|pod| Some((trial, pod, place(trial, pod)?))));
        }
        let left_out: usize = trials.iter().map(|t| t.pods.len()).sum::<usize>() - targets.len();
        if !targets.is_empty() {
            let turn = self.turn.fetch_add(self.settings.concurrency.max(1), Ordering::Relaxed) % targets.len();
            targets.rotate_left(turn);
        }
        let total = targets.len();
        let ready = targets.iter().filter(|(_, pod, _)| pod.ready).count();
        let scrape = |at: usize| {
            let (trial, pod, url) = &targets[at];
            async move { (pod.ready, self.scrape(trial, pod, url.clone()).await) }
        };
        let mut answers = stream::iter(0..total).map(scrape).buffer_unordered(self.settings.concurrency.max(1));
        let (end, mut observed, mut ready_answered, mut asked) = (Instant::now() + ALL, Vec::new(), 0, 0);
        let mut misses: BTreeMap<String, usize> = BTreeMap::new();
        while let Ok(Some((is_ready, answer))) = timeout_at(end, answers.next()).await {
            asked += 1;
            let silent = matches!(answer, Err(Miss::Fault(_)));
            ready_answered += usize::from(is_ready && !silent);
            match answer {
                Ok(scraped) => observed.extend(scraped.observed()),
                Err(miss) => *misses.entry(miss.text()).or_default() += 1,
            }
        }
        if asked < total {
            misses.insert("not asked in time".into(), total - asked);
        }
        if left_out > 0 {
            misses
                .insert("not readable directly (no address, no port, its preset or its annotations)".into(), left_out);
        }
        if (ready_answered as f64) < ANSWERING * ready as f64 {
            let why =
                format!("only {ready_answered} of {ready} Ready pods answer at their metrics port: {}", list(&misses));
            return Read::failed(SourceError::Monitoring(why).to_string());
        }
        Read { observed, ok: true, reason: (!misses.is_empty()).then(|| list(&misses)) }
    }
}

fn list(misses: &BTreeMap<String, usize>) -> String {
    misses.iter().map(|(why, n)| format!("{n} × {why}")).collect::<Vec<_>>().join("; ")
}

/// Whether pods themselves export what this preset reads.
fn readable(preset: Preset) -> bool {
    matches!(preset, Preset::Auto | Preset::Go | Preset::Spring | Preset::Otel | Preset::Grpc)
}

/// Where a pod's metrics are. The host is the API server's address and nothing in a path or port can
/// change that: the port is a number and the path begins with a slash.
fn place(trial: &TrialTarget, pod: &PodTarget) -> Option<Url> {
    let annotation = |key: &str| pod.scrape.get(key).map(|v| v.trim());
    if annotation("scrape").is_some_and(|v| v.eq_ignore_ascii_case("false"))
        || annotation("scheme").is_some_and(|v| !v.eq_ignore_ascii_case("http"))
    {
        return None;
    }
    let metrics = &trial.rules.metrics;
    let port = match annotation("port") {
        Some(port) => port.parse().ok()?,
        None => metrics.port.or(pod.port)?,
    };
    let path = annotation("path").or(metrics.path.as_deref()).unwrap_or("/metrics");
    if port == 0 || !path.starts_with('/') || path.len() > LONGEST_PATH || path.chars().any(char::is_control) {
        return None;
    }
    let mut url = Url::parse(&format!("http://{}/", SocketAddr::new(pod.address?, port))).ok()?;
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    url.set_path(path);
    url.set_query(query);
    Some(url)
}

impl Source for Scrape {
    fn name(&self) -> &'static str {
        "scrape"
    }

    fn wanted(&self, trials: &[TrialTarget]) -> bool {
        trials.iter().any(|t| readable(t.rules.metrics.preset) && !t.pods.is_empty())
    }

    fn deadline(&self) -> Duration {
        ALL + self.settings.timeout
    }

    fn read(&self, trials: Arc<Vec<TrialTarget>>) -> BoxFuture<'_, Read> {
        Box::pin(async move { self.read_all(&trials).await })
    }

    fn peers(&self, question: PeerQuestion) -> Option<BoxFuture<'_, PeerRead>> {
        Some(Box::pin(async move { self.read_peers(&question.peers).await }))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { Ok("reads the pods' own metrics during a rollout; nothing to ask before".into()) })
    }

    fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
