//! Sequences of what people do, made from seeds: deploys of good and bad versions, fixes, scaling, pausing, freezing,
//! deleting and making anew, other thresholds, restarts of the daemon, outages. Nobody has thought of them before.
//!
//! The oracle knows which images are bad: only those are undone (I3), and a bad one that stays live in an armed or
//! observed workload has an Incident that says why. `SIM_SEED=17 cargo test --test sim generated -- --nocapture` plays
//! one again; `SIM_SEQUENCES=5000` plays more.

use crate::{
    each,
    invariants::Write,
    play::{Plan, Played, incidents, play},
    story::{Act, Step, Story, Workload},
    team, wrong,
};
use lastgood::sim::{
    Behaviour, Resource,
    behaviour::{Latency, Start},
    random::Random,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const SEQUENCES: u64 = 200;

/// Ways to be bad: each is found within two minutes at 30 requests a second.
fn bad() -> [(&'static str, Behaviour); 6] {
    let good = Behaviour::default;
    [
        ("crash", Behaviour::crashing(2.0)),
        ("fail", Behaviour::failing(1.0)),
        ("fail-some", Behaviour::failing(0.4)),
        ("no-image", Behaviour { start: Start::PullError, ..good() }),
        ("never-ready", Behaviour { ready_after: None, ..good() }),
        ("slow", Behaviour { latency: Latency { median: 0.2, sigma: 0.5 }, ..good() }),
    ]
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.bits() % n
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// The story of a seed.
fn story(seed: u64) -> Story {
    let mut dice = Dice(Random::new(seed));
    let names: &[&str] = if dice.below(3) == 0 { &["web", "api"] } else { &["web"] };
    let mut story = Story {
        name: format!("seed {seed}"),
        settle: Duration::from_secs(200),
        thresholds: if dice.below(4) == 0 { json!({"defaults": {"mode": "observe"}}) } else { Value::Null },
        ..Story::default()
    };
    for name in names {
        let kind = (*dice.of(&["Deployment", "Deployment", "StatefulSet", "DaemonSet"])).to_owned();
        let set = if kind == "Deployment" { json!({"spec": {"progressDeadlineSeconds": 60}}) } else { Value::Null };
        let image = format!("{name}:good-0");
        story.workloads.push(Workload {
            name: (*name).into(),
            namespace: "shop".into(),
            kind,
            replicas: 3,
            image,
            load: 30.0,
            calls: Vec::new(),
            set,
        });
        for (how, does) in bad() {
            for number in 0..3 {
                story.images.insert(format!("{name}:{how}-{number}"), does.clone());
            }
        }
    }
    for _ in 0..2 + dice.below(6) {
        let after = Duration::from_secs(*dice.of(&[1, 3, 10, 20, 45, 90, 180]));
        let name = *dice.of(names);
        let number = dice.below(3);
        let (how, _) = dice.of(&bad()).clone();
        let annotate = |annotations: Value| Act::Edit(json!({"metadata": {"annotations": annotations}}));
        let act = match dice.below(20) {
            0..=6 => Act::Deploy(format!("{name}:{how}-{number}")),
            7..=9 => Act::Deploy(format!("{name}:good-{number}")),
            10 => Act::Scale(u32::try_from(1 + dice.below(5)).unwrap()),
            11 => Act::Pause(dice.below(2) == 0),
            12 => Act::Restart(true),
            13 => Act::Recreate(format!("{name}:{}-{number}", if dice.below(2) == 0 { "good" } else { how })),
            14 => annotate(json!({"lastgood.dev/mode": *dice.of(&["act", "observe", "off"])})),
            15 => annotate(json!({"lastgood.dev/mode": null, "lastgood.dev/pause-until": null})),
            16 => annotate(json!({"lastgood.dev/pause-until": "forever"})),
            17 => Act::Thresholds(json!({"defaults": {"mode": *dice.of(&["act", "observe"])}})),
            18 => Act::RestartDaemon(true),
            _ => Act::Edit(json!({"spec": {"template": {"metadata": {"labels": {"build": number.to_string()}}}}})),
        };
        // What kinds do not have is not done to them.
        let kind = &story.workloads.iter().find(|w| w.name == name).unwrap().kind;
        let fits = match act {
            Act::Pause(_) => kind == "Deployment",
            Act::Scale(_) => kind != "DaemonSet",
            _ => true,
        };
        if fits {
            story.steps.push(Step { after, when: None, workload: name.into(), act });
        }
    }
    story
}

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn is_bad(image: &str) -> bool {
    !image.contains(":good-")
}

/// Whether a pod of this image is there.
fn runs(played: &Played, workload: &str, image: &str) -> bool {
    played.sim.with(|world| {
        let mut pods = world.store.list(Resource::Pods, Some("shop"));
        pods.any(|(_, pod)| {
            pod["metadata"]["labels"]["app"] == workload && pod["spec"]["containers"][0]["image"] == image
        })
    })
}

/// Whether an Event on the object says that something is wrong, and why nobody is convicted.
fn held(played: &Played, uid: &str) -> bool {
    let of = |e: &&Value| e["regarding"]["uid"] == uid;
    played
        .evidence
        .events
        .iter()
        .filter(of)
        .any(|e| e["type"] == "Warning" || e["reason"].as_str().is_some_and(|r| r.contains("Hold")))
}

/// What the oracle has to say.
fn oracle(story: &Story, played: &Played) -> Vec<String> {
    let undos = |w: &&Write| w.before["spec"]["template"] != w.after["spec"]["template"];
    let mut wrong: Vec<String> = Vec::new();
    for undo in played.evidence.writes.iter().filter(undos) {
        if !is_bad(image(&undo.before)) {
            wrong.push(format!("I3 is broken: {} was undone, and is good", image(&undo.before)));
        }
        // Slow is only what is slower than before: the first version of an object made anew is not known to be.
        let made_slow = |step: &Step| matches!(&step.act, Act::Recreate(made) if made.contains("slow"));
        let unknowable = image(&undo.after).contains("slow") && story.steps.iter().any(made_slow);
        if is_bad(image(&undo.after)) && !unknowable {
            wrong.push(format!("I2 is broken: {} was restored, and is bad", image(&undo.after)));
        }
    }
    let named: BTreeMap<(String, String), usize> = played.sim.with(|world| {
        let mut named = BTreeMap::new();
        for incident in incidents(world) {
            let image = incident.spec.bad.images.first().cloned().unwrap_or_default();
            *named.entry((incident.spec.workload.uid.clone(), image)).or_default() += 1;
        }
        named
    });
    for workload in &story.workloads {
        let live =
            played.sim.with(|world| team::find(world, &workload.name).and_then(|key| world.store.get(&key).cloned()));
        let Some(live) = live else { continue };
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        // What cannot be judged is not asked for: latency without a past, an object made anew, a switch-off.
        let mut acts = story.steps.iter().filter(|step| step.workload == workload.name).map(|step| &step.act);
        let unjudged = acts.any(|act| match act {
            Act::Recreate(_) => true,
            Act::Edit(patch) => patch["metadata"]["annotations"]["lastgood.dev/mode"] == "off",
            _ => false,
        });
        // Only Deployments have a deadline for progress; and a StatefulSet whose pod of an older version hangs makes
        // no new one.
        let silent = workload.kind != "Deployment" && image(&live).contains("never-ready")
            || workload.kind == "StatefulSet" && !runs(played, &workload.name, image(&live));
        let slow = image(&live).contains("slow");
        let told = named.contains_key(&(uid.clone(), image(&live).to_owned())) || held(played, &uid);
        let paused = live["spec"]["paused"] == json!(true);
        if is_bad(image(&live)) && !paused && !unjudged && !silent && !slow && !told {
            wrong.push(format!("{} stays live, is bad, and nobody is told", image(&live)));
        }
    }
    wrong.into_iter().map(|what| format!("{}: {what}", story.name)).collect()
}

fn check(seed: u64) -> Vec<String> {
    let story = story(seed);
    let played = play(&story, &Plan { seed, ..Plan::default() });
    let mut wrong = wrong(&played, &story);
    wrong.extend(oracle(&story, &played));
    if !wrong.is_empty() {
        let of = |w: &Workload| format!("{} {} {}", w.kind, w.name, w.set);
        let kinds: Vec<String> = story.workloads.iter().map(of).collect();
        let steps: Vec<String> =
            story.steps.iter().map(|s| format!("  {:?} {} {:?}", s.after, s.workload, s.act)).collect();
        let told =
            played.sim.with(|world| incidents(world).iter().map(lastgood::report::text::paragraph).collect::<Vec<_>>());
        wrong.push(format!("  {kinds:?} {}\n{}\n  {}", story.thresholds, steps.join("\n"), told.join("\n  ")));
    }
    wrong
}

#[test]
fn generated_sequences_break_no_invariant() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SIM_SEQUENCES").unwrap_or(SEQUENCES)).collect(),
    };
    let wrong = each(&seeds, |seed| check(*seed));
    println!("{} sequences", seeds.len());
    assert!(wrong.is_empty(), "SIM_SEED=… plays one again\n{}", wrong.join("\n"));
}
