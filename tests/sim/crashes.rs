//! I18: a daemon that dies at any of its writes, at any of three moments, and comes back, ends where one ends that
//! never died.
//!
//! What may differ: writes that the API server rejected, notices that were told again under the same key, and a
//! notice of a state that was over before it could be told. Renewals of the Lease are not counted as writes: the first
//! ones are enough.

use crate::{
    each,
    play::{Plan, Played, incidents, play},
    story::{self, Story},
    team, wrong,
};
use lastgood::sim::{Resource, When, Written};
use std::collections::{BTreeMap, BTreeSet};

/// Where everything has come to.
#[derive(Debug, PartialEq)]
struct End {
    /// Workload → image, replicas.
    workloads: BTreeMap<String, String>,
    /// Workload, bad image, target image, phase.
    incidents: Vec<String>,
    /// Workload, bad image → applied undos.
    undos: BTreeMap<String, usize>,
    /// Workload, image.
    pins: BTreeSet<String>,
    /// Channel, workload, phase of each end that was told.
    told: BTreeSet<String>,
    reports: usize,
}

fn image(object: &serde_json::Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn end(played: &Played) -> End {
    let e = &played.evidence;
    let mut undos = BTreeMap::new();
    for write in e.writes.iter().filter(|w| w.before["spec"]["template"] != w.after["spec"]["template"]) {
        *undos.entry(format!("{} {}", write.workload, image(&write.before))).or_default() += 1;
    }
    let (workloads, pins, all) = played.sim.with(|world| {
        let of = |resource| world.store.list(resource, None);
        let workloads = team::KINDS.iter().flat_map(|kind| of(*kind));
        let workloads = workloads.map(|(key, o)| (key.to_string(), format!("{} x{}", image(o), o["spec"]["replicas"])));
        let pins =
            of(Resource::ControllerRevisions).filter(|(_, o)| !o["metadata"]["labels"]["lastgood.dev/pin"].is_null());
        let pins = pins.map(|(key, o)| format!("{} {}", key.namespace, image(&o["data"])));
        (workloads.collect(), pins.collect(), incidents(world))
    });
    let (mut lines, mut told) = (Vec::new(), BTreeSet::new());
    for incident in &all {
        let first = |images: &[String]| images.first().cloned().unwrap_or_default();
        let (spec, name) = (&incident.spec, incident.metadata.name.as_deref().unwrap_or_default());
        let phase = incident.status.clone().unwrap_or_default().phase.as_str();
        // What was only reported names the target that was known then, and a pin may not have been made.
        let target = spec.target.as_ref().filter(|_| phase != "reported").map(|t| first(&t.images)).unwrap_or_default();
        lines.push(format!("{} {} -> {target}: {phase}", spec.workload.name, first(&spec.bad.images)));
        let word = format!("/{name}/{}/", phase.replace(' ', "-"));
        told.extend(
            e.told
                .iter()
                .filter(|t| t.key.contains(&word))
                .map(|t| format!("{} {} {phase}", t.channel, spec.workload.name)),
        );
    }
    lines.sort();
    End { workloads, incidents: lines, undos, pins, told, reports: e.reports.len() }
}

/// The writes at which a daemon is killed: all but most renewals of the Lease.
fn points(writes: &[Written]) -> Vec<(usize, When)> {
    let mut renewals = 0;
    let mut points = Vec::new();
    for (number, write) in writes.iter().enumerate() {
        if write.what.contains("/leases") {
            renewals += 1;
            if renewals > 2 {
                continue;
            }
        }
        points.extend(When::ALL.map(|when| (number, when)));
    }
    points
}

/// Kills at every `stride`-th point of every story that is meant for it; tells how many there were.
fn kill_everywhere(stride: usize) -> (usize, usize) {
    let only = std::env::var("SIM_STORY").ok();
    let stories = story::all().into_iter().filter(|s| s.crash && only.as_ref().is_none_or(|o| s.name == *o));
    let references: Vec<(Story, Played)> =
        stories.map(|story| (story.clone(), play(&story, &Plan::default()))).collect();
    let mut all: Vec<(&Story, &Played, (usize, When))> = Vec::new();
    for (story, reference) in &references {
        assert_eq!(wrong(reference, story), [""; 0], "{} without a crash", story.name);
        all.extend(points(&reference.writes).into_iter().map(|point| (story, reference, point)));
    }
    let chosen: Vec<_> = all.iter().step_by(stride).collect();
    let found = each(&chosen, |(story, reference, crash)| {
        let played = play(story, &Plan { crash: Some(*crash), ..Plan::default() });
        let what = &reference.writes[crash.0].what;
        // The one known exception: a daemon that dies in the moment between a rollout's begin and the copy of the
        // revision before it does not know afterwards that it was good. It is more careful then, never less.
        if crash.1 == When::BeforeSend && what.contains("/controllerrevisions") {
            let (is, was) = (end(&played), end(reference));
            let more = is.undos.iter().any(|(undo, count)| was.undos.get(undo).is_none_or(|known| known < count));
            let broken = crate::invariants::broken(&played.evidence);
            return if more || !broken.is_empty() {
                vec![format!("{}: {what}: {is:?} {broken:?}", story.name)]
            } else {
                vec![]
            };
        }
        let mut said = wrong(&played, story);
        if played.lives == 1 {
            said.push("the daemon did not die".into());
        }
        let (is, mut was) = (end(&played), end(reference));
        // A copy that was not made is made at the next rollout: without it Lastgood is more careful, not less.
        if is.pins.is_subset(&was.pins) {
            was.pins.clone_from(&is.pins);
        }
        if is != was {
            said.push(format!("it ends otherwise:\n  {is:?}\n  {was:?} without a crash"));
        }
        said.iter()
            .map(|text| format!("{}: killed {:?} at write {} ({what}): {text}", story.name, crash.1, crash.0))
            .collect()
    });
    assert!(found.is_empty(), "{} of {} points:\n{}", found.len(), chosen.len(), found.join("\n"));
    (chosen.len(), all.len())
}

#[test]
fn a_crash_at_a_sample_of_writes_changes_nothing() {
    let (played, all) = kill_everywhere(std::env::var("SIM_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(53));
    println!("{played} of {all} crash points");
}

#[test]
#[ignore = "all crash points: minutes; cargo test --release --test sim -- --ignored"]
fn a_crash_at_any_write_changes_nothing() {
    let (played, _) = kill_everywhere(1);
    println!("{played} crash points");
    assert!(played >= 500, "only {played} crash points");
}
