//! Scenarios that the design does not name, made to break the rule. Pure.

use super::{Scenario, build::*, scenario};
use crate::{
    bench::world::{Behaviour, Effect, Harm, Load, Moment, T0, Truth, Who},
    domain::{FailReason, HoldReason, UnknownReason},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("A01", "a bad caller and its clean callee are rolled out together", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let at = T0 + r.between(-30.0, 30.0);
        w.also_deploy(r, CALLEES[0], at);
        let share = r.between(0.2, 0.8);
        w.errors(FIRST_REQUEST, share, 240.0);
        w
    }),
    scenario("A02", "half of the requests fail for 20 seconds of every minute", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 100.0);
        let from = later(r, 0.0, 300.0);
        w.errors(from, 0.5, 240.0);
        (w.faults[0].lasts, w.faults[0].every) = (20.0, Some(60.0));
        w.deploys[0].bad_share = None;
        w
    }),
    scenario("A03", "clean for twenty minutes, then 10 % fail", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let from = later(r, 1_100.0, 1_250.0);
        w.errors(from, 0.1, 240.0);
        w
    }),
    scenario("A04", "two of eight new pods fail every request", |r| {
        let mut w = typical(r);
        (w.subject().pods, w.subject().nodes, w.subject().rps) = (8, 8, r.magnitude(20.0, 200.0));
        let from = later(r, 0.0, 120.0);
        w.fault(Who::Some(SUBJECT, "b", 2), from, Effect::ErrorsTo(1.0));
        w.must_undo(Harm::From(from), 180.0, &[FailReason::Errors]);
        w
    }),
    scenario("A05", "three peers have an incident of their own since ten minutes; the rollout is bad", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        w.trouble(&[6, 7, 8], Moment::At(T0 - r.between(300.0, 500.0)), Effect::ErrorsPlus(0.2));
        let (from, share) = (later(r, 60.0, 300.0), r.between(0.12, 0.3));
        w.errors(from, share, 240.0);
        w
    }),
    scenario("A06", "old pods fail a third of their requests while they go", |r| {
        let mut w = typical(r);
        w.deploys[0].start_up = r.between(20.0, 60.0);
        let lasts = w.deploys[0].start_up * 4.0;
        w.fault(Who::Revision(SUBJECT, "a"), Moment::At(T0), Effect::ErrorsTo(0.3)).lasts = lasts;
        w
    }),
    scenario("A07", "twelve new pods, one after another, each with a cold start of 30 seconds", |r| {
        let mut w = typical(r);
        w.subject().pods = 12;
        w.subject().id.kind = crate::domain::Kind::StatefulSet;
        w.deploys[0].start_up = r.between(20.0, 50.0);
        w.cold_start(NEW, 30.0, Effect::ErrorsTo(0.3));
        w
    }),
    scenario("A08", "the new version exports no metrics; its callers see 30 % failures", |r| {
        let mut w = typical(r);
        (w.subject().callers, w.subject().rps) = (true, r.magnitude(20.0, 200.0));
        w.errors(FIRST_REQUEST, 0.3, 360.0);
        w.fault(NEW, FIRST_REQUEST, Effect::Uncounted);
        w
    }),
    scenario("A09", "failures grow by half a percent a minute", |r| {
        let mut w = typical(r);
        (w.subject().rps, w.subject().errors) = (r.magnitude(60.0, 300.0), 0.001);
        w.deploys[0].start_up = r.magnitude(5.0, 30.0);
        let from = later(r, 0.0, 60.0);
        w.fault(NEW, from, Effect::ErrorsEachMinute(0.005));
        let Moment::Done(_, after) = from else { return w };
        w.must_undo(Harm::From(Moment::Done(0, after + 590.0)), 300.0, &[FailReason::Errors]);
        w
    }),
    scenario("A10", "two unrelated bad rollouts at once", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let share = r.between(0.2, 0.8);
        w.errors(FIRST_REQUEST, share, 240.0);
        w.services[9].id.namespace = "other".into();
        w.services[9].rps = r.magnitude(20.0, 200.0);
        let at = T0 + r.between(-60.0, 60.0);
        let other = w.also_deploy(r, 9, at);
        let from = Moment::FirstReady(other, 0.0);
        w.fault(Who::Revision(9, "b"), from, Effect::ErrorsTo(share));
        w.must_undo_of(other, Harm::From(from), 240.0, &[FailReason::Errors]);
        w
    }),
    scenario("A11", "a job makes a fifth fail for a minute every ten minutes, before and after", |r| {
        let mut w = typical(r);
        let begin = r.between(10.0, 500.0);
        let fault = w.fault(EVERY, Moment::At(begin), Effect::ErrorsPlus(0.2));
        (fault.lasts, fault.every) = (60.0, Some(600.0));
        w
    }),
    scenario("A12", "a flash crowd: ten times the traffic, everything twice as slow", |r| {
        let mut w = typical(r);
        let at = T0 + r.between(240.0, 900.0);
        w.subject().load = Load::StepsAt(at, 10.0);
        let all: Vec<usize> = (0..12).collect();
        w.trouble(&all, Moment::At(at), Effect::Slower(2.0));
        w.must_hold(
            Harm::From(Moment::At(at)),
            &[HoldReason::ClusterWide, HoldReason::Dependency],
            &[UnknownReason::Saturated],
        );
        w
    }),
    scenario("A13", "new pods serve for a minute, crash, and serve again", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::CrashServing(r.between(60.0, 90.0));
        w.deploys[0].start_up = r.between(4.0, 20.0);
        w.must_undo(Harm::Begin, 420.0, &[FailReason::CrashLoop]);
        w
    }),
    scenario("A14", "the new pods' configuration does not exist", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::ConfigError;
        w.must_undo(Harm::Begin, 90.0, &[FailReason::ConfigError]);
        w
    }),
    scenario("A15", "new pods are killed for memory 40 seconds after each start", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::OutOfMemory(r.between(30.0, 45.0));
        w.deploys[0].start_up = r.between(3.0, 15.0);
        w.must_undo(Harm::Begin, 240.0, &[FailReason::CrashLoop]);
        w
    }),
    scenario("A16", "a callee that nobody changed breaks minutes after the rollout", |r| {
        let mut w = typical(r);
        let callee = CALLEES[r.whole(0, 1)];
        let (from, share) = (T0 + r.between(300.0, 900.0), r.between(0.2, 0.8));
        w.trouble(&[callee], Moment::At(from - r.between(0.0, 10.0)), Effect::ErrorsPlus(share));
        w.fault(EVERY, Moment::At(from), Effect::ErrorsPlus(share * 0.6));
        w.must_hold(Harm::From(Moment::At(from)), &[HoldReason::Dependency], &[]);
        w
    }),
    scenario("A17", "ten requests a minute, and all fail", |r| {
        let mut w = typical(r);
        w.subject().rps = 1.0 / 6.0;
        let from = later(r, 0.0, 60.0);
        w.errors(from, 1.0, 120.0);
        w
    }),
    scenario("A18", "12 % fail for two minutes of every five", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(30.0, 200.0);
        let from = later(r, 0.0, 120.0);
        w.errors(from, 0.12, 420.0);
        (w.faults[0].lasts, w.faults[0].every) = (120.0, Some(300.0));
        w.deploys[0].bad_share = None;
        w
    }),
    scenario("A19", "two bad rollouts in a row: only what was before both is good", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let (share, start_up) = (r.between(0.1, 0.6), r.magnitude(5.0, 30.0));
        w.deploys[0].start_up = start_up;
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(share));
        w.deploys[0].truth = Truth::Either(0.0);
        // So soon that the first one is not convicted yet: nobody has undone anything.
        let second = w.deploy(SUBJECT, T0 + start_up + r.between(5.0, 15.0), "b", "c", start_up);
        let from = Moment::FirstReady(second, 0.0);
        w.fault(Who::Revision(SUBJECT, "c"), from, Effect::ErrorsTo(share));
        w.must_undo_of(second, Harm::From(from), 300.0, &[FailReason::Errors]);
        w
    }),
    scenario("A20", "failures answer at once: 15 % fail, and the p95 gets better", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        w.errors(FIRST_REQUEST, 0.15, 240.0);
        w.fault(NEW, FIRST_REQUEST, Effect::Slower(0.5));
        w
    }),
    scenario("A21", "each new pod fails up to half of its first 40 seconds", |r| {
        let mut w = typical(r);
        let share = r.between(0.15, 0.45);
        w.cold_start(NEW, 40.0, Effect::ErrorsTo(share));
        w
    }),
    scenario("A22", "everything is up to three times slower for 40 seconds, eight minutes in", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(5.0, 200.0);
        let slower = r.between(1.6, 3.0);
        w.fault(EVERY, Moment::At(T0 + 480.0), Effect::Slower(slower)).lasts = 40.0;
        w
    }),
];
