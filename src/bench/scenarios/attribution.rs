//! Whose doing is it: other pods, other workloads, nodes, dependencies. Pure.

use super::{Scenario, build::*, scenario};
use crate::{
    bench::{
        random::Random,
        world::{Effect, Harm, Moment, T0, WATCH, Who, World},
    },
    domain::{FailReason, HoldReason, Seconds},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("S24", "half of the cluster breaks two minutes after the rollout", |r| {
        let mut w = typical(r);
        let from = T0 + 120.0;
        let share = r.between(0.1, 0.7);
        w.fault(EVERY, Moment::At(from), Effect::ErrorsPlus(share));
        let many = r.whole(6, 11);
        for service in 1..=many {
            let (at, share) = (from + r.between(-45.0, 45.0), r.between(0.1, 0.7));
            w.trouble(&[service], Moment::At(at), Effect::ErrorsPlus(share));
        }
        w.must_hold(Harm::From(Moment::At(from)), &[HoldReason::ClusterWide, HoldReason::OldVersion], &[]);
        w
    }),
    scenario("S25", "an outage for all, and a rollout that is far worse", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(40.0, 300.0);
        w.deploys[0].start_up = r.between(40.0, 90.0);
        let outage = Moment::At(T0 + r.between(20.0, 100.0));
        w.trouble(&[SUBJECT, 1, 2, 5, 6, 7, 8], outage, Effect::ErrorsPlus(0.1));
        let share = r.between(0.5, 0.9);
        w.errors(FIRST_REQUEST, share, 180.0);
        w
    }),
    scenario("S26", "a shared database is slow; only its callers are rolled out", |r| {
        let mut w = typical(r);
        w.services[CALLEES[0]].calls = Vec::new();
        w.services[5].id.name = "database".into();
        w.subject().calls = vec![5];
        let from = T0 + r.between(150.0, 500.0);
        let factor = r.between(3.0, 8.0);
        w.trouble(&[5], Moment::At(from - r.between(0.0, 15.0)), Effect::Slower(factor));
        w.fault(EVERY, Moment::At(from), Effect::Slower(factor * 0.7));
        w.must_hold(Harm::From(Moment::At(from)), &[HoldReason::Dependency, HoldReason::OldVersion], &[]);
        let truth = w.deploys[0].truth;
        for caller in CALLERS {
            let at = T0 + r.between(-60.0, 60.0);
            let also = w.also_deploy(r, caller, at);
            w.trouble(&[caller], Moment::At(from + r.between(0.0, 10.0)), Effect::Slower(factor * 0.6));
            w.deploys[also].truth = truth;
            w.deploys[also].harm = Harm::From(Moment::At(from));
        }
        w
    }),
    scenario("S27", "a bad callee and a clean caller are rolled out together", |r| {
        let mut w = typical(r);
        let callee = CALLEES[0];
        w.services[callee].rps = r.magnitude(30.0, 200.0);
        let at = T0 + r.between(-30.0, 30.0);
        let bad = w.also_deploy(r, callee, at);
        let (share, from) = (r.between(0.2, 0.8), Moment::FirstReady(bad, 0.0));
        w.fault(Who::Revision(callee, "b"), from, Effect::ErrorsTo(share));
        w.must_undo_of(bad, Harm::From(from), 240.0, &[FailReason::Errors]);
        // The caller passes on what fails below it, with any of its pods.
        w.trouble(&[SUBJECT], from, Effect::ErrorsPlus(share * 0.3));
        w.trouble(&[SUBJECT], Moment::Done(bad, 0.0), Effect::ErrorsPlus(share * 0.4));
        w
    }),
    scenario("S29", "a single bad pod of 5, or of 50", |r| {
        let mut w = typical(r);
        w.subject().pods = r.pick(&[5, 5, 5, 50]);
        w.subject().nodes = w.subject().pods;
        w.subject().rps = r.magnitude(20.0, 200.0);
        let share = r.between(0.3, 1.0);
        w.fault(Who::Some(SUBJECT, "b", 1), FIRST_REQUEST, Effect::ErrorsTo(share));
        w
    }),
    scenario("S30", "a bad node: whatever runs on it fails, old or new", |r| {
        let mut w = typical(r);
        (w.subject().pods, w.subject().nodes) = (8, 4);
        w.subject().rps = r.magnitude(40.0, 200.0);
        w.deploys[0].start_up = r.between(40.0, 90.0);
        let from = Moment::FirstReady(0, r.between(0.0, 30.0));
        let share = r.between(0.3, 1.0);
        w.fault(Who::Node(SUBJECT, 0), from, Effect::ErrorsTo(share));
        w.must_hold(Harm::From(from), &[HoldReason::Node, HoldReason::OldVersion, HoldReason::OnePod], &[]);
        w
    }),
    scenario("S46", "twenty rollouts at once, one of them bad", |r| {
        let mut w = many(r, 20, "shop");
        let bad = r.whole(1, 19);
        let (share, from) = (r.between(0.2, 0.9), Moment::FirstReady(bad, 0.0));
        let callers = [(bad + 1) % 20, (bad + 2) % 20];
        for caller in callers {
            w.services[caller].calls = vec![bad];
            w.trouble(&[caller], from, Effect::ErrorsPlus(share * 0.4));
        }
        w.fault(Who::Revision(bad, "b"), from, Effect::ErrorsTo(share));
        w.must_undo_of(bad, Harm::From(from), 240.0, &[FailReason::Errors]);
        w
    }),
    scenario("S47", "forty bad rollouts at once (a bad base image)", |r| {
        let mut w = many(r, 40, "team");
        let share = r.between(0.2, 0.9);
        for service in 0..40 {
            let from = Moment::FirstReady(service, 0.0);
            w.fault(Who::Revision(service, "b"), from, Effect::ErrorsTo(share));
            w.deploys[service].harm = Harm::From(from);
            w.deploys[service].truth = crate::bench::world::Truth::Either(0.0);
        }
        w.most_undos = Some(3);
        w
    }),
];

/// So many services, all measured pod by pod and rolled out within a minute.
fn many(r: &mut Random, services: usize, namespace: &str) -> World {
    let mut w = World { end: T0 + SHORT_WATCH, ..World::default() };
    for index in 0..services {
        let namespace = if namespace == "team" { format!("team-{}", index % 4) } else { namespace.to_owned() };
        let mut it = service(r, &namespace, &format!("service-{index}"), true);
        (it.pods, it.rps) = (r.whole(2, 4), r.magnitude(20.0, 100.0));
        w.services.push(it);
        let (at, start_up) = (T0 + r.between(0.0, 60.0), r.magnitude(5.0, 40.0));
        w.deploy(index, at, "a", "b", start_up);
    }
    w
}

/// Everything that can happen with so many rollouts happens early; a full watch would only cost time.
const SHORT_WATCH: Seconds = WATCH / 2.0;
