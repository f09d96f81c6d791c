//! End-to-end stories: the scenarios of decision.md 4.2 that one workload can tell.

use super::{
    Docket,
    random::Random,
    tuning::{CALLERS_AFTER, LEVEL, SECONDED},
};
use crate::domain::*;
use std::{collections::BTreeMap, sync::Arc};

const T0: f64 = 10_000.0;
const BOUNDS: [f64; 12] = [0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0, 2.5];

/// One pod of the story: its counters go on as a process's do.
struct Pod {
    name: String,
    revision: &'static str,
    node: String,
    created: f64,
    ready: Option<f64>,
    gone: Option<f64>,
    requests: f64,
    errors: f64,
    buckets: Vec<f64>,
}

/// What a pod does in one tick: requests per second, share of errors, factor on latency, and its spread (sigma).
#[derive(Clone, Copy)]
struct Does {
    rps: f64,
    errors: f64,
    slow: f64,
    spread: f64,
}

const FINE: Does = Does { rps: 2.5, errors: 0.003, slow: 1.0, spread: 0.5 };

struct Story {
    docket: Docket,
    random: Random,
    pods: Vec<Pod>,
    t: f64,
    tick: f64,
    silent: bool,
    latency: bool,
}

fn workload() -> WorkloadId {
    WorkloadId::new("shop", Kind::Deployment, "checkout")
}

fn rules() -> Arc<Rules> {
    Arc::new(Rules::default())
}

impl Story {
    /// Four old pods and half an hour of history, then a rollout at `T0`.
    fn new(seed: u64, before: Does) -> Self {
        Self::with(seed, before, 4)
    }

    fn with(seed: u64, before: Does, old: usize) -> Self {
        let mut story = Self {
            docket: Docket::new(),
            random: Random::new(seed),
            pods: Vec::new(),
            t: T0 - 1800.0,
            tick: 15.0,
            silent: false,
            latency: true,
        };
        story.docket.open(T0, workload(), "a".into(), "b".into(), rules());
        for i in 0..old {
            story.add(&format!("a-{i}"), "a", &format!("n{i}"), T0 - 90_000.0, Some(T0 - 89_000.0));
        }
        while story.t < T0 {
            story.step(&|_, _| before);
        }
        story
    }

    fn add(&mut self, name: &str, revision: &'static str, node: &str, created: f64, ready: Option<f64>) {
        self.pods.push(Pod {
            name: name.to_owned(),
            revision,
            node: node.to_owned(),
            created,
            ready,
            gone: None,
            requests: 0.0,
            errors: 0.0,
            buckets: vec![0.0; BOUNDS.len()],
        });
    }

    /// A rolling update: a new pod every `every` seconds, Ready after 10 s, and an old one leaves.
    fn roll(&mut self, new: usize, every: f64) {
        let old: Vec<usize> = (0..self.pods.len()).filter(|i| self.pods[*i].revision == "a").collect();
        for i in 0..new {
            let created = T0 + 1.0 + every * i as f64;
            self.add(&format!("b-{i}"), "b", &format!("n{i}"), created, Some(created + 10.0));
            if let Some(leaving) = old.get(i) {
                self.pods[*leaving].gone = Some(created + 11.0);
            }
        }
    }

    fn state(&self, pod: &Pod) -> PodState {
        PodState {
            node: Some(pod.node.clone()),
            ready: pod.ready.is_some_and(|at| at <= self.t) && pod.gone.is_none_or(|at| at > self.t),
            deleted: pod.gone.is_some_and(|at| at <= self.t),
            created: Some(pod.created),
            ready_since: pod.ready.filter(|at| *at <= self.t),
            ..PodState::new(PodId::new("shop", &pod.name), workload(), pod.revision.into())
        }
    }

    fn say(&mut self, what: Observation) {
        self.docket.observe(&Observed { t: self.t, what });
    }

    /// One tick: traffic, then a scrape. Does not judge.
    fn step(&mut self, does: &dyn Fn(&str, f64) -> Does) {
        self.t += self.tick;
        for i in 0..self.pods.len() {
            let pod = &self.pods[i];
            if pod.created > self.t || pod.gone.is_some_and(|gone| gone <= self.t - self.tick) {
                continue;
            }
            let state = self.state(pod);
            let seconds = (self.t - pod.ready.unwrap_or(f64::MAX)).clamp(0.0, self.tick);
            let it = does(&pod.name, self.t);
            let requests = self.random.poisson(it.rps * seconds);
            let errors = self.random.binomial(requests, it.errors);
            let mut buckets = vec![0.0; BOUNDS.len()];
            for _ in 0..requests {
                let latency = 0.1 * it.slow * (it.spread * self.random.normal()).exp();
                if let Some(bucket) = BOUNDS.iter().position(|bound| latency <= *bound) {
                    buckets[bucket] += 1.0;
                }
            }
            let pod = &mut self.pods[i];
            pod.requests += f64::from(requests);
            pod.errors += f64::from(errors);
            for (sum, more) in pod.buckets.iter_mut().zip(buckets) {
                *sum += more;
            }
            self.say(Observation::from(state));
            if !self.silent {
                self.scrape(i);
            }
        }
    }

    fn counts(&self, i: usize) -> Counts {
        let pod = &self.pods[i];
        let mut sum = 0.0;
        let mut latency: Buckets = BOUNDS
            .iter()
            .zip(&pod.buckets)
            .map(|(bound, count)| {
                sum += count;
                (*bound, sum)
            })
            .collect();
        latency.add(f64::INFINITY, pod.requests);
        Counts { requests: Some(pod.requests), errors: Some(pod.errors), latency: self.latency.then_some(latency) }
    }

    fn scrape(&mut self, i: usize) {
        let counts = self.counts(i);
        let pod = PodId::new("shop", &self.pods[i].name);
        self.say(Observation::Counters { pod, counts });
    }

    fn judge(&mut self) -> Judgement {
        let mut all = self.docket.judge(self.t);
        assert_eq!(all.len(), 1);
        let one = all.remove(0);
        assert!(one.log_e.is_finite());
        assert!(one.explanation.ends_with('.') && !one.explanation.contains("NaN"), "{}", one.explanation);
        one
    }

    /// Runs until `seconds` after the rollout; every judgement is shown to `see`.
    fn until(&mut self, seconds: f64, does: &dyn Fn(&str, f64) -> Does, see: &mut dyn FnMut(&Judgement)) -> Judgement {
        loop {
            self.step(does);
            let judgement = self.judge();
            see(&judgement);
            if self.t >= T0 + seconds {
                return judgement;
            }
        }
    }

    /// Seconds from `T0` to the first `fail`, and that judgement.
    fn fails(&mut self, within: f64, does: &dyn Fn(&str, f64) -> Does) -> Option<(f64, Judgement)> {
        let mut first = None;
        self.until(within, does, &mut |j| {
            if matches!(j.verdict, Verdict::Fail(_)) && first.is_none() {
                first = Some((j.t - T0, j.clone()));
            }
        });
        first
    }

    #[track_caller]
    fn never_fails(&mut self, seconds: f64, does: &dyn Fn(&str, f64) -> Does) -> Judgement {
        self.until(seconds, does, &mut |j| {
            assert!(!matches!(j.verdict, Verdict::Fail(_)), "{} {}", j.t - T0, j.explanation);
        })
    }
}

fn new_pods(bad: Does) -> impl Fn(&str, f64) -> Does {
    move |pod, _| if pod.starts_with('b') { bad } else { FINE }
}

fn finding<'a>(judgement: &'a Judgement, signal: &str) -> &'a Finding {
    judgement.findings.iter().find(|f| f.signal == signal).unwrap()
}

#[test]
fn s01_clean_deploy_passes() {
    let mut story = Story::new(1, FINE);
    story.roll(4, 30.0);
    let end = story.never_fails(2000.0, &|_, _| FINE);
    assert_eq!(end.verdict, Verdict::Pass, "{}", end.explanation);
    assert_eq!(end.baseline_good, Some(true));
    assert!(end.log_e < 0.0 && end.harm_since.is_none());
    assert_eq!(finding(&end, "errors").says, "clean");
    assert_eq!(finding(&end, "latency").says, "clean");
}

#[test]
fn s02_noisy_but_legal_never_fails() {
    for (seed, errors) in [(2, 0.03), (3, 0.045)] {
        let noisy = Does { errors, ..FINE };
        let mut story = Story::new(seed, noisy);
        story.roll(4, 30.0);
        story.never_fails(1900.0, &|_, _| noisy);
    }
}

#[test]
fn s03_eight_percent_is_found_and_explained() {
    let mut story = Story::new(4, FINE);
    story.roll(4, 30.0);
    let (after, judgement) = story.fails(600.0, &new_pods(Does { errors: 0.08, ..FINE })).unwrap();
    assert!(after <= 420.0, "{after}");
    assert_eq!(judgement.verdict, Verdict::Fail(FailReason::Errors));
    let text = &judgement.explanation;
    assert!(text.contains("requests on new pods failed (limit 5 %, before 0.3"), "{text}");
    assert!(text.ends_with("chance of a false alarm below 1 in 10000."), "{text}");
    assert!(judgement.harm_since.is_some_and(|at| at >= T0 && at <= T0 + after));
    let counts = finding(&judgement, "errors").counts.unwrap();
    assert!(counts.new_bad / counts.new_total > 0.05 && counts.before_total > 10_000.0);
}

#[test]
fn s04_exactly_the_limit_never_fails() {
    for (seed, errors) in [(5, 0.05), (6, 0.049)] {
        let mut story = Story::new(seed, FINE);
        story.latency = false;
        story.roll(4, 30.0);
        story.never_fails(1800.0, &new_pods(Does { errors, ..FINE }));
    }
}

#[test]
fn s06_everything_fails_within_45_seconds() {
    let mut story = Story::new(7, FINE);
    story.roll(4, 60.0);
    let (after, judgement) = story.fails(300.0, &new_pods(Does { errors: 1.0, ..FINE })).unwrap();
    // The first new pod is Ready 11 s after the rollout began.
    assert!(after - 11.0 <= 45.0, "{after}");
    assert!(judgement.explanation.starts_with("100 % of "), "{}", judgement.explanation);
    assert!(judgement.explanation.contains("old pods now 0"), "{}", judgement.explanation);
}

#[test]
fn s07_one_bad_canary_is_found_before_it_spreads() {
    let mut story = Story::with(8, FINE, 5);
    story.add("b-0", "b", "n9", T0 + 1.0, Some(T0 + 10.0));
    let (after, _) = story.fails(300.0, &new_pods(Does { errors: 0.5, ..FINE })).unwrap();
    assert!(after <= 120.0, "{after}");
}

#[test]
fn s08_s09_latency_above_the_limit_only() {
    for (slow, within) in [(3.0, 240.0), (1.8, 420.0)] {
        let mut story = Story::new(9, FINE);
        story.roll(4, 15.0);
        let (after, judgement) = story.fails(600.0, &new_pods(Does { slow, ..FINE })).unwrap();
        assert!(after <= within, "x{slow} after {after}");
        assert_eq!(judgement.verdict, Verdict::Fail(FailReason::Latency));
        assert!(judgement.explanation.contains("+50 % allowed"), "{}", judgement.explanation);
    }
    let mut story = Story::new(10, FINE);
    story.roll(4, 15.0);
    story.never_fails(1800.0, &new_pods(Does { slow: 1.45, ..FINE }));
}

#[test]
fn s10_below_the_floor_nothing_is_slow() {
    let tiny = |slow| Does { slow, ..FINE };
    let mut story = Story::new(11, tiny(0.05));
    story.roll(4, 15.0);
    story.never_fails(1200.0, &|pod, _| tiny(if pod.starts_with('b') { 0.1 } else { 0.05 }));
}

#[test]
fn s11_a_saturated_histogram_is_not_passed() {
    let slow = Does { slow: 20.0, ..FINE };
    let mut story = Story::new(12, slow);
    story.roll(4, 15.0);
    let end = story.never_fails(2000.0, &|_, _| slow);
    assert_eq!(end.verdict, Verdict::Unknown(UnknownReason::Saturated), "{}", end.explanation);
    let mut story = Story::new(12, slow);
    story.roll(4, 60.0);
    let bad = |pod: &str, _| Does { errors: if pod.starts_with('b') { 0.5 } else { 0.0 }, ..slow };
    assert!(story.fails(300.0, &bad).is_some(), "errors are judged all the same");
}

#[test]
fn s13_s14_s15_bursts_pass_by() {
    let burst = |from: f64, to: f64, bad: Does| {
        move |pod: &str, t: f64| if pod.starts_with('b') && t > T0 + from && t <= T0 + to { bad } else { FINE }
    };
    for (name, does) in [
        ("cold start is slow", burst(0.0, 60.0, Does { slow: 6.0, ..FINE })),
        ("cold start fails", burst(0.0, 45.0, Does { errors: 0.3, ..FINE })),
        ("burst after 8 minutes", burst(480.0, 525.0, Does { errors: 0.3, ..FINE })),
    ] {
        let mut story = Story::new(13, FINE);
        story.roll(4, 0.0);
        let end = story.never_fails(2000.0, &does);
        assert_eq!(end.verdict, Verdict::Pass, "{name}: {}", end.explanation);
    }
}

#[test]
fn s21_no_traffic_is_no_evidence() {
    let mut story = Story::new(14, FINE);
    story.roll(4, 15.0);
    let quiet = Does { rps: 0.0, ..FINE };
    let end = story.never_fails(2000.0, &|_, _| quiet);
    assert_eq!(end.verdict, Verdict::Unknown(UnknownReason::TooFew), "{}", end.explanation);
    // As often as it is looked at once its watch is over.
    story.tick = 300.0;
    let end = story.until(11_000.0, &|_, _| quiet, &mut |_| ());
    assert_eq!(end.verdict, Verdict::Pass, "three hours all Ready: {}", end.explanation);
}

#[test]
fn s29_one_bad_pod_of_five_is_not_the_revision() {
    let mut story = Story::with(15, FINE, 5);
    story.roll(5, 0.0);
    let bad = |pod: &str, t: f64| if pod == "b-3" && t > T0 + 120.0 { Does { errors: 0.9, ..FINE } } else { FINE };
    let mut held = None;
    story.until(900.0, &bad, &mut |j| {
        assert!(!matches!(j.verdict, Verdict::Fail(_)), "{}", j.explanation);
        if j.verdict == Verdict::Hold(HoldReason::OnePod) {
            held = Some(j.explanation.clone());
        }
    });
    assert!(held.unwrap().contains("b-3 alone of 5 new pods fails"));
}

#[test]
fn s30_a_bad_node_is_not_the_revision() {
    // Old pods stay; the node n0 breaks for old and new alike.
    let mut story = Story::with(16, FINE, 4);
    for i in 0..2 {
        story.add(&format!("b-{i}"), "b", &format!("n{i}"), T0 + 1.0, Some(T0 + 10.0));
    }
    let bad =
        |pod: &str, t: f64| if pod.ends_with("-0") && t > T0 + 60.0 { Does { errors: 0.6, ..FINE } } else { FINE };
    let mut held = false;
    story.until(600.0, &bad, &mut |j| {
        assert!(!matches!(j.verdict, Verdict::Fail(_)), "{}", j.explanation);
        held |= j.verdict == Verdict::Hold(HoldReason::Node);
    });
    assert!(held);
    // Six new pods, the three on one node fail.
    let mut story = Story::with(17, FINE, 0);
    for i in 0..6 {
        story.add(&format!("b-{i}"), "b", if i < 3 { "bad" } else { "good" }, T0 + 1.0, Some(T0 + 10.0));
    }
    let bad = |pod: &str, _| if ["b-0", "b-1", "b-2"].contains(&pod) { Does { errors: 0.4, ..FINE } } else { FINE };
    let end = story.never_fails(300.0, &bad);
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::Node), "{}", end.explanation);
}

#[test]
fn a_burst_elsewhere_does_not_hide_a_bad_node() {
    let mut wrong = Vec::new();
    for (seed, begin) in (0..40).map(|seed| (seed, T0 + 60.0 + 2.0 * seed as f64)) {
        let mut story = Story::with(seed, FINE, 0);
        for i in 0..8 {
            story.add(&format!("b-{i}"), "b", &format!("n{}", i % 4), T0 + 1.0, Some(T0 + 10.0));
        }
        let errors = |pod: &str, t: f64| match t {
            t if t > T0 + 60.0 && ["b-0", "b-4"].contains(&pod) => 0.3,
            t if t > begin && t <= begin + 17.0 => 0.13,
            _ => 0.01,
        };
        let mut failed = false;
        story.until(400.0, &|pod, t| Does { errors: errors(pod, t), rps: 16.0, ..FINE }, &mut |j| {
            failed |= matches!(j.verdict, Verdict::Fail(_));
        });
        if failed {
            wrong.push(begin - T0);
        }
    }
    assert_eq!(wrong, Vec::<f64>::new());
}

#[test]
fn a_bad_node_is_found_though_pods_elsewhere_fail_a_little() {
    // Two of eight are on the bad node, and fail three in ten.
    let end = |seed, elsewhere: f64| {
        let mut story = Story::with(seed, FINE, 0);
        for i in 0..8 {
            story.add(&format!("b-{i}"), "b", &format!("n{}", i % 4), T0 + 1.0, Some(T0 + 10.0));
        }
        let errors = |pod: &str| if ["b-0", "b-4"].contains(&pod) { 0.3 } else { elsewhere };
        let does = |pod: &str, _: f64| Does { errors: errors(pod), ..FINE };
        let mut failed = false;
        let end = story.until(600.0, &does, &mut |j| failed |= matches!(j.verdict, Verdict::Fail(_)));
        (failed, end)
    };
    // They have less than four fifths of all failures.
    let (failed, last) = end(19, 0.03);
    assert_eq!((failed, last.verdict), (false, Verdict::Hold(HoldReason::Node)), "{}", last.explanation);
    // Where all are bad alike, or bad on every node, it is no node's doing.
    for elsewhere in [0.3, 0.12] {
        let (_, last) = end(20, elsewhere);
        assert_eq!(last.verdict, Verdict::Fail(FailReason::Errors), "{elsewhere}: {}", last.explanation);
    }
}

#[test]
fn outage_of_both_versions_is_held_and_new_alone_is_not() {
    let mut story = Story::new(18, FINE);
    story.add("b-0", "b", "n7", T0 + 1.0, Some(T0 + 10.0));
    let outage = |_: &str, t: f64| if t > T0 + 120.0 { Does { errors: 0.3, ..FINE } } else { FINE };
    let end = story.never_fails(400.0, &outage);
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::OldVersion), "{}", end.explanation);
    assert!(end.explanation.contains("old pods fail as well in the same minutes"), "{}", end.explanation);
}

#[test]
fn an_outage_while_pods_move_over_is_not_blamed_on_the_new_ones() {
    // Before the outage nearly all requests were the old pods', during it more and more are the new ones': over
    // the same minutes the new ones fail more often, at each moment they do not.
    let mut story = Story::new(21, FINE);
    story.tick = 2.0;
    story.roll(4, 16.0);
    let outage = |_: &str, t: f64| Does { rps: 25.0, errors: if t > T0 + 20.0 { 0.95 } else { 0.0 }, ..FINE };
    let end = story.never_fails(120.0, &outage);
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::OldVersion), "{}", end.explanation);
}

#[test]
fn fault_48_s34_counter_resets_are_no_errors() {
    let mut story = Story::new(19, FINE);
    story.roll(4, 15.0);
    for _ in 0..60 {
        story.step(&|_, _| FINE);
        if (story.t as u64 / 15).is_multiple_of(4) {
            for pod in &mut story.pods {
                (pod.requests, pod.errors) = (0.0, 0.0);
                pod.buckets.fill(0.0);
            }
        }
        let j = story.judge();
        assert!(!matches!(j.verdict, Verdict::Fail(_)), "{}", j.explanation);
    }
}

#[test]
fn s35_nan_is_neither_evidence_nor_a_pass() {
    let mut story = Story::new(20, FINE);
    story.silent = true;
    story.roll(4, 0.0);
    for _ in 0..140 {
        story.step(&|_, _| FINE);
        for i in 4..8 {
            let pod = PodId::new("shop", format!("b-{}", i - 4));
            let latency = Some([(0.1, f64::NAN), (f64::INFINITY, f64::NAN)].into_iter().collect());
            let bad = [f64::NAN, f64::INFINITY, -5.0][i % 3];
            story
                .say(Observation::Counters { pod, counts: Counts { requests: Some(bad), errors: Some(bad), latency } });
        }
        let j = story.judge();
        assert!(j.log_e <= 0.0 && !matches!(j.verdict, Verdict::Fail(_) | Verdict::Pass), "{}", j.explanation);
    }
    assert!(story.docket.skipped() > 100);
    assert_eq!(story.judge().verdict, Verdict::Unknown(UnknownReason::NoData));
}

#[test]
fn s36_gaps_delay_but_do_not_hide() {
    let mut story = Story::new(21, FINE);
    story.roll(4, 0.0);
    let mut found = None;
    while story.t < T0 + 900.0 {
        let at = story.t - T0;
        story.silent = (60.0..180.0).contains(&at) || (300.0..340.0).contains(&at);
        story.step(&new_pods(Does { errors: 0.08, ..FINE }));
        let j = story.judge();
        if matches!(j.verdict, Verdict::Fail(_)) && found.is_none() {
            assert!(!story.silent, "no conviction from a gap");
            found = Some(story.t - T0);
        }
    }
    assert!(found.is_some_and(|at| at <= 420.0 + 160.0), "{found:?}");
}

#[test]
fn s37_a_failing_source_freezes_and_then_resumes() {
    let mut story = Story::new(22, FINE);
    story.roll(4, 0.0);
    let bad = new_pods(Does { errors: 0.15, ..FINE });
    story.until(45.0, &bad, &mut |_| ());
    let before = story.judge().log_e;
    assert!(before > 1.0);
    let source =
        |ok, reason: &str| Observation::Source { source: "prometheus".into(), ok, reason: Some(reason.into()) };
    story.silent = true;
    for i in 0..20 {
        story.step(&bad);
        story.say(source(false, "timeout"));
        let j = story.judge();
        if i >= 3 {
            assert_eq!(j.verdict, Verdict::Unknown(UnknownReason::Source), "{}", j.explanation);
            assert!((j.log_e - before).abs() < 1e-9, "neither more nor less");
            assert!(j.explanation.contains("prometheus cannot be read (timeout)"), "{}", j.explanation);
        }
    }
    story.say(source(false, "monitoring: 3 of 10 targets up"));
    story.silent = false;
    story.step(&bad);
    assert_eq!(story.judge().verdict, Verdict::Unknown(UnknownReason::Monitoring));
    story.say(source(true, ""));
    let (after, _) = story.fails(700.0, &bad).unwrap();
    assert!(after > 345.0 && after < 600.0, "{after}");
}

#[test]
fn s39_s40_s41_what_was_broken_before() {
    let seven = Does { errors: 0.07, rps: 5.0, ..FINE };
    let mut story = Story::new(23, seven);
    story.latency = false;
    story.roll(4, 15.0);
    let end = story.never_fails(1500.0, &|_, _| seven);
    assert_eq!(end.baseline_good, Some(false));
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::Before), "{}", end.explanation);

    let mut story = Story::new(24, seven);
    story.latency = false;
    story.roll(4, 30.0);
    let worse = |pod: &str, _| Does { errors: if pod.starts_with('b') { 0.2 } else { 0.07 }, ..seven };
    let (after, judgement) = story.fails(300.0, &worse).unwrap();
    assert!(after <= 180.0, "{after} {}", judgement.explanation);
    assert_eq!((judgement.baseline_good, judgement.worse_than_before), (Some(false), true), "to go back helps");

    let mut story = Story::new(25, seven);
    story.roll(4, 15.0);
    let end =
        story.never_fails(2000.0, &|pod, _| Does { errors: if pod.starts_with('b') { 0.001 } else { 0.07 }, ..seven });
    assert_eq!(end.verdict, Verdict::Pass, "{}", end.explanation);
}

#[test]
fn direct_scrapes_use_the_lifetime_of_old_pods() {
    let mut story = Story::with(26, FINE, 0);
    for i in 0..4 {
        story.add(&format!("a-{i}"), "a", "n1", T0 - 90_000.0, Some(T0 - 89_000.0));
        let pod = story.pods.last_mut().unwrap();
        (pod.requests, pod.errors) = (20_000.0, 60.0);
        pod.buckets[3] = 20_000.0;
    }
    story.add("b-0", "b", "n2", T0 + 30.0, Some(T0 + 40.0));
    let (_, judgement) = story.fails(300.0, &new_pods(Does { errors: 0.4, ..FINE })).unwrap();
    assert!(judgement.explanation.contains("before 0.3 % since the old pods started"), "{}", judgement.explanation);
}

#[test]
fn a_replayed_past_gives_the_same_verdict() {
    let bad = new_pods(Does { errors: 0.1, ..FINE });
    let mut log = Vec::new();
    let mut story = Story::new(27, FINE);
    story.roll(4, 30.0);
    let mut live = Vec::new();
    for _ in 0..30 {
        story.step(&bad);
        for i in 0..story.pods.len() {
            let state = story.state(&story.pods[i]);
            if state.created.is_some_and(|at| at <= story.t) && !state.deleted {
                log.push(Observed { t: story.t, what: Observation::from(state) });
                let pod = PodId::new("shop", &story.pods[i].name);
                log.push(Observed { t: story.t, what: Observation::Counters { pod, counts: story.counts(i) } });
            }
        }
        live.push((story.t, story.judge()));
    }
    // Observations of several pods within one tick may come in any order.
    let mut docket = Docket::new();
    docket.open(T0, workload(), "a".into(), "b".into(), rules());
    let mut replayed = Vec::new();
    for (t, _) in &live {
        let now: Vec<&Observed> = log.iter().filter(|o| (o.t - t).abs() < 1e-9).collect();
        let (pods, counters): (Vec<&Observed>, Vec<&Observed>) =
            now.into_iter().partition(|o| matches!(o.what, Observation::Pod(_)));
        counters.iter().rev().chain(pods.iter().rev()).for_each(|o| docket.observe(o));
        replayed.push(docket.judge(*t).remove(0));
    }
    assert!(matches!(replayed.last().unwrap().verdict, Verdict::Fail(FailReason::Errors)));
    let live: Vec<Judgement> = live.into_iter().map(|(_, judgement)| judgement).collect();
    let first = |all: &[Judgement]| all.iter().find(|j| matches!(j.verdict, Verdict::Fail(_))).map(|j| j.t);
    assert_eq!(first(&live), first(&replayed));
}

#[test]
fn s14_a_cold_start_repeated_by_each_new_pod_is_no_fault() {
    for seed in 0..5 {
        let mut story = Story::new(40 + seed, FINE);
        story.roll(4, 30.0);
        let ready: BTreeMap<String, f64> = story.pods.iter().map(|p| (p.name.clone(), p.ready.unwrap())).collect();
        let cold = move |pod: &str, t: f64| {
            if pod.starts_with('b') && t <= ready[pod] + 35.0 { Does { errors: 0.3, ..FINE } } else { FINE }
        };
        let end = story.never_fails(2000.0, &cold);
        assert_eq!(end.verdict, Verdict::Pass, "{}", end.explanation);
    }
}

#[test]
fn s05_six_percent_at_high_traffic_and_late_onset() {
    let busy = Does { rps: 25.0, ..FINE };
    let mut story = Story::new(50, busy);
    story.latency = false;
    story.roll(4, 0.0);
    let six = |pod: &str, _| if pod.starts_with('b') { Does { errors: 0.06, ..busy } } else { busy };
    let (after, _) = story.fails(420.0, &six).unwrap();
    assert!(after <= 371.0, "{after}");
    let mut story = Story::new(51, FINE);
    story.roll(4, 0.0);
    let late = |_: &str, t: f64| if t > T0 + 900.0 { Does { errors: 0.1, ..FINE } } else { FINE };
    let (after, judgement) = story.fails(1800.0, &late).unwrap();
    assert!(after - 900.0 <= 240.0, "{after}");
    let since = judgement.harm_since.unwrap() - T0;
    assert!((885.0..=960.0).contains(&since), "the onset is found, not the rollout's begin: {since}");
}

#[test]
fn s12_creeping_latency_is_found_soon_after_it_crosses() {
    let mut story = Story::new(52, FINE);
    story.roll(4, 0.0);
    // +5 % a minute: x1.5 after ten minutes.
    let creep = |pod: &str, t: f64| {
        let minutes = ((t - T0) / 60.0).max(0.0);
        if pod.starts_with('b') { Does { slow: 1.0 + 0.05 * minutes, ..FINE } } else { FINE }
    };
    let (after, _) = story.fails(1500.0, &creep).unwrap();
    assert!((600.0..=960.0).contains(&after), "{after}");
}

#[test]
fn typical_requests_may_be_slower_as_long_as_the_tail_keeps_the_limit() {
    // The median by 70 %, the p95 by 40 %: the limit is about the p95.
    let spread = 0.5 + (1.4_f64 / 1.7).ln() / 1.645;
    for seed in 0..5 {
        let mut story = Story::new(520 + seed, Does { rps: 20.0, ..FINE });
        story.roll(4, 15.0);
        story.never_fails(1200.0, &new_pods(Does { rps: 20.0, slow: 1.7, spread, ..FINE }));
    }
}

#[test]
fn when_all_requests_are_slower_half_of_the_tails_evidence_convicts() {
    let found = |seed, does: Does| {
        let mut story = Story::new(seed, FINE);
        story.roll(4, 0.0);
        story.fails(900.0, &new_pods(does)).unwrap().1
    };
    let seconded = |judgement: &Judgement| judgement.explanation.contains("and typical requests are slower, too: ");
    let whole: Vec<Judgement> = (530..540).map(|seed| found(seed, Does { slow: 1.62, ..FINE })).collect();
    assert!(whole.iter().filter(|judgement| seconded(judgement)).count() >= 5);
    for judgement in &whole {
        let needed = if seconded(judgement) { SECONDED } else { LEVEL };
        let sure = if judgement.log_e < LEVEL { "1 in 100 at most, and a second" } else { "below 1 in 10000" };
        assert!(judgement.explanation.contains(sure), "{} {}", judgement.log_e, judgement.explanation);
        assert!(judgement.log_e >= needed - 1e-9, "{} {}", judgement.log_e, judgement.explanation);
    }
    assert!(whole.iter().any(|judgement| judgement.log_e < LEVEL));
    let tail = found(53, Does { spread: 1.1, ..FINE });
    assert!(!seconded(&tail) && tail.log_e >= LEVEL - 1e-9, "{} {}", tail.log_e, tail.explanation);
}

#[test]
fn s25_an_outage_does_not_hide_a_bad_deploy() {
    let mut story = Story::new(53, FINE);
    for i in 0..2 {
        story.add(&format!("b-{i}"), "b", &format!("m{i}"), T0 + 1.0, Some(T0 + 10.0));
    }
    let both = |pod: &str, _| Does { errors: if pod.starts_with('b') { 0.6 } else { 0.12 }, ..FINE };
    assert!(story.fails(300.0, &both).is_some());
}

#[test]
fn s28_a_second_rollout_is_judged_on_its_own() {
    let mut story = Story::new(54, FINE);
    story.roll(4, 0.0);
    story.until(600.0, &new_pods(Does { errors: 0.2, ..FINE }), &mut |_| ());
    let t0 = story.t;
    story.docket.open(t0, workload(), "b".into(), "c".into(), rules());
    for i in 0..4 {
        story.pods[4 + i].gone = Some(t0 + 12.0);
        story.add(&format!("c-{i}"), "c", "n1", t0 + 1.0, Some(t0 + 11.0));
    }
    let fixed = |pod: &str, _| Does { errors: if pod.starts_with('c') { 0.003 } else { 0.2 }, ..FINE };
    while story.t < t0 + 2000.0 {
        story.step(&fixed);
        let j = story.judge();
        assert!(!matches!(j.verdict, Verdict::Fail(_)) && j.to == Revision::from("c"), "{}", j.explanation);
    }
    assert_eq!(story.judge().verdict, Verdict::Pass);
}

#[test]
fn nothing_above_the_users_limit_passes_however_bad_it_was_before() {
    let bad = Does { errors: 0.3, rps: 5.0, ..FINE };
    let mut story = Story::new(56, bad);
    story.latency = false;
    let short = Arc::new(Rules { watch: std::time::Duration::from_secs(60), ..Rules::default() });
    story.docket.open(T0, workload(), "a".into(), "b".into(), short);
    story.roll(4, 0.0);
    story.until(900.0, &|_, _| bad, &mut |j| {
        assert!(j.verdict != Verdict::Pass, "{}", j.explanation);
    });
}

#[test]
fn an_unproved_revision_sets_no_standard_for_the_next() {
    // b came a minute ago and fails 30 %; c comes now and fails 30 % as well. The pods of a are gone,
    // those of b go before c comes (Recreate).
    let bad = Does { errors: 0.3, rps: 5.0, ..FINE };
    let end = |proven: f64| {
        let mut story = Story::with(57, FINE, 0);
        story.docket = Docket::new();
        story.latency = false;
        story.docket.open_after(T0, proven, workload(), "b".into(), "c".into(), rules());
        story.t = T0 - 60.0;
        for i in 0..4 {
            story.add(&format!("b-{i}"), "b", "n1", T0 - 62.0, Some(T0 - 60.0));
            story.pods[i].gone = Some(T0);
        }
        let does = |_: &str, _: f64| bad;
        while story.t < T0 {
            story.step(&does);
        }
        for i in 0..4 {
            story.add(&format!("c-{i}"), "c", &format!("n{i}"), T0 + 1.0, Some(T0 + 11.0));
        }
        story.fails(900.0, &does).is_some()
    };
    assert!(end(T0 - 62.0), "judged by the user's limit");
    assert!(!end(T0), "judged by what b was like");
}

#[test]
fn what_an_earlier_revision_was_like_vouches_for_no_unproved_one() {
    // a was clean and is the standard; that says nothing of b, which was serving last.
    let mut story = Story::new(58, FINE);
    story.docket.open_after(T0 + 60.0, T0, workload(), "b".into(), "c".into(), rules());
    story.add("c-0", "c", "n1", T0 + 61.0, Some(T0 + 70.0));
    let end = story.until(300.0, &|_, _| FINE, &mut |_| ());
    assert_eq!(end.baseline_good, None);
    let bad = |_: &str, _| Does { errors: 0.5, ..FINE };
    let end = story.until(600.0, &bad, &mut |_| ());
    assert!(!end.worse_than_before, "what was measured is not b");
}

#[test]
fn s45_errors_never_undo_to_a_revision_that_only_crashed() {
    let mut story = Story::with(55, FINE, 0);
    story.add("a-0", "a", "n1", T0 - 9000.0, None);
    let crashed = story.pods.remove(0);
    let mut state = story.state(&crashed);
    (state.restarts, state.exit_code, state.waiting) = (5, Some(1), Some("CrashLoopBackOff".into()));
    story.say(Observation::from(state));
    story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 10.0));
    let end = story.never_fails(300.0, &|_, _| Does { errors: 1.0, ..FINE });
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::NoBaseline), "{}", end.explanation);
}

#[test]
fn callers_are_shown_and_bar_a_pass_but_convict_nobody() {
    let mut story = Story::with(56, FINE, 0);
    story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 10.0));
    story.silent = true;
    let (mut requests, mut errors) = (0.0, 0.0);
    while story.t < T0 + 2000.0 {
        story.step(&|_, _| FINE);
        requests += 150.0;
        errors += 30.0;
        let counts = Counts { requests: Some(requests), errors: Some(errors), latency: None };
        story.say(Observation::Callers { workload: workload(), counts });
        let j = story.judge();
        assert!(!matches!(j.verdict, Verdict::Fail(_) | Verdict::Pass), "{}", j.explanation);
    }
    let j = story.judge();
    let line = j.findings.iter().find(|f| f.stream == "callers").unwrap();
    assert!(line.log_e.unwrap() > 9.2 && line.says.starts_with("nothing tells"), "{line:?}");
    assert_eq!(j.verdict, Verdict::Hold(HoldReason::Unattributed), "{}", j.explanation);
}

#[test]
fn a08_callers_stand_in_for_new_pods_that_are_silent_for_two_minutes_or_three_readings() {
    for (tick, silent) in [(15.0, CALLERS_AFTER), (60.0, 180.0)] {
        let mut story = Story::new(57, FINE);
        let old = story.pods.len();
        story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 10.0));
        (story.tick, story.silent) = (tick, true);
        let (mut requests, mut errors, mut first) = (0.0, 0.0, None);
        while first.is_none() && story.t < T0 + 600.0 {
            story.step(&|_, _| FINE);
            // The old version exports metrics, and the new one does not.
            (0..old).for_each(|i| story.scrape(i));
            requests += 10.0 * tick;
            errors += 3.0 * tick;
            let counts = Counts { requests: Some(requests), errors: Some(errors), latency: None };
            story.say(Observation::Callers { workload: workload(), counts });
            let (workload, revision, source) = (workload(), "b".into(), "sentry".to_owned());
            story.say(Observation::Issues { workload, revision, source, new_issues: 1, events: 500, users: 3 });
            first = matches!(story.judge().verdict, Verdict::Fail(_)).then_some(story.t - T0 - 10.0);
        }
        assert!(first.is_some_and(|after| (silent..silent + tick).contains(&after)), "{tick}: {first:?}");
    }
}

#[test]
fn s13_a_slow_start_repeated_by_each_new_pod_is_no_fault() {
    let mut story = Story::new(60, FINE);
    story.roll(4, 30.0);
    let ready: BTreeMap<String, f64> = story.pods.iter().map(|p| (p.name.clone(), p.ready.unwrap())).collect();
    let cold = move |pod: &str, t: f64| {
        if pod.starts_with('b') && t <= ready[pod] + 45.0 { Does { slow: 6.0, ..FINE } } else { FINE }
    };
    let end = story.never_fails(2000.0, &cold);
    assert_eq!(end.verdict, Verdict::Pass, "{}", end.explanation);
}

#[test]
fn gate_4_an_incident_before_the_rollout_goes_on_in_it() {
    // Twenty clean minutes, then ten at 12 %: no old pod is left to compare with.
    let incident = |_: &str, t: f64| Does { errors: if t > T0 - 480.0 { 0.12 } else { 0.001 }, ..FINE };
    let mut story = Story::with(61, FINE, 0);
    for i in 0..4 {
        story.add(&format!("a-{i}"), "a", "n1", T0 - 90_000.0, Some(T0 - 89_000.0));
    }
    story.t = T0 - 1800.0;
    while story.t < T0 {
        story.step(&incident);
    }
    story.latency = false;
    story.roll(4, 0.0);
    // Errors came in one clump before, so those of now weigh little (tempering): it takes its time.
    let end = story.never_fails(1790.0, &incident);
    assert_eq!(end.verdict, Verdict::Hold(HoldReason::Before), "{}", end.explanation);
    assert!(end.explanation.contains("in the ten minutes before the rollout as well"), "{}", end.explanation);
}

#[test]
fn what_the_kubelet_asks_before_ready_is_no_traffic() {
    let mut story = Story::with(62, FINE, 0);
    story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 120.0));
    let mut requests = 0.0;
    for _ in 0..7 {
        story.silent = true;
        story.step(&|_, _| FINE);
        requests += 15.0;
        let counts = Counts { requests: Some(requests), errors: Some(requests), latency: None };
        story.say(Observation::Counters { pod: PodId::new("shop", "b-0"), counts });
        let j = story.judge();
        assert!(j.verdict == Verdict::Watching && j.log_e.abs() < 1e-12, "{}", j.explanation);
    }
}

#[test]
fn a_baseline_that_comes_late_still_counts() {
    let mut story = Story::with(63, FINE, 0);
    story.latency = false;
    story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 5.0));
    let seven = |_: &str, _: f64| Does { errors: 0.07, rps: 5.0, ..FINE };
    story.until(30.0, &seven, &mut |_| ());
    story.add("a-0", "a", "n1", T0 - 9000.0, Some(T0 - 8000.0));
    let old = story.pods.last_mut().unwrap();
    (old.requests, old.errors, old.gone) = (30_000.0, 2_100.0, Some(T0 + 31.0));
    let end = story.never_fails(1800.0, &seven);
    assert_eq!(
        (end.verdict, end.baseline_good),
        (Verdict::Hold(HoldReason::Before), Some(false)),
        "{}",
        end.explanation
    );
}

#[test]
fn fault_57_a_conviction_stands_while_it_holds_and_fades_with_the_fault() {
    for seed in [71, 74, 77, 79] {
        let mut story = Story::new(seed, FINE);
        story.roll(4, 30.0);
        let mut words = Vec::new();
        let bad = |pod: &str, t: f64| {
            if pod.starts_with('b') && t < T0 + 900.0 { Does { errors: 0.08, ..FINE } } else { FINE }
        };
        story.until(1500.0, &bad, &mut |j| {
            if words.last() != Some(&j.verdict.word()) {
                words.push(j.verdict.word());
            }
        });
        assert_eq!(words, ["watching", "fail", "watching"], "seed {seed}");
    }
}

#[test]
fn a_short_watch_with_close_ticks_and_seldom_scrapes() {
    let short = Arc::new(Rules { watch: std::time::Duration::from_secs(20), min_requests: 50, ..Rules::default() });
    // Scrapes every second tick, or every fifth.
    for every in [2, 5] {
        for (errors, verdict) in [(0.0, Verdict::Pass), (0.6, Verdict::Fail(FailReason::Errors))] {
            let mut story = Story::with(80, FINE, 0);
            story.docket = Docket::new();
            story.docket.open(T0, workload(), "a".into(), "b".into(), Arc::clone(&short));
            story.tick = 2.0;
            story.add("b-0", "b", "n1", T0 + 1.0, Some(T0 + 3.0));
            let mut at = None;
            for i in 0..50 {
                story.silent = i % every != 0;
                story.step(&|_, _| Does { rps: 20.0, errors, ..FINE });
                let j = story.judge();
                assert!(matches!(j.verdict, Verdict::Watching) || j.verdict == verdict, "{}", j.explanation);
                if j.verdict == verdict {
                    at.get_or_insert(story.t - T0);
                }
            }
            assert!(at.is_some_and(|at| (22.0..=56.0).contains(&at)), "{every} {verdict} {at:?}");
        }
    }
}

/// Any observation in any order, with any value: nothing panics, and evidence stays a number.
#[test]
fn nonsense_is_survived() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut docket = if seed % 2 == 0 { Docket::new() } else { Docket::with_interval(5.0) };
        docket.open(T0, workload(), "a".into(), "b".into(), rules());
        for _ in 0..120 {
            let odd = [0.0, 1.0, -1.0, 1e300, f64::NAN, f64::INFINITY, 250.0, 0.5];
            let mut any = || odd[(random.uniform() * 8.0) as usize];
            let counts = Counts {
                requests: Some(any()),
                errors: Some(any()),
                latency: Some([(0.1, any()), (any(), any()), (f64::INFINITY, any())].into_iter().collect()),
            };
            let times = [T0 - 10.0, T0, T0 + 50.0, T0 + 51.0, T0 + 1e7, T0 + 600.0, f64::NAN, -1e300];
            let mut pick = |n: usize| (random.uniform() * n as f64) as usize;
            let t = times[pick(8)];
            let pod = PodId::new("shop", format!("p{}", pick(4)));
            let created = [None, Some(f64::NAN), Some(T0 + 1.0), Some(1e300)][pick(4)];
            let what = match pick(6) {
                0 | 1 => Observation::Counters { pod, counts },
                2 => Observation::Callers { workload: workload(), counts },
                3 => Observation::Source { source: "x".into(), ok: pick(2) == 0, reason: None },
                _ => Observation::from(PodState {
                    ready: pick(2) == 0,
                    deleted: pick(4) == 0,
                    created,
                    ready_since: created,
                    ..PodState::new(pod, workload(), ["a", "b", "c"][pick(3)].into())
                }),
            };
            docket.observe(&Observed { t, what });
            for judgement in docket.judge(times[pick(8)]) {
                assert!(judgement.log_e.is_finite() && !judgement.explanation.contains("NaN"), "{judgement:?}");
            }
            if pick(60) == 0 {
                docket.watch_recovery(T0 + 60.0, workload(), "b".into(), "a".into(), rules(), None);
            }
            docket.recoveries(times[pick(8)]);
        }
    }
}

mod cluster;
mod late;
mod undo;
mod world;

/// One failure among two requests is half of all, and says nothing.
#[test]
fn fault_50_one_failure_of_two_requests_is_no_evidence() {
    let mut story = Story::new(81, FINE);
    story.roll(4, 0.0);
    story.silent = true;
    for tick in 0..60 {
        story.step(&|_, _| Does { rps: 0.0, ..FINE });
        for i in 4..8 {
            // The two requests of the whole rollout come in the second tick; one of them fails.
            (story.pods[i].requests, story.pods[i].errors) = if i == 4 && tick > 0 { (2.0, 1.0) } else { (0.0, 0.0) };
            story.scrape(i);
        }
        let j = story.judge();
        assert!(!matches!(j.verdict, Verdict::Fail(_) | Verdict::Pass), "{}", j.explanation);
    }
}

/// A rate that swings around the limit for an hour: at most one conviction, and no verdict taken back and given again.
#[test]
fn fault_56_a_rate_that_swings_around_the_limit_does_not_flap() {
    for (seed, low, high) in [(82, 0.03, 0.07), (83, 0.045, 0.055), (84, 0.0, 0.1), (85, 0.02, 0.09)] {
        let mut story = Story::new(seed, FINE);
        story.latency = false;
        story.roll(4, 15.0);
        let swinging = |pod: &str, t: f64| {
            let errors = if ((t / 60.0) as u64).is_multiple_of(2) { low } else { high };
            if pod.starts_with('b') { Does { errors, ..FINE } } else { FINE }
        };
        let mut words = Vec::new();
        story.until(1750.0, &swinging, &mut |j| {
            if words.last() != Some(&j.verdict.word()) {
                words.push(j.verdict.word());
            }
        });
        assert!(words.iter().filter(|w| **w == "fail").count() <= 1, "seed {seed}: {words:?}");
    }
}

#[test]
fn a_day_that_slows_down_as_yesterday_did_is_no_bad_rollout() {
    const DAY: f64 = 86_400.0;
    let convicted = |yesterday: bool| {
        let mut story = Story {
            docket: Docket::new(),
            random: Random::new(7),
            pods: Vec::new(),
            t: T0 - DAY - 1800.0,
            tick: 60.0,
            silent: false,
            latency: true,
        };
        story.docket.open(T0, workload(), "a".into(), "b".into(), rules());
        if yesterday {
            // Pods of those days are gone: nothing is known of them but their counters.
            for i in 0..4 {
                story.add(&format!("y-{i}"), "a", "n", T0 - 3.0 * DAY, Some(T0 - 3.0 * DAY));
            }
            while story.t < T0 - DAY + 3600.0 {
                story.step(&|_, t| Does { slow: if t > T0 - DAY { 1.9 } else { 1.0 }, ..FINE });
            }
            story.pods.clear();
        }
        (story.t, story.tick) = (T0 - 1800.0, 15.0);
        for i in 0..4 {
            story.add(&format!("a-{i}"), "a", &format!("n{i}"), T0 - 90_000.0, Some(T0 - 89_000.0));
        }
        while story.t < T0 {
            story.step(&|_, _| FINE);
        }
        story.roll(4, 1.0);
        story.fails(900.0, &|_, _| Does { slow: 1.9, ..FINE })
    };
    assert_eq!(convicted(true).map(|(_, judgement)| judgement.explanation), None);
    let (_, judgement) = convicted(false).unwrap();
    assert_eq!(judgement.verdict, Verdict::Fail(FailReason::Latency));
}
