//! The half of the stories' language that says what must come true: conditions on the way, expectations at
//! the end.
use crate::wait;
use serde::{Deserialize, Deserializer, de};
use std::{collections::BTreeMap, time::Duration};

/// Everything that is given must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Condition {
    /// Of `wait`: the deadline. Of `never`: how long to look.
    #[serde(default = "a_minute", deserialize_with = "read_duration")]
    pub(crate) within: Duration,
    /// The rollout of this workload is complete, as `kubectl rollout status` means it.
    #[serde(default)]
    pub(crate) rolled_out: Option<String>,
    /// The users of a workload have sent so many requests since the step began.
    #[serde(default)]
    pub(crate) requests: Option<Requests>,
    #[serde(default)]
    pub(crate) pods: Option<Pods>,
    /// The live template's image.
    #[serde(default)]
    pub(crate) image: Option<Image>,
    #[serde(default)]
    pub(crate) incident: Option<IncidentIs>,
    /// The daemon has sent an undo for this workload.
    #[serde(default)]
    pub(crate) undone: Option<String>,
    #[serde(default)]
    pub(crate) verdict: Option<VerdictIs>,
    /// A query has at least one sample of at least this value.
    #[serde(default)]
    pub(crate) prometheus: Option<Query>,
    /// The log of the main daemon contains this text.
    #[serde(default)]
    pub(crate) log: Option<String>,
    /// This daemon has ended.
    #[serde(default)]
    pub(crate) ended: Option<String>,
    /// `/readyz` or `/metrics` of the main daemon contains this text.
    #[serde(default)]
    pub(crate) serves: Option<Serves>,
    /// An Event on the workload has this reason.
    #[serde(default)]
    pub(crate) event: Option<EventIs>,
    /// So many notices have come to a channel, accepted or not.
    #[serde(default)]
    pub(crate) notice: Option<NoticeIs>,
    /// This daemon stands still: SIGSTOP, its own or ours.
    #[serde(default)]
    pub(crate) stopped: Option<String>,
    /// The daemon has begun so many watches of this resource from the beginning.
    #[serde(default)]
    pub(crate) relisted: Option<Relisted>,
    /// The API server has answered so many of the daemon's requests with a code.
    #[serde(default)]
    pub(crate) answered: Option<Answered>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Requests {
    pub(crate) workload: String,
    pub(crate) at_least: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Pods {
    pub(crate) workload: String,
    #[serde(default)]
    pub(crate) image: Option<String>,
    #[serde(default)]
    pub(crate) waiting: Option<String>,
    #[serde(default)]
    pub(crate) ready: Option<bool>,
    #[serde(default)]
    pub(crate) restarts: Option<i64>,
    #[serde(default = "one")]
    pub(crate) at_least: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Image {
    pub(crate) workload: String,
    pub(crate) is: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IncidentIs {
    pub(crate) workload: String,
    /// One of these phases; empty: any.
    #[serde(default)]
    pub(crate) phase: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VerdictIs {
    pub(crate) workload: String,
    /// `pass`, `fail(errors)`, `unknown`, …: the beginning is enough.
    pub(crate) is: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Query {
    /// `NAMESPACE` stands for the story's.
    pub(crate) query: String,
    pub(crate) at_least: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Serves {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) text: String,
    /// The status of the answer.
    #[serde(default)]
    pub(crate) code: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventIs {
    pub(crate) workload: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) text: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NoticeIs {
    pub(crate) channel: String,
    #[serde(default)]
    pub(crate) phase: Option<String>,
    #[serde(default = "one")]
    pub(crate) at_least: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Relisted {
    pub(crate) resource: String,
    #[serde(default = "one")]
    pub(crate) at_least: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Answered {
    pub(crate) code: u16,
    #[serde(default = "one")]
    pub(crate) at_least: usize,
}

/// What must be true of one workload at the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) workload: String,
    /// The live template's image.
    #[serde(default)]
    pub(crate) image: Option<String>,
    /// Every pod runs this image and is Ready.
    #[serde(default)]
    pub(crate) pods_run: Option<String>,
    /// `spec.replicas`.
    #[serde(default)]
    pub(crate) replicas: Option<i64>,
    /// The container's whole environment.
    #[serde(default)]
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// The live template equals the remembered one, byte for byte.
    #[serde(default)]
    pub(crate) template_as_remembered: bool,
    /// Successful patches of the template by the daemon, exactly.
    #[serde(default)]
    pub(crate) undos: Option<usize>,
    /// The same for all workloads of the story together.
    #[serde(default)]
    pub(crate) undos_in_namespace: Option<usize>,
    /// No write to the workload at all, dry runs aside.
    #[serde(default)]
    pub(crate) no_writes: bool,
    /// Number of Incidents.
    #[serde(default)]
    pub(crate) incidents: Option<usize>,
    /// The last Incident.
    #[serde(default)]
    pub(crate) incident: Option<IncidentExpected>,
    /// From first harm to the patch.
    #[serde(default, deserialize_with = "read_optional_duration")]
    pub(crate) undo_within: Option<Duration>,
    /// From the third restart to the patch.
    #[serde(default, deserialize_with = "read_optional_duration")]
    pub(crate) undo_within_of_third_restart: Option<Duration>,
    /// A report lies in the reports folder and contains these texts.
    #[serde(default)]
    pub(crate) report: Option<Vec<String>>,
    /// No manager but these owns a field of the template.
    #[serde(default)]
    pub(crate) template_owners: Option<Vec<String>>,
    /// Pods that the daemon evicted, exactly.
    #[serde(default)]
    pub(crate) evictions: Option<usize>,
    /// ControllerRevisions that the daemon created as pins, at least.
    #[serde(default)]
    pub(crate) pins: Option<usize>,
    /// Notices that each channel accepted: their phases, in order.
    #[serde(default)]
    pub(crate) notices: BTreeMap<String, Vec<String>>,
    /// The daemon's write requests in the namespace, refused ones and dry runs included: no storm of retries.
    #[serde(default)]
    pub(crate) writes_at_most: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IncidentExpected {
    #[serde(default)]
    pub(crate) phase: Vec<String>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) bad: Option<String>,
    #[serde(default)]
    pub(crate) target: Option<String>,
    #[serde(default)]
    pub(crate) manual: Option<bool>,
    /// Texts in `status.message`, the explanation or the journal.
    #[serde(default)]
    pub(crate) says: Vec<String>,
}

fn read_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    wait::duration(&String::deserialize(d)?).map_err(de::Error::custom)
}

fn read_optional_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    read_duration(d).map(Some)
}

fn one() -> usize {
    1
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}
