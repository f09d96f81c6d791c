//! Measuring that fails, lies or comes late. Pure.

use super::{Scenario, build::*, clean, scenario};
use crate::{
    bench::{
        random::Random,
        world::{Change, T0, World},
    },
    domain::Seconds,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    clean("S34", "every pod restarts now and then and counts from zero", |r| {
        let mut w = typical(r);
        w.changes.push(Change::Restarts(SUBJECT, r.between(200.0, 600.0)));
        w
    }),
    clean("S35", "many readings have no error count, or one that is no number", |r| {
        let mut w = typical(r);
        w.monitoring.broken_values = r.between(0.2, 0.7);
        w
    }),
    clean("S36", "gaps of 20 to 120 seconds between scrapes; in some runs a fault begins in one", |r| {
        let mut w = typical(r);
        w.monitoring.missing = r.between(0.0, 0.2);
        let mut t = r.between(100.0, 400.0);
        while t < w.end {
            let gap = r.between(20.0, 120.0);
            w.monitoring.gaps.push((t, t + gap));
            t += gap + r.between(120.0, 400.0);
        }
        if r.chance(0.2) {
            w.subject().rps = 10.0;
            let from = later(r, 30.0, 400.0);
            w.errors(from, 0.08, 300.0 + 240.0);
        }
        w
    }),
    clean("S37", "Prometheus fails, restarts, answers with old values", |r| {
        let mut w = typical(r);
        let mut t = r.between(T0 - 200.0, T0 + 300.0);
        while t < w.end {
            let lasts = r.between(30.0, 200.0);
            match r.whole(0, 2) {
                0 => {
                    let reason = r.pick(&["timeout after 30s", "503 Service Unavailable", "monitoring: restarted"]);
                    w.monitoring.outages.push((t, t + lasts, reason));
                    w.monitoring.gaps.push((t, t + lasts));
                }
                1 => w.monitoring.stale.push((t, t + lasts)),
                // Told as down, and answering all the same.
                _ => w.monitoring.outages.push((t, t + lasts, "monitoring: 3 of 9 targets are up")),
            }
            t += lasts + r.between(60.0, 500.0);
        }
        w
    }),
    scenario("S38", "the daemon restarts in the middle of the watch", |r| {
        let mut w = typical(r);
        let restarted = T0 + r.between(200.0, 800.0);
        w.monitoring.restarted = Some(restarted);
        faulty_or_not(r, &mut w, 60.0);
        w
    }),
    scenario("S50", "clocks differ by up to 90 seconds", |r| {
        let mut w = typical(r);
        let mut slack = 0.0;
        match r.whole(0, 2) {
            0 => w.monitoring.api_ahead = 90.0,
            1 => w.monitoring.api_ahead = -90.0,
            _ => {
                w.monitoring.lag = r.between(30.0, 90.0);
                slack = w.monitoring.lag;
            }
        }
        faulty_or_not(r, &mut w, slack);
        w
    }),
];

/// The fault of S03 in half of the runs.
fn faulty_or_not(r: &mut Random, w: &mut World, slack: Seconds) {
    if r.chance(0.5) {
        w.subject().rps = 10.0;
        let from = later(r, 30.0, 600.0);
        w.errors(from, 0.08, 300.0 + slack);
    }
}
