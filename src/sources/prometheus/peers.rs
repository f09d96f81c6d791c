//! Workloads without a trial, read while the evidence against somebody rises (decision.md 2.5.2): requests and
//! failures, and while it is slowness that rises, the latency of the nearest of them; as one total per workload.
//!
//! Who was read a moment ago is asked for now, who was read a while ago for the time since, everybody else for the past:
//! so "before" is known from the first answer on, what a failed read has missed comes with the next one, and who passed
//! can be looked at seldom. That makes one set of queries at a tick, two when somebody is new. Fails: a part that fails
//! brings nothing; its workloads are no witnesses then.

use super::{
    Prometheus, When, edges,
    join::{Joined, Targets},
    plan::{Part, Plan},
};
use crate::{
    domain::{Observed, Seconds, TrialTarget, WorkloadId},
    sources::{PeerQuestion, PeerRead, SourceError, totals::Totals},
};
use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

/// How far back: half an hour before the minutes in which a peer may have broken.
const PAST: Seconds = 2100.0;
/// Who was read no longer ago than this needs no past.
const LATELY: Seconds = 75.0;
/// Distance of two points of the past: of counts, and of histograms, which are many counters each.
const STEP: Duration = Duration::from_secs(15);
const LATENCY_STEP: Duration = Duration::from_secs(30);

/// What is known of one signal of peers.
#[derive(Debug, Default)]
pub(super) struct Lately {
    totals: Totals,
    /// Up to when each was read.
    until: BTreeMap<WorkloadId, Seconds>,
}

/// Who is asked for the present, who for the time since `from`, and who for the past.
struct Split {
    lately: Vec<TrialTarget>,
    missed: Vec<TrialTarget>,
    unknown: Vec<TrialTarget>,
    from: Seconds,
}

impl Lately {
    fn split(&mut self, peers: &[TrialTarget], now: Seconds) -> Split {
        self.until.retain(|_, until| now - *until < PAST);
        let mut split = Split { lately: Vec::new(), missed: Vec::new(), unknown: Vec::new(), from: now };
        for peer in peers {
            match self.until.get(&peer.workload) {
                Some(until) if now - until <= LATELY => split.lately.push(peer.clone()),
                Some(until) => {
                    split.from = split.from.min(until + 1.0);
                    split.missed.push(peer.clone());
                }
                None => split.unknown.push(peer.clone()),
            }
        }
        split
    }
}

impl Prometheus {
    /// Reads the totals of peers; when one of them is new, also who calls whom among all, where a mesh says so.
    pub(super) async fn read_peers(&self, question: &PeerQuestion) -> PeerRead {
        let PeerQuestion { trials, peers, slow } = question;
        // Whole seconds: the range query and the observations mean the same moment.
        let now = self.clock.now().floor();
        let counts = self.lately(Part::Counts).split(peers, now);
        let latency = self.lately(Part::Latency).split(&peers[..peers.len().min(*slow)], now);
        let mesh = async {
            match counts.unknown.is_empty() {
                true => Ok(Vec::new()),
                false => self.edges(trials, peers, now).await,
            }
        };
        let (counted, timed, calls) =
            tokio::join!(self.signal(Part::Counts, &counts, now), self.signal(Part::Latency, &latency, now), mesh);
        let mut read = PeerRead::default();
        let mut failed = Vec::new();
        for part in counted.into_iter().chain(timed) {
            match part {
                Ok(observed) => read.observed.extend(observed),
                Err(error) => failed.push(error.to_string()),
            }
        }
        match calls {
            Ok(calls) => read.calls = calls,
            Err(error) => failed.push(format!("who calls whom: {error}")),
        }
        read.failed = (!failed.is_empty()).then(|| failed.join("; "));
        read
    }

    fn lately(&self, part: Part) -> std::sync::MutexGuard<'_, Lately> {
        let known = if part == Part::Latency { &self.peers_latency } else { &self.peers };
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn signal(&self, part: Part, split: &Split, now: Seconds) -> [Result<Vec<Observed>, SourceError>; 3] {
        let step = if part == Part::Latency { LATENCY_STEP } else { STEP };
        let read = async |peers, when| self.part(part, peers, when, now).await;
        let (present, since, past) = tokio::join!(
            read(&split.lately, When::At(now)),
            read(&split.missed, When::Range(split.from, now, step)),
            read(&split.unknown, When::Range(now - PAST, now, step)),
        );
        [present, since, past]
    }

    /// Reads one signal of some of them, all or nothing.
    async fn part(
        &self,
        part: Part,
        peers: &[TrialTarget],
        when: When,
        now: Seconds,
    ) -> Result<Vec<Observed>, SourceError> {
        let plan = Plan::of_peers(peers, part);
        let targets = Targets::of_peers(peers);
        let mut joined = Joined::default();
        for (ask, answer) in plan.asks.iter().zip(self.ask_all(&plan.asks, when).await) {
            let at = match when {
                When::At(t) => Some(t),
                When::Range(..) => None,
            };
            joined.add(&targets, &plan.groups[ask.group], ask.part, &answer?, at);
        }
        self.malformed.fetch_add(joined.malformed, Ordering::Relaxed);
        let mut known = self.lately(part);
        known.until.extend(peers.iter().map(|peer| (peer.workload.clone(), now)));
        known.totals.forget(now);
        Ok(joined.totals(&targets, &mut known.totals))
    }

    async fn edges(
        &self,
        trials: &[TrialTarget],
        peers: &[TrialTarget],
        now: Seconds,
    ) -> Result<Vec<(WorkloadId, Vec<WorkloadId>)>, SourceError> {
        let all: Vec<TrialTarget> = trials.iter().chain(peers).cloned().collect();
        let mut answers = Vec::new();
        for (mesh, expression) in edges::expressions(&all) {
            answers.push((mesh, self.connection.instant(&expression, now).await?));
        }
        Ok(edges::read(&all, &answers))
    }
}

#[cfg(test)]
mod tests;
