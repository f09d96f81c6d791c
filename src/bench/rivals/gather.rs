//! What a rule over metrics sees of one rollout: old and new pods, stretch by stretch. Pure.
//!
//! As a query of Prometheus would: increases per pod, a reset counts in full, a pod's first reading counts
//! nothing, a missing reading is no data.

use crate::domain::{Counts, Observation, Observed, PodId, Revision, RolloutCondition, Seconds, WorkloadId};
use std::collections::{BTreeMap, HashMap};

/// Requests, failures and latency buckets of a stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Upper bound → requests at or below it.
    buckets: Vec<(f64, f64)>,
    /// Readings behind it.
    pub(super) readings: u32,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.readings += other.readings;
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| a.1 += b.1);
        }
    }

    /// Share of failures; `None` without requests (0/0).
    pub(super) fn ratio(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| self.errors / self.requests)
    }

    /// `histogram_quantile(0.95, …)`: linear in its bucket, the last finite bound beyond it.
    pub(super) fn p95(&self) -> Option<f64> {
        let total = self.buckets.last().map_or(0.0, |bucket| bucket.1);
        if total <= 0.0 {
            return None;
        }
        let rank = 0.95 * total;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= rank {
                return Some(if bound.is_finite() {
                    low + (bound - low) * (rank - below) / (count - below).max(1e-9)
                } else {
                    low
                });
            }
            (low, below) = (bound, count);
        }
        Some(low)
    }
}

/// One rollout as the rules see it.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) to: Revision,
    pub(super) began: Seconds,
    pub(super) first_ready: Option<Seconds>,
    pub(super) deadline_exceeded: bool,
    /// Stretches of [`STEP`] seconds since the beginning of time: new pods, and all others.
    pub(super) new: BTreeMap<i64, Sum>,
    pub(super) old: BTreeMap<i64, Sum>,
}

/// Seconds of one stretch.
pub(super) const STEP: Seconds = 15.0;

impl Track {
    /// The last `seconds` before `t`.
    pub(super) fn window(arm: &BTreeMap<i64, Sum>, t: Seconds, seconds: Seconds) -> Sum {
        let (to, n) = ((t / STEP).floor() as i64, (seconds / STEP) as i64);
        let mut sum = Sum::default();
        arm.range(to - n..to).for_each(|(_, stretch)| sum.add(stretch));
        sum
    }

    /// What was served in the ten minutes before the rollout.
    pub(super) fn before(&self) -> Sum {
        Self::window(&self.old, self.began, 600.0)
    }

    /// One value per stretch between two times.
    pub(super) fn series(
        arm: &BTreeMap<i64, Sum>,
        (from, to): (Seconds, Seconds),
        value: impl Fn(&Sum) -> Option<f64>,
    ) -> Vec<f64> {
        arm.range((from / STEP).ceil() as i64..(to / STEP).floor() as i64).filter_map(|(_, sum)| value(sum)).collect()
    }
}

/// All rollouts that were seen.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pods: HashMap<PodId, Pod>,
    /// Of workloads without a rollout as well: what was before will be needed.
    old: BTreeMap<WorkloadId, BTreeMap<i64, Sum>>,
    pub(super) tracks: BTreeMap<WorkloadId, Track>,
}

#[derive(Debug)]
struct Pod {
    workload: WorkloadId,
    revision: Revision,
    last: Option<Sum>,
}

impl Gather {
    /// Takes an observation; tells the workload whose rollout begins.
    pub(super) fn observe(&mut self, observed: &Observed) -> Option<WorkloadId> {
        let t = observed.t;
        match &observed.what {
            Observation::Pod(state) => {
                let known = self.pods.get(&state.pod).is_some_and(|pod| pod.revision == state.revision);
                if !known {
                    let (workload, revision) = (state.workload.clone(), state.revision.clone());
                    self.pods.insert(state.pod.clone(), Pod { workload, revision, last: None });
                }
                if let Some(track) = self.tracks.get_mut(&state.workload)
                    && state.ready
                    && state.revision == track.to
                {
                    track.first_ready.get_or_insert(t);
                }
            }
            Observation::Counters { pod, counts } => self.count(t, pod, counts),
            Observation::Condition { workload, condition: RolloutCondition::ProgressDeadlineExceeded } => {
                if let Some(track) = self.tracks.get_mut(workload) {
                    track.deadline_exceeded = true;
                }
            }
            Observation::Rollout { workload, to, .. } => {
                let mut old = self.old.remove(workload).unwrap_or_default();
                if let Some(before) = self.tracks.remove(workload) {
                    old = before.old;
                    for (stretch, sum) in &before.new {
                        old.entry(*stretch).or_default().add(sum);
                    }
                }
                let new = BTreeMap::new();
                let track = Track { to: to.clone(), began: t, first_ready: None, deadline_exceeded: false, new, old };
                self.tracks.insert(workload.clone(), track);
                return Some(workload.clone());
            }
            _ => {}
        }
        None
    }

    fn count(&mut self, t: Seconds, id: &PodId, counts: &Counts) {
        let Some(pod) = self.pods.get_mut(id) else { return };
        let (Some(requests), Some(errors)) = (counts.requests, counts.errors) else { return };
        if !requests.is_finite() || !errors.is_finite() {
            return;
        }
        let buckets = counts.latency.iter().flat_map(|latency| latency.iter()).collect();
        let now = Sum { requests, errors, buckets, readings: 1 };
        let more = pod.last.as_ref().map(|last| {
            if now.requests < last.requests {
                return now.clone();
            }
            let mut more = now.clone();
            more.requests -= last.requests;
            more.errors = (more.errors - last.errors).max(0.0);
            more.buckets.iter_mut().zip(&last.buckets).for_each(|(a, b)| a.1 -= b.1);
            more
        });
        pod.last = Some(now);
        let stretch = (t / STEP).floor() as i64;
        let arm = match self.tracks.get_mut(&pod.workload) {
            Some(track) if pod.revision == track.to => &mut track.new,
            Some(track) => &mut track.old,
            None => self.old.entry(pod.workload.clone()).or_default(),
        };
        if let Some(more) = more {
            arm.entry(stretch).or_default().add(&more);
        }
    }
}
