//! The language of the stories: `stories/*.yaml`, read strictly.
use crate::{
    fail::{Context, Failure, Result},
    faults::Fault,
    plane::{Disturbance, second::Second},
    receiver::NoticesSpec,
    relay::Link,
    wanted::{Condition, Expectation},
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

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
    /// Disturbs what all share, so it is played when all others have ended.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Whether Prometheus knows what kube-state-metrics tells of its namespace.
    #[serde(default)]
    pub(crate) state_metrics: bool,
    /// Numbers of the fault cases that it shows; `tests/stories.rs` reads them.
    #[serde(default)]
    #[expect(dead_code, reason = "read by tests/stories.rs, and checked here")]
    pub(crate) faults: Vec<u8>,
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
    /// Where its notices go; absent: nowhere.
    #[serde(default)]
    pub(crate) notices: Option<NoticesSpec>,
    /// Whether it has a Prometheus.
    #[serde(default = "yes")]
    pub(crate) prometheus: bool,
    /// Whether what it observes is recorded, and the replay of that must decide as it did.
    #[serde(default)]
    pub(crate) replayed: bool,
    /// Whether it runs from the beginning; otherwise a `start` step starts it.
    #[serde(default = "yes")]
    pub(crate) running: bool,
}

impl DaemonSpec {
    /// Whether it takes part in an election.
    pub(crate) fn takes_turns(&self) -> bool {
        self.settings["leaderElection"] == true
    }
}

impl Start {
    /// The first daemon, as the story describes it.
    pub(crate) fn main() -> Self {
        Self { name: main(), env: BTreeMap::new(), settings: Value::Null, account: None, ready: true }
    }
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
    /// SIGSTOP to a daemon.
    Pause(String),
    /// SIGCONT.
    Resume(String),
    /// The way from a daemon to the API server.
    Api(Way),
    /// A second API server on the same etcd, which can fall behind.
    SecondApi(Second),
    /// Something happens to the control plane that all share.
    Plane(Disturbance),
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
    /// A ServiceAccount instead of a person: `namespace/name`; `STORY` is the story's namespace.
    #[serde(default, rename = "as")]
    pub(crate) account: Option<String>,
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
    /// Another ServiceAccount than the shipped one: `namespace/name`.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// Whether to wait until it is ready; a daemon that is to die on the way is not.
    #[serde(default = "yes")]
    pub(crate) ready: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Way {
    #[serde(default = "main")]
    pub(crate) daemon: String,
    #[serde(default = "open")]
    pub(crate) link: Link,
    /// Whether it leads to the second API server.
    #[serde(default)]
    pub(crate) second: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WriteConfig {
    #[serde(default = "main")]
    pub(crate) daemon: String,
    pub(crate) file: String,
    pub(crate) text: String,
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

fn yes() -> bool {
    true
}

fn main() -> String {
    "main".into()
}

fn open() -> Link {
    Link::Open
}

fn deployment() -> String {
    "Deployment".into()
}

fn three() -> u32 {
    3
}
