//! Prometheus as Debian ships it: every annotated pod, every two seconds, and what kube-state-metrics says.
//!
//! Debian builds it without Kubernetes discovery, so its targets come from a file that follows the
//! pods; the labels are those that everybody's relabelling makes of them.
use super::Plane;
use crate::{
    fail::{Context, Result},
    process::Process,
    wait::{self, Missing},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::process::Command;

/// Where it listens.
pub(crate) const URL: &str = "http://127.0.0.1:9090";

const TARGETS: &str = "targets.json";
const STATE_TARGETS: &str = "state-targets.json";

/// Starts it in folder `run`, with this interval and deadline of scrapes, and waits until it answers.
pub(crate) async fn start(run: &Path, (every, within): (&str, &str)) -> Result<Process> {
    let config = run.join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: {every}, scrape_timeout: {within}, evaluation_interval: 1h}}
scrape_configs:
- job_name: pods
  file_sd_configs:
  - {{files: [{TARGETS}], refresh_interval: 2s}}
- job_name: kube-state-metrics
  honor_labels: true
  file_sd_configs:
  - {{files: [{STATE_TARGETS}], refresh_interval: 2s}}
"
    );
    std::fs::write(&config, text)?;
    write_targets(run, &[])?;
    write_state_targets(run, &[])?;
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", run.join("prometheus").display()))
        .args(["--storage.tsdb.retention.time=2h", "--web.listen-address=127.0.0.1:9090", "--log.level=warn"]);
    let mut process = Process::start("prometheus", command, &run.join("prometheus.log"))?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    wait::until("Prometheus is ready", Duration::from_secs(60), async || {
        process.must_live().map_err(Missing::for_ever)?;
        let answer = client.get(format!("{URL}/-/ready")).send().await.map_err(|e| e.to_string())?;
        answer.error_for_status().map(drop).map_err(|e| e.to_string().into())
    })
    .await?;
    Ok(process)
}

/// Keeps Prometheus' targets in step with the running, annotated pods, until the task is dropped.
pub(crate) async fn follow_pods(client: kube::Client, run: &Path) -> Result<()> {
    let mut events = watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().boxed();
    let mut targets: BTreeMap<String, Value> = BTreeMap::new();
    loop {
        let changed = match events.try_next().await {
            Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                let key = key(&pod);
                match target(&pod) {
                    Some(target) => targets.insert(key, target.clone()) != Some(target),
                    None => targets.remove(&key).is_some(),
                }
            }
            Ok(Some(watcher::Event::Delete(pod))) => targets.remove(&key(&pod)).is_some(),
            Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) | Err(_) => false,
            Ok(None) => return Ok(()),
        };
        if changed {
            write_targets(run, &targets.values().cloned().collect::<Vec<_>>())?;
        }
    }
}

/// Gives Prometheus in folder `run` its targets.
pub(crate) fn write_targets(run: &Path, all: &[Value]) -> Result<()> {
    replace(run, TARGETS, all)
}

/// Gives it those that tell of the cluster's objects.
pub(super) fn write_state_targets(run: &Path, all: &[Value]) -> Result<()> {
    replace(run, STATE_TARGETS, all)
}

fn replace(run: &Path, file: &str, all: &[Value]) -> Result<()> {
    let fresh = run.join(format!(".{file}"));
    std::fs::write(&fresh, serde_json::to_string(all)?)?;
    std::fs::rename(&fresh, run.join(file)).map_err(Into::into)
}

fn key(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn target(pod: &Pod) -> Option<Value> {
    let notes = pod.annotations();
    let status = pod.status.as_ref()?;
    if notes.get("prometheus.io/scrape")? != "true" || status.phase.as_deref() != Some("Running") {
        return None;
    }
    let port = notes.get("prometheus.io/port").map_or("8080", String::as_str);
    let node = pod.spec.as_ref()?.node_name.clone()?;
    Some(json!({
        "targets": [format!("{}:{port}", status.pod_ip.as_ref()?)],
        "labels": {"namespace": pod.namespace(), "pod": pod.name_any(), "node": node},
    }))
}

impl Plane {
    /// The samples of an instant query, as `(labels, value)`.
    pub(crate) async fn query(&self, promql: &str) -> Result<Vec<(Value, f64)>> {
        let answer = self
            .http
            .get(format!("{URL}/api/v1/query"))
            .query(&[("query", promql)])
            .send()
            .await?
            .error_for_status()
            .context(promql)?;
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        let samples = body["data"]["result"].as_array().context("no result")?;
        Ok(samples
            .iter()
            .map(|s| (s["metric"].clone(), s["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN)))
            .collect())
    }
}
