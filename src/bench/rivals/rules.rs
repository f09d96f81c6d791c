//! The rules that people use today, from their documented behaviour. Pure.
//!
//! All get the same two limits as Lastgood's defaults: 5 % of requests failed, p95 half as high again as before the
//! rollout (and above 20 ms). None of them asks whose doing it is.

use super::{
    gather::{STEP, Sum, Track},
    mann_whitney,
};
use crate::domain::Seconds;

const ERRORS: f64 = 0.05;
const INCREASE: f64 = 1.5;
const FLOOR: f64 = 0.02;
const MINUTE: Seconds = 60.0;

/// A rule about one rollout.
pub(super) trait Rule {
    /// Whether to undo; asked every [`STEP`] seconds from the first Ready of a new pod on.
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool;
    /// Whether it also undoes what Kubernetes has given up on.
    fn heeds_deadline(&self) -> bool {
        false
    }
}

/// What one minute of the new pods says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Minute {
    Good,
    Bad,
    NoData,
}

/// Every rule looks at whole minutes from the first Ready on.
fn minute(t: Seconds, track: &Track) -> Option<Minute> {
    let since = t - track.first_ready?;
    let whole = (since / MINUTE).floor() * MINUTE;
    if whole < MINUTE || since - whole >= STEP {
        return None;
    }
    let now = Track::window(&track.new, t, MINUTE);
    let Some(ratio) = now.ratio() else { return Some(Minute::NoData) };
    let slow = match (now.p95(), track.before().p95()) {
        (Some(now), Some(before)) => now > INCREASE * before && now > FLOOR,
        _ => false,
    };
    Some(if ratio > ERRORS || slow { Minute::Bad } else { Minute::Good })
}

/// A static limit on so many consecutive minutes: an alert with `for`.
pub(super) struct Static {
    needed: u32,
    bad: u32,
}

impl Static {
    pub(super) fn new(needed: u32) -> Self {
        Self { needed, bad: 0 }
    }
}

impl Rule for Static {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        match minute(t, track) {
            None => {}
            Some(Minute::Bad) => self.bad += 1,
            Some(Minute::Good | Minute::NoData) => self.bad = 0,
        }
        self.bad >= self.needed
    }
}

/// Flagger: `interval: 1m`, `threshold: 5` failed checks in total; a metric without values is a failed check; a
/// Deployment that is not ready within its progress deadline is rolled back.
#[derive(Default)]
pub(super) struct Flagger {
    failed: u32,
}

impl Rule for Flagger {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        self.failed += u32::from(matches!(minute(t, track), Some(Minute::Bad | Minute::NoData)));
        self.failed >= 5
    }

    fn heeds_deadline(&self) -> bool {
        true
    }
}

/// Argo Rollouts' analysis: `interval: 1m`, `failureLimit: 0`, `consecutiveErrorLimit: 4`; an empty result is an
/// error; with `progressDeadlineAbort`.
#[derive(Default)]
pub(super) struct Argo {
    errors: u32,
}

impl Rule for Argo {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        match minute(t, track) {
            None => {}
            Some(Minute::Bad) => return true,
            Some(Minute::NoData) => self.errors += 1,
            Some(Minute::Good) => self.errors = 0,
        }
        self.errors > 4
    }

    fn heeds_deadline(&self) -> bool {
        true
    }
}

/// What the new pods are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Old pods in the same minutes.
    Old,
    /// The ten minutes before.
    Before,
}

/// Kayenta's judge with its defaults (tolerance 0.25, confidence 0.98), both metrics critical in the direction of
/// an increase, judged every ten minutes on one value each 15 seconds.
pub(super) struct Kayenta(pub(super) Control);

/// How often, and the whole of it.
const KAYENTA_INTERVAL: Seconds = 600.0;

impl Rule for Kayenta {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        let Some(ready) = track.first_ready else { return false };
        let since = t - ready;
        if since < KAYENTA_INTERVAL || since % KAYENTA_INTERVAL >= STEP {
            return false;
        }
        let values: [fn(&Sum) -> Option<f64>; 2] = [Sum::ratio, Sum::p95];
        values.into_iter().any(|value| {
            let experiment = Track::series(&track.new, (ready, t), value);
            let control = match self.0 {
                Control::Old => Track::series(&track.old, (ready, t), value),
                Control::Before => Track::series(&track.old, (track.began - 600.0, track.began), value),
            };
            high(&experiment, &control, 0.25, 0.98)
        })
    }
}

/// Kayenta's class `High`: the interval of the shift lies above the tolerated part of its estimate.
pub(super) fn high(experiment: &[f64], control: &[f64], tolerance: f64, confidence: f64) -> bool {
    mann_whitney::shift(experiment, control, confidence)
        .is_some_and(|(low, _, estimate)| low > tolerance * estimate.abs())
}

/// PipeCD's automated analysis, read in its source (pipe-cd/pipecd, Apache-2.0:
/// `pkg/app/piped/executor/analysis/metrics_analyzer.go` and `mannwhitney/mannwhitney.go`, defaults in
/// `pkg/config/analysis.go`): every interval a one-sided Mann-Whitney test of the values since the one before, which
/// fails at p ≤ 0.05 (`deviation: HIGH`) and without values on either side (`skipOnNoData: false`); each metric counts
/// its own failures and ends the stage beyond `failureLimit`, here 1 as in their examples (the default is 0). The
/// interval must be chosen; five minutes give a test of 20 values. Strategy PREVIOUS compares with the same minutes of
/// the deployment before; that one is not in a run, so the minutes before the rollout stand for it.
#[derive(Default)]
pub(super) struct PipeCd {
    failed: [u32; 2],
}

/// How often.
const PIPECD_INTERVAL: Seconds = 300.0;

impl Rule for PipeCd {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        let Some(ready) = track.first_ready else { return false };
        let since = t - ready;
        if since < PIPECD_INTERVAL || since % PIPECD_INTERVAL >= STEP {
            return false;
        }
        let values: [fn(&Sum) -> Option<f64>; 2] = [Sum::ratio, Sum::p95];
        for (failed, value) in self.failed.iter_mut().zip(values) {
            let now = Track::series(&track.new, (t - PIPECD_INTERVAL, t), value);
            let before = Track::series(&track.old, (track.began - PIPECD_INTERVAL, track.began), value);
            let missing = now.is_empty() || before.is_empty();
            // Half of the two-sided value is the one-sided one, on its side. All values equal is an error there, and
            // an error counts as a failure.
            let higher = mann_whitney::p_value(&now, &before).is_none_or(|(p, z)| p / 2.0 <= 0.05 && z > 0.0);
            *failed += u32::from(missing || higher);
        }
        self.failed.iter().any(|failed| *failed > 1)
    }
}

/// CUSUM (k = 0.5, h = 5) over 15-second values in standard deviations of the ten minutes before.
#[derive(Default)]
pub(super) struct Cusum {
    sums: [f64; 2],
}

impl Rule for Cusum {
    fn undoes(&mut self, t: Seconds, track: &Track) -> bool {
        let values: [fn(&Sum) -> Option<f64>; 2] = [Sum::ratio, Sum::p95];
        let now = Track::window(&track.new, t, STEP);
        for (sum, value) in self.sums.iter_mut().zip(values) {
            let before = Track::series(&track.old, (track.began - 600.0, track.began), value);
            let (Some(now), true) = (value(&now), before.len() >= 10) else { continue };
            let mean = before.iter().sum::<f64>() / before.len() as f64;
            let variance = before.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (before.len() - 1) as f64;
            if variance > 0.0 {
                *sum = (*sum + (now - mean) / variance.sqrt() - 0.5).max(0.0);
            }
        }
        self.sums.iter().any(|sum| *sum > 5.0)
    }
}
