//! After an undo: did it help?

use super::*;

/// A conviction, then the undo at the time given back: old pods come anew.
fn undone(seed: u64, bad: Does) -> (Story, f64) {
    let mut story = Story::new(seed, FINE);
    story.roll(4, 15.0);
    story.until(240.0, &new_pods(bad), &mut |_| ());
    let t = story.t;
    story.docket.watch_recovery(t, workload(), "b".into(), "a".into(), rules(), None);
    assert!(story.docket.is_empty());
    for pod in &mut story.pods {
        pod.gone.get_or_insert(t + 20.0);
    }
    for i in 0..4 {
        story.add(&format!("c-{i}"), "a", "n1", t + 1.0, Some(t + 10.0));
    }
    (story, t)
}

fn watch(story: &mut Story, undo: f64, seconds: f64, does: &dyn Fn(&str, f64) -> Does) -> Vec<(f64, Recovery)> {
    let mut said = Vec::new();
    while story.t < undo + seconds {
        story.step(does);
        let one = story.docket.recoveries(story.t).remove(0);
        assert!(one.explanation.ends_with('.') && one.target == Revision::from("a"), "{}", one.explanation);
        said.push((story.t - undo, one));
    }
    said
}

#[test]
fn an_undo_that_helped_is_seen_soon_and_stays() {
    let (mut story, undo) = undone(31, Does { errors: 0.4, ..FINE });
    let said = watch(&mut story, undo, 600.0, &|pod, _| {
        if pod.starts_with('b') { Does { errors: 0.4, ..FINE } } else { FINE }
    });
    let (after, first) = said.iter().find(|(_, r)| r.state != RecoveryState::Waiting).unwrap();
    assert_eq!(first.state, RecoveryState::Helped, "{}", first.explanation);
    assert!(*after <= 60.0, "{after}");
    assert!(said.iter().rev().take(10).all(|(_, r)| r.state == RecoveryState::Helped));
}

#[test]
fn slow_is_disproved_by_latency_and_not_by_errors() {
    let (mut story, undo) = undone(32, Does { slow: 3.0, ..FINE });
    let said = watch(&mut story, undo, 600.0, &|_, _| Does { slow: 3.0, ..FINE });
    assert!(said.iter().all(|(_, r)| r.state != RecoveryState::Helped));
    assert_eq!(said.last().unwrap().1.state, RecoveryState::DidNotHelp, "{}", said.last().unwrap().1.explanation);
    let (mut story, undo) = undone(32, Does { slow: 3.0, ..FINE });
    let said = watch(&mut story, undo, 600.0, &|_, _| FINE);
    assert_eq!(said.last().unwrap().1.state, RecoveryState::Helped, "{}", said.last().unwrap().1.explanation);
}

#[test]
fn an_undo_that_did_not_help_is_said_after_half_the_time() {
    let (mut story, undo) = undone(33, Does { errors: 0.4, ..FINE });
    let said = watch(&mut story, undo, 600.0, &|_, _| Does { errors: 0.4, ..FINE });
    let (after, first) = said.iter().find(|(_, r)| r.state != RecoveryState::Waiting).unwrap();
    assert_eq!(first.state, RecoveryState::DidNotHelp);
    assert!(*after >= 300.0 && *after <= 330.0, "{after}");
    assert!(
        first.explanation.contains("still breaks the limit: 40 % of") || first.explanation.contains(" requests failed"),
        "{}",
        first.explanation
    );
}

/// The daemon restarts right after the undo: the trial that convicted is gone, and so are its limits.
fn restarted(seed: u64, bad: Does) -> (Story, f64, Conviction) {
    let mut story = Story::new(seed, FINE);
    story.roll(4, 15.0);
    let (_, judgement) = story.fails(240.0, &new_pods(bad)).expect("a conviction");
    let Verdict::Fail(reason) = judgement.verdict else { panic!("{}", judgement.explanation) };
    let t = story.t;
    story.docket = Docket::with_interval(15.0);
    let convicted = Conviction { reason: Some(reason), limits: judgement.limits };
    story.docket.watch_recovery(t, workload(), "b".into(), "a".into(), rules(), Some(convicted));
    for pod in &mut story.pods {
        pod.gone.get_or_insert(t + 20.0);
    }
    for i in 0..4 {
        story.add(&format!("c-{i}"), "a", "n1", t + 1.0, Some(t + 10.0));
    }
    (story, t, convicted)
}

#[test]
fn after_a_restart_slow_is_still_judged_by_latency() {
    let slow = Does { slow: 3.0, ..FINE };
    let (mut story, undo, convicted) = restarted(32, slow);
    let cut = convicted.limits.latency.expect("a latency limit");
    assert!(cut.seconds > 0.0 && cut.quantile > 0.4, "{cut:?}");
    let said = watch(&mut story, undo, 600.0, &|_, _| slow);
    assert!(said.iter().all(|(_, r)| r.state != RecoveryState::Helped), "requests without errors prove nothing");
    assert_eq!(said.last().unwrap().1.state, RecoveryState::DidNotHelp, "{}", said.last().unwrap().1.explanation);
    let (mut story, undo, _) = restarted(32, slow);
    let last = watch(&mut story, undo, 600.0, &|_, _| FINE).pop().unwrap().1;
    assert_eq!(last.state, RecoveryState::Helped, "{}", last.explanation);
    assert!(last.explanation.contains("took longer than"), "{}", last.explanation);
}

#[test]
fn a_watch_that_is_opened_again_keeps_what_was_broken() {
    let (mut story, undo, _) = restarted(32, Does { slow: 3.0, ..FINE });
    // Other thresholds: the watch begins anew, and nobody tells it what was broken.
    story.docket.watch_recovery(undo, workload(), "b".into(), "a".into(), rules(), None);
    let said = watch(&mut story, undo, 600.0, &|_, _| Does { slow: 3.0, ..FINE });
    assert!(said.iter().all(|(_, r)| r.state != RecoveryState::Helped));
}

#[test]
fn silence_proves_nothing() {
    let (mut story, undo) = undone(34, Does { errors: 0.4, ..FINE });
    story.silent = true;
    let said = watch(&mut story, undo, 660.0, &|_, _| FINE);
    assert!(said.iter().filter(|(at, _)| *at < 600.0).all(|(_, r)| r.state == RecoveryState::Waiting));
    assert_eq!(said.last().unwrap().1.state, RecoveryState::CannotTell);
}

#[test]
fn a_newer_rollout_replaces_the_recovery() {
    let (mut story, undo) = undone(35, Does { errors: 0.4, ..FINE });
    watch(&mut story, undo, 60.0, &|_, _| FINE);
    let t = story.t;
    story.docket.open(t, workload(), "a".into(), "c".into(), rules());
    assert_eq!((story.docket.len(), story.docket.recovery_ids().count()), (1, 0));
    assert!(story.docket.recoveries(t).is_empty());
    story.docket.close(&workload());
    assert!(story.docket.is_empty() && story.docket.judge(t + 15.0).is_empty());
}
