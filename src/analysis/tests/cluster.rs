//! Hard facts: crash loops, images, deadlines, probes.

use super::*;

/// A trial with pods given by hand.
struct Cluster {
    docket: Docket,
}

impl Cluster {
    fn new(old_ready: bool) -> Self {
        let mut docket = Docket::new();
        docket.open(T0, workload(), "a".into(), "b".into(), rules());
        let mut cluster = Self { docket };
        for i in 0..3 {
            cluster.pod(T0 - 60.0, &format!("a-{i}"), "a", |pod| {
                pod.ready = old_ready;
                pod.created = Some(T0 - 9000.0);
            });
        }
        cluster
    }

    fn pod(&mut self, t: f64, name: &str, revision: &str, change: impl FnOnce(&mut PodState)) {
        let mut state = PodState {
            node: Some("n1".into()),
            created: Some(T0 + 1.0),
            ..PodState::new(PodId::new("shop", name), workload(), revision.into())
        };
        change(&mut state);
        self.docket.observe(&Observed { t, what: Observation::from(state) });
    }

    fn crash(&mut self, t: f64, name: &str, revision: &str, restarts: u32) {
        self.pod(t, name, revision, |pod| {
            pod.restarts = restarts;
            pod.exit_code = (restarts > 0).then_some(1);
            pod.waiting = (restarts > 0).then(|| "CrashLoopBackOff".to_owned());
        });
    }

    fn probe(&mut self, t: f64, pod: Option<&str>, outcome: ProbeOutcome) {
        let probe = ProbeResult {
            workload: workload(),
            revision: None,
            pod: pod.map(|name| PodId::new("shop", name)),
            name: "ready".into(),
            outcome,
            probe_type: None,
            detail: None,
        };
        self.docket.observe(&Observed { t, what: Observation::Probe(probe) });
    }

    fn judge(&mut self, t: f64) -> Judgement {
        let judgement = self.docket.judge(t).remove(0);
        assert!(judgement.explanation.ends_with('.'), "{}", judgement.explanation);
        judgement
    }

    fn source_fails(&mut self, t: f64) {
        let what = Observation::Source { source: "prometheus".into(), ok: false, reason: Some("refused".into()) };
        self.docket.observe(&Observed { t, what });
    }
}

const CRASH: Verdict = Verdict::Fail(FailReason::CrashLoop);

#[test]
fn s16_crash_loop_fails_even_when_monitoring_is_down() {
    let mut cluster = Cluster::new(true);
    let mut first = None;
    for (at, restarts) in [(5.0, 0), (12.0, 1), (28.0, 2), (58.0, 3), (100.0, 4), (190.0, 5), (360.0, 6), (680.0, 7)] {
        cluster.crash(T0 + at, "b-0", "b", restarts);
        cluster.source_fails(T0 + at);
        let j = cluster.judge(T0 + at + 1.0);
        if j.verdict == CRASH {
            first.get_or_insert(at);
            assert_eq!(j.harm_since, Some(T0 + 12.0));
        } else {
            assert!(first.is_none(), "it stays: {} {}", at, j.explanation);
        }
    }
    assert_eq!(first, Some(58.0));
    let j = cluster.judge(T0 + 700.0);
    assert!(
        j.explanation.contains("1 of 1 new pod crashes again and again (b-0: 7 restarts, exit code 1)"),
        "{}",
        j.explanation
    );
    // It recovers: the verdict does, too (57).
    cluster.pod(T0 + 710.0, "b-0", "b", |pod| {
        pod.ready = true;
        pod.restarts = 7;
        pod.exit_code = Some(1);
    });
    assert_eq!(cluster.judge(T0 + 720.0).verdict, CRASH);
    assert_ne!(cluster.judge(T0 + 780.0).verdict, CRASH);
}

#[test]
fn clean_exits_and_few_pods_are_no_crash_loop() {
    let mut cluster = Cluster::new(true);
    cluster.pod(T0 + 50.0, "b-0", "b", |pod| {
        pod.restarts = 6;
        pod.exit_code = Some(0);
    });
    assert_eq!(cluster.judge(T0 + 51.0).verdict, Verdict::Watching);
    for i in 1..9 {
        cluster.pod(T0 + 60.0, &format!("b-{i}"), "b", |pod| pod.ready = true);
    }
    cluster.crash(T0 + 61.0, "b-1", "b", 3);
    cluster.crash(T0 + 61.0, "b-2", "b", 3);
    assert_eq!(cluster.judge(T0 + 62.0).verdict, Verdict::Watching, "2 of 9 are less than a quarter");
    cluster.crash(T0 + 63.0, "b-3", "b", 3);
    assert_eq!(cluster.judge(T0 + 64.0).verdict, CRASH);
}

#[test]
fn restart_counts_that_appear_at_once_count_on_young_pods_only() {
    let mut cluster = Cluster::new(true);
    cluster.crash(T0 + 200.0, "b-0", "b", 4);
    assert_eq!(cluster.judge(T0 + 201.0).verdict, CRASH);
    let mut cluster = Cluster::new(true);
    cluster.pod(T0 + 900.0, "b-0", "b", |pod| {
        pod.restarts = 9;
        pod.exit_code = Some(1);
        pod.created = Some(T0 - 50_000.0);
    });
    assert_eq!(cluster.judge(T0 + 901.0).verdict, Verdict::Watching);
}

#[test]
fn s45_an_old_revision_that_crashes_too_is_no_place_to_go_back_to() {
    let mut cluster = Cluster::new(false);
    cluster.crash(T0 - 30.0, "a-0", "a", 3);
    cluster.crash(T0 + 60.0, "b-0", "b", 3);
    let j = cluster.judge(T0 + 61.0);
    assert_eq!(j.verdict, Verdict::Hold(HoldReason::NoBaseline), "{}", j.explanation);

    let mut cluster = Cluster::new(true);
    cluster.crash(T0 + 50.0, "a-0", "a", 2);
    cluster.crash(T0 + 60.0, "b-0", "b", 3);
    assert_eq!(cluster.judge(T0 + 61.0).verdict, Verdict::Hold(HoldReason::Shared));
    for i in 1..60 {
        cluster.crash(T0 + 61.0 + 20.0 * f64::from(i), "b-0", "b", 3 + i as u32);
        let j = cluster.judge(T0 + 62.0 + 20.0 * f64::from(i));
        assert_eq!(j.verdict, Verdict::Hold(HoldReason::Shared), "the veto does not expire: {}", j.explanation);
    }
}

#[test]
fn s17_an_image_that_cannot_be_pulled() {
    for (reason, verdict) in [
        ("ErrImagePull", FailReason::ImagePull),
        ("InvalidImageName", FailReason::ImagePull),
        ("CreateContainerConfigError", FailReason::ConfigError),
        ("RunContainerError", FailReason::ConfigError),
    ] {
        let mut cluster = Cluster::new(true);
        for at in [10.0, 25.0, 40.0, 55.0, 69.0, 70.0] {
            let text = if verdict == FailReason::ImagePull && at > 30.0 { "ImagePullBackOff" } else { reason };
            cluster.pod(T0 + at, "b-0", "b", |pod| pod.waiting = Some(text.to_owned()));
            let j = cluster.judge(T0 + at);
            assert_eq!(j.verdict == Verdict::Fail(verdict), at >= 70.0, "{reason} {at} {}", j.explanation);
        }
    }
    let mut cluster = Cluster::new(true);
    cluster.pod(T0 + 5.0, "a-2", "a", |pod| pod.waiting = Some("ErrImagePull".into()));
    cluster.pod(T0 + 10.0, "b-0", "b", |pod| pod.waiting = Some("ErrImagePull".into()));
    assert_eq!(cluster.judge(T0 + 80.0).verdict, Verdict::Hold(HoldReason::Shared), "the registry is down");
}

#[test]
fn pods_of_a_revision_that_nobody_proved_good_are_no_witnesses() {
    let verdict = |proven: f64, gone: bool, served: bool| {
        let mut cluster = Cluster::new(true);
        cluster.docket.open_after(T0, proven, workload(), "m".into(), "b".into(), rules());
        let failing = |pod: &mut PodState| {
            (pod.waiting, pod.deleted) = (Some("ErrImagePull".into()), gone);
        };
        if served {
            cluster.pod(T0 + 1.0, "m-0", "m", |pod| pod.ready = true);
        }
        cluster.pod(T0 + 5.0, "m-1", "m", failing);
        cluster.pod(T0 + 10.0, "b-0", "b", |pod| pod.waiting = Some("ErrImagePull".into()));
        cluster.judge(T0 + 80.0).verdict
    };
    let (shared, bad) = (Verdict::Hold(HoldReason::Shared), Verdict::Fail(FailReason::ImagePull));
    assert_eq!(verdict(T0, false, true), shared, "it was proved, and cannot be pulled any more");
    assert_eq!(verdict(T0 - 40.0, false, true), bad, "it was on trial itself");
    assert_eq!(verdict(T0, false, false), bad, "it never served");
    assert_eq!(verdict(T0, true, true), bad, "it is gone: what is told of it was so before");
}

#[test]
fn s18_never_ready_runs_into_the_deadline_and_is_not_health() {
    let mut cluster = Cluster::new(true);
    cluster.pod(T0 + 5.0, "b-0", "b", |_| ());
    for i in 0..40 {
        let t = T0 + 10.0 + 15.0 * f64::from(i);
        cluster.probe(t, Some("a-0"), ProbeOutcome::Pass);
        cluster.probe(t, Some("b-0"), ProbeOutcome::Fail);
        assert_eq!(cluster.judge(t).verdict, Verdict::Watching);
    }
    let what = Observation::Condition { workload: workload(), condition: RolloutCondition::ProgressDeadlineExceeded };
    cluster.docket.observe(&Observed { t: T0 + 620.0, what });
    let j = cluster.judge(T0 + 621.0);
    assert_eq!(j.verdict, Verdict::Fail(FailReason::ProgressDeadline), "{}", j.explanation);
    assert_eq!(cluster.judge(T0 + 800.0).verdict, j.verdict);
}

#[test]
fn s19_a_failing_probe_needs_a_passing_one_before() {
    let run = |old: Option<ProbeOutcome>| {
        let mut cluster = Cluster::new(true);
        cluster.pod(T0 + 5.0, "b-0", "b", |pod| pod.ready = true);
        cluster.pod(T0 + 5.0, "b-1", "b", |pod| pod.ready = true);
        let mut seen = Vec::new();
        for i in 0..4 {
            let t = T0 + 15.0 + 15.0 * f64::from(i);
            if let Some(outcome) = old {
                cluster.probe(t, Some("a-0"), outcome);
            }
            cluster.probe(t, Some("b-0"), ProbeOutcome::Fail);
            cluster.probe(t, Some("b-1"), ProbeOutcome::Fail);
            seen.push(cluster.judge(t).verdict);
        }
        seen
    };
    let health = Verdict::Fail(FailReason::Health);
    assert_eq!(run(Some(ProbeOutcome::Pass)), [Verdict::Watching, Verdict::Watching, health, health]);
    assert!(!run(None).contains(&health));
    assert!(!run(Some(ProbeOutcome::Fail)).contains(&health));
    assert!(!run(Some(ProbeOutcome::Error)).contains(&health));
}

#[test]
fn one_healthy_new_pod_or_an_unclear_answer_is_no_conviction() {
    let mut cluster = Cluster::new(true);
    for name in ["b-0", "b-1"] {
        cluster.pod(T0 + 5.0, name, "b", |pod| pod.ready = true);
    }
    for i in 0..20 {
        let t = T0 + 15.0 + 15.0 * f64::from(i);
        cluster.probe(t, Some("a-0"), ProbeOutcome::Pass);
        cluster.probe(t, Some("b-0"), ProbeOutcome::Fail);
        cluster.probe(t, Some("b-1"), if i < 10 { ProbeOutcome::Pass } else { ProbeOutcome::Error });
        assert_ne!(cluster.judge(t).verdict, Verdict::Fail(FailReason::Health));
    }
}

#[test]
fn a_rollout_does_not_hide_behind_its_next_pod() {
    let mut cluster = Cluster::new(true);
    let mut first = None;
    for i in 0..12 {
        let t = T0 + 20.0 + 15.0 * f64::from(i);
        cluster.pod(t - 10.0, &format!("b-{i}"), "b", |pod| {
            pod.ready = true;
            pod.created = Some(t - 14.0);
        });
        cluster.probe(t, Some("a-0"), ProbeOutcome::Pass);
        for k in 0..=i {
            cluster.probe(t, Some(&format!("b-{k}")), ProbeOutcome::Fail);
        }
        if cluster.judge(t).verdict == Verdict::Fail(FailReason::Health) {
            first.get_or_insert(i);
        }
    }
    assert_eq!(first, Some(2));
}

#[test]
fn through_the_service_five_failures_are_needed() {
    let mut cluster = Cluster::new(true);
    cluster.probe(T0 + 2.0, None, ProbeOutcome::Pass);
    cluster.pod(T0 + 5.0, "b-0", "b", |pod| pod.ready = true);
    let verdicts: Vec<bool> = (0..6)
        .map(|i| {
            let t = T0 + 20.0 + 15.0 * f64::from(i);
            cluster.probe(t, None, ProbeOutcome::Fail);
            cluster.judge(t).verdict == Verdict::Fail(FailReason::Health)
        })
        .collect();
    assert_eq!(verdicts, [false, false, false, false, true, true]);
}

#[test]
fn s20_a_flaky_probe_stays_flaky() {
    for seed in 0..40 {
        let mut random = Random::new(900 + seed);
        let mut cluster = Cluster::new(true);
        cluster.pod(T0 + 5.0, "b-0", "b", |pod| pod.ready = true);
        for i in 0..120 {
            let t = T0 + 15.0 + 15.0 * f64::from(i);
            for pod in ["a-0", "a-1", "a-2", "b-0"] {
                let outcome = if random.uniform() < 0.1 { ProbeOutcome::Fail } else { ProbeOutcome::Pass };
                cluster.probe(t, Some(pod), outcome);
            }
            let j = cluster.judge(t);
            assert_ne!(j.verdict.word(), "fail", "seed {seed}, {}", j.explanation);
        }
    }
}

#[test]
fn nothing_measured_is_said_and_never_passes() {
    let mut cluster = Cluster::new(true);
    assert_eq!(cluster.judge(T0 + 1.0).explanation, "No new pod has been seen yet.");
    cluster.pod(T0 + 5.0, "b-0", "b", |pod| pod.ready = true);
    assert_eq!(cluster.judge(T0 + 100.0).verdict, Verdict::Watching);
    let j = cluster.judge(T0 + 140.0);
    assert_eq!(j.verdict, Verdict::Unknown(UnknownReason::NoData), "{}", j.explanation);
    assert_eq!(j.baseline_good, None);
    assert_eq!(cluster.judge(T0 + 80_000.0).verdict, j.verdict);
}

#[test]
fn thousand_idle_trials_and_unknown_pods_are_harmless() {
    let mut docket = Docket::new();
    for i in 0..1000 {
        docket.open(T0, WorkloadId::new("x", Kind::Deployment, format!("w{i}")), "a".into(), "b".into(), rules());
    }
    for i in 0..5000 {
        let counts = Counts { requests: Some(1.0), errors: Some(1.0), latency: None };
        docket.observe(&Observed {
            t: T0,
            what: Observation::Counters { pod: PodId::new("x", format!("p{i}")), counts },
        });
    }
    docket.observe(&Observed { t: f64::NAN, what: Observation::End {} });
    assert!(docket.judge(f64::NAN).is_empty());
    assert_eq!(docket.judge(T0 + 15.0).len(), 1000);
    assert!(docket.skipped() >= 4000);
    assert_eq!((docket.len(), docket.trial_ids().count()), (1000, 1000));
}

/// What the table says of memory after a watch in which the new pod's grows by so many MiB a minute.
fn memory(old_grows: f64, new_grows: f64, limit: Option<f64>) -> Option<Finding> {
    let mut cluster = Cluster::new(true);
    cluster.pod(T0 + 5.0, "b-0", "b", |pod| {
        (pod.ready, pod.memory_limit) = (true, limit);
    });
    let mut judged = None;
    for i in 0..40 {
        let t = T0 - 600.0 + 60.0 * f64::from(i);
        for (name, grows) in [("a-0", old_grows), ("b-0", new_grows)] {
            let bytes = (100.0 + grows * f64::from(i)) * 1_048_576.0;
            let pod = PodId::new("shop", name);
            cluster.docket.observe(&Observed { t, what: Observation::Memory { pod, bytes } });
        }
        if t > T0 + 60.0 {
            judged = Some(cluster.judge(t));
        }
    }
    judged.unwrap().findings.into_iter().find(|line| line.signal == "memory")
}

#[test]
fn memory_that_grows_towards_its_limit_is_in_the_table() {
    let limit = Some(256.0 * 1_048_576.0);
    let line = memory(0.0, 2.0, limit).unwrap();
    assert_eq!((line.new.as_str(), line.old.as_deref()), ("+ 2 MiB a minute", Some("+ 0 MiB a minute")));
    assert_eq!(line.limit.as_deref(), Some("256 MiB, in 39 min"));
    assert_eq!(memory(2.0, 2.0, limit), None, "old pods do the same");
    assert_eq!(memory(0.0, 0.0, limit), None, "it does not grow");
    assert_eq!(memory(0.0, 2.0, None), None, "there is no limit to run into");
}

#[test]
fn a_pod_that_a_stateful_set_waits_for_is_named() {
    let said = |kind| {
        let id = WorkloadId::new("shop", kind, "db");
        let mut docket = Docket::new();
        docket.open(T0, id.clone(), "a".into(), "b".into(), rules());
        for t in [T0 + 1.0, T0 + 40.0, T0 + 70.0] {
            let mut pod = PodState::new(PodId::new("shop", "db-1"), id.clone(), "a".into());
            pod.waiting = Some("ErrImagePull".into());
            docket.observe(&Observed { t, what: Observation::from(pod) });
            docket.judge(t);
        }
        docket.judge(T0 + 75.0).remove(0).explanation
    };
    let text = said(Kind::StatefulSet);
    assert!(
        text.ends_with("db-1 of an earlier revision is stuck, and a StatefulSet waits for it: delete that pod."),
        "{text}"
    );
    assert_eq!(said(Kind::Deployment), "No new pod has been seen yet.");
}

#[test]
fn what_another_revision_measured_proves_nothing_of_the_one_before() {
    let good = |served: &str| {
        let mut docket = Docket::new();
        docket.open(T0, workload(), "m".into(), "b".into(), rules());
        let mut pod = PodState::new(PodId::new("shop", "old-0"), workload(), served.into());
        (pod.ready, pod.created) = (true, Some(T0 - 9000.0));
        docket.observe(&Observed { t: T0 - 600.0, what: Observation::from(pod) });
        for i in 0..30 {
            let requests = Some(100.0 * f64::from(i));
            let counts = Counts { requests, errors: Some(0.0), latency: None };
            let what = Observation::Counters { pod: PodId::new("shop", "old-0"), counts };
            docket.observe(&Observed { t: T0 - 500.0 + 15.0 * f64::from(i), what });
        }
        docket.judge(T0 + 10.0).remove(0).baseline_good
    };
    assert_eq!((good("m"), good("a")), (Some(true), None));
}
