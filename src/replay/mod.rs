//! The decision over recorded observations, on a virtual clock. Pure: no IO, no clock.
//!
//! A [`Replay`] is the daemon without a cluster: the same [`Docket`] judges, the same gates and the same choice
//! of a target say whether a conviction would be acted on. Observations come from a trace, from the benchmark's
//! generator or from the history of a Prometheus; the world does not react to an undo, and what follows one is
//! reported as `after`. Fails: nothing here fails; what cannot be used is skipped and counted by the docket.
//!
//! One observation, top to bottom: `mod` runs the ticks that are due and routes it; `past` keeps what was
//! measured lately, for the rollout that may begin; `ledger` knows the revisions of one workload and what an
//! undo of it would go to; `lines` is what comes out; `trace` reads observations from text.

mod ledger;
mod lines;
mod past;
pub mod trace;

pub use lines::{Action, After, LateLine, Line, Summary, VerdictLine};

use crate::{
    analysis::Docket,
    config::{Facts, Thresholds},
    domain::{Judgement, Observation, Observed, Revision, RolloutCondition, Rules, Seconds, Verdict, WorkloadId},
    executor::PastUndo,
};
use ledger::Ledger;
use past::Past;
use std::{collections::BTreeMap, sync::Arc};

/// Seconds between two looks, unless said otherwise.
pub const INTERVAL: Seconds = 5.0;
/// Where a trace tells its own looks, none are made in between, unless so many fail to come.
const LOOKS_MISSED: Seconds = 4.0;
/// A silence longer than this is passed over: no test rises without observations, and every gap drops them.
const LONGEST_SILENCE: Seconds = 3600.0;

/// Observations of the past of a rollout that are taken as its past; what a trace has beyond that comes one by one.
const PAST_MAX: usize = 200_000;

/// A rollout whose past follows.
struct Opening {
    t: Seconds,
    id: WorkloadId,
    from: Revision,
    to: Revision,
    left: usize,
    past: Vec<Observed>,
    /// Whether it is what the replay remembers, and not what the trace says of it.
    remembered: bool,
}

/// The daemon on a virtual clock.
pub struct Replay {
    thresholds: Arc<Thresholds>,
    interval: Seconds,
    docket: Docket,
    past: Past,
    ledgers: BTreeMap<WorkloadId, Ledger>,
    undos: Vec<PastUndo>,
    /// Rollouts that have ended; told at the end.
    ended: Vec<Summary>,
    /// When the next look is due; `None` before the first observation.
    next: Option<Seconds>,
    /// Whether the trace tells its own looks.
    told: bool,
    opening: Option<Opening>,
    /// What could not be used a second time, when a rollout was given the past that the replay remembers itself.
    twice: u64,
}

impl Replay {
    /// A daemon that has seen nothing. `interval` is the time between two looks, in seconds.
    pub fn new(thresholds: Arc<Thresholds>, interval: Seconds) -> Self {
        let interval = if interval.is_finite() && interval > 0.0 { interval } else { INTERVAL };
        Self {
            thresholds,
            interval,
            docket: Docket::with_interval(interval),
            past: Past::default(),
            ledgers: BTreeMap::new(),
            undos: Vec::new(),
            ended: Vec::new(),
            next: None,
            told: false,
            opening: None,
            twice: 0,
        }
    }

    /// Runs the looks that are due before this observation, then takes it. Observations come in order of time;
    /// one that is late is taken as it is.
    pub fn observe(&mut self, observed: &Observed) -> Vec<Line> {
        let t = observed.t;
        if !t.is_finite() {
            return Vec::new();
        }
        if let Some(mut opening) = self.opening.take() {
            opening.past.push(observed.clone());
            opening.left -= 1;
            self.go_on(opening);
            return Vec::new();
        }
        let mut lines = self.run_to(t);
        match &observed.what {
            Observation::Rollout { workload, from, to, past } => {
                if !self.told {
                    // What ends a trial comes after a look.
                    lines.extend(self.tick(t, false));
                }
                let (id, from, to) = (workload.clone(), from.clone(), to.clone());
                let (left, known) = match past {
                    Some(follows) => ((*follows).min(PAST_MAX), Vec::new()),
                    None => (0, self.past.of(workload).collect()),
                };
                let remembered = past.is_none();
                self.go_on(Opening { t, id, from, to, left, past: known, remembered });
            }
            Observation::Look { unheard } => {
                lines.extend(self.tick(t, *unheard));
                self.told = true;
                self.next = Some(t + LOOKS_MISSED * self.interval);
            }
            Observation::Condition { workload, condition: RolloutCondition::Deleted } => {
                self.docket.observe(observed);
                self.finish(workload);
                self.ledgers.remove(workload);
                self.past.forget(workload);
            }
            Observation::Condition { workload, condition: RolloutCondition::WatchEnded } => {
                // What is known of its revisions stays known: a later rollout may begin.
                self.docket.close(workload);
            }
            what => {
                if let Observation::Workload { workload, replicas, .. } = what {
                    self.ledger(workload).replicas = Some(*replicas);
                }
                if let Observation::Pod(state) = what {
                    self.ledger(&state.workload).pod(state);
                }
                if let Some(owner) = self.past.keep(observed)
                    && let Some(ledger) = self.ledgers.get_mut(owner)
                {
                    ledger.measured(t, what);
                }
                self.docket.observe(observed);
            }
        }
        lines
    }

    /// The last looks, then one summary per rollout. `t` is the time of the end.
    pub fn end(&mut self, t: Seconds) -> Vec<Line> {
        if let Some(opening) = self.opening.take() {
            self.go_on(Opening { left: 0, ..opening });
        }
        let mut lines = if t.is_finite() { self.run_to(t) } else { Vec::new() };
        lines.extend(self.tick(self.next.unwrap_or(t).min(t), false));
        let last = self.ledgers.values_mut().filter_map(Ledger::summary);
        let mut summaries: Vec<Summary> = std::mem::take(&mut self.ended).into_iter().chain(last).collect();
        summaries.sort_by(|a, b| a.began.total_cmp(&b.began));
        lines.extend(summaries.into_iter().map(|summary| Line::Summary(Box::new(summary))));
        lines
    }

    /// Observations and values that could not be used.
    pub fn skipped(&self) -> u64 {
        self.docket.skipped().saturating_sub(self.twice)
    }

    /// Pods that are counted and that nothing told of.
    pub fn strangers(&self) -> usize {
        self.docket.strangers()
    }

    fn ledger(&mut self, workload: &WorkloadId) -> &mut Ledger {
        self.ledgers.entry(workload.clone()).or_insert_with(|| Ledger::new(workload.clone()))
    }

    /// All looks that lie before `t`: what was seen at a look's own time belongs to it.
    fn run_to(&mut self, t: Seconds) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut next = *self.next.get_or_insert(t + self.interval);
        if t - next > LONGEST_SILENCE {
            lines.extend(self.tick(next, false));
            next = t - self.interval;
        }
        while next < t {
            lines.extend(self.tick(next, false));
            next += self.interval;
        }
        self.next = Some(next);
        lines
    }

    fn rules(&self, id: &WorkloadId) -> Arc<Rules> {
        let none = BTreeMap::new();
        let facts =
            Facts { namespace: &id.namespace, kind: id.kind, name: &id.name, labels: &none, annotations: &none };
        self.thresholds.rules_for(&facts).rules
    }

    /// Begins a trial once all of its past is there.
    fn go_on(&mut self, opening: Opening) {
        if opening.left > 0 {
            self.opening = Some(opening);
            return;
        }
        let Opening { t, id, from, to, past, remembered, .. } = opening;
        for observed in &past {
            if let Observation::Pod(state) = &observed.what {
                self.ledger(&id).pod(state);
            }
        }
        self.begin(t, &id, &from, &to);
        let skipped = self.docket.skipped();
        self.docket.catch_up(t, &past);
        if remembered {
            self.twice += self.docket.skipped().saturating_sub(skipped);
        }
        let ledger = self.ledger(&id);
        past.iter().for_each(|observed| ledger.measured(observed.t, &observed.what));
    }

    fn begin(&mut self, t: Seconds, id: &WorkloadId, from: &Revision, to: &Revision) {
        let rules = self.rules(id);
        let known = |callee: &WorkloadId| self.ledgers.contains_key(callee);
        let calls: Vec<WorkloadId> = rules.calls.iter().map(|callee| callee.of(id, known)).collect();
        if !calls.is_empty() {
            // A trace that names the callees itself has done so before; what people write now wins.
            let what = Observation::Workload { workload: id.clone(), replicas: 0, calls: Some(calls) };
            self.docket.observe(&Observed { t, what });
        }
        let ledger = self.ledger(id);
        if let Some(bad) = ledger.undone_to(to) {
            // The undo itself, as a recording shows it: its effect is watched, it is not judged afresh.
            ledger.restored();
            self.docket.watch_recovery(t, id.clone(), bad, to.clone(), rules, None);
            return;
        }
        let began = ledger.begin(t, from, to, &rules);
        self.ended.extend(began.ended);
        self.docket.close(id);
        self.docket.open_after(t, began.proven, id.clone(), from.clone(), to.clone(), rules);
    }

    fn finish(&mut self, id: &WorkloadId) {
        self.docket.close(id);
        self.ended.extend(self.ledgers.get_mut(id).and_then(Ledger::summary));
    }

    /// One look. `unheard`: it may not convict.
    fn tick(&mut self, t: Seconds, unheard: bool) -> Vec<Line> {
        self.past.prune(t);
        let mut lines = Vec::new();
        let judged = self.docket.judge(t).into_iter();
        for judgement in judged.filter(|judgement| !unheard || !matches!(judgement.verdict, Verdict::Fail(_))) {
            lines.extend(self.say(judgement));
        }
        lines.extend(self.docket.look_late(t).into_iter().map(|seen| Line::Late(Box::new(seen.into()))));
        for recovery in self.docket.recoveries(t) {
            if let Some(ledger) = self.ledgers.get_mut(&recovery.workload) {
                ledger.recovery(&recovery);
            }
        }
        lines
    }

    fn say(&mut self, judgement: Judgement) -> Option<Line> {
        let id = judgement.workload.clone();
        let rules = self.rules(&id);
        let ledger = self.ledgers.get_mut(&id)?;
        let line = ledger.say(judgement, &rules, &self.undos)?;
        match (line.action, line.verdict) {
            (Action::Undo, _) => self.undos.push(PastUndo {
                uid: id.to_string(),
                namespace: id.namespace.clone(),
                t: line.t,
                manual: false,
            }),
            (_, Verdict::Pass) => self.docket.passed(&id),
            _ => {}
        }
        Some(Line::Verdict(Box::new(line)))
    }
}

#[cfg(test)]
mod tests;
