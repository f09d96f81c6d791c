//! The language of the stories: `stories/*.yaml`, read strictly.
use crate::{
    fail::{Context, Failure, Result},
    faults::Fault,
    wait,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// One story: a namespace of its own, workloads, a daemon, what happens, and what must be true then.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Story {
    /// From the file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// One sentence for `--list`.
    pub(crate) description: String,
    /// Row of the table of times: `errors 100 %`, `crash loop`, …; absent: not timed.
    #[serde(default)]
    pub(crate) timed: Option<String>,
    /// Takes long, so it begins first.
    #[serde(default)]
    pub(crate) long: bool,
    /// Absent: a story without a daemon.
    #[serde(default)]
    pub(crate) daemon: Option<DaemonSpec>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    pub(crate) expect: Vec<Expectation>,
}

/// The daemon of a story.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DaemonSpec {
    /// Merged over the suite's `lastgood.yaml`.
    #[serde(default)]
    pub(crate) settings: Value,
    /// Merged over the suite's `thresholds.yaml`.
    #[serde(default)]
    pub(crate) thresholds: Value,
    /// Whether it has a Prometheus.
    #[serde(default = "yes")]
    pub(crate) prometheus: bool,
    /// Whether it runs from the beginning; otherwise a `start` step starts it.
    #[serde(default = "yes")]
    pub(crate) running: bool,
}

/// One workload: Service and load included.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) name: String,
    #[serde(default = "deployment")]
    pub(crate) kind: String,
    #[serde(default = "three")]
    pub(crate) replicas: u32,
    pub(crate) image: String,
    /// Requests a second through its Service.
    #[serde(default)]
    pub(crate) load: Option<u32>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Merged over the whole object.
    #[serde(default)]
    pub(crate) set: Value,
    /// First applied with `--server-side`.
    #[serde(default)]
    pub(crate) server_side: bool,
}

/// One thing that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Step {
    /// The team changes its manifest and applies it.
    Deploy(Deploy),
    /// Somebody runs kubectl in the story's namespace.
    Kubectl(Call),
    /// Somebody runs lastgood in the story's namespace.
    Lastgood(Call),
    /// Something becomes true in time.
    Wait(Condition),
    /// Something stays untrue for a while.
    Never(Condition),
    /// Pods of an image behave otherwise from now on.
    Behave(Behave),
    /// What Prometheus answers this daemon from now on.
    Prometheus(Fault),
    /// Starts a daemon (`main`, or a second one by another name).
    Start(Start),
    /// SIGKILL.
    Kill(String),
    /// SIGTERM, and it must end by itself.
    Stop(String),
    /// Keeps the live template of a workload, to compare later.
    Remember(String),
    /// Writes a file of a daemon's configuration folder.
    WriteConfig(WriteConfig),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Behave {
    pub(crate) image: String,
    /// A tag: `errors-100`.
    pub(crate) like: String,
    /// As when somebody overwrites a tag: what runs already stays as it is.
    #[serde(default)]
    pub(crate) new_pods_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Deploy {
    pub(crate) workload: String,
    #[serde(default)]
    pub(crate) image: Option<String>,
    /// The container's whole environment.
    #[serde(default)]
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// Merged over the manifest.
    #[serde(default)]
    pub(crate) set: Value,
    #[serde(default)]
    pub(crate) server_side: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) stdin: Option<String>,
    /// Expected exit code.
    #[serde(default)]
    pub(crate) exit: i32,
    /// Texts that must occur in what it says (either stream).
    #[serde(default)]
    pub(crate) says: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Start {
    #[serde(default = "main")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) settings: Value,
    /// Whether to wait until it is ready; a daemon that is to die on the way is not.
    #[serde(default = "yes")]
    pub(crate) ready: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WriteConfig {
    #[serde(default = "main")]
    pub(crate) daemon: String,
    pub(crate) file: String,
    pub(crate) text: String,
}

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
    pub(crate) text: String,
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

/// Reads every story of a folder, in order of file names.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Story>> {
    let entries = std::fs::read_dir(folder).context(folder.display())?;
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|f| read(f)).collect()
}

fn read(file: &Path) -> Result<Story> {
    let text = std::fs::read_to_string(file).context(file.display())?;
    let mut story: Story =
        serde_saphyr::from_str(&text).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    story.name = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    for workload in &story.workloads {
        let tag = workload.image.rsplit_once(':').map_or("", |(_, tag)| tag);
        crate::kubelet::Behaviour::parse(tag).map_err(Failure::new).context(file.display())?;
    }
    Ok(story)
}

fn read_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    wait::duration(&String::deserialize(d)?).map_err(de::Error::custom)
}

fn read_optional_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    read_duration(d).map(Some)
}

fn yes() -> bool {
    true
}

fn main() -> String {
    "main".into()
}

fn deployment() -> String {
    "Deployment".into()
}

fn three() -> u32 {
    3
}

fn one() -> usize {
    1
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}
