//! Pods that do not come up, probes, and rollouts that are none. Pure.

use super::{Scenario, build::*, clean, scenario};
use crate::{
    bench::{
        random::Random,
        world::{Behaviour, Change, Effect, Harm, Moment, Probe, T0, Truth, WATCH, Who, World},
    },
    domain::{FailReason, HoldReason, Kind},
};

const HEALTH: Probe = Probe { every: 15.0, flaky: 0.0, smoke: false, per_pod: true, fails_on: None };

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("S16", "all new pods crash again and again", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::CrashLoop(r.between(0.5, 5.0));
        w.must_undo(Harm::Begin, 90.0, &[FailReason::CrashLoop]);
        w
    }),
    scenario("S17", "the image cannot be pulled: a wrong tag, or the registry is down for all", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::ImagePull;
        if r.chance(0.5) {
            w.must_undo(Harm::Begin, 90.0, &[FailReason::ImagePull]);
            return w;
        }
        w.must_hold(Harm::Begin, &[HoldReason::Shared, HoldReason::ClusterWide], &[]);
        for service in [7, 8] {
            let at = T0 + r.between(-40.0, 20.0);
            let other = w.also_deploy(r, service, at);
            w.deploys[other].pods = Behaviour::ImagePull;
            w.deploys[other].truth = w.deploys[0].truth;
            w.deploys[other].harm = Harm::Begin;
        }
        w
    }),
    scenario("S18", "new pods are never Ready; the old ones serve", |r| {
        let mut w = typical(r);
        w.deploys[0].pods = Behaviour::NeverReady;
        w.must_undo(Harm::Begin, 630.0, &[FailReason::ProgressDeadline]);
        w
    }),
    scenario("S19", "the smoke test fails on new pods, the metrics are fine", |r| {
        let mut w = typical(r);
        w.subject().probe = Some(Probe { every: 10.0, smoke: true, fails_on: Some("b"), ..HEALTH });
        w.must_undo(Harm::From(FIRST_REQUEST), 60.0, &[FailReason::Health]);
        w
    }),
    clean("S20", "a health endpoint fails one time in ten, before and after", |r| {
        let mut w = typical(r);
        w.subject().probe = Some(Probe { flaky: 0.1, per_pod: r.chance(0.5), ..HEALTH });
        w
    }),
    scenario("S22", "traffic ends because new pods refuse connections", |r| {
        let mut w = typical(r);
        w.subject().callers = true;
        w.subject().probe = Some(Probe { fails_on: Some("b"), ..HEALTH });
        w.fault(NEW, FIRST_REQUEST, Effect::Refuse);
        w.must_undo(Harm::From(FIRST_REQUEST), 90.0, &[FailReason::Health, FailReason::Errors]);
        w
    }),
    scenario("S28", "two rollouts in one watch: good then bad, or bad then the fix", two_rollouts),
    clean("S42", "a restart of unchanged code, with a scale-out or a drained node on top", |r| {
        let mut w = typical(r);
        let at = T0 + r.between(-300.0, 900.0);
        let revision = if at < T0 { "a" } else { "b" };
        w.changes.push(if r.chance(0.5) {
            Change::ScaleOut(at, SUBJECT, revision, r.whole(1, 6))
        } else {
            Change::Drain(at, SUBJECT, 0)
        });
        w
    }),
    scenario("S45", "what is put back is bad too", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(10.0, 100.0);
        // Somebody, or we, put it back after four minutes; the old one is bad now as well.
        let back = T0 + w.deploys[0].start_up * 3.0 + 240.0;
        let (share, start_up) = (r.between(0.2, 0.9), w.deploys[0].start_up);
        w.fault(EVERY, FIRST_REQUEST, Effect::ErrorsTo(share));
        w.deploys[0].truth = Truth::Either(0.0);
        let again = w.deploy(SUBJECT, back, "b", "a", start_up);
        w.deploys[again].harm = Harm::Begin;
        w
    }),
    scenario("S48", "a StatefulSet, a DaemonSet, a paused rollout, one that GitOps takes back", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let share = r.between(0.2, 1.0);
        match r.whole(0, 3) {
            kind @ (0 | 1) => {
                w.subject().id.kind = if kind == 0 { Kind::StatefulSet } else { Kind::DaemonSet };
                w.errors(FIRST_REQUEST, share, 240.0);
            }
            2 => w.deploys[0].stops_after = Some(1),
            _ => {
                let (back, start_up) = (T0 + w.deploys[0].start_up + 60.0, w.deploys[0].start_up);
                w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(share));
                w.deploys[0].truth = Truth::Either(0.0);
                w.deploy(SUBJECT, back, "b", "a", start_up);
            }
        }
        w
    }),
    scenario("S49", "an error tracker sees a new issue: 3 events, 3,000 events, 3,000 events and failures", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(20.0, 200.0);
        let variant = r.whole(0, 2);
        let events = if variant == 0 { 3 } else { 3_000 };
        for minute in 1..10 {
            w.issues.push((T0 + 60.0 * f64::from(minute), SUBJECT, "b", 1, events * minute as u64 / 9));
        }
        if variant == 2 {
            w.errors(FIRST_REQUEST, 0.15, 300.0);
        }
        w
    }),
];

fn two_rollouts(r: &mut Random) -> World {
    let mut w = typical(r);
    w.subject().rps = r.magnitude(20.0, 200.0);
    let (share, start_up) = (r.between(0.1, 0.8), r.magnitude(5.0, 40.0));
    w.deploys[0].start_up = start_up;
    if r.chance(0.5) {
        // The first one is good, but still under watch: both it and what was before it are good to go back to.
        let bad = w.deploy(SUBJECT, T0 + r.between(600.0, 1_000.0), "b", "c", start_up);
        let from = Moment::FirstReady(bad, 0.0);
        w.fault(Who::Revision(SUBJECT, "c"), from, Effect::ErrorsTo(share));
        w.must_undo_of(bad, Harm::From(from), 240.0, &[FailReason::Errors]);
        if let Truth::Undo { targets, .. } = &mut w.deploys[bad].truth {
            *targets = &["b", "a"];
        }
        w.end = T0 + WATCH + 600.0;
    } else {
        w.fault(NEW, FIRST_REQUEST, Effect::ErrorsTo(share));
        w.deploys[0].truth = Truth::Either(0.0);
        w.deploy(SUBJECT, T0 + start_up + r.between(60.0, 300.0), "b", "c", start_up);
    }
    w
}
