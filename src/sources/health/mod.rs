//! Asks health endpoints: every pod under trial at its own address, and Services by name.
//!
//! `fail` means that the workload did not answer as it should; `error` that we cannot tell (no such name,
//! a forbidden address, a certificate that does not verify: pods are asked by address, which few
//! certificates name, so ask HTTPS through the Service). Whether a failing probe means anything, against
//! the old pods and over time, is the analysis' to say. Answers are never followed and never repeated.

mod verdict;

use super::{
    Read, Source,
    address::{Guard, GuardedResolver},
    http::{Fault, builder, is_json, media_type, read_capped},
};
use crate::{
    clock::Clock,
    config::HealthSettings,
    domain::{HealthProbe, Observation, Observed, PodTarget, ProbeOutcome, ProbeResult, ProbeVia, Scheme, TrialTarget},
    wire::Wire,
};
use futures::{StreamExt, future::BoxFuture, stream};
use reqwest::Url;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};
use verdict::{Said, of_body, of_fault, of_status};

/// Most of a JSON answer that is read.
const BODY: usize = 64 << 10;
/// Time for all probes together.
const ALL: Duration = Duration::from_secs(20);

/// The prober.
pub(super) struct Health {
    settings: HealthSettings,
    wire: Wire,
    clock: Clock,
    resolver: GuardedResolver,
    plain: OnceLock<Option<reqwest::Client>>,
    tls: OnceLock<Option<reqwest::Client>>,
    turn: AtomicUsize,
}

/// One probe of one pod or Service.
struct Job<'a> {
    trial: &'a TrialTarget,
    probe: &'a HealthProbe,
    pod: Option<&'a PodTarget>,
}

impl Health {
    pub(super) fn new(settings: &HealthSettings, clock: Clock, guard: Guard, wire: Wire) -> Self {
        Self { wire, ..Self::with_names(settings, clock, guard, BTreeMap::new()) }
    }

    /// As [`Health::new`], with addresses of some names given instead of asked for.
    fn with_names(
        settings: &HealthSettings,
        clock: Clock,
        guard: Guard,
        fixed: BTreeMap<String, Vec<SocketAddr>>,
    ) -> Self {
        let resolver = GuardedResolver { guard, fixed: Arc::new(fixed) };
        let (plain, tls) = (OnceLock::new(), OnceLock::new());
        Self { settings: settings.clone(), wire: Wire::Network, clock, resolver, plain, tls, turn: AtomicUsize::new(0) }
    }

    /// Built on first use: without CA certificates HTTPS cannot be asked, but plain HTTP can.
    fn client(&self, scheme: Scheme) -> Option<&reqwest::Client> {
        let (slot, plain) = match scheme {
            Scheme::Http => (&self.plain, true),
            Scheme::Https => (&self.tls, false),
        };
        let build = || {
            let client = builder(Duration::from_secs(5), ALL)
                .pool_max_idle_per_host(0)
                .dns_resolver(Arc::new(self.resolver.clone()));
            if plain { client.tls_certs_only([]) } else { client }.build().ok()
        };
        slot.get_or_init(build).as_ref()
    }

    /// Where a job asks; `None` when there is no valid place.
    fn place(&self, job: &Job<'_>) -> Result<Url, Fault> {
        let HealthProbe { scheme, port, path, via, .. } = job.probe;
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let authority = match (via, job.pod) {
            (ProbeVia::Pod, Some(pod)) => {
                let address = pod.address.ok_or(Fault::Dns)?;
                self.resolver.guard.admit(address).map_err(|f| Fault::Forbidden(f.0))?;
                SocketAddr::new(address, *port).to_string()
            }
            (ProbeVia::Pod, None) => return Err(Fault::Dns),
            (ProbeVia::Service(service), _) => {
                let labels = [service, &job.trial.workload.namespace];
                if !labels.iter().all(|l| is_dns_label(l)) {
                    return Err(Fault::Dns);
                }
                let domain = self.settings.cluster_domain.trim_matches('.');
                format!("{service}.{}.svc.{domain}:{port}", job.trial.workload.namespace)
            }
        };
        let mut url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|_| Fault::Dns)?;
        let (path, query) = path.split_once('?').map_or((path.as_str(), None), |(p, q)| (p, Some(q)));
        url.set_path(path);
        url.set_query(query);
        Ok(url)
    }

    async fn ask(&self, job: &Job<'_>) -> Said {
        let url = match self.place(job) {
            Ok(url) => url,
            Err(fault) => return of_fault(fault),
        };
        let Some(client) = self.client(job.probe.scheme) else { return of_fault(Fault::Client) };
        let asked = async {
            let response = self.wire.send(client.get(url)).await.map_err(|e| Fault::from(&e))?;
            let said = of_status(response.status().as_u16());
            if said.0 != ProbeOutcome::Pass || !is_json(&media_type(&response)) {
                return Ok(said);
            }
            match read_capped(response, BODY).await {
                Ok(body) => Ok(of_body(&body).unwrap_or(said)),
                // The status has passed; a body too long to be a health report is none.
                Err(Fault::TooLarge) => Ok(said),
                Err(fault) => Err(fault),
            }
        };
        match timeout(job.probe.timeout, asked).await {
            Ok(Ok(said)) => said,
            Ok(Err(fault)) => of_fault(fault),
            Err(_) => of_fault(Fault::Timeout),
        }
    }

    async fn probe(&self, job: &Job<'_>) -> Observed {
        let (outcome, detail) = self.ask(job).await;
        let result = ProbeResult {
            workload: job.trial.workload.clone(),
            revision: job.pod.map(|p| p.revision.clone()),
            pod: job.pod.map(|p| p.pod.clone()),
            name: job.probe.name.clone(),
            outcome,
            probe_type: None,
            detail,
        };
        Observed { t: self.clock.now(), what: Observation::Probe(result) }
    }

    async fn read_all(&self, trials: &[TrialTarget]) -> Read {
        let mut jobs = Vec::new();
        for trial in trials {
            for probe in &trial.rules.health {
                match probe.via {
                    ProbeVia::Service(_) => jobs.push(Job { trial, probe, pod: None }),
                    // A pod without an address has nothing to ask yet; that is no answer, good or bad.
                    ProbeVia::Pod => {
                        let pods = trial.pods.iter().filter(|p| p.address.is_some());
                        jobs.extend(pods.map(|pod| Job { trial, probe, pod: Some(pod) }));
                    }
                }
            }
        }
        let total = jobs.len();
        let at_once = self.settings.concurrency.max(1);
        if total > 0 {
            jobs.rotate_left(self.turn.fetch_add(at_once, Ordering::Relaxed) % total);
        }
        let mut answers = stream::iter(0..total).map(|at| self.probe(&jobs[at])).buffer_unordered(at_once);
        let (end, mut observed) = (Instant::now() + ALL, Vec::with_capacity(total));
        while let Ok(Some(answer)) = timeout_at(end, answers.next()).await {
            observed.push(answer);
        }
        let missing = total - observed.len();
        if total > 0 && missing == total {
            return Read::failed(format!("none of {total} probes ended within {ALL:?}"));
        }
        let reason = (missing > 0).then(|| format!("{missing} of {total} probes were not made in time"));
        Read { observed, ok: true, reason }
    }
}

/// RFC 1123 label, as names of Services and namespaces are.
fn is_dns_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

impl Source for Health {
    fn name(&self) -> &'static str {
        "health"
    }

    fn wanted(&self, trials: &[TrialTarget]) -> bool {
        trials.iter().any(|t| !t.rules.health.is_empty())
    }

    fn deadline(&self) -> Duration {
        ALL + Duration::from_secs(1)
    }

    fn read(&self, trials: Arc<Vec<TrialTarget>>) -> BoxFuture<'_, Read> {
        Box::pin(async move { self.read_all(&trials).await })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            match self.client(Scheme::Https) {
                Some(_) => Ok("probes are made during a rollout, where the thresholds name some".into()),
                None => Err(format!("HTTPS probes cannot be made: {}", Fault::Client)),
            }
        })
    }

    fn malformed(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests;
