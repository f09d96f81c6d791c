use crate::domain::{AppliedLimits, Finding, Kind, Revision};
use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One bad rollout and all that was done about it; what does not change after creation.
#[derive(Debug, Clone, Serialize, Deserialize, CustomResource, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "lastgood.dev",
    version = "v1",
    kind = "Incident",
    plural = "incidents",
    shortname = "inc",
    category = "lastgood",
    namespaced,
    status = "IncidentStatus",
    printcolumn = r#"{"name":"Workload","type":"string","jsonPath":".spec.workload.name"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Outcome","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Bad","type":"string","jsonPath":".spec.bad.images[0]"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.target.images[0]"}"#,
    printcolumn = r#"{"name":"Kind","type":"string","priority":1,"jsonPath":".spec.workload.kind"}"#,
    printcolumn = r#"{"name":"Why","type":"string","priority":1,"jsonPath":".spec.explanation"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct IncidentSpec {
    /// The workload whose rollout it was.
    pub workload: IncidentWorkload,
    /// Name of the environment, from the daemon's configuration.
    pub environment: String,
    /// The bad revision.
    pub bad: RevisionRef,
    /// The revision that an undo goes to; absent when nothing safe is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RevisionRef>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// Reason word of the verdict (`errors`, `crash_loop`, …) or `manual`.
    pub reason: String,
    /// The verdict in one sentence with numbers.
    pub explanation: String,
    /// The measurements behind the verdict.
    #[serde(default)]
    #[schemars(schema_with = "findings_schema")]
    pub findings: Vec<Finding>,
    /// Accumulated evidence (natural log of an e-value).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_e: Option<f64>,
    /// The limits that it was judged by: after a restart an undo is verified by the same.
    #[serde(default, skip_serializing_if = "AppliedLimits::is_empty")]
    pub limits: AppliedLimits,
    /// When the rollout began.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_began: Option<Timestamp>,
    /// When the new revision first did harm, as far as the data tells.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm_since: Option<Timestamp>,
    /// When the verdict fell.
    #[schemars(with = "String")]
    pub decided: Timestamp,
    /// `lease uid/transitions` of the leader that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// The API server keeps a finding as it is: `Finding` may grow without a new version of the CRD.
fn findings_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Names the workload of an incident (its namespace is the incident's own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentWorkload {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Uid: an object re-created under the same name is another workload.
    pub uid: String,
}

/// One revision as an incident names it. Never the template itself: templates can hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRef {
    /// Template hash.
    pub hash: Revision,
    /// Number that Kubernetes gave it at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Images of its containers.
    #[serde(default)]
    pub images: Vec<String>,
    /// Object that holds it: `ReplicaSet/x`, `ControllerRevision/x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// Who asked for an undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// `Lastgood` or the name of a person.
    pub by: String,
    /// Whether a person asked.
    pub manual: bool,
    /// What the person gave as reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How far an incident has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Only reported: a gate stood in the way (see the journal).
    #[default]
    Reported,
    /// The intent is stored; the patch may or may not have been sent.
    Intended,
    /// The patch is in the cluster; verification runs.
    Applied,
    /// The restored revision is proved healthy.
    Verified,
    /// The restored revision runs, but nothing measured it, so no proof could be given.
    Unproven,
    /// The restored revision runs and the fault is still there. No second try.
    DidNotHelp,
    /// Somebody deployed something newer, or the object changed: nothing was left to undo.
    Superseded,
    /// The undo could not be carried out or did not complete.
    Failed,
}

impl Phase {
    /// Whether nothing more will be done.
    pub fn is_final(self) -> bool {
        !matches!(self, Phase::Intended | Phase::Applied)
    }

    /// Whether a patch was applied to the workload under this incident (I1 counts these).
    pub fn was_applied(self) -> bool {
        matches!(self, Phase::Applied | Phase::Verified | Phase::Unproven | Phase::DidNotHelp)
    }

    /// The phase as a metric label and in text.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Reported => "reported",
            Phase::Intended => "intended",
            Phase::Applied => "applied",
            Phase::Verified => "verified",
            Phase::Unproven => "unproven",
            Phase::DidNotHelp => "did not help",
            Phase::Superseded => "superseded",
            Phase::Failed => "failed",
        }
    }
}

/// What changes while an incident is worked on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// How far it has come.
    pub phase: Phase,
    /// One sentence: what was done, or why nothing was.
    #[serde(default)]
    pub message: String,
    /// Id of the undo; it stands on the workload too once the patch is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_id: Option<String>,
    /// When the patch was applied.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Timestamp>,
    /// When verification must be over; kept across restarts.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_by: Option<Timestamp>,
    /// When the last phase was reached.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Everything that was done and seen, in order.
    #[serde(default)]
    pub journal: Vec<JournalEntry>,
    /// Fields of the restored template that could survive the team's next deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<String>,
    /// Delivery state of notices: the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// When.
    #[schemars(with = "String")]
    pub t: Timestamp,
    /// Short machine word: `decided`, `gate`, `dry-run`, `intent`, `patch`, `verify`, `hand-back`, `outcome`, …
    pub step: String,
    /// What happened, in one sentence.
    pub text: String,
}

/// One message to one channel, with its delivery state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Name of the notifier in the configuration.
    pub channel: String,
    /// Phase that it tells of.
    pub phase: Phase,
    /// Stable across retries and restarts: receivers can drop repeats.
    pub key: String,
    /// Whether the channel has accepted it.
    pub delivered: bool,
    /// How often it was tried.
    #[schemars(with = "i64")]
    pub attempts: u32,
    /// Why the last try failed; never a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
