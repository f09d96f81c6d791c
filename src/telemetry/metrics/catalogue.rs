//! The catalogue: name, type, help and buckets of every metric.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution over these upper bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: Type,
    /// Help text.
    pub help: &'static str,
}

/// Reads over the network: 5 ms to their deadline.
const READ: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Computation: 0.1 ms to seconds.
const TICK: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
/// From harm to verdict: seconds for a crash loop, tens of minutes for a creeping fault.
const DETECT: &[f64] =
    &[5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 10800.0];
/// From verdict to patch: a few requests.
const ISSUE: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// From patch to proof: pods start, samples come.
const VERIFY: &[f64] = &[5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 450.0, 600.0, 900.0, 1800.0];

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Gauge, help }
}

const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Family {
    Family { name, kind: Type::Histogram(buckets), help }
}

/// All metrics that the recorder knows. (`lastgood_config_info` is rendered beside it.)
pub const CATALOGUE: &[Family] = &[
    gauge("lastgood_build_info", "Constant 1, with the version that runs."),
    counter("lastgood_verdicts_total", "Changes of verdict, by verdict and reason."),
    counter("lastgood_undos_total", "Incidents that reached a phase, by phase."),
    counter("lastgood_gates_total", "Undos that a gate stood in the way of, by gate."),
    gauge("lastgood_trials", "Rollouts under watch now."),
    gauge("lastgood_recoveries", "Undos under verification now."),
    gauge("lastgood_decision_queue_length", "Decisions that wait for the executor."),
    gauge("lastgood_source_up", "Whether the last read of a source gave data."),
    histogram("lastgood_source_read_seconds", READ, "Time that one read of a source took."),
    gauge("lastgood_source_last_success_timestamp_seconds", "When a source last gave data, Unix time."),
    counter("lastgood_source_skipped_reads_total", "Reads left out because the one before still ran."),
    counter("lastgood_peer_reads_total", "Reads of workloads without a trial: witnesses, and those that passed."),
    gauge("lastgood_late_watches", "Rollouts that have passed and are looked at now and then."),
    counter("lastgood_late_faults_total", "Rollouts that broke after they had passed, or keep their limit again."),
    gauge("lastgood_peers", "Workloads without a trial that are read now, or too many to be read."),
    gauge("lastgood_watch_staleness_seconds", "Time since the last message of a watch."),
    counter("lastgood_watch_restarts_total", "Watches that had to be begun again."),
    counter("lastgood_objects_skipped_total", "Malformed objects that were skipped."),
    histogram("lastgood_detect_seconds", DETECT, "Time from the first harm to the verdict."),
    histogram("lastgood_issue_seconds", ISSUE, "Time from the verdict to the patch."),
    histogram("lastgood_verify_seconds", VERIFY, "Time from the patch to the end of verification."),
    histogram("lastgood_tick_seconds", TICK, "Time that one look at all live trials took."),
    counter("lastgood_notices_total", "Deliveries of notices, by type of channel and result."),
    counter("lastgood_reports_total", "Incident reports written, by result."),
    counter("lastgood_events_total", "Kubernetes Events created, by result."),
    gauge("lastgood_thresholds_rejected", "1 while the thresholds file that lies there is not in force."),
    gauge("lastgood_leader", "1 while this replica leads."),
    counter("lastgood_api_requests_total", "Requests to the API server, by verb and class of answer."),
];
