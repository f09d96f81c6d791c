//! What is known of one workload: its revisions, which were seen good, and what was decided. Pure.
//!
//! The cluster keeps this in ReplicaSets, pins and Incidents; a trace has only names of revisions. The choice of a
//! target and the gates are the daemon's own.

use super::lines::{Action, After, Summary, VerdictLine};
use crate::{
    analysis::succession,
    cluster::{RevisionEntry, TemplateMark},
    domain::{Judgement, Observation, PodId, PodState, Recovery, Revision, Rules, Seconds, Verdict, WorkloadId},
    executor::{Blocked, Gate, Known, PastUndo, Situation, Target, choose, gate},
    record::{Pin, PinState},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One rollout.
struct Rollout {
    from: Revision,
    to: Revision,
    t0: Seconds,
    proven: Seconds,
    /// Known bad by an earlier rollout, and here again.
    again: bool,
    judgement: Option<Judgement>,
    /// Since when the first new pod is Ready.
    watch_from: Option<Seconds>,
    /// The line that was acted on: an undo, or a report.
    acted: Option<VerdictLine>,
    said: Option<(Verdict, Action)>,
    after: Option<After>,
}

/// What the trial of a new rollout takes over, and what it ends.
pub(super) struct Began {
    pub proven: Seconds,
    /// The rollout that it cut short.
    pub ended: Option<Summary>,
}

/// One workload.
pub(super) struct Ledger {
    id: WorkloadId,
    pub replicas: Option<u32>,
    pods: BTreeMap<PodId, (Revision, bool)>,
    /// In the order in which they were first seen.
    revisions: Vec<Revision>,
    pins: Vec<Pin>,
    known_bad: BTreeSet<Revision>,
    current: Option<Rollout>,
}

impl Ledger {
    pub fn new(id: WorkloadId) -> Self {
        Self {
            id,
            replicas: None,
            pods: BTreeMap::new(),
            revisions: Vec::new(),
            pins: Vec::new(),
            known_bad: BTreeSet::new(),
            current: None,
        }
    }

    pub fn pod(&mut self, state: &PodState) {
        if state.deleted {
            self.pods.remove(&state.pod);
        } else {
            self.pods.insert(state.pod.clone(), (state.revision.clone(), state.ready));
        }
    }

    /// Notes since when the first new pod is Ready.
    pub fn measured(&mut self, t: Seconds, what: &Observation) {
        if let (Some(rollout), Observation::Pod(state)) = (&mut self.current, what)
            && state.ready
            && state.revision == rollout.to
        {
            rollout.watch_from.get_or_insert(state.ready_since.unwrap_or(t));
        }
    }

    /// Whether all pods were of `from` and Ready, and as many as there should be, when `to` began. First pods of
    /// `to` may be there already: Kubernetes keeps the time of their creation in whole seconds.
    fn settled(&self, from: &Revision, to: &Revision) -> bool {
        let wanted = self.replicas.map_or(1, |n| n as usize).max(1);
        let before = || self.pods.values().filter(|(of, _)| of != to);
        before().count() >= wanted && before().all(|(of, ready)| of == from && *ready)
    }

    /// The revision that was undone, when the rollout to `to` is that undo.
    pub fn undone_to(&self, to: &Revision) -> Option<Revision> {
        let current = self.current.as_ref()?;
        let acted = current.acted.as_ref().filter(|line| line.action == Action::Undo)?;
        (acted.target.as_ref() == Some(to)).then(|| current.to.clone())
    }

    /// The trace shows the undo that was decided.
    pub fn restored(&mut self) {
        if let Some(current) = &mut self.current {
            current.after = Some(After::default());
        }
    }

    /// A rollout begins: as in the daemon, a revision that was itself unproved sets no standard for the next.
    pub fn begin(&mut self, now: Seconds, from: &Revision, to: &Revision, rules: &Rules) -> Began {
        let settled = self.settled(from, to);
        let on_trial = self.current.as_ref().filter(|rollout| rollout.to == *from && rollout.open());
        let vouched = settled && on_trial.is_none_or(|rollout| rollout.speaks_for_itself(now, rules));
        let proven = match on_trial.filter(|_| !vouched) {
            Some(rollout) => rollout.proven.min(rollout.t0),
            None => now,
        };
        if vouched {
            self.pin(from, PinState::Presumed, now);
        }
        for revision in [from, to] {
            if !self.revisions.contains(revision) {
                self.revisions.push(revision.clone());
            }
        }
        let ended = self.current.take().map(|rollout| rollout.summary(&self.id, true));
        self.current = Some(Rollout {
            from: from.clone(),
            to: to.clone(),
            t0: now,
            proven,
            again: self.known_bad.contains(to),
            judgement: None,
            watch_from: None,
            acted: None,
            said: None,
            after: None,
        });
        Began { proven, ended }
    }

    fn pin(&mut self, revision: &Revision, state: PinState, now: Seconds) {
        // As in the cluster, what is known of a revision in three ways is in three pins.
        if self.pins.iter().any(|pin| pin.mark.revision == *revision && pin.state == state) {
            return;
        }
        let pin = Pin {
            mark: mark(revision),
            state,
            pinned: now,
            number: 0,
            object: revision.0.clone(),
            template: Value::Null,
        };
        // Latest first.
        self.pins.insert(0, pin);
    }

    /// What comes of a judgement: a line when the verdict changed, or when what is done about it did.
    pub fn say(&mut self, judgement: Judgement, rules: &Rules, undos: &[PastUndo]) -> Option<VerdictLine> {
        let t = judgement.t;
        let current = self.current.as_ref().filter(|rollout| rollout.to == judgement.to)?;
        let undone = current.acted.as_ref().is_some_and(|line| line.action == Action::Undo);
        let (mut action, mut target, mut stopped) = (Action::None, None, None);
        if matches!(judgement.verdict, Verdict::Fail(_)) && !undone {
            match self.undo(&judgement, rules, undos) {
                Ok(revision) => (action, target) = (Action::Undo, Some(revision)),
                Err(blocked) => {
                    action = if blocked.gate == Gate::Off { Action::None } else { Action::Report };
                    stopped = Some(format!("{}: {}", blocked.gate, blocked.why));
                }
            }
        }
        if judgement.baseline_good == Some(false) {
            // To presume it good was wrong.
            self.pin(&judgement.from.clone(), PinState::Doubted, t);
        }
        match judgement.verdict {
            Verdict::Pass => self.pin(&judgement.to.clone(), PinState::Passed, t),
            Verdict::Fail(_) if action != Action::None => {
                self.known_bad.insert(judgement.to.clone());
            }
            _ => {}
        }
        let current = self.current.as_mut()?;
        current.judgement = Some(judgement.clone());
        let changed = match current.said {
            Some(said) => said != (judgement.verdict, action) && !(undone && said.0 == judgement.verdict),
            // The first word of a trial is "watching": worth no line.
            None => judgement.verdict != Verdict::Watching,
        };
        if !changed {
            return None;
        }
        current.said = Some((judgement.verdict, action));
        let line = VerdictLine {
            t,
            workload: self.id.clone(),
            from: judgement.from,
            to: judgement.to,
            verdict: judgement.verdict,
            action,
            target,
            gate: stopped,
            log_e: judgement.log_e,
            explanation: judgement.explanation,
        };
        if action != Action::None {
            // A report that is acted on later counts as the act.
            current.acted = Some(line.clone());
        }
        Some(line)
    }

    /// What the daemon's own choice and gates say of an undo now.
    fn undo(&self, judgement: &Judgement, rules: &Rules, undos: &[PastUndo]) -> Result<Revision, Blocked> {
        let entries: Vec<RevisionEntry> = self.revisions.iter().rev().map(entry).collect();
        let known = Known {
            bad: &judgement.to,
            from: Some(&judgement.from),
            from_measured_good: judgement.baseline_good,
            worse_than_from: judgement.worse_than_before,
            entries: &entries,
            pins: &self.pins,
            known_bad: &self.known_bad,
        };
        let target = choose(&known);
        let uid = self.id.to_string();
        gate(&Situation {
            now: judgement.t,
            id: &self.id,
            judged_uid: &uid,
            live_uid: &uid,
            bad: &judgement.to,
            live: &judgement.to,
            leads: true,
            paused: false,
            deleting: false,
            owner: None,
            frozen: None,
            rules,
            response: judgement.response(rules, judgement.t),
            undone_before: self.current.as_ref().is_some_and(|rollout| rollout.again),
            past: undos,
            target: target.as_ref(),
            manual: false,
        })?;
        let nothing = |_| Blocked { gate: Gate::NoTarget, why: "nothing safe is left to go back to".into() };
        target.map(|target: Target| target.mark.revision).map_err(nothing)
    }

    /// What the watch after an undo says, where the trace shows the undo.
    pub fn recovery(&mut self, recovery: &Recovery) {
        let after = self.current.as_mut().and_then(|rollout| rollout.after.as_mut());
        if let Some(after) = after {
            after.recovery = Some(recovery.state);
            after.explanation.clone_from(&recovery.explanation);
        }
    }

    /// The summary of the last rollout, if there was one; it is told once.
    pub fn summary(&mut self) -> Option<Summary> {
        self.current.take().map(|rollout| rollout.summary(&self.id, false))
    }
}

impl Rollout {
    /// Whether nothing final was said.
    fn open(&self) -> bool {
        self.judgement.as_ref().is_none_or(|judgement| judgement.verdict != Verdict::Pass)
    }

    fn speaks_for_itself(&self, now: Seconds, rules: &Rules) -> bool {
        let watched = self.watch_from.map(|from| now - from);
        let first = self.from.0 == "none";
        succession::speaks_for_itself(self.judgement.as_ref(), watched, rules.watch.as_secs_f64(), first)
    }

    fn summary(self, id: &WorkloadId, superseded: bool) -> Summary {
        let last = self.judgement;
        let after = match (&self.acted, self.after, &last) {
            (_, Some(after), _) => Some(after),
            (Some(line), None, Some(last)) if line.action == Action::Undo => {
                Some(After { verdict: Some(last.verdict), recovery: None, explanation: last.explanation.clone() })
            }
            _ => None,
        };
        let of_line =
            |line: VerdictLine| (line.verdict, line.action, Some(line.t), line.target, line.log_e, line.explanation);
        let (verdict, action, t, target, log_e, explanation) = match (self.acted, last) {
            (Some(line), _) => of_line(line),
            (None, Some(last)) => (last.verdict, Action::None, None, None, last.log_e, last.explanation),
            (None, None) => {
                (Verdict::Watching, Action::None, None, None, 0.0, String::from("It was not looked at yet."))
            }
        };
        Summary {
            kind: "summary",
            workload: id.clone(),
            from: self.from,
            to: self.to,
            began: self.t0,
            verdict,
            action,
            t,
            target,
            log_e,
            explanation,
            after,
            superseded,
        }
    }
}

/// A trace names revisions; it has no templates.
fn mark(revision: &Revision) -> TemplateMark {
    TemplateMark { revision: revision.clone(), but_restart: revision.clone(), images: vec![revision.0.clone()] }
}

fn entry(revision: &Revision) -> RevisionEntry {
    RevisionEntry {
        mark: mark(revision),
        number: 0,
        created: 0.0,
        object: revision.0.clone(),
        pod_label: revision.0.clone(),
        change_cause: None,
        template: Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pods_of_the_new_revision_do_not_unsettle_the_one_before() {
        let id = WorkloadId::new("shop", crate::domain::Kind::Deployment, "web");
        let state = |name: &str, revision: &str, ready| PodState {
            ready,
            ..PodState::new(PodId::new("shop", name), id.clone(), revision.into())
        };
        let pinned = |others: &[PodState]| {
            let mut ledger = Ledger::new(id.clone());
            ledger.replicas = Some(2);
            others.iter().chain([&state("a-1", "a", true)]).for_each(|state| ledger.pod(state));
            ledger.begin(600.0, &"a".into(), &"b".into(), &Rules::default());
            ledger.pins.len()
        };
        assert_eq!(pinned(&[state("a-2", "a", true), state("b-1", "b", false)]), 1);
        assert_eq!(pinned(&[state("a-2", "a", false), state("b-1", "b", false)]), 0, "one was not Ready");
        assert_eq!(pinned(&[state("b-1", "b", true)]), 0, "one was missing");
        assert_eq!(pinned(&[state("a-2", "a", true), state("x-1", "x", true)]), 0, "a third revision was there");
    }
}
