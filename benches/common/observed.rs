//! The same trials as observations, for what needs no Prometheus.

use super::{BUCKETS, NEW, OLD, PODS, counters};
use lastgood::{
    analysis::Docket,
    domain::{Buckets, Counts, Observation, Observed, PodState, Revision, Seconds, TrialTarget},
};
use std::sync::LazyLock;

/// Seconds between two ticks.
pub const INTERVAL: Seconds = 15.0;
/// When the rollouts begin.
pub const T0: Seconds = 1_700_000_000.0;
/// Ticks of baseline before that.
pub const BEFORE: u64 = 120;

/// All pods' histograms have the same bounds, as those of one program have.
static BOUNDS: LazyLock<Buckets> =
    LazyLock::new(|| BUCKETS.iter().map(|le| (le.parse().expect("a number"), 0.0)).collect());

/// When a tick is.
pub fn time(tick: u64) -> Seconds {
    T0 + (tick as f64 - BEFORE as f64) * INTERVAL
}

/// A docket in which these trials run since 20 ticks, with a baseline before; and the tick it is at.
pub fn docket(trials: &[TrialTarget]) -> (Docket, u64) {
    let mut docket = Docket::with_interval(INTERVAL);
    for trial in trials {
        let (from, to) = (Revision::from(OLD), Revision::from(NEW));
        docket.open(T0, trial.workload.clone(), from, to, trial.rules.clone());
        for (n, pod) in trial.pods.iter().enumerate() {
            let created = if n < PODS / 2 { T0 - 86_400.0 } else { T0 };
            let state = PodState {
                node: Some(format!("node-{}", n % 3)),
                ready: true,
                created: Some(created),
                ready_since: Some(created + 1.0),
                ..PodState::new(pod.pod.clone(), trial.workload.clone(), pod.revision.clone())
            };
            docket.observe(&Observed { t: created.max(T0 - 1800.0), what: Observation::from(state) });
        }
    }
    let mut readings = readings(trials);
    for tick in 1..=BEFORE + 20 {
        // The new pods are not there yet.
        let before = tick <= BEFORE;
        let t = time(tick);
        for (n, reading) in readings.iter_mut().enumerate() {
            if before && n % PODS >= PODS / 2 {
                continue;
            }
            set(reading, t, if n % PODS >= PODS / 2 { tick - BEFORE } else { tick });
            docket.observe(reading);
        }
        if !before {
            docket.judge(t);
        }
    }
    (docket, BEFORE + 20)
}

/// A reading of each pod, to be [`set`].
pub fn readings(trials: &[TrialTarget]) -> Vec<Observed> {
    let pods = trials.iter().flat_map(|trial| &trial.pods);
    pods.map(|pod| Observed { t: 0.0, what: Observation::Counters { pod: pod.pod.clone(), counts: Counts::default() } })
        .collect()
}

/// Makes it what the pod shows after so many ticks.
pub fn set(reading: &mut Observed, t: Seconds, tick: u64) {
    let (requests, errors, buckets) = counters(tick);
    reading.t = t;
    if let Observation::Counters { counts, .. } = &mut reading.what {
        counts.requests = Some(requests as f64);
        counts.errors = Some(errors as f64);
        let latency = counts.latency.get_or_insert_with(|| BOUNDS.clone());
        for (count, value) in latency.counts_mut().iter_mut().zip(buckets) {
            *count = value as f64;
        }
    }
}
