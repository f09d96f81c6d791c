//! Every metric as a typed function.
//!
//! Labels come from closed enums or lists only, never from names of workloads: series live for ever and
//! must stay few. The functions may be called before [`install`]; they then do nothing.

mod catalogue;
mod setup;

pub use catalogue::{CATALOGUE, Family, Type};
pub use setup::{Exporter, build, install, upkeep};

use crate::{
    config::NotifierKind,
    domain::{Seconds, Snapshot, Verdict},
    record::Phase,
};
use metrics::{counter, gauge, histogram};
use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// Labels that may appear for `source`; anything else is counted as `other`.
pub const SOURCES: [&str; 5] = ["prometheus", "scrape", "health", "pods", "other"];
/// Labels that may appear for `watch`; anything else is counted as `other`.
pub const WATCHES: [&str; 11] = [
    "deployments",
    "statefulsets",
    "daemonsets",
    "pods",
    "replicasets",
    "controllerrevisions",
    "incidents",
    "namespaces",
    "configmaps",
    "leases",
    "other",
];

/// Hash of the configuration in force. The exporter cannot forget a series, so this one is rendered by
/// [`Exporter`] itself: there is never more than one.
static CONFIG_HASH: RwLock<String> = RwLock::new(String::new());

fn closed(list: &'static [&'static str], text: &str) -> &'static str {
    list.iter().find(|known| known.eq_ignore_ascii_case(text)).copied().unwrap_or("other")
}

/// A verdict was given (once per change of verdict).
pub fn verdict(verdict: Verdict) {
    counter!("lastgood_verdicts_total", "verdict" => verdict.word(), "reason" => verdict.reason().unwrap_or("none"))
        .increment(1);
}

/// An incident reached this phase.
pub fn undo(phase: Phase) {
    counter!("lastgood_undos_total", "result" => phase_label(phase)).increment(1);
}

/// A gate stood in the way of an undo.
pub fn gate(gate: &'static str) {
    counter!("lastgood_gates_total", "gate" => gate).increment(1);
}

/// Live trials.
pub fn trials(count: usize) {
    gauge!("lastgood_trials").set(count as f64);
}

/// Undos under verification.
pub fn recoveries(count: usize) {
    gauge!("lastgood_recoveries").set(count as f64);
}

/// Decisions that wait for the executor.
pub fn decision_queue(length: usize) {
    gauge!("lastgood_decision_queue_length").set(length as f64);
}

/// One read of a source ended: whether it gave data, how long it took, and when (by the wall clock).
pub fn source_read(source: &str, ok: bool, took: Duration, at: Seconds) {
    let source = closed(&SOURCES, source);
    gauge!("lastgood_source_up", "source" => source).set(f64::from(u8::from(ok)));
    histogram!("lastgood_source_read_seconds", "source" => source).record(took.as_secs_f64());
    if ok {
        gauge!("lastgood_source_last_success_timestamp_seconds", "source" => source).set(at);
    }
}

/// Ticks at which a source's previous read still ran, since the start.
pub fn source_skipped(source: &str, total: u64) {
    counter!("lastgood_source_skipped_reads_total", "source" => closed(&SOURCES, source)).absolute(total);
}

fn peers_label(whole: bool) -> &'static str {
    if whole { "whole" } else { "missing" }
}

/// One read of workloads without a trial ended.
pub fn peers_read(whole: bool) {
    counter!("lastgood_peer_reads_total", "result" => peers_label(whole)).increment(1);
}

/// Rollouts that have passed and are looked at now and then.
pub fn late(count: usize) {
    gauge!("lastgood_late_watches").set(count as f64);
}

fn late_label(broken: bool) -> &'static str {
    if broken { "broke" } else { "recovered" }
}

/// A rollout that had passed broke, or keeps its limit again.
pub fn late_fault(broken: bool) {
    counter!("lastgood_late_faults_total", "result" => late_label(broken)).increment(1);
}

/// Workloads without a trial that are read now, and those that are too many to be read.
pub fn peers(read: usize, left_out: usize) {
    gauge!("lastgood_peers", "read" => "yes").set(read as f64);
    gauge!("lastgood_peers", "read" => "no").set(left_out as f64);
}

/// Seconds since the last message of a watch.
pub fn watch_staleness(watch: &str, seconds: Seconds) {
    gauge!("lastgood_watch_staleness_seconds", "watch" => closed(&WATCHES, watch)).set(seconds);
}

/// A watch had to be begun again.
pub fn watch_restarted(watch: &str) {
    counter!("lastgood_watch_restarts_total", "watch" => closed(&WATCHES, watch)).increment(1);
}

/// A malformed object was skipped. `kind` is the plural, as for watches.
pub fn object_skipped(kind: &str) {
    counter!("lastgood_objects_skipped_total", "kind" => closed(&WATCHES, kind)).increment(1);
}

/// From the first harm to the verdict.
pub fn detected(seconds: Seconds) {
    record("lastgood_detect_seconds", seconds);
}

/// From the verdict to the patch.
pub fn issued(seconds: Seconds) {
    record("lastgood_issue_seconds", seconds);
}

/// From the patch to the end of verification.
pub fn verified(seconds: Seconds) {
    record("lastgood_verify_seconds", seconds);
}

/// One look at all live trials took this long.
pub fn tick(took: Duration) {
    record("lastgood_tick_seconds", took.as_secs_f64());
}

/// A length of time that is not a number is not recorded; one below zero (steps of clocks) is zero.
fn record(name: &'static str, seconds: Seconds) {
    if seconds.is_finite() {
        histogram!(name).record(seconds.max(0.0));
    }
}

/// A delivery of a notice ended: `done`, `retry` or `gave_up`.
pub fn notice(kind: NotifierKind, result: &'static str) {
    counter!("lastgood_notices_total", "type" => notifier_label(kind), "result" => result).increment(1);
}

/// An incident report was written, or not.
pub fn report_written(ok: bool) {
    counter!("lastgood_reports_total", "result" => result_label(ok)).increment(1);
}

/// A Kubernetes Event was created, or not.
pub fn event_sent(ok: bool) {
    counter!("lastgood_events_total", "result" => result_label(ok)).increment(1);
}

/// One request to the API server ended; `verb` as in audit logs, `code` the HTTP status (0: no answer).
pub fn api_request(verb: &'static str, code: u16) {
    let class = match code {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "none",
    };
    counter!("lastgood_api_requests_total", "verb" => verb, "code" => class).increment(1);
}

/// The configuration in force; takes the place of the one before.
pub fn config_in_force(hash: &str) {
    let mut current = CONFIG_HASH.write().unwrap_or_else(PoisonError::into_inner);
    *current = hash.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
}

/// Whether the thresholds file that lies there now was refused.
pub fn thresholds_rejected(rejected: bool) {
    gauge!("lastgood_thresholds_rejected").set(f64::from(u8::from(rejected)));
}

/// Whether this replica leads.
pub fn leader(leads: bool) {
    gauge!("lastgood_leader").set(f64::from(u8::from(leads)));
}

/// Takes over what a snapshot tells of watches, sources, thresholds and leadership. Trials and recoveries are
/// not counted here: a snapshot also shows those that ended a while ago.
pub fn observe(snapshot: &Snapshot) {
    for label in WATCHES {
        let of_label = snapshot.watches.iter().filter(|(name, _)| closed(&WATCHES, name) == label);
        if let Some(worst) = of_label.map(|(_, age)| *age).filter(|a| a.is_finite()).reduce(f64::max) {
            watch_staleness(label, worst);
        }
    }
    for (name, state) in &snapshot.sources {
        let source = closed(&SOURCES, name);
        gauge!("lastgood_source_up", "source" => source).set(f64::from(u8::from(state.ok)));
        if let Some(t) = state.last_good {
            gauge!("lastgood_source_last_success_timestamp_seconds", "source" => source).set(t);
        }
    }
    if !snapshot.thresholds.hash.is_empty() {
        config_in_force(&snapshot.thresholds.hash);
    }
    thresholds_rejected(snapshot.thresholds.rejected.is_some());
    leader(snapshot.leader);
}

fn phase_label(phase: Phase) -> &'static str {
    match phase {
        Phase::DidNotHelp => "did_not_help",
        other => other.as_str(),
    }
}

fn notifier_label(kind: NotifierKind) -> &'static str {
    match kind {
        NotifierKind::Webhook => "webhook",
        NotifierKind::Slack => "slack",
    }
}

fn result_label(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

#[cfg(test)]
mod tests;
