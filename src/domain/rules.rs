use super::{Callee, Owner, Seconds};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// Whether Lastgood may act on a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Judge and report; write nothing to the workload. The default.
    Observe,
    /// Judge, undo, verify, report.
    Act,
    /// Do not look at it.
    Off,
}

impl Mode {
    /// As written in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Act => "act",
            Mode::Off => "off",
        }
    }
}

/// The validated rules of one workload: what is watched, with which limits, and what may be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Name of the policy that matched, or `defaults`.
    pub policy: String,
    /// Whether to act.
    pub mode: Mode,
    /// How long a rollout is watched after its first new pod is Ready.
    pub watch: Duration,
    /// How long after its begin a rollout is still looked at, every five minutes, once the watch is over.
    pub late_watch: Duration,
    /// Requests that a `pass` needs (else three hours must go by).
    pub min_requests: u64,
    /// The error limit.
    pub errors: ErrorLimit,
    /// The latency limit.
    pub latency: LatencyLimit,
    /// Where counts come from.
    pub metrics: MetricsRule,
    /// Workloads that it calls: what breaks there first is not its own doing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Callee>,
    /// Health probes.
    pub health: Vec<HealthProbe>,
    /// What is undone at once, what waits for a person, and what is only told.
    pub severity: SeverityRules,
    /// What an undo may do, and how often.
    pub undo: UndoRules,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            policy: "defaults".into(),
            mode: Mode::Observe,
            watch: Duration::from_secs(30 * 60),
            late_watch: Duration::from_secs(24 * 3600),
            min_requests: 300,
            errors: ErrorLimit { max: 0.05 },
            latency: LatencyLimit { quantile: 0.95, max_increase: 0.5, floor: Duration::from_millis(20) },
            metrics: MetricsRule::default(),
            calls: Vec::new(),
            health: Vec::new(),
            severity: SeverityRules::default(),
            undo: UndoRules::default(),
        }
    }
}

/// Share of requests that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorLimit {
    /// 0 < max < 1.
    pub max: f64,
}

/// How much slower a quantile may get.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyLimit {
    /// Which quantile, 0 < q < 1.
    pub quantile: f64,
    /// Allowed relative increase: 0.5 is +50 %.
    pub max_increase: f64,
    /// A quantile below this never breaks the limit.
    pub floor: Duration,
}

/// Where the counts of a workload come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsRule {
    /// Metric vocabulary.
    pub preset: Preset,
    /// Own queries; used with [`Preset::Custom`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomQueries>,
    /// Port of the pods' own `/metrics`, when annotations do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path of the pods' own metrics, when annotations do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Which metric names a workload (or the mesh around it) uses; apis.md 1.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Try the per-pod presets and keep what answers.
    #[default]
    Auto,
    /// Go promhttp and look-alikes: `http_requests_total`, `http_request_duration_seconds`.
    Go,
    /// Spring Boot with Micrometer.
    Spring,
    /// OpenTelemetry semantic conventions.
    Otel,
    /// gRPC servers.
    Grpc,
    /// Istio, measured at the caller's proxy.
    Istio,
    /// Linkerd, inbound.
    Linkerd,
    /// ingress-nginx.
    IngressNginx,
    /// Envoy Gateway.
    EnvoyGateway,
    /// Traefik.
    Traefik,
    /// Own queries.
    Custom,
}

/// Own PromQL for one policy. Each must return cumulative counters with the labels `namespace`
/// and `pod` (per pod) or `namespace` and `workload` (as callers see it).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomQueries {
    /// Requests answered.
    pub requests: String,
    /// Requests failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<String>,
    /// Latency buckets in seconds, with label `le`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
}

/// One health probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthProbe {
    /// Its name in reports.
    pub name: String,
    /// Who is asked.
    pub via: ProbeVia,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Port.
    pub port: u16,
    /// Path, starting with `/`.
    pub path: String,
    /// Deadline of one probe.
    pub timeout: Duration,
}

/// Who a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVia {
    /// Every pod under trial at its own address.
    Pod,
    /// A Service of the workload's namespace.
    Service(String),
}

/// Scheme of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS, verified.
    Https,
}

/// How bad a convicted rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is slower than allowed.
    Medium,
    /// It breaks the error limit, or does not come up while old pods serve.
    High,
    /// At least half of its requests fail, a probe fails on all its pods, or nothing is left that serves.
    Critical,
}

impl Severity {
    /// As written in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// What follows a conviction, by its severity. Critical ones are undone at once, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeverityRules {
    /// How long a high one waits for a person's fix before it is undone; zero does not wait.
    pub hotfix_window: Duration,
    /// Whether a medium one is only told.
    pub medium_is_told: bool,
}

/// What is to be done about a conviction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Response {
    /// Undo it now.
    Undo,
    /// A person may fix it until then; after that, undo it.
    Wait(Seconds),
    /// Tell it.
    Tell,
}

impl SeverityRules {
    /// What is to be done at `now` about what was first convicted at `since`.
    pub fn response(&self, severity: Severity, since: Seconds, now: Seconds) -> Response {
        let until = since + self.hotfix_window.as_secs_f64();
        match severity {
            Severity::Medium if self.medium_is_told => Response::Tell,
            Severity::High if now < until => Response::Wait(until),
            _ => Response::Undo,
        }
    }
}

/// What an undo may do, and how often.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoRules {
    /// Brake per workload.
    pub max_per_workload: Brake,
    /// Brake per namespace.
    pub max_per_namespace: Brake,
    /// Brake per cluster.
    pub max_per_cluster: Brake,
    /// How long verification may take.
    pub verify_within: Duration,
    /// Permission to evict stuck pods of the bad revision of a StatefulSet.
    pub evict_stuck_pods: bool,
    /// Owners that would revert us, but beside whom acting is allowed all the same.
    pub allow_owners: BTreeSet<Owner>,
}

impl Default for UndoRules {
    fn default() -> Self {
        Self {
            max_per_workload: Brake { count: 1, window: Duration::from_secs(3600) },
            max_per_namespace: Brake { count: 3, window: Duration::from_secs(600) },
            max_per_cluster: Brake { count: 5, window: Duration::from_secs(600) },
            verify_within: Duration::from_secs(600),
            evict_stuck_pods: false,
            allow_owners: BTreeSet::new(),
        }
    }
}

/// At most `count` undos in any `window`; written `3/10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Brake {
    /// How many.
    pub count: u32,
    /// In how long.
    pub window: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_high_ones_wait_and_only_medium_ones_are_told() {
        let default = SeverityRules::default();
        for severity in [Severity::Medium, Severity::High, Severity::Critical] {
            assert_eq!(default.response(severity, 100.0, 100.0), Response::Undo, "today's behaviour");
        }
        let patient = SeverityRules { hotfix_window: Duration::from_secs(600), medium_is_told: true };
        assert_eq!(patient.response(Severity::Critical, 100.0, 100.0), Response::Undo);
        assert_eq!(patient.response(Severity::High, 100.0, 699.0), Response::Wait(700.0));
        assert_eq!(patient.response(Severity::High, 100.0, 700.0), Response::Undo);
        assert_eq!(patient.response(Severity::Medium, 100.0, 9999.0), Response::Tell);
    }
}
