use super::{SecretFile, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// The daemon's own settings: `lastgood.yaml`, layered defaults < file < `LASTGOOD_…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the environment, used in reports and notices.
    pub environment: String,
    /// Name of the cluster, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Where `/metrics`, `/livez`, `/readyz` and the read-only API listen.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Time between two looks at all live trials.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Namespace of the daemon's own objects (Lease, cluster-wide pause).
    /// Empty: `POD_NAMESPACE`, else the kubeconfig's.
    pub namespace: String,
    /// Namespaces to watch; empty: all.
    pub namespaces: Vec<String>,
    /// Take turns with other replicas by a Lease.
    pub leader_election: bool,
    /// The thresholds file; relative to the folder of this file.
    pub thresholds: PathBuf,
    /// Log output.
    pub log: LogSettings,
    /// Incident reports.
    pub reports: ReportSettings,
    /// Where signals come from.
    pub sources: SourceSettings,
    /// Who is told.
    pub notifiers: Vec<NotifierSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            environment: "production".into(),
            cluster: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 9797)),
            interval: Duration::from_secs(15),
            namespace: String::new(),
            namespaces: Vec::new(),
            leader_election: true,
            thresholds: "thresholds.yaml".into(),
            log: LogSettings::default(),
            reports: ReportSettings::default(),
            sources: SourceSettings::default(),
            notifiers: Vec::new(),
        }
    }
}

/// Log output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogSettings {
    /// `json`, `pretty`, or `auto`: pretty on a terminal.
    pub format: LogFormat,
    /// A tracing filter: `info`, `lastgood=debug,info`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".into() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Incident reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReportSettings {
    /// Folder for `incident-<environment>-<date>-<time>-<id>.md`; relative to the working directory.
    pub folder: PathBuf,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self { folder: "logs/incidents".into() }
    }
}

/// Where signals come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceSettings {
    /// A Prometheus or something that speaks its API; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSettings>,
    /// Direct reads of the pods' `/metrics`.
    pub scrape: ScrapeSettings,
    /// Health probes.
    pub health: HealthSettings,
}

/// A Prometheus or something that speaks its API.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusSettings {
    /// Base URL, without `/api/v1`. Credentials inside it are refused.
    pub url: String,
    /// Deadline of one query.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<SecretFile>,
    /// Basic authentication: user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Basic authentication: password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<SecretFile>,
    /// Extra headers, e.g. `X-Scope-OrgID`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// CA bundle (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Client key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretFile>,
    /// Largest answer that is read, in bytes.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
    /// Most series that one answer may have.
    #[serde(default = "max_series")]
    pub max_series: usize,
}

impl fmt::Debug for PrometheusSettings {
    /// Names headers without their values: some carry keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, timeout, bearer_token_file, username, password_file, headers, .. } = self;
        let Self { ca_file, cert_file, key_file, max_bytes, max_series, .. } = self;
        f.debug_struct("PrometheusSettings")
            .field("url", url)
            .field("timeout", timeout)
            .field("bearer_token_file", bearer_token_file)
            .field("username", username)
            .field("password_file", password_file)
            .field("headers", &headers.keys())
            .field("ca_file", ca_file)
            .field("cert_file", cert_file)
            .field("key_file", key_file)
            .field("max_bytes", max_bytes)
            .field("max_series", max_series)
            .finish()
    }
}

/// Direct reads of the pods' `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScrapeSettings {
    /// `auto`: only when there is no Prometheus.
    pub enabled: Switch,
    /// Deadline of one pod.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Pods read at once.
    pub concurrency: usize,
    /// Largest answer that is read, in bytes.
    pub max_bytes: usize,
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self { enabled: Switch::Auto, timeout: Duration::from_secs(3), concurrency: 16, max_bytes: 4 << 20 }
    }
}

/// On, off, or decided by what else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Decided by what else is there.
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

/// Health probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthSettings {
    /// Probes in flight at once.
    pub concurrency: usize,
    /// Domain that Services live under.
    pub cluster_domain: String,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { concurrency: 16, cluster_domain: "cluster.local".into() }
    }
}

/// One channel that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifierSettings {
    /// Its name in Incidents, logs and metrics.
    pub name: String,
    /// What it speaks.
    #[serde(rename = "type")]
    pub kind: NotifierKind,
    /// The URL; a secret for Slack, so it comes from a file.
    pub url_file: SecretFile,
    /// Key of the HMAC-SHA256 signature (webhook).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<SecretFile>,
    /// Deadline of one delivery.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

/// What a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifierKind {
    /// Our own signed JSON.
    Webhook,
    /// A Slack incoming webhook.
    Slack,
}

fn address<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(d)?;
    text.trim().parse().map_err(|_| {
        let text = super::wrong::short(&text);
        serde::de::Error::custom(format!("\"{text}\" is not an address; write an IP and a port: 127.0.0.1:9797"))
    })
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn max_bytes() -> usize {
    32 << 20
}

fn max_series() -> usize {
    200_000
}
