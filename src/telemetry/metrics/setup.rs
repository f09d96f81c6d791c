//! Installing the recorder, rendering it, and keeping its memory bounded.

use super::{
    CATALOGUE, CONFIG_HASH, SOURCES, Type, late_label, notifier_label, peers_label, phase_label, result_label,
};
use crate::{
    config::NotifierKind,
    domain::{FailReason, HoldReason, UnknownReason, Verdict},
    record::Phase,
    telemetry::TelemetryError,
};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::{
    fmt::Write,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Renders what was recorded, in the Prometheus text format 0.0.4.
#[derive(Clone, Debug)]
pub struct Exporter {
    handle: PrometheusHandle,
}

impl Exporter {
    /// All metrics as text.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        let hash = CONFIG_HASH.read().unwrap_or_else(PoisonError::into_inner);
        if !hash.is_empty() {
            let _ = write!(
                text,
                "# HELP lastgood_config_info Constant 1, with the hash of the thresholds in force.\n\
                 # TYPE lastgood_config_info gauge\nlastgood_config_info{{hash=\"{hash}\"}} 1\n"
            );
        }
        text
    }

    /// [`Exporter::render`] as a shared function, as `serve` takes it.
    pub fn renderer(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let exporter = self.clone();
        Arc::new(move || exporter.render())
    }

    /// Moves waiting samples of histograms into their buckets.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Makes a recorder that is not installed; for tests and benches.
///
/// # Errors
/// A bucket list is empty.
pub fn build() -> Result<(PrometheusRecorder, Exporter), TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for family in CATALOGUE {
        if let Type::Histogram(buckets) = family.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)
                .map_err(|e| TelemetryError::Metrics(format!("{}: {e}", family.name)))?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, begin);
    Ok((recorder, Exporter { handle }))
}

/// Installs the recorder of this process. Run [`upkeep`] beside it.
///
/// # Errors
/// A recorder is installed already.
pub fn install() -> Result<Exporter, TelemetryError> {
    let (recorder, exporter) = build()?;
    metrics::set_global_recorder(recorder).map_err(|e| TelemetryError::Metrics(e.to_string()))?;
    Ok(exporter)
}

/// Runs the recorder's upkeep every five seconds, for ever; without it histograms grow (stack.md, trap 16).
pub async fn upkeep(exporter: Exporter) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        exporter.run_upkeep();
    }
}

/// Describes every metric and begins counters at zero, so that the first increase is seen by `rate`.
fn begin() {
    for family in CATALOGUE {
        match family.kind {
            Type::Counter => describe_counter!(family.name, family.help),
            Type::Gauge => describe_gauge!(family.name, family.help),
            Type::Histogram(_) => describe_histogram!(family.name, family.help),
        }
    }
    gauge!("lastgood_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for verdict in verdicts() {
        let reason = verdict.reason().unwrap_or("none");
        counter!("lastgood_verdicts_total", "verdict" => verdict.word(), "reason" => reason).absolute(0);
    }
    for phase in PHASES {
        counter!("lastgood_undos_total", "result" => phase_label(phase)).absolute(0);
    }
    for kind in [NotifierKind::Webhook, NotifierKind::Slack] {
        for result in ["done", "retry", "gave_up"] {
            counter!("lastgood_notices_total", "type" => notifier_label(kind), "result" => result).absolute(0);
        }
    }
    for ok in [true, false] {
        counter!("lastgood_reports_total", "result" => result_label(ok)).absolute(0);
        counter!("lastgood_events_total", "result" => result_label(ok)).absolute(0);
    }
    for source in SOURCES.into_iter().filter(|s| *s != "other") {
        counter!("lastgood_source_skipped_reads_total", "source" => source).absolute(0);
    }
    for whole in [true, false] {
        counter!("lastgood_peer_reads_total", "result" => peers_label(whole)).absolute(0);
        counter!("lastgood_late_faults_total", "result" => late_label(whole)).absolute(0);
    }
    super::peers(0, 0);
    for name in ["lastgood_trials", "lastgood_recoveries", "lastgood_decision_queue_length"] {
        gauge!(name).set(0.0);
    }
    gauge!("lastgood_thresholds_rejected").set(0.0);
    gauge!("lastgood_leader").set(0.0);
}

const PHASES: [Phase; 8] = [
    Phase::Reported,
    Phase::Intended,
    Phase::Applied,
    Phase::Verified,
    Phase::Unproven,
    Phase::DidNotHelp,
    Phase::Superseded,
    Phase::Failed,
];

fn verdicts() -> impl Iterator<Item = Verdict> {
    [Verdict::Watching, Verdict::Pass]
        .into_iter()
        .chain(FailReason::ALL.iter().copied().map(Verdict::Fail))
        .chain(HoldReason::ALL.iter().copied().map(Verdict::Hold))
        .chain(UnknownReason::ALL.iter().copied().map(Verdict::Unknown))
}
