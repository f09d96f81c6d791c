//! After the watch: undecided rollouts are looked at seldom, those that passed are watched on and never convicted.

use super::*;

const HOUR: f64 = 3600.0;

/// A rollout that passed, at the time given back.
fn passed(seed: u64) -> Story {
    let mut story = Story::new(seed, FINE);
    story.latency = false;
    story.roll(4, 10.0);
    let end = story.never_fails(1900.0, &|_, _| FINE);
    assert_eq!(end.verdict, Verdict::Pass, "{}", end.explanation);
    story.docket.passed(&workload());
    assert!(story.docket.is_empty() && story.docket.late_ids().eq([&workload()]));
    story
}

/// Goes on for `hours`, read every `tick` seconds; everything that is told.
fn goes_on(story: &mut Story, hours: f64, tick: f64, does: &dyn Fn(&str, f64) -> Does) -> Vec<LateWatch> {
    story.tick = tick;
    let (end, mut told) = (story.t + hours * HOUR, Vec::new());
    while story.t < end {
        story.step(does);
        assert!(story.docket.judge(story.t).is_empty(), "it is judged no more");
        // The daemon looks at every tick; the last bin is over by the next one.
        told.extend(story.docket.look_late(story.t + 15.0));
    }
    told
}

#[test]
fn what_breaks_hours_after_it_passed_is_told_once_and_blamed_on_nobody() {
    for tick in [15.0, 60.0, 300.0] {
        let mut story = passed(7);
        let broken = story.t + 3.0 * HOUR;
        let told = goes_on(&mut story, 5.0, tick, &|_, t| {
            if t > broken { Does { errors: 0.2, ..FINE } } else { FINE }
        });
        assert_eq!(told.len(), 1, "{told:#?}");
        let LateWatch { t, broken: since, explanation, revision, .. } = &told[0];
        assert_eq!(*revision, Revision::from("b"));
        assert!((t - broken) <= 2.0 * tick + 240.0, "told {} s later at {tick}", t - broken);
        assert!((since.unwrap() - broken).abs() <= tick + 60.0, "{since:?} instead of {broken}");
        assert!(explanation.starts_with("It passed, and broke 3"), "{explanation}");
        assert!(explanation.contains("Nothing is undone"), "{explanation}");
        let now = story.docket.late(&workload(), story.t).unwrap();
        assert!(now.explanation.contains("20 % of ") || now.explanation.contains("19 % of "), "{}", now.explanation);
    }
}

#[test]
fn what_keeps_its_limit_again_is_told_too_and_short_bursts_are_not() {
    let mut story = passed(8);
    let from = story.t + HOUR;
    let told = goes_on(&mut story, 3.0, 15.0, &|_, t| {
        if t > from && t < from + 1200.0 { Does { errors: 0.3, ..FINE } } else { FINE }
    });
    assert_eq!(told.iter().map(|seen| seen.broken.is_some()).collect::<Vec<_>>(), [true, false], "{told:#?}");
    assert!(told[1].explanation.contains("requests failed since it keeps its limit again"), "{}", told[1].explanation);
    assert!(!told[1].explanation.contains("; 3"), "what failed before is not in it: {}", told[1].explanation);
    let from = story.t + HOUR;
    let told = goes_on(&mut story, 3.0, 15.0, &|_, t| {
        if t > from && t < from + 45.0 { Does { errors: 0.3, ..FINE } } else { FINE }
    });
    assert_eq!(told, []);
}

#[test]
fn the_watch_ends_a_day_after_the_rollout_or_with_the_next_one() {
    let mut story = passed(9);
    let quiet = Does { rps: 0.2, ..FINE };
    assert_eq!(goes_on(&mut story, 23.0, 300.0, &|_, _| quiet), []);
    let seen = story.docket.late(&workload(), story.t).unwrap();
    assert!(seen.explanation.starts_with("It passed 23"), "{}", seen.explanation);
    assert!((seen.until - T0 - 24.0 * HOUR).abs() < 1e-9, "{}", seen.until);
    assert_eq!(goes_on(&mut story, 1.0, 300.0, &|_, _| Does { errors: 1.0, ..FINE }).len(), 1);
    assert_eq!(story.docket.late(&workload(), story.t), None, "its day is over");

    let mut story = passed(10);
    story.docket.open(story.t, workload(), "b".into(), "c".into(), rules());
    assert_eq!(story.docket.late(&workload(), story.t), None);
    let mut story = passed(11);
    story.docket.close(&workload());
    assert_eq!(story.docket.late_ids().count(), 0);
}

#[test]
fn other_thresholds_hold_for_what_passed_and_none_at_all_end_its_watch() {
    let mut story = passed(12);
    let three = |_: &str, _| Does { errors: 0.03, ..FINE };
    assert_eq!(goes_on(&mut story, 1.0, 15.0, &three), []);
    let strict = Rules { errors: ErrorLimit { max: 0.01 }, ..Rules::default() };
    story.docket.refresh_late(&workload(), &Arc::new(strict));
    assert_eq!(goes_on(&mut story, 0.5, 15.0, &three).len(), 1);
    let off = Rules { late_watch: std::time::Duration::ZERO, ..Rules::default() };
    story.docket.refresh_late(&workload(), &Arc::new(off));
    assert_eq!(story.docket.late_ids().count(), 0);
}

#[test]
fn in_an_outage_it_says_who_else_broke() {
    let mut story = passed(13);
    let other = WorkloadId::new("shop", Kind::Deployment, "mail");
    story.docket.watch_late((T0, story.t), other.clone(), "m".into(), rules());
    let began = story.t + HOUR;
    let mut told = Vec::new();
    let (mut requests, mut errors) = (0.0, 0.0);
    for _ in 0..480 {
        let bad = |t: f64| t > began;
        story.step(&|_, t| Does { errors: if bad(t) { 0.5 } else { 0.003 }, ..FINE });
        requests += 150.0;
        errors += if bad(story.t) { 75.0 } else { 0.0 };
        let counts = Counts { requests: Some(requests), errors: Some(errors), latency: None };
        story.say(Observation::Callers { workload: other.clone(), counts });
        story.docket.judge(story.t);
        told.extend(story.docket.look_late(story.t));
    }
    assert_eq!(told.len(), 2, "{told:#?}");
    let both = story.docket.late(&workload(), story.t).unwrap().explanation;
    assert!(both.ends_with("1 of 1 other workload that passed lately broke in the same minutes."), "{both}");
}

/// A rollout that nothing is settled of, forty minutes old; read as the daemon reads it from there on.
fn undecided(seed: u64) -> Story {
    let mut story = Story::new(seed, FINE);
    story.latency = false;
    story.roll(4, 10.0);
    let few = |_: &str, _| Does { rps: 0.01, ..FINE };
    story.until(2100.0, &few, &mut |_| ());
    story
}

/// Reads what the docket does not let rest; counts the looks, and tells when it was convicted.
fn looked_at(story: &mut Story, until: f64, does: &dyn Fn(&str, f64) -> Does) -> (usize, Option<(f64, Judgement)>) {
    let (mut looks, mut convicted) = (0, None);
    while story.t < until {
        let resting = story.docket.resting(story.t + story.tick).contains(&workload());
        story.silent = resting;
        story.step(does);
        let judged = story.docket.judge(story.t);
        assert_eq!(judged.is_empty(), resting, "{} {judged:?}", story.t - T0);
        looks += judged.len();
        let fails = |j: &&Judgement| matches!(j.verdict, Verdict::Fail(_));
        convicted = convicted.or(judged.iter().find(fails).map(|j| (story.t, j.clone())));
    }
    (looks, convicted)
}

#[test]
fn an_undecided_rollout_is_looked_at_every_five_minutes_and_still_convicted() {
    let mut story = undecided(14);
    let t = story.t;
    let (looks, convicted) = looked_at(&mut story, t + HOUR, &|_, _| Does { rps: 0.01, ..FINE });
    assert!((11..=14).contains(&looks), "{looks} looks");
    assert_eq!(convicted, None);
    let broken = story.t;
    let bad = Does { rps: 0.5, errors: 0.5, ..FINE };
    let (_, convicted) = looked_at(&mut story, broken + HOUR, &|_, _| bad);
    let (t, judgement) = convicted.expect("convicted");
    assert!(t - broken <= 420.0, "{} s: {}", t - broken, judgement.explanation);
}

#[test]
fn requests_between_seldom_looks_count_towards_a_pass() {
    let mut story = undecided(15);
    let t = story.t;
    let mut last = None;
    while story.t < t + HOUR {
        story.silent = story.docket.resting(story.t + story.tick).contains(&workload());
        story.step(&|_, _| Does { rps: 0.1, ..FINE });
        last = story.docket.judge(story.t).pop().or(last);
    }
    let last = last.unwrap();
    assert_eq!(last.verdict, Verdict::Pass, "{}", last.explanation);
}

#[test]
fn whatever_stirs_wakes_it() {
    let mut story = undecided(16);
    let few = |_: &str, _| Does { rps: 0.01, ..FINE };
    let t = story.t;
    looked_at(&mut story, t + 1000.0, &few);
    let resting = |story: &Story| story.docket.resting(story.t).contains(&workload());
    while !resting(&story) {
        story.step(&few);
        story.docket.judge(story.t);
    }
    let pod = PodState {
        restarts: 1,
        exit_code: Some(1),
        ..PodState::new(PodId::new("shop", "b-1"), workload(), "b".into())
    };
    story.say(Observation::from(pod));
    assert!(!resting(&story));
    let judged = story.docket.judge(story.t + 1.0);
    assert!(!judged[0].explanation.contains("every 5 min"), "{}", judged[0].explanation);
}
