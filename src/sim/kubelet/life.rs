//! The life of one pod. Pure: it is told the time and says what it became.

use super::super::{
    address::Addresses,
    behaviour::{BOUNDS, Behaviour, End, Start},
    object::{after, between, number},
    random::Random,
    resource::Key,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr};

/// Seconds of `ErrImagePull` before the back-off begins.
const PULL: f64 = 2.0;
/// The kubelet's back-off: it begins here, doubles, and ends there.
const BACK_OFF: f64 = 10.0;
const BACK_OFF_MAX: f64 = 300.0;
/// What the kubelet needs to see an end and start anew.
const AT_ONCE: f64 = 0.5;
/// A container that ran for this long starts afresh with its back-off.
const BACK_OFF_FORGOTTEN: f64 = 600.0;
/// Deadline of a pod that does not say.
const GRACE: i64 = 30;

/// What the container does now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Its image is pulled, its container made.
    Creating,
    /// Its image cannot be pulled; `true`: it waits before the next try.
    Pulling(bool),
    /// It cannot be made from what it names.
    Misconfigured,
    /// It runs since then.
    Running(Timestamp),
    /// It ended; a restart is due. `true`: after a back-off.
    Ended(bool),
    /// It ended and is not started again.
    Over,
}

/// How a container ended, and when it ran.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    pub end: End,
    pub started: Timestamp,
    pub finished: Timestamp,
}

/// What a container has answered since its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// Requests by status code.
    pub codes: BTreeMap<u16, u64>,
    /// Answers by latency; not cumulative, the last one is `+Inf`.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Seconds in all.
    pub seconds: f64,
}

/// One pod as its kubelet sees it.
#[derive(Debug, Clone)]
pub struct Life {
    /// Which pod.
    pub key: Key,
    /// Its node.
    pub node: String,
    /// Image of its first container.
    pub image: String,
    /// What that does.
    pub behaviour: Behaviour,
    /// What it answered.
    pub served: Served,
    pub(super) stage: Stage,
    pub(super) ready: bool,
    pub(super) restarts: u32,
    pub(super) last: Option<Ended>,
    /// Failures in a row.
    failures: u32,
    pub(super) admitted: Timestamp,
    address: Option<SocketAddr>,
    port: u16,
    restartable: bool,
    /// When the stage ends by itself.
    until: Option<Timestamp>,
    /// When a container that runs becomes Ready.
    ready_at: Option<Timestamp>,
    leaves: Option<Timestamp>,
    /// Its status was never written.
    fresh: bool,
}

impl Life {
    pub(super) fn new(
        key: Key,
        pod: &Value,
        node: String,
        image: String,
        behaviour: Behaviour,
        now: Timestamp,
    ) -> Self {
        let port = number(pod, "/spec/containers/0/ports/0/containerPort").and_then(|port| u16::try_from(port).ok());
        let policy = super::text(pod, "/spec/restartPolicy");
        Self {
            until: Some(after(now, behaviour.starts_in)),
            key,
            node,
            image,
            behaviour,
            served: Served::default(),
            stage: Stage::Creating,
            ready: false,
            restarts: 0,
            last: None,
            failures: 0,
            admitted: now,
            address: None,
            port: port.unwrap_or(8080),
            restartable: policy != "Never",
            ready_at: None,
            leaves: None,
            fresh: true,
        }
    }

    /// Where it listens, once it has an address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether somebody answers at its address.
    pub fn serves(&self) -> bool {
        matches!(self.stage, Stage::Running(_)) && !self.behaviour.refuses
    }

    /// Whether its readiness probe passes.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Seconds since the container started; 0 when it does not run.
    pub fn age(&self, now: Timestamp) -> f64 {
        match self.stage {
            Stage::Running(since) => between(since, now),
            _ => 0.0,
        }
    }

    /// Counts requests: of `n`, each fails with chance `errors`.
    pub fn serve(&mut self, n: u64, errors: f64, random: &mut Random) -> (u64, u64) {
        let failed = random.binomial(n, errors);
        let buckets = self.behaviour.latency.spread(n, random);
        for (sum, more) in self.served.buckets.iter_mut().zip(buckets) {
            *sum += more;
        }
        self.served.seconds += n as f64 * self.behaviour.latency.mean();
        for (code, count) in [(200, n - failed), (500, failed)] {
            if count > 0 {
                *self.served.codes.entry(code).or_default() += count;
            }
        }
        (n - failed, failed)
    }

    pub(super) fn leave(&mut self, now: Timestamp, grace: Option<i64>) {
        let grace = grace.unwrap_or(GRACE).max(0) as f64;
        let takes = if matches!(self.stage, Stage::Running(_)) { self.behaviour.stops_in.min(grace) } else { 0.0 };
        let at = after(now, takes);
        // Whoever asks again with a shorter grace is heard.
        self.leaves = Some(self.leaves.map_or(at, |before| before.min(at)));
    }

    pub(super) fn change(&mut self, behaviour: Behaviour, now: Timestamp) {
        let memory_or_crash = behaviour.end();
        self.behaviour = behaviour;
        if let Stage::Running(since) = self.stage {
            self.until = memory_or_crash.map(|(age, _)| after(since, age).max(now));
            self.ready_at =
                if self.ready { None } else { self.behaviour.ready_after.map(|t| after(since, t).max(now)) };
        }
    }

    pub(super) fn kill(&mut self, now: Timestamp) -> bool {
        let running = matches!(self.stage, Stage::Running(_));
        if running {
            self.end(now, End { code: 137, reason: "Error" });
            self.fresh = true;
        }
        running
    }

    /// When it changes next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.fresh {
            return Some(Timestamp::MIN);
        }
        [self.until, self.ready_at, self.leaves].into_iter().flatten().min()
    }

    /// Goes on to `now`, one change at a time; `true`: it is gone.
    pub(super) fn advance(&mut self, now: Timestamp, addresses: &mut Addresses) -> bool {
        if std::mem::take(&mut self.fresh) {
            return false;
        }
        if self.leaves.is_some_and(|at| at <= now) {
            return true;
        }
        if self.ready_at.is_some_and(|at| at <= now) && self.until.is_none_or(|end| self.ready_at < Some(end)) {
            (self.ready, self.ready_at) = (true, None);
            return false;
        }
        if self.until.is_some_and(|at| at <= now) {
            self.next_stage(now, addresses);
        }
        false
    }

    fn next_stage(&mut self, now: Timestamp, addresses: &mut Addresses) {
        self.until = None;
        match (&self.stage, self.behaviour.start) {
            (Stage::Creating | Stage::Pulling(true), Start::PullError) => {
                self.stage = Stage::Pulling(false);
                self.until = Some(after(now, PULL));
            }
            (Stage::Pulling(false), Start::PullError) => {
                self.failures = self.failures.max(1) + 1;
                self.stage = Stage::Pulling(true);
                self.until = Some(after(now, self.back_off()));
            }
            (Stage::Creating | Stage::Pulling(_) | Stage::Misconfigured, Start::ConfigError) => {
                self.stage = Stage::Misconfigured;
            }
            (Stage::Running(_), _) => {
                let end = self.behaviour.end().map_or(End { code: 0, reason: "Completed" }, |(_, end)| end);
                self.end(now, end);
            }
            (Stage::Ended(_), _) => {
                self.restarts += 1;
                self.run(now);
            }
            (Stage::Over, _) => {}
            (Stage::Creating | Stage::Pulling(_) | Stage::Misconfigured, _) => {
                self.address = self.address.or_else(|| addresses.give(self.port));
                match self.address {
                    Some(_) => self.run(now),
                    // No address now: tried again, as a sandbox that cannot be made.
                    None => self.until = Some(after(now, 1.0)),
                }
            }
        }
    }

    fn run(&mut self, now: Timestamp) {
        self.stage = Stage::Running(now);
        // A process begins to count anew.
        self.served = Served::default();
        self.until = self.behaviour.end().map(|(age, _)| after(now, age));
        self.ready_at = self.behaviour.ready_after.map(|t| after(now, t));
    }

    fn end(&mut self, now: Timestamp, end: End) {
        let Stage::Running(started) = self.stage else { return };
        self.last = Some(Ended { end, started, finished: now });
        (self.ready, self.ready_at) = (false, None);
        if !self.restartable {
            self.stage = Stage::Over;
            return;
        }
        if between(started, now) >= BACK_OFF_FORGOTTEN {
            self.failures = 0;
        }
        self.failures += 1;
        // The first restart comes at once.
        let backs_off = self.failures > 1;
        self.stage = Stage::Ended(backs_off);
        self.until = Some(after(now, if backs_off { self.back_off() } else { AT_ONCE }));
    }

    /// Seconds to wait after the failures in a row so far, for whom the first one is free.
    pub(super) fn back_off(&self) -> f64 {
        let doublings = i32::try_from(self.failures.saturating_sub(2)).unwrap_or(i32::MAX).min(30);
        (BACK_OFF * 2.0_f64.powi(doublings)).min(BACK_OFF_MAX)
    }
}
