//! Failed requests. Pure.

use super::{Scenario, build::*, clean, scenario};
use crate::{
    bench::world::{Effect, Harm, Load, Moment, T0, Truth},
    domain::{FailReason, HoldReason, Kind},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    clean("S01", "clean deploy, steady traffic", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(1.0 / 60.0, 1_000.0);
        w
    }),
    clean("S02", "clean, but 3 % or 4.5 % fail before and after, over-dispersed", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(1.0, 300.0);
        w.subject().errors = r.pick(&[0.03, 0.045]);
        w.subject().noise = r.pick(&[f64::INFINITY, 50.0, 20.0]);
        w
    }),
    scenario("S03", "errors step to 8 % at 10 rps", |r| {
        let mut w = typical(r);
        w.subject().rps = 10.0;
        let from = later(r, 30.0, 600.0);
        w.errors(from, 0.08, 300.0);
        w
    }),
    scenario("S04", "errors step to exactly 5 %, or to 4.9 %", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(10.0, 300.0);
        let share = r.pick(&[0.05, 0.049]);
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(share));
        w
    }),
    scenario("S05", "errors step to 6 % at 100 rps; at 1 rps nobody can tell", |r| {
        let mut w = typical(r);
        let from = later(r, 30.0, 600.0);
        w.errors(from, 0.06, 360.0);
        w.subject().rps = 100.0;
        if r.chance(0.25) {
            w.subject().rps = 1.0;
            w.deploys[0].truth = Truth::Either(0.0);
        }
        w
    }),
    scenario("S06", "every request fails from the first one on", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(5.0, 200.0);
        w.errors(FIRST_REQUEST, 1.0, 45.0);
        w
    }),
    scenario("S07", "half of the requests of the first of five new pods fail", |r| {
        let mut w = typical(r);
        let subject = w.subject();
        (subject.pods, subject.rps) = (5, r.magnitude(10.0, 100.0));
        // One pod at a time, and slowly: the first new pod is alone for more than a minute.
        subject.id.kind = Kind::StatefulSet;
        w.deploys[0].start_up = r.between(70.0, 90.0);
        w.errors(FIRST_REQUEST, 0.5, 120.0);
        w
    }),
    scenario("S31", "2 % real faults, each tried five times: from the new pods, or from everyone", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(40.0, 200.0);
        if r.chance(0.5) {
            let from = later(r, 30.0, 300.0);
            w.fault(NEW, from, Effect::Retries(0.02, 5.0));
            w.must_undo(Harm::From(from), 300.0, &[FailReason::Errors]);
        } else {
            // A client library went mad: whom it calls suffers, old or new.
            w.deploys[0].start_up = r.between(50.0, 90.0);
            let from = Moment::At(T0 + r.between(5.0, 40.0));
            w.trouble(&[SUBJECT, 6, 7, 8, 9, 10], from, Effect::Retries(0.02, 5.0));
            w.must_hold(Harm::From(from), &[HoldReason::OldVersion, HoldReason::ClusterWide], &[]);
        }
        w
    }),
    scenario("S32", "one request a minute, and all fail", |r| {
        let mut w = typical(r);
        w.subject().rps = 1.0 / 60.0;
        w.subject().pods = r.whole(1, 3);
        let from = later(r, 0.0, 60.0);
        w.errors(from, 1.0, 600.0);
        w
    }),
    scenario("S33", "one request a minute, and one in three fails", |r| {
        let mut w = typical(r);
        w.subject().rps = 1.0 / 60.0;
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(1.0 / 3.0));
        w.deploys[0].harm = Harm::From(FIRST_REQUEST);
        w.deploys[0].truth = Truth::Either(300.0);
        w
    }),
    clean("S14", "each new pod fails 30 % of its first 30 seconds", |r| {
        let mut w = typical(r);
        w.cold_start(NEW, 30.0, Effect::ErrorsTo(0.3));
        w
    }),
    clean("S15", "an error burst of 40 seconds, eight minutes in", |r| {
        let mut w = typical(r);
        let share = r.between(0.1, 0.45);
        w.fault(EVERY, Moment::At(T0 + 480.0), Effect::ErrorsTo(share)).lasts = 40.0;
        w
    }),
    scenario("S39", "7 % failed before the rollout and 7 % fail after it", |r| {
        let mut w = typical(r);
        w.subject().errors = 0.07;
        w
    }),
    scenario("S40", "7 % failed before the rollout, and 20 % fail after it", |r| {
        let mut w = typical(r);
        w.subject().errors = 0.07;
        w.subject().rps = r.magnitude(10.0, 200.0);
        let from = later(r, 0.0, 300.0);
        w.errors(from, 0.2, 300.0);
        w
    }),
    scenario("S41", "the rollout is the fix: 7 % failed before, 0.1 % after", |r| {
        let mut w = typical(r);
        w.subject().errors = 0.07;
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(0.001));
        w
    }),
    scenario("S43", "a scanner makes four times as many 4xx", |r| {
        let mut w = typical(r);
        let (at, times) = (T0 + r.between(60.0, 900.0), r.between(3.0, 6.0));
        w.fault(EVERY, Moment::At(at), Effect::More(times)).lasts = 600.0;
        w
    }),
    scenario("S44", "one route with 2 % of the traffic always fails", |r| {
        let mut w = typical(r);
        w.subject().errors = r.magnitude(0.0005, 0.01);
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsPlus(0.02));
        w
    }),
    clean("S21", "traffic ends after the rollout (night)", |r| {
        let mut w = typical(r);
        w.subject().load = Load::StopsAt(T0 + r.between(30.0, 600.0));
        w
    }),
];
