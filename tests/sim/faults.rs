//! Fault cases that no single story tells: several daemons, clocks that are off, a daemon that dies all the time.

use crate::{
    play::{Plan, Played, play, unexpected},
    story::{self, Act, Fault, Step, Story, Workload},
    wrong,
};
use serde_json::json;
use std::time::Duration;

#[track_caller]
fn fine(played: &Played, story: &Story) {
    let wrong = wrong(played, story);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Starts, lives for two seconds, dies; twenty times.
#[test]
fn fault_09_a_daemon_that_dies_all_the_time_undoes_nothing_good() {
    let deaths = (0..20).map(|n| Duration::from_secs(2 + 5 * n)).collect();
    let story = story::named("good-deploy");
    let played = play(&story, &Plan { deaths, ..Plan::default() });
    assert!(played.lives > 15, "{} lives", played.lives);
    fine(&played, &story);
}

/// More workloads than one page holds, an API server that cannot stream lists, and a `continue` token that has expired
/// when the second page is asked for: everything is listed anew, and the bad one among hundreds is undone.
#[test]
fn fault_32_a_list_of_many_pages_begins_anew_when_its_token_expires() {
    let mut story = Story { crash: false, ..story::named("errors-all") };
    let idle = |n| Workload { name: format!("idle-{n}"), replicas: 0, load: 0.0, ..story.workloads[0].clone() };
    let idle: Vec<Workload> = (0..205).map(idle).collect();
    story.workloads.extend(idle);
    let refuse = |status, only: &str, times| {
        let (how, only) = ("refuse".into(), only.into());
        Act::Api(Fault { how, status, retry_after: None, only, times, chance: None })
    };
    let step = |act| Step { act, ..story.steps[0].clone() };
    let mut steps = vec![
        step(refuse(422, "streamingLists", None)),
        step(refuse(410, "furtherPages", Some(2))),
        step(Act::RestartDaemon(true)),
    ];
    steps.append(&mut story.steps);
    story.steps = steps;
    let played = play(&story, &Plan::default());
    let answered = |further: bool| {
        let listed = |url: &str| url.contains("/deployments?") && url.contains("limit=");
        played.audit.iter().filter(|a| listed(&a.asked.url) && a.asked.url.contains("continue=") == further).count()
    };
    // Requests that a fault refuses are not in the audit: each refused second page shows as one more first page.
    assert!(answered(false) >= 3 && answered(true) >= 1, "{} and {} pages", answered(false), answered(true));
    fine(&played, &story);
}

/// Neither takes turns: both judge, both want to undo, and one wins.
#[test]
fn fault_36_two_daemons_that_both_lead_undo_once() {
    for name in ["crash-loop", "errors-all"] {
        let story = Story { settings: json!({"leaderElection": false}), ..story::named(name) };
        let played = play(&story, &Plan { others: vec![("second", 0)], ..Plan::default() });
        fine(&played, &story);
    }
}

/// The leader dies in the middle of an undo; the clock of the other one is ten minutes off.
#[test]
fn fault_38_a_clock_that_is_off_takes_no_lease_early_and_undoes_nothing_twice() {
    for off in [600, -600] {
        let story = story::named("errors-all");
        let deaths = vec![Duration::from_secs(45)];
        let played = play(&story, &Plan { others: vec![("second", off)], deaths, ..Plan::default() });
        // The times in the record are those of whoever wrote it; what was done is what counts.
        assert_eq!(unexpected(&played, &story), [""; 0], "{off} s");
        let broken = crate::invariants::broken(&played.evidence);
        assert!(broken.is_empty(), "{off} s: {broken:?}");
    }
}
