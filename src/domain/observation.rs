use super::{Buckets, PodId, Revision, Seconds, WorkloadId};
use serde::{Deserialize, Serialize};

/// The name under which workloads without a trial are read, all as one source. While it is not `ok`, a conviction that
/// has nobody else to be compared with waits for a while; it is nobody's outage.
pub const PEERS: &str = "peers";

/// One observation with its time: one line of a trace (decision.md, "The trace format").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When it was measured.
    pub t: Seconds,
    /// What was measured.
    #[serde(flatten)]
    pub what: Observation,
}

/// Everything that a decision may know. What is not here cannot influence a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Observation {
    /// First line of a trace.
    Trace {
        /// Version of the format: 1.
        version: u32,
        /// What the trace shows.
        #[serde(default)]
        title: String,
    },
    /// A workload, its size and what it calls.
    Workload {
        /// Which one.
        workload: WorkloadId,
        /// Desired replicas.
        replicas: u32,
        /// All workloads that it calls; nothing is said of them where this is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calls: Option<Vec<WorkloadId>>,
    },
    /// The state of one pod; replaces what was known of that pod. Few observations are one, and it is the largest.
    Pod(Box<PodState>),
    /// A rollout begins.
    Rollout {
        /// Which workload.
        workload: WorkloadId,
        /// Revision that was serving.
        from: Revision,
        /// Revision that is being rolled out.
        to: Revision,
        /// How many observations of its past follow, in a recording: what the daemon read when it began to watch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<usize>,
    },
    /// Something that Kubernetes says about the rollout.
    Condition {
        /// Which workload.
        workload: WorkloadId,
        /// What it says.
        #[serde(rename = "type")]
        condition: RolloutCondition,
    },
    /// Cumulative counters of one pod, as scraped. A missing scrape is a missing observation.
    Counters {
        /// Which pod.
        pod: PodId,
        /// The counts.
        #[serde(flatten)]
        counts: Counts,
    },
    /// Memory that the containers of one pod hold now.
    Memory {
        /// Which pod.
        pod: PodId,
        /// Bytes.
        bytes: f64,
    },
    /// Cumulative counters of the whole workload as its callers or the ingress see it.
    Callers {
        /// Which workload.
        workload: WorkloadId,
        /// The counts.
        #[serde(flatten)]
        counts: Counts,
    },
    /// The answer to one probe.
    Probe(ProbeResult),
    /// Issues that an error tracker attributes to a revision.
    Issues {
        /// Which workload.
        workload: WorkloadId,
        /// Which revision.
        revision: Revision,
        /// Which tracker.
        source: String,
        /// Issues first seen in this revision.
        #[serde(default, rename = "newIssues")]
        new_issues: u64,
        /// Events of those issues.
        #[serde(default)]
        events: u64,
        /// Users who met them.
        #[serde(default)]
        users: u64,
    },
    /// The state of a source at this tick: its read failed, or works (again).
    Source {
        /// Which source, e.g. `prometheus`.
        source: String,
        /// Whether the read succeeded.
        ok: bool,
        /// Why it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The daemon looked: what it had observed until then was judged at this time. What comes after this with an
    /// earlier time was not known yet.
    Look {
        /// Whether peers were not heard yet, who are asked when evidence begins to rise: then it convicted nobody.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unheard: bool,
    },
    /// Last line of a trace.
    End {},
}

impl From<PodState> for Observation {
    fn from(state: PodState) -> Self {
        Self::Pod(Box::new(state))
    }
}

/// What Kubernetes says about a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RolloutCondition {
    /// `Progressing=False`, reason `ProgressDeadlineExceeded`.
    ProgressDeadlineExceeded,
    /// `spec.paused`.
    Paused,
    /// The workload is gone or going.
    Deleted,
    /// Nobody looks at it from here on: its trial ends as it stands. Only a trace says so.
    WatchEnded,
}

/// The state of one pod, without anything a decision does not need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// Which pod.
    pub pod: PodId,
    /// Whose pod.
    pub workload: WorkloadId,
    /// Of which revision.
    pub revision: Revision,
    /// Where it runs, once bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether its Ready condition is true.
    #[serde(default)]
    pub ready: bool,
    /// Sum of the restarts of its containers.
    #[serde(default)]
    pub restarts: u32,
    /// `state.waiting.reason` of a container, e.g. `CrashLoopBackOff`, `ImagePullBackOff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Exit code of the last terminated container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether the last terminated container was killed for memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Whether the pod is gone or terminating.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// What its containers may hold together, in bytes, if each has a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<f64>,
    /// When it was created, if known. A counter first seen on a pod created inside the watch counts in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Seconds>,
    /// When it last became Ready, if it is Ready and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Seconds>,
}

impl PodState {
    /// A pod of which nothing else is known: not Ready, never restarted.
    pub fn new(pod: PodId, workload: WorkloadId, revision: Revision) -> Self {
        Self {
            pod,
            workload,
            revision,
            node: None,
            ready: false,
            restarts: 0,
            waiting: None,
            exit_code: None,
            oom_killed: false,
            deleted: false,
            memory_limit: None,
            created: None,
            ready_since: None,
        }
    }
}

/// Cumulative counts. An absent key is not measured; it is never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    /// Requests that failed on the server's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// How long they took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Buckets>,
}

/// The answer to one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Whose probe.
    pub workload: WorkloadId,
    /// Revision that answered, where the probe can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The pod that was asked; absent when the Service was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodId>,
    /// Name of the probe.
    pub name: String,
    /// What it said.
    pub outcome: ProbeOutcome,
    /// `health` (default) or `smoke`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub probe_type: Option<String>,
    /// Why, for people: status, timeout, connect, TLS, body. Never the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a probe said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeOutcome {
    /// Healthy.
    Pass,
    /// Not healthy.
    Fail,
    /// Cannot tell: neither evidence for nor against.
    Error,
}
