//! What the daemon was told of its surroundings is on its tape: replayed, it comes to the same verdicts.

use crate::{
    life,
    play::{Plan, Played, incidents, play},
    story::{self, Story},
};
use lastgood::{
    config::Thresholds,
    domain::{HoldReason, Observation, Observed, Verdict},
    replay::{Action, Line, Replay},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// All that a replay says.
fn lines(tape: &[Observed], thresholds: &str) -> Vec<Line> {
    let thresholds = Arc::new(Thresholds::parse("t", thresholds).unwrap());
    let mut replay = Replay::new(thresholds, 5.0);
    let end = tape.iter().map(|observed| observed.t).reduce(f64::max).expect("a tape");
    let mut lines: Vec<Line> = tape.iter().flat_map(|observed| replay.observe(observed)).collect();
    lines.extend(replay.end(end));
    lines
}

/// Every verdict of a workload, and whether it would have been undone.
fn replayed(tape: &[Observed], thresholds: &str, name: &str) -> Vec<(Verdict, bool)> {
    let of = |line: Line| match line {
        Line::Verdict(line) if line.workload.name == name => Some((line.verdict, line.action == Action::Undo)),
        _ => None,
    };
    lines(tape, thresholds).into_iter().filter_map(of).collect()
}

#[test]
fn what_peers_and_callees_did_is_on_the_tape() {
    let cases = [
        ("outage-without-old-pods", HoldReason::ClusterWide),
        ("callee-broke-first", HoldReason::Dependency),
        ("bad-callee-good-caller", HoldReason::Dependency),
    ];
    for (name, reason) in cases {
        let story = story::named(name);
        let played = play(&story, &Plan { record: true, ..Plan::default() });
        let seen = replayed(&played.tape, &life::thresholds(&story.thresholds), "web");
        assert!(seen.contains(&(Verdict::Hold(reason), false)), "{name}: {seen:?}");
        assert!(seen.iter().all(|(_, undone)| !undone), "{name}: {seen:?}");
        let told = |observed: &&Observed| match &observed.what {
            Observation::Callers { workload, .. } => workload.name == "mail",
            Observation::Workload { workload, calls, .. } => {
                workload.name == "web" && calls.as_ref().is_some_and(|calls| !calls.is_empty())
            }
            _ => false,
        };
        assert!(played.tape.iter().any(|observed| told(&observed)), "{name}");
    }
}

#[test]
fn what_broke_after_it_had_passed_is_told_from_the_tape_as_well() {
    let story = story::named("breaks-after-the-pass");
    let played = play(&story, &Plan { record: true, ..Plan::default() });
    let lines = lines(&played.tape, &life::thresholds(&story.thresholds));
    let late: Vec<_> =
        lines.iter().filter_map(|l| if let Line::Late(late) = l { Some(&late.seen) } else { None }).collect();
    assert_eq!(late.len(), 1, "{late:#?}");
    assert!(late[0].broken.is_some() && late[0].workload.name == "web", "{late:#?}");
    let event = played.evidence.events.iter().find(|event| event["reason"] == "RolloutBrokeLater").unwrap();
    assert_eq!(event["note"].as_str().unwrap(), late[0].explanation, "the same sentence as live");
}

#[test]
fn thresholds_of_today_say_whom_a_recorded_workload_calls() {
    let story = story::named("callee-broke-first");
    let mut played = play(&story, &Plan { record: true, ..Plan::default() });
    for observed in &mut played.tape {
        if let Observation::Workload { calls, .. } = &mut observed.what {
            *calls = None;
        }
    }
    let seen = |own| replayed(&played.tape, &life::thresholds(&own), "web");
    assert!(seen(Value::Null).iter().any(|(_, undone)| *undone), "nobody knows that it calls anybody");
    let policies = json!([{"name": "web", "match": {"names": ["web"]}, "calls": ["pay"]}]);
    let seen = seen(json!({"policies": policies}));
    assert!(seen.contains(&(Verdict::Hold(HoldReason::Dependency), false)), "{seen:?}");
    assert!(seen.iter().all(|(_, undone)| !undone), "{seen:?}");
}

/// What a replay of what was recorded says otherwise than the daemon did: by the sentences that it wrote down, so to
/// the last request.
pub fn otherwise(played: &Played, story: &Story) -> Vec<String> {
    let mut live: Vec<String> =
        played.sim.with(|world| incidents(world)).into_iter().map(|i| i.spec.explanation).collect();
    let acted = |line: Line| match line {
        Line::Summary(summary) if summary.action != Action::None => Some(summary.explanation),
        _ => None,
    };
    let told = lines(&played.tape, &life::thresholds(&story.thresholds));
    let mut again: Vec<String> = told.into_iter().filter_map(acted).collect();
    live.sort();
    again.sort();
    match &story.replayed_otherwise {
        None if live != again => vec![format!("the replay convicts {again:#?}, and live it was {live:#?}")],
        Some(why) if live == again => vec![format!("the replay says the same, although {why}")],
        _ => Vec::new(),
    }
}
