//! Plays a story: lives of daemons, one after another, in one cluster that outlives them all; then gathers the evidence.

use crate::{
    invariants::{Evidence, State, Verified, Write},
    life::{self, CHANNELS, Config, Life, Receivers},
    story::{Act, Age, Expected, Step, Story, When as Condition, place},
    team,
};
use jiff::{SignedDuration, Timestamp};
use lastgood::{
    clock::seconds,
    cluster::TemplateMark,
    domain::Observed,
    sim::{Audited, Faults, Key, Resource, Sim, Stale, Store, When, World, Written, store::Entry},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::Notify;

/// The daemon's user.
pub const DAEMON: &str = "lastgood";
/// How long the cluster runs before anybody looks: what was deployed then is old.
const AGE: SignedDuration = SignedDuration::from_hours(3);
/// How long the daemon watches before the first step.
const QUIET: Duration = Duration::from_secs(60);
/// How long nobody watches after a crash.
const DOWN: Duration = Duration::from_secs(3);
/// No story takes as long as this, of everybody's time.
const ENDLESS: Duration = Duration::from_secs(300);
/// How long a step waits at most.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How a story is played.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// The daemon dies at this moment of its n-th write.
    pub crash: Option<(usize, When)>,
    /// The daemon also dies this long after the first step is due, each time.
    pub deaths: Vec<Duration>,
    /// Other daemons that run all the time beside it, and how far their clocks are off.
    pub others: Vec<(&'static str, i64)>,
    /// Whether what the analysis is told is kept.
    pub record: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seed: 1, crash: None, deaths: Vec::new(), others: Vec::new(), record: false }
    }
}

/// What is left when a story has ended.
pub struct Played {
    pub sim: Sim,
    pub evidence: Evidence,
    /// The writes of the first life.
    pub writes: Vec<Written>,
    pub lives: usize,
    pub audit: Vec<Audited>,
    /// As recorded.
    pub tape: Vec<Observed>,
    _folder: TempDir,
}

/// Where a story stands; it goes on there in the next life.
struct Progress {
    step: usize,
    /// When the condition of this step came true, and when it is due.
    due: Option<Timestamp>,
    began: Timestamp,
    config: Config,
    settled: Timestamp,
    /// When workloads were armed: each change of thresholds.
    armed: Vec<(f64, String)>,
    remembered: Option<Arc<Store>>,
    /// What etcd has forgotten since.
    forgotten: Vec<Entry>,
}

enum Ended {
    Settled,
    Died,
    Restarted,
}

/// Plays a story to its end. `SIM_LOG=debug` shows what the daemon says.
pub fn play(story: &Story, plan: &Plan) -> Played {
    let sim = Sim::new("2026-03-01T08:00:00Z".parse().unwrap(), plan.seed);
    let (played, ends) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let seen = sim.clone();
        scope.spawn(move || tell_if_endless(&ends, &seen, story));
        let _ends = played;
        play_on(&sim, story, plan)
    })
}

/// Stories take seconds. One that goes on for minutes never ends: no deadline in its own time can tell.
fn tell_if_endless(ends: &mpsc::Receiver<()>, sim: &Sim, story: &Story) {
    if ends.recv_timeout(ENDLESS) == Err(mpsc::RecvTimeoutError::Timeout) {
        let asked = sim.audit(|_| true);
        let last: Vec<String> = asked.iter().rev().take(40).map(|a| format!("{} {:?}", a.at, a.asked)).collect();
        let (now, ran_away) = (sim.now(), sim.with(|world| world.ran_away()));
        // Not by a macro: what those print is held back until the test ends.
        let _ = writeln!(
            std::io::stderr(),
            "{} does not end: {now}, went round in circles: {ran_away}, the last requests: {last:#?}",
            story.name
        );
        std::process::abort();
    }
}

fn play_on(sim: &Sim, story: &Story, plan: &Plan) -> Played {
    if let Ok(level) = std::env::var("SIM_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(format!("lastgood={level}"));
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
    let start = sim.now();
    let folder = tempfile::tempdir().unwrap();
    let tape = Arc::<Mutex<Vec<Observed>>>::default();
    let receivers = Receivers { tape: plan.record.then(|| Arc::clone(&tape)), ..Receivers::default() };
    team::found(sim, story);
    sim.with(|world| world.step(start + AGE));
    team::open_doors(sim, story);
    let config = Config { settings: story.settings.clone(), thresholds: life::thresholds(&story.thresholds) };
    let now = sim.now();
    let mut progress = Progress {
        step: 0,
        due: None,
        began: now + SignedDuration::try_from(QUIET).unwrap(),
        armed: vec![(0.0, config.thresholds.clone())],
        config,
        settled: now,
        remembered: None,
        forgotten: Vec::new(),
    };
    let (mut lives, mut writes) = (0, Vec::new());
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let crash = plan.crash.filter(|_| lives == 0);
        lives += 1;
        assert!(lives < 50, "{}: the daemon dies again and again", story.name);
        let ended = runtime.block_on(live(sim, story, plan, &mut progress, crash, folder.path(), &receivers));
        drop(runtime);
        if lives == 1 {
            writes = sim.faults(|faults| faults.writes(DAEMON).to_vec());
        }
        match ended {
            Ended::Settled => break,
            Ended::Died | Ended::Restarted => sim.faults(|faults| faults.revive(DAEMON)),
        }
    }
    let audit = sim.audit(|_| true);
    let evidence = gather(sim, &audit, folder.path(), &receivers, &progress);
    let tape = std::mem::take(&mut *tape.lock().unwrap());
    Played { sim: sim.clone(), evidence, writes, lives, audit, tape, _folder: folder }
}

async fn live(
    sim: &Sim,
    story: &Story,
    plan: &Plan,
    progress: &mut Progress,
    crash: Option<(usize, When)>,
    folder: &Path,
    receivers: &Receivers,
) -> Ended {
    let driving = sim.clone();
    tokio::spawn(async move { driving.drive().await });
    tokio::time::sleep(DOWN).await;
    let died = Arc::new(Notify::new());
    if let Some((write, when)) = crash {
        let died = died.clone();
        sim.faults(|faults| faults.crash_at(DAEMON, write, when, move || died.notify_one()));
    }
    let mut daemon = Life::start(sim, DAEMON, &progress.config, folder, receivers, 0);
    for (who, off) in &plan.others {
        // Lives as long as the runtime: the task holds what it needs.
        std::mem::forget(Life::start(sim, who, &progress.config, folder, receivers, *off));
    }
    let deaths = plan.deaths.iter().map(|at| progress.began + SignedDuration::try_from(*at).unwrap());
    let death = deaths.filter(|at| *at > sim.now()).min();
    let death = async move {
        match death {
            Some(at) => until(sim, at).await,
            None => std::future::pending().await,
        }
    };
    let restart = tokio::select! {
        () = death => {
            sim.faults(|faults| faults.kill(DAEMON));
            // With others beside it the runtime lives on: nothing that the dead one asks for arrives any more.
            if !plan.others.is_empty() {
                script(sim, story, progress, &mut daemon, folder).await;
                return Ended::Settled;
            }
            return Ended::Died;
        }
        () = died.notified() => return Ended::Died,
        restart = script(sim, story, progress, &mut daemon, folder) => restart,
    };
    if restart {
        daemon.stop().await;
        return Ended::Restarted;
    }
    Ended::Settled
}

/// Does the steps from where the story stands; tells whether the daemon is to be restarted.
async fn script(sim: &Sim, story: &Story, progress: &mut Progress, daemon: &mut Life, folder: &Path) -> bool {
    until(sim, progress.began).await;
    while let Some(step) = story.steps.get(progress.step) {
        wait(sim, step, progress).await;
        if let Act::Compact(true) = step.act {
            progress.forgotten.extend(log(sim));
        }
        team::act(sim, story, &step.workload, &step.act);
        progress.step += 1;
        progress.due = None;
        progress.settled = sim.now();
        match &step.act {
            Act::Thresholds(own) => {
                let text = if own.is_string() { own.to_string() } else { life::thresholds(own) };
                if daemon.reload(&text) {
                    progress.armed.push((seconds(sim.now()), text.clone()));
                    progress.config.thresholds = text;
                }
            }
            Act::RestartDaemon(true) => return true,
            Act::Api(fault) => team::disturb(sim, DAEMON, fault),
            Act::Heal(true) => sim.faults(Faults::heal),
            Act::Remember(true) => progress.remembered = Some(sim.snapshot()),
            Act::Stale(age) => {
                let view = if *age == Age::Now { None } else { progress.remembered.clone() };
                let stale = Stale { view: view.unwrap_or_else(|| sim.snapshot()), quorum_too: true };
                sim.faults(|faults| faults.freeze(DAEMON, stale));
            }
            Act::BreakDisk(broken) => {
                let reports = folder.join("reports");
                let _ = fs::remove_dir_all(&reports).and(Ok(())).or_else(|_| fs::remove_file(&reports));
                if *broken {
                    fs::write(&reports, "in the way").unwrap();
                }
            }
            // What is said `false` of is not done.
            _ => {}
        }
    }
    let settle = SignedDuration::try_from(story.settle).unwrap();
    until(sim, progress.settled + settle).await;
    // What is still open has its own deadlines; it is waited for a while longer.
    for _ in 0..60 {
        if sim.with(|world| incidents(world).iter().all(|i| i.status.as_ref().is_some_and(|s| s.phase.is_final()))) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    // And the last word has to be told.
    tokio::time::sleep(Duration::from_secs(40)).await;
    false
}

async fn wait(sim: &Sim, step: &Step, progress: &mut Progress) {
    if progress.due.is_none() {
        let deadline = sim.now() + SignedDuration::try_from(PATIENCE).unwrap();
        while let Some(when) = &step.when
            && !sim.with(|world| holds(world, &step.workload, when))
        {
            if sim.now() >= deadline {
                let all = sim.with(|world| incidents(world));
                let told: Vec<String> = all.iter().map(lastgood::report::text::paragraph).collect();
                panic!("step {} waits in vain for {when:?}; incidents: {told:#?}", progress.step);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        progress.due = Some(sim.now() + SignedDuration::try_from(step.after).unwrap());
    }
    until(sim, progress.due.unwrap()).await;
}

async fn until(sim: &Sim, due: Timestamp) {
    let left = due.duration_since(sim.now());
    if let Ok(left) = Duration::try_from(left) {
        tokio::time::sleep(left).await;
    }
}

fn holds(world: &World, workload: &str, when: &Condition) -> bool {
    let object = team::find(world, workload).and_then(|key| world.store.get(&key));
    let image_of = |o: &Value| o["spec"]["template"]["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
    let phase = || {
        let uid = object.map(|o| o["metadata"]["uid"].as_str().unwrap_or_default().to_owned());
        let mut all = incidents(world);
        all.retain(|i| workload.is_empty() || Some(&i.spec.workload.uid) == uid.as_ref());
        all.last().and_then(|i| i.status.as_ref().map(|s| format!("{:?}", s.phase)))
    };
    when.image.as_ref().is_none_or(|image| object.and_then(image_of).as_ref() == Some(image))
        && when.phase.as_ref().is_none_or(|wanted| phase().as_ref() == Some(wanted))
        && (!when.rolled_out || object.is_some_and(|o| arrived(world, o)))
}

/// All Incidents, in the order in which they were decided.
pub fn incidents(world: &World) -> Vec<lastgood::record::Incident> {
    let stored = world.store.list(Resource::Incidents, None);
    let mut all: Vec<lastgood::record::Incident> =
        stored.filter_map(|(_, object)| serde_json::from_value(object.clone()).ok()).collect();
    all.sort_by_key(|i| i.spec.decided);
    all
}

/// Whether the controller has seen the live spec, and every pod is of the live template and Ready.
fn arrived(world: &World, object: &Value) -> bool {
    let meta = &object["metadata"];
    let (namespace, name) = (meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default());
    let wanted = object["spec"]["replicas"].as_u64().or(object["status"]["desiredNumberScheduled"].as_u64());
    let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
    let pods: Vec<&Value> = world
        .store
        .list(Resource::Pods, Some(namespace))
        .map(|(_, pod)| pod)
        .filter(|pod| pod["metadata"]["labels"]["app"] == name && pod["metadata"]["deletionTimestamp"].is_null())
        .collect();
    let ready = |pod: &&&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    object["status"]["observedGeneration"].as_i64() >= meta["generation"].as_i64()
        && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == *image)
        && Some(pods.iter().filter(ready).count() as u64) >= wanted.or(Some(1))
}

// ---------------------------------------------------------------------------------------------
// Evidence

fn gather(sim: &Sim, audit: &[Audited], folder: &Path, receivers: &Receivers, progress: &Progress) -> Evidence {
    let mut evidence = Evidence {
        told: receivers.told.lock().unwrap().clone(),
        channels: CHANNELS.map(str::to_owned).into(),
        canary: team::CANARY.into(),
        brakes: [(10, 3600.0), (20, 600.0), (50, 600.0)],
        ..Evidence::default()
    };
    for entry in fs::read_dir(folder.join("reports")).into_iter().flatten() {
        evidence.reports.push(fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    sim.with(|world| {
        let of = |resource| world.store.list(resource, None).map(|(_, o)| o.clone()).collect::<Vec<_>>();
        evidence.incidents = of(Resource::Incidents);
        evidence.events = of(Resource::Events);
    });
    history(sim, audit, progress, &mut evidence);
    evidence
}

/// All writes that etcd remembers.
fn log(sim: &Sim) -> Vec<Entry> {
    sim.with(|world| world.store.since(world.store.floor()).unwrap_or_default().to_vec())
}

/// Goes through the store's log once: states of workloads, the daemon's writes, verifications.
fn history(sim: &Sim, audit: &[Audited], progress: &Progress, evidence: &mut Evidence) {
    let log: Vec<Entry> = progress.forgotten.iter().cloned().chain(log(sim)).collect();
    let armed = &progress.armed;
    let by_revision: BTreeMap<u64, &Audited> = audit
        .iter()
        .filter(|a| a.succeeded() && a.asked.is_write())
        .filter_map(|a| Some((a.answer["metadata"]["resourceVersion"].as_str()?.parse().ok()?, a)))
        .collect();
    for entry in &log {
        let at = seconds(entry.at);
        let (object, resource) = (&entry.object, entry.key.resource);
        if resource == Resource::Incidents {
            let verified = |o: &Value| o["status"]["phase"] == "Verified";
            if verified(object) && !entry.before.as_deref().is_some_and(verified) {
                let arrived = was_there(&log, entry.revision, object);
                let incident = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                evidence.verified.push(Verified { incident, arrived });
            }
        }
        if !team::KINDS.contains(&resource) {
            continue;
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let template = object["spec"]["template"].clone();
        evidence.history.push(State { at, uid: uid.clone(), template, complete: complete(resource, object) });
        if let Some(request) = by_revision.get(&entry.revision)
            && request.asked.writes_workload()
        {
            let before = entry.before.as_deref().cloned().unwrap_or_default();
            let workload = format!("{}/{}", entry.key.namespace, entry.key.name);
            evidence.writes.push(Write {
                at,
                who: request.asked.who.clone(),
                uid,
                workload,
                armed: is_armed(&before, armed, at),
                before,
                after: Value::clone(object),
                patch: request.body.clone(),
            });
        }
    }
}

/// The done-test of `kubectl rollout status`.
fn complete(resource: Resource, object: &Value) -> bool {
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return false;
    }
    match resource {
        Resource::DaemonSets => {
            let desired = number("/status/desiredNumberScheduled");
            number("/status/updatedNumberScheduled") >= desired && number("/status/numberAvailable") >= desired
        }
        Resource::StatefulSets => {
            let wanted = number("/spec/replicas");
            number("/status/readyReplicas") >= wanted
                && object["status"]["updateRevision"] == object["status"]["currentRevision"]
        }
        _ => {
            let wanted = number("/spec/replicas");
            number("/status/updatedReplicas") >= wanted
                && number("/status/replicas") <= number("/status/updatedReplicas")
                && number("/status/availableReplicas") >= wanted
        }
    }
}

/// I13: at this version, every pod of the Incident's workload was of the target and Ready.
fn was_there(log: &[Entry], revision: u64, incident: &Value) -> bool {
    let uid = &incident["spec"]["workload"]["uid"];
    let target = incident["spec"]["target"]["hash"].as_str().unwrap_or_default();
    let upto = || log.iter().filter(|e| e.revision <= revision);
    let Some(workload) = upto().rfind(|e| e.object["metadata"]["uid"] == *uid) else { return false };
    let live = TemplateMark::of(&workload.object["spec"]["template"]);
    let image = &workload.object["spec"]["template"]["spec"]["containers"][0]["image"];
    let mut pods: BTreeMap<&Key, &Value> = BTreeMap::new();
    for entry in upto().filter(|e| e.key.resource == Resource::Pods && e.key.namespace == workload.key.namespace) {
        pods.insert(&entry.key, &entry.object);
        if entry.change == lastgood::sim::store::Change::Deleted {
            pods.remove(&entry.key);
        }
    }
    let name = workload.object["metadata"]["name"].as_str().unwrap_or_default();
    let ours = pods
        .values()
        .filter(|pod| pod["metadata"]["labels"]["app"] == name && pod["metadata"]["deletionTimestamp"].is_null());
    live.revision.0 == target
        && complete(workload.key.resource, &workload.object)
        && ours.clone().all(|pod| pod["spec"]["containers"][0]["image"] == *image)
}

/// Whether somebody had armed the workload at this time, and nobody frozen it.
fn is_armed(object: &Value, armed: &[(f64, String)], at: f64) -> bool {
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(object["metadata"]["annotations"].clone()).unwrap_or_default();
    // A reload takes effect at once; what was decided under the old one may still be on its way for a moment.
    let text = armed.iter().rev().find(|(since, _)| *since <= at).map(|(_, text)| text.as_str()).unwrap_or_default();
    let thresholds = lastgood::config::Thresholds::parse("t", text).unwrap();
    let kind = match object["kind"].as_str() {
        Some("StatefulSet") => lastgood::domain::Kind::StatefulSet,
        Some("DaemonSet") => lastgood::domain::Kind::DaemonSet,
        _ => lastgood::domain::Kind::Deployment,
    };
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let labels: BTreeMap<String, String> =
        serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
    let facts = lastgood::config::Facts {
        namespace: of("namespace"),
        kind,
        name: of("name"),
        labels: &labels,
        annotations: &annotations,
    };
    let frozen = lastgood::cluster::Freeze::read(&annotations).is_some_and(|freeze| freeze.holds(at));
    thresholds.rules_for(&facts).rules.mode == lastgood::domain::Mode::Act && !frozen
}

// ---------------------------------------------------------------------------------------------
// The end

/// Everything that differs from what a story expects.
pub fn unexpected(played: &Played, story: &Story) -> Vec<String> {
    story.expect.iter().flat_map(|expected| one(played, expected)).collect()
}

fn one(played: &Played, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let (namespace, name) = place(&expected.workload);
    let full = format!("{namespace}/{name}");
    let object =
        played.sim.with(|world| team::find(world, &expected.workload).and_then(|k| world.store.get(&k).cloned()));
    let object = object.unwrap_or_default();
    let mut differs = |what: &str, is: String, wanted: String| {
        if is != wanted {
            wrong.push(format!("{full}: {what} is {is} instead of {wanted}"));
        }
    };
    if let Some(image) = &expected.image {
        let is = object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or("gone");
        differs("the live image", is.to_owned(), image.clone());
    }
    if let Some(replicas) = expected.replicas {
        differs("replicas", object["spec"]["replicas"].to_string(), replicas.to_string());
    }
    if let Some(undos) = expected.undos {
        let of = |w: &&Write| w.workload == full && w.before["spec"]["template"] != w.after["spec"]["template"];
        differs("the number of undos", played.evidence.writes.iter().filter(of).count().to_string(), undos.to_string());
    }
    let mut all = played.sim.with(|world| incidents(world));
    all.retain(|i| i.spec.workload.name == name && i.metadata.namespace.as_deref() == Some(namespace));
    if let Some(phases) = &expected.phases {
        let is: Vec<String> = all.iter().map(|i| format!("{:?}", i.status.clone().unwrap_or_default().phase)).collect();
        differs("its incidents", is.join(", "), phases.join(", "));
    }
    if let Some(reason) = &expected.reason {
        differs("the reason", all.last().map(|i| i.spec.reason.clone()).unwrap_or_default(), reason.clone());
    }
    let last = all.last().map(|i| serde_json::to_string(i).unwrap()).unwrap_or_default();
    for says in expected.says.iter().filter(|says| !last.contains(says.as_str())) {
        wrong.push(format!("{full}: the newest incident does not say \"{says}\": {last}"));
    }
    let notes = |reason: &str| -> Vec<&str> {
        let of = |e: &&Value| e["regarding"]["name"] == name && e["reason"] == reason;
        played.evidence.events.iter().filter(of).filter_map(|e| e["note"].as_str()).collect()
    };
    if let Some(held) = &expected.held {
        let notes = notes("RolloutHeld");
        if !notes.iter().any(|note| note.contains(held)) {
            wrong.push(format!("{full}: no verdict was held with \"{held}\": {notes:#?}"));
        }
    }
    for (reason, says) in &expected.events {
        let notes = notes(reason);
        let as_expected = says.as_ref().map_or(notes.is_empty(), |says| notes.iter().any(|note| note.contains(says)));
        if !as_expected {
            wrong.push(format!("{full}: Events {reason} do not say {says:?}: {notes:#?}"));
        }
    }
    if let Some(evictions) = expected.evictions {
        let done = played.audit.iter().filter(|a| a.succeeded() && a.asked.subresource == "eviction").count();
        if done != evictions {
            wrong.push(format!("{full}: {done} evictions instead of {evictions}"));
        }
    }
    wrong
}
