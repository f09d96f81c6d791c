//! What becomes of a rollout after it has passed, until a day after it began (decision.md 2.6). Pure.
//!
//! The same test as in a trial, on what is remembered of the workload as a peer: so it costs no pods and no latency,
//! and it does not matter how seldom the past is read, only that it is. It never convicts. Whoever passed is known
//! good; the old pods are long gone, and what breaks hours later (a dependency, data, load, a leak) is rarely what was
//! rolled out: to undo it would be a guess. So it is told, with since when, and with who else broke in those minutes.

use super::{
    arm::Share,
    counter::Tally,
    evidence::Evidence,
    explain::{duration, percent, plural, share},
    peers::Peers,
    series::Series,
    tuning::*,
};
use crate::domain::{LateWatch, Revision, Rules, Seconds, WorkloadId};
use std::{collections::BTreeMap, sync::Arc};

/// When the next look is after `t`. Everybody looks in the same moments: one set of queries does for all.
pub fn next_late_look(t: Seconds) -> Seconds {
    ((t / LATE_EVERY).floor() + 1.0) * LATE_EVERY
}

/// One rollout that has passed.
#[derive(Debug, Clone)]
pub(super) struct Late {
    revision: Revision,
    rules: Arc<Rules>,
    t0: Seconds,
    passed: Seconds,
    until: Seconds,
    evidence: Evidence,
    /// Up to when the test has seen everything.
    stepped: Seconds,
    /// Since when it is broken, and what was counted since then.
    broken: Option<(Seconds, Tally)>,
    /// What was counted since it passed, or since it last kept its limit again.
    kept: Tally,
    recovered: bool,
}

impl Late {
    /// Of a rollout that began at `t0` and passed at `passed`; `None` when its day is over.
    pub(super) fn new((t0, passed): (Seconds, Seconds), revision: Revision, rules: Arc<Rules>) -> Option<Self> {
        let length = rules.late_watch.as_secs_f64();
        let until = t0 + length;
        (passed < until).then(|| Self {
            revision,
            // Nothing above the user's own limit passes, so that is the limit, whatever the trial's was.
            evidence: Evidence::new(rules.errors.max, ERROR_PACE, length),
            rules,
            t0,
            passed,
            until,
            stepped: passed,
            broken: None,
            kept: Tally::default(),
            recovered: false,
        })
    }

    /// Since when it is broken, if it is.
    fn broken(&self) -> Option<Seconds> {
        self.broken.map(|(since, _)| since)
    }

    /// Takes what was counted since the last look, bin by bin; the newest one waits until it is over.
    fn look(&mut self, t: Seconds, seen: &Series) {
        for (begin, tally) in seen.within(self.stepped, t - PEER_BIN) {
            let end = begin + PEER_BIN;
            let rise = (end - self.stepped).clamp(PEER_BIN, LATE_EVERY);
            let share = Share { pod: 0, new: true, unproved: false, warm: true, ready: None, tally };
            self.evidence.step(self.stepped, end, rise, &[share], 1.0);
            self.stepped = end;
            if self.broken.is_some() && !self.evidence.fired() {
                (self.kept, self.recovered) = (Tally::default(), true);
            }
            self.kept += tally;
            self.broken = match (self.evidence.fired(), self.broken) {
                (false, _) => None,
                (true, None) => self.evidence.onset().map(|onset| (onset.t, onset.new)),
                (true, Some((since, mut counted))) => {
                    counted += tally;
                    Some((since, counted))
                }
            };
        }
    }

    /// What is said of it at `t`; `others`: who else of those that passed broke in the same minutes, and of how many.
    fn say(&self, t: Seconds, workload: &WorkloadId, others: (usize, usize)) -> LateWatch {
        let limit = self.rules.errors.max;
        let explanation = match self.broken {
            Some((since, counted)) => broke(counted, since - self.passed, limit, others),
            None => {
                let since = if self.recovered { " since it keeps its limit again" } else { " since" };
                keeps((self.kept, since), t - self.passed, limit, self.until - t)
            }
        };
        LateWatch {
            t,
            workload: workload.clone(),
            revision: self.revision.clone(),
            passed: self.passed,
            until: self.until,
            broken: self.broken(),
            explanation,
        }
    }
}

/// All rollouts that have passed and whose day is not over.
#[derive(Debug, Clone, Default)]
pub(super) struct Lates {
    all: BTreeMap<WorkloadId, Late>,
}

impl Lates {
    pub(super) fn add(&mut self, workload: WorkloadId, late: Option<Late>) {
        if let Some(late) = late {
            self.all.insert(workload, late);
        }
    }

    pub(super) fn remove(&mut self, workload: &WorkloadId) {
        self.all.remove(workload);
    }

    /// Other rules hold for a workload: what is remembered of it is tested anew where they change anything.
    pub(super) fn refresh(&mut self, workload: &WorkloadId, rules: &Arc<Rules>) {
        let Some(late) = self.all.get(workload) else { return };
        let limits = |rules: &Rules| (rules.errors.max, rules.late_watch);
        if limits(rules) != limits(&late.rules) {
            let anew = Late::new((late.t0, late.passed), late.revision.clone(), rules.clone());
            self.all.remove(workload);
            self.add(workload.clone(), anew);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &WorkloadId> {
        self.all.keys()
    }

    /// How far apart two readings of a workload without a trial may be.
    pub(super) fn interval(&self, workload: &WorkloadId, usual: Seconds) -> Seconds {
        if self.all.contains_key(workload) { usual.max(LATE_EVERY) } else { usual }
    }

    /// Looks at all of them; tells whom something new is to be said of.
    pub(super) fn look(&mut self, t: Seconds, peers: &Peers) -> Vec<LateWatch> {
        self.all.retain(|_, late| t < late.until);
        let mut changed = Vec::new();
        for (id, late) in &mut self.all {
            let before = late.broken().is_some();
            if let Some(peer) = peers.get(id) {
                late.look(t, peer.failures());
            }
            if late.broken().is_some() != before {
                changed.push(id.clone());
            }
        }
        changed.iter().filter_map(|id| self.say(id, t)).collect()
    }

    /// What is seen of one.
    pub(super) fn say(&self, workload: &WorkloadId, t: Seconds) -> Option<LateWatch> {
        let late = self.all.get(workload)?;
        let others = || self.all.iter().filter(|(id, _)| *id != workload).map(|(_, other)| other.broken());
        let with_it = |since: Seconds| late.broken().is_some_and(|own| (since - own).abs() <= PEER_ONSET);
        let broke = others().filter(|since| since.is_some_and(with_it)).count();
        Some(late.say(t, workload, (broke, others().count())))
    }
}

/// A rollout that passed and is fine.
fn keeps((seen, since): (Tally, &str), ago: Seconds, limit: f64, left: Seconds) -> String {
    let seen = match share(seen) {
        Some(seen) => format!("{seen} requests failed{since} (limit {})", percent(limit)),
        None => format!("nothing was measured{since}"),
    };
    format!("It passed {} ago; {seen}. It is looked at every 5 min for {} more.", duration(ago), duration(left))
}

/// A rollout that passed and broke `after` that; `others`: who else of those that passed broke then, and of how many.
fn broke(seen: Tally, after: Seconds, limit: f64, others: (usize, usize)) -> String {
    let seen = share(seen).unwrap_or_else(|| "None".to_owned());
    let others = match others {
        (_, 0) => String::new(),
        (broke, of) => {
            format!(" {broke} of {} that passed lately broke in the same minutes.", plural(of, "other workload"))
        }
    };
    format!(
        "It passed, and broke {} after that: {seen} requests have failed since (limit {}). Nothing is undone: it had \
         proved itself, and what breaks so late is rarely the rollout.{others}",
        duration(after),
        percent(limit)
    )
}
