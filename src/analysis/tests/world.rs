//! Several workloads: who else broke, who calls whom, who is undone first.

use super::*;

struct Member {
    state: PodState,
    requests: f64,
    errors: f64,
}

/// A namespace of workloads with two old pods each; what rolls out gets two new pods beside them.
struct World {
    docket: Docket,
    random: Random,
    t: f64,
    rps: f64,
    members: Vec<Member>,
}

/// Share of failing requests: workload, revision, node, seconds since `T0`.
type Fails<'a> = &'a dyn Fn(&str, &str, &str, f64) -> f64;

fn id(name: &str) -> WorkloadId {
    WorkloadId::new("shop", Kind::Deployment, name)
}

impl World {
    fn new(seed: u64, names: &[&str], calls: &[(&str, &str)]) -> Self {
        let mut world =
            Self { docket: Docket::new(), random: Random::new(seed), t: T0 - 1800.0, rps: 10.0, members: Vec::new() };
        for name in names {
            for i in 0..2 {
                world.add(name, "a", i, T0 - 90_000.0);
            }
            let calls = calls.iter().filter(|(caller, _)| caller == name).map(|(_, callee)| id(callee)).collect();
            world.say(Observation::Workload { workload: id(name), replicas: 2, calls: Some(calls) });
        }
        world
    }

    fn say(&mut self, what: Observation) {
        self.docket.observe(&Observed { t: self.t, what });
    }

    fn add(&mut self, workload: &str, revision: &str, i: usize, created: f64) {
        let state = PodState {
            node: Some(format!("n{i}")),
            ready: true,
            created: Some(created),
            ready_since: Some(created + 10.0),
            ..PodState::new(PodId::new("shop", format!("{workload}-{revision}-{i}")), id(workload), revision.into())
        };
        self.members.push(Member { state, requests: 0.0, errors: 0.0 });
    }

    fn open(&mut self, name: &str) {
        self.docket.open(self.t, id(name), "a".into(), "b".into(), rules());
    }

    /// Rolls out: two new pods; the old ones stay, or go at once.
    fn roll(&mut self, name: &str, old_stay: bool) {
        self.open(name);
        for i in 0..2 {
            self.add(name, "b", i, self.t + 1.0);
        }
        if !old_stay {
            self.retire(name);
        }
    }

    /// The old pods of a rollout go.
    fn retire(&mut self, name: &str) {
        for member in self.members.iter_mut().filter(|m| m.state.workload == id(name) && m.state.revision.0 == "a") {
            member.state.deleted = true;
        }
    }

    fn step(&mut self, fails: Fails<'_>) {
        self.t += 15.0;
        let t = self.t;
        for i in 0..self.members.len() {
            let member = &mut self.members[i];
            let state = member.state.clone();
            let share = fails(&state.workload.name, &state.revision.0, state.node.as_deref().unwrap(), t - T0);
            if !state.deleted {
                let requests = self.random.poisson(self.rps * 15.0 / 2.0);
                member.requests += f64::from(requests);
                member.errors += f64::from(self.random.binomial(requests, share));
            }
            let counts = Counts { requests: Some(member.requests), errors: Some(member.errors), latency: None };
            self.say(Observation::from(state.clone()));
            if !state.deleted {
                self.say(Observation::Counters { pod: state.pod, counts });
            }
        }
    }

    fn past(&mut self, fails: Fails<'_>) {
        while self.t < T0 {
            self.step(fails);
        }
    }

    /// Runs on; the first verdict of each kind of each workload, in order of time.
    fn run(&mut self, seconds: f64, fails: Fails<'_>) -> Vec<(String, Verdict, String)> {
        let mut seen: Vec<(String, Verdict, String)> = Vec::new();
        let end = self.t + seconds;
        while self.t < end {
            self.step(fails);
            for j in self.docket.judge(self.t) {
                assert!(j.explanation.ends_with('.') && !j.explanation.contains("NaN"), "{}", j.explanation);
                if !seen.iter().any(|(name, verdict, _)| *name == j.workload.name && *verdict == j.verdict) {
                    seen.push((j.workload.name, j.verdict, j.explanation));
                }
            }
        }
        seen
    }
}

fn verdicts<'a>(seen: &'a [(String, Verdict, String)], name: &str) -> Vec<(Verdict, &'a str)> {
    seen.iter().filter(|(n, _, _)| n == name).map(|(_, verdict, text)| (*verdict, text.as_str())).collect()
}

fn failed(seen: &[(String, Verdict, String)], name: &str) -> bool {
    verdicts(seen, name).iter().any(|(verdict, _)| matches!(verdict, Verdict::Fail(_)))
}

fn held<'a>(seen: &'a [(String, Verdict, String)], name: &str, reason: HoldReason) -> Option<&'a str> {
    verdicts(seen, name).into_iter().find(|(verdict, _)| *verdict == Verdict::Hold(reason)).map(|(_, text)| text)
}

const NAMES: [&str; 6] = ["web", "pay", "cart", "mail", "feed", "db"];
const CALM: f64 = 0.004;

fn calm(_: &str, _: &str, _: &str, _: f64) -> f64 {
    CALM
}

#[test]
fn s24_a_cluster_wide_outage_is_held_at_every_strength() {
    for seed in 0..10 {
        for share in [0.08, 0.3, 1.0] {
            let mut world = World::new(seed, &NAMES, &[("web", "pay")]);
            world.past(&calm);
            world.roll("pay", false);
            let outage = |_: &str, _: &str, _: &str, t: f64| if t > 120.0 { share } else { CALM };
            let seen = world.run(600.0, &outage);
            assert!(!failed(&seen, "pay"), "{seed} {share} {seen:?}");
            let text = held(&seen, "pay", HoldReason::ClusterWide).unwrap();
            assert!(text.contains("of 4 workloads without a rollout broke in the same minutes"), "{text}");
        }
    }
}

#[test]
fn an_outage_that_reaches_most_peers_later_is_waited_for() {
    for seed in 0..10 {
        let mut world = World::new(seed, &NAMES, &[]);
        world.past(&calm);
        world.roll("pay", false);
        let outage = |name: &str, _: &str, _: &str, t: f64| match name {
            "pay" | "web" if t > 120.0 => 0.3,
            "cart" | "mail" if t > 165.0 => 0.3,
            _ => CALM,
        };
        let seen = world.run(600.0, &outage);
        assert!(!failed(&seen, "pay"), "{seed} {seen:?}");
        assert!(held(&seen, "pay", HoldReason::ClusterWide).is_some(), "{seed} {seen:?}");
    }
}

#[test]
fn a_caller_that_broke_before_us_is_a_reason_to_wait_and_no_witness() {
    let undone = |first: f64, seconds: f64| {
        let mut world = World::new(4, &NAMES, &[("web", "pay"), ("cart", "pay")]);
        world.past(&calm);
        world.roll("pay", false);
        let outage = |name: &str, _: &str, _: &str, t: f64| match name {
            "web" | "cart" if t > first => 0.3,
            "pay" if t > 120.0 => 0.3,
            _ => CALM,
        };
        failed(&world.run(seconds, &outage), "pay")
    };
    assert!(undone(120.0, 180.0), "what breaks with us may break because of us");
    assert!(
        !undone(60.0, 180.0) && undone(60.0, 240.0),
        "what broke before us did not, but that alone excuses nothing"
    );
}

#[test]
fn one_peer_that_broke_by_itself_delays_a_bad_rollout_and_does_not_excuse_it() {
    let mut world = World::new(3, &NAMES, &[]);
    world.past(&calm);
    world.roll("pay", false);
    let bad =
        |name: &str, _: &str, _: &str, t: f64| if ["pay", "web"].contains(&name) && t > 60.0 { 0.3 } else { CALM };
    assert!(!failed(&world.run(135.0, &bad), "pay"));
    assert!(failed(&world.run(60.0, &bad), "pay"));
}

#[test]
fn peers_that_cannot_be_read_are_waited_for_and_not_for_ever() {
    let alone = |told: Option<bool>, more: f64| {
        let mut world = World::new(2, &["pay"], &[]);
        world.past(&calm);
        world.roll("pay", false);
        let bad = |_: &str, _: &str, _: &str, t: f64| if t > 60.0 { 0.3 } else { CALM };
        let mut seen = world.run(105.0, &bad);
        if let Some(ok) = told {
            let reason = (!ok).then(|| "timeout".to_owned());
            world.say(Observation::Source { source: PEERS.into(), ok, reason });
        }
        seen.extend(world.run(more, &bad));
        (failed(&seen, "pay"), world.docket.judge(world.t)[0].explanation.clone())
    };
    assert!(alone(None, 45.0).0 && alone(Some(true), 45.0).0);
    let (failed, text) = alone(Some(false), 45.0);
    assert!(!failed && text.contains("what other workloads do could not be read (timeout)"), "{text}");
    assert!(alone(Some(false), 75.0).0, "a minute is enough");
}

#[test]
fn what_is_over_by_the_time_peers_are_heard_is_not_undone() {
    let undone = |ends: f64| {
        let mut world = World::new(3, &NAMES, &[]);
        world.past(&calm);
        world.roll("pay", false);
        let all = |name: &str, t: f64| ["pay", "web"].contains(&name) && t > 60.0 && t <= ends;
        let seen = world.run(195.0, &|name, _, _, t| if all(name, t) { 1.0 } else { CALM });
        (failed(&seen, "pay"), world.docket.judge(world.t)[0].explanation.clone())
    };
    assert!(undone(f64::MAX).0);
    let (undone, text) = undone(105.0);
    assert!(!undone && text.ends_with("but it has kept the limit for a minute."), "{text}");
}

#[test]
fn a_bad_rollout_among_calm_peers_convicts_and_says_how_many() {
    let mut world = World::new(1, &NAMES, &[]);
    world.past(&calm);
    world.roll("pay", false);
    let bad = |name: &str, _: &str, _: &str, _: f64| if name == "pay" { 0.3 } else { CALM };
    let seen = world.run(300.0, &bad);
    let text = verdicts(&seen, "pay").iter().find(|(v, _)| matches!(v, Verdict::Fail(_))).unwrap().1.to_owned();
    assert!(text.contains("0 of 5 peers affected); chance"), "{text}");
}

#[test]
fn s25_an_outage_and_a_bad_rollout_convicts_by_its_old_pods() {
    for seed in 0..10 {
        let mut world = World::new(seed, &NAMES, &[("pay", "db")]);
        world.past(&calm);
        world.roll("pay", true);
        let both = |name: &str, revision: &str, _: &str, t: f64| match (name, revision) {
            ("pay", "b") => 0.6,
            _ if t > 0.0 => 0.12,
            _ => CALM,
        };
        let seen = world.run(300.0, &both);
        assert!(failed(&seen, "pay"), "{seen:?}");
    }
}

#[test]
fn an_outage_while_the_last_old_pods_go_is_held_by_what_they_said_last() {
    for (seed, share) in (0..10).flat_map(|seed| [(seed, 0.3), (seed, 0.95)]) {
        let mut world = World::new(seed, &["pay"], &[]);
        world.past(&calm);
        world.roll("pay", true);
        let outage = |_: &str, _: &str, _: &str, t: f64| if t > 120.0 { share } else { CALM };
        let mut seen = world.run(135.0, &outage);
        world.retire("pay");
        seen.extend(world.run(300.0, &outage));
        assert!(!failed(&seen, "pay"), "{seed} {share} {seen:?}");
        let text = held(&seen, "pay", HoldReason::OldVersion).unwrap_or_else(|| panic!("{seen:?}"));
        assert!(text.contains("old pods failed as well while they served"), "{text}");
    }
}

#[test]
fn old_pods_that_went_clean_do_not_excuse_a_bad_rollout() {
    for seed in 0..10 {
        let mut world = World::new(seed, &["pay"], &[]);
        world.past(&calm);
        world.roll("pay", true);
        let bad = |_: &str, revision: &str, _: &str, t: f64| if revision == "b" && t > 120.0 { 0.3 } else { CALM };
        let mut seen = world.run(135.0, &bad);
        world.retire("pay");
        seen.extend(world.run(300.0, &bad));
        assert!(failed(&seen, "pay"), "{seed} {seen:?}");
    }
}

#[test]
fn s26_a_callee_that_was_not_changed_is_named() {
    for seed in 0..10 {
        let mut world = World::new(seed, &NAMES, &[("web", "pay"), ("pay", "cart"), ("cart", "db")]);
        world.past(&calm);
        world.roll("pay", false);
        let database = |name: &str, _: &str, _: &str, t: f64| match name {
            "web" | "pay" | "cart" | "db" if t > 100.0 => 0.3,
            _ => CALM,
        };
        let seen = world.run(400.0, &database);
        assert!(!failed(&seen, "pay"), "{seen:?}");
        let text = held(&seen, "pay", HoldReason::Dependency).unwrap_or_else(|| panic!("{seen:?}"));
        assert!(text.contains("shop/Deployment/db, which it calls and which was not changed, broke"), "{text}");
    }
}

/// Where it is weak, when it began is not well known: what broke first and goes on is to blame all the same.
#[test]
fn s26_a_callee_is_named_however_late_its_caller_is_convicted() {
    for seed in 0..40 {
        let mut world = World::new(seed, &NAMES, &[("pay", "db")]);
        world.past(&calm);
        world.roll("pay", false);
        let database = |name: &str, _: &str, _: &str, t: f64| match name {
            "pay" if t > 100.0 => 0.065,
            "db" if t > 100.0 => 0.3,
            _ => CALM,
        };
        let seen = world.run(1500.0, &database);
        assert!(!failed(&seen, "pay"), "{seed} {seen:?}");
    }
}

/// What broke while ours was clean is somebody else's trouble.
#[test]
fn a_callee_that_broke_long_before_is_no_excuse() {
    for seed in 0..10 {
        let mut world = World::new(seed, &NAMES, &[("pay", "db")]);
        world.past(&calm);
        world.roll("pay", false);
        let late = |name: &str, _: &str, _: &str, t: f64| match name {
            "pay" if t > 1000.0 => 0.2,
            "db" if t > 100.0 => 0.3,
            _ => CALM,
        };
        assert!(failed(&world.run(1300.0, &late), "pay"), "{seed}");
    }
}

#[test]
fn s27_a_bad_callee_and_a_clean_caller_blames_the_callee_and_measures_again() {
    for seed in 0..10 {
        let mut world = World::new(seed, &NAMES, &[("web", "pay")]);
        world.past(&calm);
        world.roll("pay", true);
        world.roll("web", false);
        // Half of pay's pods are new and fail; all of web feels it.
        let bad = |name: &str, revision: &str, _: &str, _: f64| match (name, revision) {
            ("pay", "b") => 0.8,
            ("web", _) => 0.4,
            _ => CALM,
        };
        let seen = world.run(240.0, &bad);
        assert!(failed(&seen, "pay") && !failed(&seen, "web"), "{seen:?}");
        let text = held(&seen, "web", HoldReason::Dependency).unwrap();
        assert!(text.contains("shop/Deployment/pay"), "{text}");
        // The callee is undone: the caller is clean, and passes.
        world.docket.watch_recovery(world.t, id("pay"), "b".into(), "a".into(), rules(), None);
        for member in world.members.iter_mut().filter(|m| m.state.workload == id("pay")) {
            member.state.deleted = member.state.revision.0 == "b";
        }
        let mut last = None;
        for _ in 0..150 {
            world.step(&calm);
            world.docket.recoveries(world.t);
            last = world.docket.judge(world.t).pop();
            assert!(!matches!(last.as_ref().unwrap().verdict, Verdict::Fail(_)));
        }
        assert_eq!(last.unwrap().verdict, Verdict::Pass);
    }
}

#[test]
fn a_caller_that_breaks_by_itself_is_found_while_its_callee_rolls_out() {
    for old_stay in [true, false] {
        let mut world = World::new(5, &NAMES, &[("web", "pay")]);
        world.past(&calm);
        world.roll("pay", true);
        world.roll("web", old_stay);
        let bad =
            |name: &str, revision: &str, _: &str, _: f64| if (name, revision) == ("web", "b") { 0.3 } else { CALM };
        let seen = world.run(240.0, &bad);
        assert!(failed(&seen, "web") && !failed(&seen, "pay"), "{seen:?}");
    }
}

#[test]
fn both_bad_the_deepest_goes_first_and_the_caller_only_waits_so_long() {
    let mut world = World::new(6, &NAMES, &[("web", "pay")]);
    world.past(&calm);
    world.roll("web", true);
    world.roll("pay", true);
    let bad = |name: &str, revision: &str, _: &str, _: f64| match (name, revision) {
        ("pay", "b") => 1.0,
        ("web", "b") => 0.3,
        _ => CALM,
    };
    let seen = world.run(240.0, &bad);
    assert!(failed(&seen, "pay") && !failed(&seen, "web"), "{seen:?}");
    assert!(held(&seen, "web", HoldReason::Dependency).is_some());
    assert!(failed(&world.run(300.0, &bad), "web"), "its own old pods convict it");
}

#[test]
fn without_a_graph_who_broke_first_in_the_namespace_is_suspected() {
    let mut world = World::new(7, &["web", "db"], &[]);
    world.past(&calm);
    world.roll("web", false);
    let bad = |name: &str, _: &str, _: &str, t: f64| match name {
        "db" if t > 60.0 => 0.3,
        "web" if t > 120.0 => 0.3,
        _ => CALM,
    };
    let seen = world.run(400.0, &bad);
    assert!(!failed(&seen, "web"), "{seen:?}");
    assert!(held(&seen, "web", HoldReason::Dependency).unwrap().contains("no call graph is known"));
}

#[test]
fn s30_a_node_that_breaks_for_others_too_is_held_although_old_pods_elsewhere_are_clean() {
    let mut world = World::new(8, &NAMES, &[]);
    world.past(&calm);
    world.roll("pay", true);
    // The one new pod that is left runs on n1, the one old pod on n0.
    world.members.retain(|m| {
        m.state.workload != id("pay") || (m.state.revision.0 == "b") == (m.state.node.as_deref() == Some("n1"))
    });
    let node = |_: &str, _: &str, node: &str, t: f64| if node == "n1" && t > 60.0 { 0.5 } else { CALM };
    let seen = world.run(400.0, &node);
    assert!(!failed(&seen, "pay"), "{seen:?}");
    assert!(held(&seen, "pay", HoldReason::Node).unwrap().contains("on node n1"), "{seen:?}");
}

#[test]
fn s17_a_registry_that_is_down_for_all_is_held() {
    let stuck = |names: &[&str], revision: &str| {
        let mut world = World::new(9, &NAMES, &[]);
        world.past(&calm);
        world.roll("pay", true);
        for i in 0..20 {
            for (k, name) in names.iter().enumerate() {
                if i == 0 && *name != "pay" && revision == "b" {
                    world.open(name);
                }
                world.add(name, revision, 7 + k, T0 + 1.0);
                let mut state = world.members.pop().unwrap().state;
                (state.ready, state.waiting, state.ready_since) = (false, Some("ImagePullBackOff".into()), None);
                state.pod.name.push('x');
                if *name == "pay" {
                    state.revision = "b".into();
                }
                world.say(Observation::from(state));
            }
            world.run(15.0, &calm);
        }
        world.docket.judge(world.t + 1.0).into_iter().find(|j| j.workload == id("pay")).unwrap().verdict
    };
    assert_eq!(stuck(&["pay"], "a"), Verdict::Fail(FailReason::ImagePull));
    assert_eq!(stuck(&["pay", "cart"], "a"), Verdict::Hold(HoldReason::Shared));
    assert_eq!(stuck(&["pay", "cart"], "b"), Verdict::Hold(HoldReason::Shared), "two rollouts, one registry");
}

#[test]
fn crashes_on_two_workloads_without_a_rollout_are_shared_and_on_one_are_not() {
    for (peers, hold) in [(&["cart"][..], false), (&["cart", "mail"][..], true)] {
        let mut world = World::new(10, &NAMES, &[]);
        world.past(&calm);
        world.roll("pay", true);
        for restarts in 0..5 {
            for name in peers.iter().chain(&["pay"]) {
                let revision = if *name == "pay" { "b" } else { "a" };
                let mut state = world
                    .members
                    .iter()
                    .find(|m| m.state.workload == id(name) && m.state.revision.0 == revision)
                    .unwrap()
                    .state
                    .clone();
                (state.restarts, state.exit_code, state.ready) = (restarts, Some(1), false);
                state.waiting = Some("CrashLoopBackOff".into());
                world.say(Observation::from(state));
            }
            world.t += 10.0;
        }
        let verdict = world.docket.judge(world.t).pop().unwrap().verdict;
        let expected = if hold { Verdict::Hold(HoldReason::Shared) } else { Verdict::Fail(FailReason::CrashLoop) };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn the_order_of_peers_and_pods_within_a_tick_does_not_matter() {
    let bad = |name: &str, _: &str, _: &str, t: f64| match name {
        "pay" if t > 60.0 => 0.2,
        "cart" if t > 60.0 => 0.1,
        _ => CALM,
    };
    let judged = |reversed: bool| {
        let mut world = World::new(11, &NAMES, &[]);
        let mut log = Vec::new();
        let mut all = Vec::new();
        world.past(&calm);
        world.roll("pay", true);
        let mut docket = world.docket.clone();
        for _ in 0..30 {
            world.step(&bad);
            for member in &world.members {
                let counts = Counts { requests: Some(member.requests), errors: Some(member.errors), latency: None };
                log.push(Observed { t: world.t, what: Observation::from(member.state.clone()) });
                log.push(Observed {
                    t: world.t,
                    what: Observation::Counters { pod: member.state.pod.clone(), counts },
                });
            }
            if reversed {
                log.reverse();
            }
            let (pods, counters): (Vec<Observed>, Vec<Observed>) =
                log.drain(..).partition(|o| matches!(o.what, Observation::Pod(_)));
            pods.iter().chain(&counters).for_each(|observed| docket.observe(observed));
            all.extend(docket.judge(world.t).into_iter().map(|j| (j.t, j.verdict, j.explanation)));
        }
        all
    };
    assert_eq!(judged(false), judged(true));
}

#[test]
fn peers_are_bounded_in_number_pods_and_time() {
    let mut docket = Docket::new();
    for i in 0..3000 {
        let workload = WorkloadId::new("x", Kind::Deployment, format!("w{i}"));
        for k in 0..5 {
            let mut world = World::new(0, &["pay"], &[]);
            let mut state = world.members.pop().unwrap().state;
            (state.workload, state.pod) = (workload.clone(), PodId::new("x", format!("w{i}-{k}")));
            docket.observe(&Observed { t: T0, what: Observation::from(state) });
        }
    }
    assert!(docket.peers() <= 1024 && docket.skipped() > 0, "{}", docket.peers());
    docket.judge(T0 + 10_000.0);
    assert_eq!(docket.peers(), 0, "what is silent is forgotten");
}

/// Callers see a third of the requests fail; new pods are not counted.
fn seen_by_callers(names: &[&str], issues: bool) -> Vec<(String, Verdict, String)> {
    let mut world = World::new(12, names, &[]);
    world.past(&calm);
    world.roll("pay", false);
    // Not counted: their counters stand still, and so do those of the pods that went.
    world.members.retain(|m| m.state.workload != id("pay") || m.state.revision.0 == "b");
    let new: Vec<PodState> =
        world.members.iter().filter(|m| m.state.workload == id("pay")).map(|m| m.state.clone()).collect();
    world.members.retain(|m| m.state.workload != id("pay"));
    let (mut requests, mut errors, mut seen) = (0.0, 0.0, Vec::new());
    for i in 0..30 {
        for state in &new {
            world.say(Observation::from(state.clone()));
        }
        requests += 150.0;
        errors += 50.0;
        let counts = Counts { requests: Some(requests), errors: Some(errors), latency: None };
        world.say(Observation::Callers { workload: id("pay"), counts });
        if issues {
            let (workload, revision, source) = (id("pay"), "b".into(), "sentry".to_owned());
            world.say(Observation::Issues { workload, revision, source, new_issues: 1, events: 40 * i, users: 3 });
        }
        seen.extend(world.run(15.0, &calm));
    }
    seen
}

#[test]
fn s22_callers_convict_only_where_peers_or_an_error_tracker_say_whose_doing_it_is() {
    let seen = seen_by_callers(&NAMES, false);
    assert!(failed(&seen, "pay"), "{seen:?}");
    let seen = seen_by_callers(&["pay", "cart"], false);
    assert!(!failed(&seen, "pay") && held(&seen, "pay", HoldReason::Unattributed).is_some(), "{seen:?}");
    assert!(failed(&seen_by_callers(&["pay", "cart"], true), "pay"));
}

#[test]
fn s49_an_error_tracker_never_convicts_alone() {
    let run = |share: f64, events: u64| {
        let mut world = World::new(13, &NAMES, &[]);
        world.past(&calm);
        world.roll("pay", true);
        let (workload, source) = (id("pay"), "sentry".to_owned());
        world.say(Observation::Issues { workload, revision: "b".into(), source, new_issues: 2, events, users: 9 });
        let bad =
            |name: &str, revision: &str, _: &str, _: f64| if (name, revision) == ("pay", "b") { share } else { CALM };
        let mut first = None;
        for _ in 0..40 {
            if failed(&world.run(15.0, &bad), "pay") {
                first.get_or_insert(world.t - T0);
            }
        }
        first
    };
    assert_eq!(run(CALM, 3000), None);
    let (alone, seconded) = (run(0.15, 3).unwrap(), run(0.15, 3000).unwrap());
    assert!(seconded < alone, "{seconded} {alone}");
}
