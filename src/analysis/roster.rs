//! What is known of each pod of one workload. Pure.

use super::{
    counter::{PairCounter, Reading, Tally},
    facts::Stuck,
    histogram::{Histogram, HistogramCounter},
    leak::Usage,
    tuning::*,
};
use crate::domain::{Counts, PodId, PodState, Revision, Seconds};
use std::collections::{BTreeMap, VecDeque};

/// One pod.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) serial: u32,
    pub(super) state: PodState,
    /// First time that it was seen.
    pub(super) seen: Seconds,
    /// Last time that anything was said of it.
    pub(super) updated: Seconds,
    pub(super) first_ready: Option<Seconds>,
    /// When it last became Ready, while it is.
    pub(super) ready_at: Option<Seconds>,
    /// Restart count at each change, oldest first, no further back than the vetoes look.
    restarts: VecDeque<(Seconds, u32)>,
    /// First restart that was seen to happen, with an exit that was not clean.
    pub(super) first_crash: Option<Seconds>,
    /// Since when it crashes again and again.
    pub(super) looping: Option<Seconds>,
    /// Since when its container cannot be started, and when that was last seen.
    pub(super) stuck: Option<(Stuck, Seconds, Seconds)>,
    pair: PairCounter,
    requests: PairCounter,
    histogram: HistogramCounter,
    pub(super) usage: Usage,
    /// Counts since the last tick.
    pub(super) pending: Tally,
    /// Whether any of it may be of its cold start.
    pub(super) cold: bool,
    pub(super) pending_latency: Option<Histogram>,
}

/// Counts of one reading of a pod; each with the begin of its interval, or `None` for "since the
/// process started".
#[derive(Debug, Clone, Default)]
pub(super) struct Read {
    pub(super) pair: Option<(Option<Seconds>, Tally)>,
    pub(super) latency: Option<(Option<Seconds>, Histogram)>,
    pub(super) requests: Option<(Option<Seconds>, f64)>,
    /// Values that were no counts.
    pub(super) skipped: u32,
}

impl Pod {
    fn new(serial: u32, t: Seconds, state: &PodState) -> Self {
        Self {
            serial,
            state: state.clone(),
            seen: t,
            updated: t,
            first_ready: None,
            ready_at: None,
            restarts: VecDeque::new(),
            first_crash: None,
            looping: None,
            stuck: None,
            pair: PairCounter::default(),
            requests: PairCounter::default(),
            histogram: HistogramCounter::default(),
            usage: Usage::default(),
            pending: Tally::default(),
            cold: false,
            pending_latency: None,
        }
    }

    pub(super) fn live(&self) -> bool {
        !self.state.deleted
    }

    /// Whether the last exit was a failure.
    pub(super) fn failed_exit(&self) -> bool {
        self.state.oom_killed || self.state.exit_code.is_some_and(|code| code != 0)
    }

    pub(super) fn waits_for(&self, reason: &str) -> bool {
        self.state.waiting.as_deref() == Some(reason)
    }

    /// For how long its container could not be started.
    pub(super) fn stuck_for(&self, t: Seconds) -> Seconds {
        self.stuck.map_or(0.0, |(_, since, _)| t - since)
    }

    /// Whether it came with the rollout that began at `t0`. A pod whose creation is unknown did so
    /// when it was first seen after that.
    pub(super) fn came_with(&self, t0: Seconds) -> bool {
        match self.state.created {
            Some(created) => created >= t0 - CREATED_SLACK,
            None => self.seen > t0,
        }
    }

    /// Restarts within the time before `t`.
    pub(super) fn restarts_within(&self, window: Seconds, t: Seconds) -> u32 {
        let then = self.restarts.iter().rev().find(|(at, _)| *at <= t - window).or(self.restarts.front());
        self.state.restarts.saturating_sub(then.map_or(self.state.restarts, |(_, count)| *count))
    }

    fn update(&mut self, t: Seconds, state: &PodState, t0: Seconds) {
        if self.restarts.is_empty() {
            // All restarts of a pod that is younger than what we look at happened within it.
            let born = state.created.or((self.seen > t0).then_some(t0));
            if let Some(born) = born.filter(|born| *born < t && t - born <= CRASH_WINDOW && state.restarts > 0) {
                self.restarts.push_back((born, 0));
            }
            self.restarts.push_back((t, state.restarts));
        } else if self.restarts.back().is_some_and(|(_, count)| *count != state.restarts) {
            self.restarts.push_back((t, state.restarts));
        }
        while self.restarts.get(1).is_some_and(|(at, _)| *at < t - BEFORE) {
            self.restarts.pop_front();
        }
        self.ready_at = match (state.ready, self.ready_at) {
            (false, _) => None,
            (true, Some(at)) => Some(state.ready_since.unwrap_or(at)),
            (true, None) => Some(state.ready_since.map_or(t, |since| since.min(t))),
        };
        if self.first_ready.is_none() {
            self.first_ready = self.ready_at;
        }
        self.state = state.clone();
        self.updated = t;
        if self.first_crash.is_none() && self.failed_exit() && state.restarts > 0 {
            self.first_crash = Some(t);
        }
        self.refresh(t, t0);
    }

    /// Facts that ripen with time alone.
    pub(super) fn refresh(&mut self, t: Seconds, t0: Seconds) {
        let fast = self.restarts_within(CRASH_WINDOW, t) >= CRASHES;
        // Later on, back-off spaces restarts further apart than the window; Kubernetes still says it.
        let backed_off = self.waits_for("CrashLoopBackOff") && self.state.restarts >= CRASHES && self.came_with(t0);
        if self.failed_exit() && (fast || backed_off) && !self.recovered(t) {
            self.looping.get_or_insert(self.first_crash.unwrap_or(t));
        } else if self.recovered(t) {
            self.looping = None;
        }
        let now = Stuck::of(self.state.waiting.as_deref());
        self.stuck = match (now, self.stuck) {
            _ if self.state.ready => None,
            (Some(kind), Some((was, since, _))) if kind == was => Some((kind, since, t)),
            (Some(kind), _) => Some((kind, self.updated, t)),
            // Between two attempts nothing is waiting for a moment.
            (None, Some((kind, since, last))) if t - last < STUCK / 2.0 => Some((kind, since, last)),
            (None, _) => None,
        };
    }

    fn recovered(&self, t: Seconds) -> bool {
        self.ready_at.is_some_and(|at| t - at >= CRASH_RECOVERED)
    }

    pub(super) fn read(&mut self, t: Seconds, counts: &Counts, interval: Seconds) -> Read {
        let mut read = Read::default();
        // Requests are counted on their own, too: errors may be missing from some readings.
        if let Some(requests) = counts.requests {
            read.requests = match self.requests.read(t, requests, 0.0, interval) {
                None => {
                    read.skipped += 1;
                    None
                }
                Some(reading) => placed(reading).map(|(from, tally)| (from, tally.total)),
            };
        }
        match (counts.requests, counts.errors) {
            (Some(requests), Some(errors)) => match self.pair.read(t, requests, errors, interval) {
                None => read.skipped += 1,
                Some(reading) => read.pair = placed(reading),
            },
            (None, Some(_)) => read.skipped += 1,
            (_, None) => {}
        }
        if let Some(buckets) = &counts.latency {
            match self.histogram.read(t, buckets, interval) {
                None => read.skipped += 1,
                Some(reading) => read.latency = placed(reading),
            }
        }
        read
    }

    /// How often it is read, at best.
    pub(super) fn spacing(&self) -> Option<Seconds> {
        self.requests.spacing()
    }

    pub(super) fn drop_pending(&mut self) {
        self.pending = Tally::default();
        self.cold = false;
        self.pending_latency = None;
    }

    /// Counts towards the next tick.
    pub(super) fn add_latency(&mut self, histogram: Histogram) {
        match &mut self.pending_latency {
            Some(pending) => {
                pending.add(&histogram);
            }
            None => self.pending_latency = Some(histogram),
        }
    }
}

/// A reading with the begin of its interval.
fn placed<T>(reading: Reading<T>) -> Option<(Option<Seconds>, T)> {
    match reading {
        Reading::Lifetime(value) => Some((None, value)),
        Reading::Since(from, value) => Some((Some(from), value)),
        Reading::Nothing => None,
    }
}

/// All pods of one workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    pods: BTreeMap<PodId, Pod>,
    next: u32,
}

impl Roster {
    /// Takes a pod's state; `false` when it is late or one too many.
    pub(super) fn update(&mut self, t: Seconds, state: &PodState, t0: Seconds) -> bool {
        if !self.pods.contains_key(&state.pod) && self.pods.len() >= PODS_MAX {
            return false;
        }
        let next = &mut self.next;
        let pod = self.pods.entry(state.pod.clone()).or_insert_with(|| {
            *next += 1;
            Pod::new(*next, t, state)
        });
        if t < pod.updated {
            return false;
        }
        // A StatefulSet's pod keeps its name when it is made anew from another revision.
        let reborn = pod.state.revision != state.revision
            || matches!((pod.state.created, state.created), (Some(old), Some(new)) if new > old + 1.0);
        if reborn {
            self.next += 1;
            *pod = Pod::new(self.next, t, state);
        }
        pod.update(t, state, t0);
        true
    }

    pub(super) fn get_mut(&mut self, id: &PodId) -> Option<&mut Pod> {
        self.pods.get_mut(id)
    }

    pub(super) fn get(&self, id: &PodId) -> Option<&Pod> {
        self.pods.get(id)
    }

    pub(super) fn by_serial(&self, serial: u32) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.serial == serial)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Pod> {
        self.pods.values_mut()
    }

    /// Live pods of a revision.
    pub(super) fn of<'a>(&'a self, revision: &'a Revision) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| pod.live() && pod.state.revision == *revision)
    }

    /// Live pods of any other revision.
    pub(super) fn not_of<'a>(&'a self, revision: &'a Revision) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| pod.live() && pod.state.revision != *revision)
    }

    /// Forgets pods that have been gone for longer than any rule looks back.
    pub(super) fn forget(&mut self, t: Seconds) {
        self.pods.retain(|_, pod| pod.live() || t - pod.updated <= BASELINE);
    }

    /// The same pods for a watch after an undo: counters go on, what waits for a tick does not.
    pub(super) fn carry_over(mut self) -> Self {
        self.drop_pending();
        self
    }

    /// Drops what waits for a tick.
    pub(super) fn drop_pending(&mut self) {
        self.pods.values_mut().for_each(Pod::drop_pending);
    }

    /// The same pods for another trial: its history is fed again, so counters begin anew.
    pub(super) fn start_over(mut self) -> Self {
        for pod in self.pods.values_mut() {
            pod.drop_pending();
            pod.pair = PairCounter::default();
            pod.requests = PairCounter::default();
            pod.histogram = HistogramCounter::default();
            pod.usage = Usage::default();
        }
        self
    }
}
