//! The language of the stories: `stories/*.yaml`, read strictly. A story is data: the same steps are played to the
//! end, played with a daemon that dies at every write, and made by the generator.

use lastgood::{config::parse_duration, sim::Behaviour};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, time::Duration};

/// One story.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Story {
    /// From the file's name.
    #[serde(skip)]
    pub name: String,
    pub description: String,
    /// Numbers of the fault cases that it shows; `tests/faults.rs` reads them.
    #[serde(default)]
    pub faults: Vec<u8>,
    pub workloads: Vec<Workload>,
    /// What images do; those that are not named are good services.
    #[serde(default)]
    pub images: BTreeMap<String, Behaviour>,
    /// Merged over the suite's thresholds.
    #[serde(default)]
    pub thresholds: Value,
    /// Merged over the suite's settings.
    #[serde(default)]
    pub settings: Value,
    pub steps: Vec<Step>,
    /// How long the daemon is watched after the last step before the end is looked at.
    #[serde(default = "four_minutes", deserialize_with = "duration")]
    pub settle: Duration,
    #[serde(default)]
    pub expect: Vec<Expected>,
    /// Whether the daemon is also killed at each of its writes. Stories in which time itself decides are not.
    #[serde(default)]
    pub crash: bool,
    /// Why a replay of what the daemon was told convicts otherwise, where it does: what is not in a trace.
    #[serde(default)]
    pub replayed_otherwise: Option<String>,
}

/// One workload with its Service and its users.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    pub name: String,
    #[serde(default = "shop")]
    pub namespace: String,
    #[serde(default = "deployment")]
    pub kind: String,
    #[serde(default = "three")]
    pub replicas: u32,
    pub image: String,
    /// Requests a second.
    #[serde(default = "thirty")]
    pub load: f64,
    /// Workloads of its namespace that it needs for each of its answers; its annotation says so.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Merged over the whole object.
    #[serde(default)]
    pub set: Value,
}

/// One thing that happens, at a time or when something holds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Time since the step before, or since what `when` waits for.
    #[serde(default, deserialize_with = "duration")]
    pub after: Duration,
    /// First this must come true.
    #[serde(default)]
    pub when: Option<When>,
    /// Which workload; `namespace/name`, or a name in `shop`.
    #[serde(default)]
    pub workload: String,
    #[serde(flatten)]
    pub act: Act,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Another image is deployed.
    Deploy(String),
    /// Any change of the object: merged over it (RFC 7386).
    Edit(Value),
    /// `kubectl rollout restart`.
    Restart(bool),
    Scale(u32),
    Pause(bool),
    Delete(bool),
    /// Deleted and made anew at once, with this image.
    Recreate(String),
    /// An image does something else from now on, also where it runs.
    Image {
        name: String,
        does: Behaviour,
    },
    /// So many requests a second.
    Load(f64),
    /// A share of all requests of all services fails from now on.
    Outage(f64),
    /// Other thresholds, merged over the suite's; what is no mapping is a broken file.
    Thresholds(Value),
    /// The daemon is asked to stop, and started again.
    RestartDaemon(bool),
    /// `kubectl delete pods` of all pods.
    DeletePods(bool),
    /// An object is removed.
    Remove {
        resource: String,
        name: String,
    },
    /// From now on requests of the daemon go wrong.
    Api(Fault),
    /// All of that ends.
    Heal(bool),
    /// A version of the cluster is kept, for `stale`.
    Remember(bool),
    /// The daemon reads from an API server that stands still: as it is now, or (`remembered`) as it was then.
    Stale(Age),
    /// etcd forgets old versions.
    Compact(bool),
    /// The folder of reports is lost; with `true` it cannot be made again either, until it is `false`.
    BreakDisk(bool),
    /// Merged over every Incident, as another version of Lastgood would write it.
    Incidents(Value),
    /// Nothing but time.
    #[expect(dead_code, reason = "YAML wants a value")]
    Nothing(bool),
}

/// What goes wrong with requests of the daemon.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// `refuse`, `deny`, `resetBefore`, `resetAfter`, `lost`, `lostAnswer`, `garbage`, `truncated`, `cutWatch`,
    /// `silentWatch`, `doubledWatch`, `reversedWatch`: see `lastgood::sim::Fault`.
    pub how: String,
    /// Of `refuse` and `deny`.
    #[serde(default)]
    pub status: u16,
    /// Of `refuse`, in seconds.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// `all`, `reads`, `writes`, `watches`, `streamingLists`, `furtherPages`, `undo`, `incidents`.
    pub only: String,
    #[serde(default)]
    pub times: Option<usize>,
    #[serde(default)]
    pub chance: Option<f64>,
}

/// Which old version is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Age {
    Now,
    Remembered,
}

/// What a step waits for; at most half an hour.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// The live image.
    #[serde(default)]
    pub image: Option<String>,
    /// The phase of the newest Incident of the workload.
    #[serde(default)]
    pub phase: Option<String>,
    /// All pods are of the live template and Ready.
    #[serde(default)]
    pub rolled_out: bool,
}

/// What must be true of one workload at the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    pub workload: String,
    /// The live image.
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub replicas: Option<u64>,
    /// Applied undos of this workload.
    #[serde(default)]
    pub undos: Option<usize>,
    /// Phases of its Incidents, oldest first.
    #[serde(default)]
    pub phases: Option<Vec<String>>,
    /// Why, as the newest Incident says it: `errors`, `crash_loop`, …
    #[serde(default)]
    pub reason: Option<String>,
    /// What the newest Incident says somewhere.
    #[serde(default)]
    pub says: Vec<String>,
    /// What its Events say of a verdict that was held, one of them at least.
    #[serde(default)]
    pub held: Option<String>,
    /// What its Events of a reason say, one of them at least; without a text, there is none of that reason.
    #[serde(default)]
    pub events: BTreeMap<String, Option<String>>,
    /// Pods that were evicted.
    #[serde(default)]
    pub evictions: Option<usize>,
}

/// Every story of the folder, in order of names.
pub fn all() -> Vec<Story> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/stories");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// One story by name.
pub fn named(name: &str) -> Story {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sim/stories/{name}.yaml")))
}

fn read(file: &Path) -> Story {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut story: Story = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    story.name = file.file_stem().unwrap().to_string_lossy().into_owned();
    story
}

/// `namespace/name` of a workload as stories name it.
pub fn place(workload: &str) -> (&str, &str) {
    workload.split_once('/').unwrap_or(("shop", workload))
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
}

fn four_minutes() -> Duration {
    Duration::from_secs(240)
}

fn shop() -> String {
    "shop".into()
}

fn deployment() -> String {
    "Deployment".into()
}

fn three() -> u32 {
    3
}

fn thirty() -> f64 {
    30.0
}
