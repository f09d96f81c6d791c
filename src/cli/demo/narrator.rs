//! Pure. Tells what happens, from what anybody could read with kubectl: Events, Incidents and objects.

use super::scenery::{NAMESPACE, RATE, SERVICES};
use crate::{
    cli::style::Colour,
    sim::{
        Resource, World,
        store::{Change, Entry},
        traffic::Seen,
    },
};
use serde_json::Value;
use std::collections::BTreeMap;

/// One line of the story.
pub(super) struct Line {
    pub(super) who: &'static str,
    pub(super) text: String,
    pub(super) colour: Option<Colour>,
}

impl Line {
    pub(super) fn new(who: &'static str, text: impl Into<String>) -> Self {
        Self { who, text: text.into(), colour: None }
    }
}

/// What was told so far.
#[derive(Default)]
pub(super) struct Narrator {
    /// Up to which write the cluster's log was read.
    read: u64,
    /// Workload and reason of each Event, in order.
    told: Vec<(String, String)>,
    /// Journal lines told of each Incident.
    journal: BTreeMap<String, usize>,
    seen: BTreeMap<&'static str, Seen>,
    rolled: BTreeMap<String, String>,
}

impl Narrator {
    /// Begins to listen now.
    pub(super) fn begin(&mut self, world: &World) {
        self.read = world.store.revision();
        for service in SERVICES {
            self.seen.insert(service, world.traffic.seen(NAMESPACE, service));
        }
    }

    /// Whether Lastgood said this of a workload.
    pub(super) fn heard(&self, workload: &str, reason: &str) -> bool {
        self.told.iter().any(|(of, said)| of == workload && said == reason)
    }

    /// What is new.
    pub(super) fn news(&mut self, world: &World) -> Vec<Line> {
        let entries = world.store.since(self.read).unwrap_or_default();
        self.read = world.store.revision();
        entries.iter().flat_map(|entry| self.tell(entry)).collect()
    }

    fn tell(&mut self, entry: &Entry) -> Vec<Line> {
        let object = entry.object.as_ref();
        match (entry.key.resource, entry.change) {
            (_, Change::Deleted) => Vec::new(),
            (Resource::Events, Change::Added) => self.event(object).into_iter().collect(),
            (Resource::Incidents, _) => self.incident(&entry.key.name, object),
            (Resource::ControllerRevisions, Change::Added) => pin(object).into_iter().collect(),
            (Resource::Pods, Change::Modified) => crash(entry.before.as_deref(), object).into_iter().collect(),
            (Resource::Deployments, Change::Modified) => self.rollout(object).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn event(&mut self, event: &Value) -> Option<Line> {
        let (reason, note) = (text(event, "/reason"), text(event, "/note"));
        // What follows the first sentence of a notice is in the journal, too.
        let note = if reason.starts_with("Undo") { note.split(". ").next().unwrap_or(note) } else { note };
        let workload = text(event, "/regarding/name");
        self.told.push((workload.to_owned(), reason.to_owned()));
        let colour = match reason {
            "RolloutPassed" | "UndoVerified" => Some(Colour::Green),
            "RolloutBad" | "UndoStarted" => Some(Colour::Red),
            "RolloutWatched" => None,
            _ => Some(Colour::Yellow),
        };
        Some(Line { colour, ..Line::new("lastgood", format!("{workload}: {}{note}", spoken(reason))) })
    }

    fn incident(&mut self, name: &str, incident: &Value) -> Vec<Line> {
        let entries =
            incident.pointer("/status/journal").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let told = self.journal.entry(name.to_owned()).or_default();
        let fresh = entries.get(*told..).unwrap_or_default();
        *told = entries.len();
        let workload = text(incident, "/spec/workload/name");
        // The verdict is an Event as well.
        let steps = fresh.iter().filter(|entry| text(entry, "/step") != "decided");
        steps
            .map(|entry| Line {
                colour: Some(Colour::Dim),
                ..Line::new("journal", format!("{workload}: {}: {}", text(entry, "/step"), text(entry, "/text")))
            })
            .collect()
    }

    /// Tells once when a rollout is complete.
    fn rollout(&mut self, deployment: &Value) -> Option<Line> {
        let count = |field: &str| deployment.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or(0);
        let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_i64)?;
        let done = count("updatedReplicas") == wanted
            && count("replicas") == wanted
            && count("availableReplicas") == wanted
            && count("observedGeneration") >= deployment.pointer("/metadata/generation").and_then(Value::as_i64)?;
        let (name, image) = (text(deployment, "/metadata/name"), image(deployment));
        if !done || self.rolled.get(name).is_some_and(|told| told == image) {
            return None;
        }
        self.rolled.insert(name.to_owned(), image.to_owned());
        Some(Line::new("cluster", format!("{name}: all {wanted} pods run {image} and are available")))
    }

    /// What users saw since the last time.
    pub(super) fn users(&mut self, world: &World) -> Line {
        let mut parts = Vec::new();
        for service in SERVICES {
            let now = world.traffic.seen(NAMESPACE, service);
            let before = self.seen.insert(service, now).unwrap_or_default();
            let (all, bad) = (now.total() - before.total(), now.failed + now.refused - before.failed - before.refused);
            let share = if all > 0 { bad as f64 / all as f64 } else { 0.0 };
            parts.push(match bad {
                0 => format!("{service} ok"),
                _ => format!("{service} {} failed", crate::cli::style::percent(share)),
            });
        }
        Line::new("users", format!("{RATE:.0} requests/s each: {}", parts.join(", ")))
    }
}

/// The reason of an Event as one would say it; the notices of an undo say it themselves.
fn spoken(reason: &str) -> &str {
    match reason {
        "RolloutWatched" => "watching: ",
        "RolloutPassed" => "PASSED: ",
        "RolloutBad" => "BAD: ",
        "RolloutHeld" => "HELD, not undone: ",
        "RolloutUnknown" => "cannot tell: ",
        _ => "",
    }
}

/// A revision that is kept as known good.
fn pin(revision: &Value) -> Option<Line> {
    let state = revision.pointer("/metadata/labels")?.get("lastgood.dev/pin")?.as_str()?;
    let owner = text(revision, "/metadata/ownerReferences/0/name");
    let image = text(revision, "/data/spec/template/spec/containers/0/image");
    let why = if state == "passed" { "it passed its trial" } else { "it served well when the next rollout began" };
    let colour = (state == "passed").then_some(Colour::Green).or(Some(Colour::Dim));
    Some(Line { colour, ..Line::new("lastgood", format!("{owner}: {image} is pinned as known good: {why}")) })
}

/// A container that begins to wait before its next start.
fn crash(before: Option<&Value>, pod: &Value) -> Option<Line> {
    let state = |pod: &Value| text(pod, "/status/containerStatuses/0/state/waiting/reason").to_owned();
    let leaving = !text(pod, "/metadata/deletionTimestamp").is_empty();
    if leaving || state(pod) != "CrashLoopBackOff" || before.is_some_and(|before| state(before) == "CrashLoopBackOff") {
        return None;
    }
    let restarts = pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_i64).unwrap_or(0);
    let name = text(pod, "/metadata/name");
    Some(Line::new("cluster", format!("{name} crashed: CrashLoopBackOff (restarts so far: {restarts})")))
}

/// Image of a workload.
pub(super) fn image(workload: &Value) -> &str {
    text(workload, "/spec/template/spec/containers/0/image")
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
