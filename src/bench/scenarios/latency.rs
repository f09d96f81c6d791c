//! Slow requests. Pure.

use super::{Scenario, build::*, clean, scenario};
use crate::{
    bench::world::{Behaviour, Effect, Harm, Load, Moment, T0},
    domain::{FailReason, UnknownReason},
};

/// Buckets of a service that answers in milliseconds.
const FINE: &[f64] = &[0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1];
/// Buckets that end before the service's tail begins.
const SHORT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1];
/// The 95 % point of the standard normal.
const Z95: f64 = 1.644_853_627;

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("S08", "latency times 1.8, or times 3", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(40.0, 300.0);
        let (factor, within) = r.pick(&[(1.8, 240.0), (3.0, 150.0)]);
        w.fault(NEW, FIRST_REQUEST, Effect::Slower(factor));
        w.must_undo(Harm::From(FIRST_REQUEST), within, &[FailReason::Latency]);
        w
    }),
    scenario("S09", "latency times 1.45: within the limit", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(10.0, 300.0);
        w.fault(NEW, FIRST_REQUEST, Effect::Slower(1.45));
        w
    }),
    scenario("S10", "latency doubles from 2 ms to 4 ms; with the floor, and without", |r| {
        let mut w = typical(r);
        let subject = w.subject();
        (subject.rps, subject.buckets) = (r.magnitude(40.0, 300.0), FINE);
        subject.median = 0.002 / (Z95 * subject.sigma).exp();
        w.fault(NEW, FIRST_REQUEST, Effect::Slower(2.0));
        if r.chance(0.5) {
            w.thresholds = Some(NO_FLOOR);
            w.must_undo(Harm::From(FIRST_REQUEST), 300.0, &[FailReason::Latency]);
        }
        w
    }),
    scenario("S11", "the tail lies in the last bucket: nobody can measure it", |r| {
        let mut w = typical(r);
        let subject = w.subject();
        (subject.rps, subject.buckets) = (r.magnitude(10.0, 200.0), SHORT);
        (subject.median, subject.sigma) = (r.between(0.07, 0.12), r.between(0.6, 0.9));
        w.fault(NEW, FIRST_REQUEST, Effect::Slower(3.0));
        w.must_hold(Harm::From(FIRST_REQUEST), &[], &[UnknownReason::Saturated]);
        w
    }),
    scenario("S12", "a memory leak: 5 % slower every minute, killed after 25", |r| {
        let mut w = typical(r);
        w.subject().rps = r.magnitude(200.0, 600.0);
        w.deploys[0].start_up = r.magnitude(5.0, 20.0);
        w.deploys[0].pods = Behaviour::OutOfMemory(1_500.0);
        w.fault(NEW, Moment::At(0.0), Effect::SlowerEachMinute(0.05)).since_ready = true;
        // Ten minutes after it was Ready a pod is half as slow again: the limit.
        w.must_undo(Harm::From(Moment::FirstReady(0, 600.0)), 180.0, &[FailReason::Latency, FailReason::CrashLoop]);
        // Every pod has its own clock; the service is as slow as that once its last pod is.
        w.deploys[0].due = Some(Moment::Done(0, 600.0));
        w
    }),
    clean("S13", "each new pod is six times slower for its first 45 seconds", |r| {
        let mut w = typical(r);
        w.cold_start(NEW, 45.0, Effect::Slower(6.0));
        w
    }),
    clean("S23", "the day begins: four times the traffic, 60 % slower, as yesterday", |r| {
        let mut w = typical(r);
        let from = T0 - r.between(0.0, 300.0);
        w.subject().load = Load::Ramp { from, to: from + 1_500.0, times: 4.0, slower: 1.6 };
        w.monitoring.yesterday = true;
        w
    }),
];

/// The defaults without the latency floor.
const NO_FLOOR: &str = "apiVersion: lastgood.dev/v1
kind: Thresholds
defaults:
  mode: act
  latency:
    floor: 0ms
";
