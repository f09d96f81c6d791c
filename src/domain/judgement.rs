use super::{Response, Revision, Rules, Seconds, Severity, WorkloadId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is said of a rollout at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is proved yet, either way.
    Watching,
    /// Good: time, requests and negative evidence.
    Pass,
    /// Bad, and it is this rollout's doing.
    Fail(FailReason),
    /// Something is wrong, but it is not (only) this rollout: never undone.
    Hold(HoldReason),
    /// Cannot tell: never undone.
    Unknown(UnknownReason),
}

impl Verdict {
    /// `watching`, `pass`, `fail`, `hold` or `unknown`.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Watching => "watching",
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Hold(_) => "hold",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// The reason as a metric label, if the verdict has one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Verdict::Watching | Verdict::Pass => None,
            Verdict::Fail(r) => Some(r.as_str()),
            Verdict::Hold(r) => Some(r.as_str()),
            Verdict::Unknown(r) => Some(r.as_str()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str(self.word()),
            Some(reason) => write!(f, "{}({reason})", self.word()),
        }
    }
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant),+ }
        impl $name {
            /// Every reason, in order of severity.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The reason as one word: metric label, JSON value, `verdict(reason)`.
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text),+ } }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

reasons! {
    /// Why a rollout is bad.
    FailReason {
        /// New pods crash again and again.
        CrashLoop = "crash_loop",
        /// New pods cannot get their image.
        ImagePull = "image_pull",
        /// New pods cannot be made from their configuration.
        ConfigError = "config_error",
        /// Kubernetes gave up waiting for progress.
        ProgressDeadline = "progress_deadline",
        /// A health or smoke probe fails on every new pod and did not before.
        Health = "health",
        /// The error limit is broken, and chance is ruled out.
        Errors = "errors",
        /// The latency limit is broken, and chance is ruled out.
        Latency = "latency",
    }
}

reasons! {
    /// Why something that is wrong is not undone.
    HoldReason {
        /// Old pods fail just as much in the same minutes (gate 1).
        OldVersion = "old_version",
        /// Peers without a rollout broke at the same time (gate 2).
        ClusterWide = "cluster_wide",
        /// The bad pods share one node (gates 2 and 5).
        Node = "node",
        /// A callee that we did not change broke first (gate 3).
        Dependency = "dependency",
        /// It was wrong before the rollout (gate 4).
        Before = "before",
        /// One pod of several is bad (gate 5).
        OnePod = "one_pod",
        /// The same hard fault shows on pods that are not of this rollout.
        Shared = "shared",
        /// No earlier revision was ever seen serving.
        NoBaseline = "no_baseline",
        /// Callers see it, but nothing tells this rollout from the cluster: no new pod is counted, no peer is there.
        Unattributed = "unattributed",
    }
}

reasons! {
    /// Why nothing can be told.
    UnknownReason {
        /// A source failed: timeout, refusal, partial answer.
        Source = "source",
        /// Monitoring itself is not sane: targets down, stale or restarted (gate 6).
        Monitoring = "monitoring",
        /// No source has measured anything.
        NoData = "no_data",
        /// Too few requests to say anything within the watch.
        TooFew = "too_few",
        /// The histogram cannot resolve the limit: it lies in the last bucket.
        Saturated = "saturated",
    }
}

/// One line of the table behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `errors`, `latency`, `health`, `pods`, …
    pub signal: String,
    /// Who measured it: `new pods`, `callers`, `cluster`, `probe <name>`.
    pub stream: String,
    /// What the new revision shows, for people: `8.1 % of 7512`.
    pub new: String,
    /// What the old pods show in the same minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What was seen before the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The limit, for people: `5 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Accumulated evidence against the limit (natural log of an e-value); 9.21 convicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_e: Option<f64>,
    /// When the fault began, by the start that explains the data best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Seconds>,
    /// Exact counts behind the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<FindingCounts>,
    /// What would have made this line clean: `at most 376 of 7512 fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_pass_if: Option<String>,
    /// What this line did: `convicts`, `clean`, `not enough`, `old pods fail too`, …
    pub says: String,
}

/// The exact counts behind a [`Finding`]; requests may be fractional after interpolation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingCounts {
    /// Bad requests of the new revision.
    pub new_bad: f64,
    /// All requests of the new revision.
    pub new_total: f64,
    /// Bad requests of old pods in the same minutes.
    pub old_bad: f64,
    /// All requests of old pods in the same minutes.
    pub old_total: f64,
    /// Bad requests before the rollout.
    pub before_bad: f64,
    /// All requests before the rollout.
    pub before_total: f64,
}

/// What is said of one rollout now, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// When it was said.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// Revision that was serving.
    pub from: Revision,
    /// Revision under trial.
    pub to: Revision,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The strongest evidence (natural log); 0 when there is none.
    pub log_e: f64,
    /// One plain sentence with numbers.
    pub explanation: String,
    /// The table behind it.
    pub findings: Vec<Finding>,
    /// How bad it is, when it is convicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Since when it is convicted without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convicted: Option<Seconds>,
    /// When the new revision first did harm, as far as the data tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm_since: Option<Seconds>,
    /// Whether the revision that was serving kept the limits before the rollout;
    /// `None` when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_good: Option<bool>,
    /// Whether it is convicted of being worse than the revision that was serving, which was beyond the limits
    /// itself: to go back mends what this one broke, and no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worse_than_before: bool,
    /// The limits as they applied to this rollout.
    #[serde(default, skip_serializing_if = "AppliedLimits::is_empty")]
    pub limits: AppliedLimits,
}

/// The limits as they applied to one rollout: what its own past made of the user's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLimits {
    /// Largest share of failed requests, if errors were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// The latency limit, if there was a past to take it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyCut>,
}

impl AppliedLimits {
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A latency limit: at most `1 - quantile` of the requests may take longer than `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyCut {
    /// Requests that take longer count as slow.
    pub seconds: f64,
    /// The quantile that lay at or below it before.
    pub quantile: f64,
}

/// What a verdict rested on: whatever comes instead must keep these limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conviction {
    /// Why the rollout was bad; `None` when a person decided.
    pub reason: Option<FailReason>,
    /// The limits that it was judged by.
    pub limits: AppliedLimits,
}

impl Judgement {
    /// What these rules say of it at `now`, if it convicts.
    pub fn response(&self, rules: &Rules, now: Seconds) -> Response {
        match self.severity {
            Some(severity) => rules.severity.response(severity, self.convicted.unwrap_or(self.t), now),
            None => Response::Undo,
        }
    }
}
