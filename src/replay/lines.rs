//! What a replay says: one line per change of a verdict, one summary per rollout. Pure.

use crate::domain::{LateWatch, RecoveryState, Revision, Seconds, Verdict, WorkloadId};
use serde::Serialize;

/// One line of output.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A verdict changed, or was acted on.
    Verdict(Box<VerdictLine>),
    /// What had passed broke later, or keeps its limit again.
    Late(Box<LateLine>),
    /// A rollout has ended, or the trace has.
    Summary(Box<Summary>),
}

impl Line {
    /// Whose line it is.
    pub fn workload(&self) -> &WorkloadId {
        match self {
            Self::Verdict(line) => &line.workload,
            Self::Late(line) => &line.seen.workload,
            Self::Summary(summary) => &summary.workload,
        }
    }
}

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Put back to the target.
    Undo,
    /// Told to people; a gate stands in the way of an undo.
    Report,
    /// Nothing.
    None,
}

impl Action {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Report => "report",
            Self::None => "none",
        }
    }
}

/// A verdict when it changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictLine {
    /// When.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// The revision that was serving.
    pub from: Revision,
    /// The revision on trial.
    pub to: Revision,
    /// The verdict and its reason.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What would be done.
    pub action: Action,
    /// What an undo would go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Revision>,
    /// Which gate stands in the way of an undo, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// The strongest evidence (natural log of an e-value).
    pub log_e: f64,
    /// One sentence.
    pub explanation: String,
}

/// What is seen of a rollout after it has passed. Nothing is done about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateLine {
    /// Always `late`.
    pub kind: &'static str,
    /// What is seen.
    #[serde(flatten)]
    pub seen: LateWatch,
}

impl From<LateWatch> for LateLine {
    fn from(seen: LateWatch) -> Self {
        Self { kind: "late", seen }
    }
}

/// How one rollout ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Always `summary`.
    pub kind: &'static str,
    /// Of which workload.
    pub workload: WorkloadId,
    /// The revision that was serving.
    pub from: Revision,
    /// The revision on trial.
    pub to: Revision,
    /// When the rollout began.
    pub began: Seconds,
    /// The verdict that counts: the one that was acted on, else the last.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What would have been done.
    pub action: Action,
    /// When, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<Seconds>,
    /// What an undo would have gone to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Revision>,
    /// Evidence of that verdict.
    pub log_e: f64,
    /// Its sentence.
    pub explanation: String,
    /// What the trace shows after an undo was decided. The world did not react to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Whether a newer rollout cut this one short.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

/// What followed a decision to undo.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct After {
    /// The last verdict of the rollout.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub verdict: Option<Verdict>,
    /// What the watch after the undo said, where the trace shows the undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryState>,
    /// The sentence of either.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub explanation: String,
}
