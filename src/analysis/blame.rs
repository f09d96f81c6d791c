//! From what each trial says to what is held against it (decision.md 2.5: gates 2, 3, 7). Pure.
//!
//! Everybody is heard before anybody is blamed, so the order of trials does not matter. Of several
//! rollouts that hang together only one is undone at a time, the deepest callee first; the others wait, and
//! are measured again afterwards.

use super::{
    draft::{Case, Conviction, Draft, Opinion},
    explain,
    gates::Gate,
    scene::{Compared, Ruling, Scene, Stance},
    trial::Trial,
    tuning::*,
};
use crate::domain::{FailReason, HoldReason, Seconds, WorkloadId};

/// Holds each draft against all others and against the peers.
pub(super) fn attribute(trials: &mut [(&mut Trial, Draft)], scene: &Scene<'_>) {
    for (trial, draft) in trials.iter_mut() {
        one(trial, draft, scene);
    }
    choose(trials, scene);
    brake(trials, scene);
    for (trial, draft) in trials.iter_mut() {
        trial.convicted = draft.conviction().map(|_| trial.convicted.unwrap_or(scene.t));
    }
    for (trial, draft) in trials.iter_mut() {
        trial.wait_for(draft.blamed.clone(), scene.t);
    }
}

/// Gates 2 and 3 for one trial.
fn one(trial: &Trial, draft: &mut Draft, scene: &Scene<'_>) {
    let mut blamed = None;
    let mut compared = Compared::default();
    let mut rule = |case: &Case| {
        let Ruling { gate, compared: asked, blamed: instead } = scene.rule(&trial.workload, &trial.rules, case);
        compared = asked.clone();
        // Its own old pods convict it; that somebody else does not get undone is no reason to wait for ever.
        let impatient = case.strong && trial.waited(scene.t) >= PATIENCE;
        match gate {
            Gate::Hold(HoldReason::Dependency, _) if impatient => (Gate::Open, asked),
            gate => {
                if matches!(gate, Gate::Hold(..)) && blamed.is_none() {
                    blamed = instead;
                }
                (gate, asked)
            }
        }
    };
    for said in draft.streams_mut() {
        let (Opinion::Fail(_), Some(case)) = (&said.opinion, said.case.clone()) else { continue };
        let (gate, asked) = rule(&case);
        let gate = match gate {
            Gate::Open if case.needs_peers && asked.told < PEERS_LEAST => Gate::Hold(
                HoldReason::Unattributed,
                "nothing tells old pods from new ones in that, and there are too few peers to rule out the cluster"
                    .to_owned(),
            ),
            gate => gate,
        };
        said.opinion = match gate {
            Gate::Open => Opinion::Fail(explain::convicted(&case, &asked)),
            Gate::Wait(_) if trial.standing.contains(&case.reason) => Opinion::Fail(explain::convicted(&case, &asked)),
            Gate::Wait(why) => Opinion::Wait(format!("{}, but {why}.", case.sentence)),
            Gate::Hold(reason, why) => Opinion::Hold(reason, format!("{}, but {why}.", case.sentence)),
        };
    }
    for answer in draft.answers.iter_mut().filter(|answer| answer.fails && answer.hold.is_none()) {
        let Some(onset) = answer.since else { continue };
        let case = Case {
            reason: FailReason::Health,
            onset,
            earliest: onset,
            shift: 1.0,
            strong: answer.old_passes,
            split: 0.0,
            compared: answer.old_passes,
            node: None,
            needs_peers: false,
            seconded: false,
            sentence: String::new(),
        };
        if let (Gate::Hold(reason, why), _) = rule(&case) {
            answer.hold = Some(reason);
            answer.but = format!(", but {why}.");
        }
    }
    draft.blamed = blamed;
    draft.compared = compared;
}

/// Gate 7: of several convicted rollouts that hang together, one.
fn choose(trials: &mut [(&mut Trial, Draft)], scene: &Scene<'_>) {
    let convicted: Vec<(WorkloadId, Seconds, Conviction)> = trials
        .iter()
        .filter_map(|(trial, draft)| {
            Some((
                trial.workload.clone(),
                trial.t0,
                Conviction { standing: trial.decided.is_some(), ..draft.conviction()? },
            ))
        })
        .collect();
    if convicted.len() < 2 {
        return;
    }
    for (trial, draft) in trials.iter_mut() {
        let Some(mine) = draft.conviction() else { continue };
        let mine = Conviction { standing: trial.decided.is_some(), ..mine };
        let me = (trial.workload.clone(), trial.t0, mine);
        let patient = trial.waited(scene.t) < PATIENCE;
        let Some(first) = convicted.iter().find(|other| other.0 != me.0 && before(other, &me, scene)) else {
            continue;
        };
        if patient || !mine.strong {
            let below = scene.graph.callees(&me.0).contains(&&first.0);
            yield_to(draft, &first.0, below);
        }
    }
}

/// The breaker of gate 7: three rollouts were convicted within ten minutes, and here is one more. What they
/// have in common is no longer one rollout's doing, and a person must look: it is not let go by time.
fn brake(trials: &mut [(&mut Trial, Draft)], scene: &Scene<'_>) {
    let recent = |t: Seconds| (scene.t - t).abs() <= BREAKER_WINDOW;
    let undone = scene.recoveries.values().filter(|recovery| recent(recovery.began())).count();
    let mut count = undone + trials.iter().filter(|(trial, _)| trial.decided.is_some_and(recent)).count();
    let why = format!(
        "{BREAKER} rollouts were convicted within ten minutes before this one, which looks like something that they share"
    );
    for (trial, draft) in trials.iter_mut() {
        if draft.conviction().is_none() {
            trial.braked = false;
        } else if trial.decided.is_none() {
            if trial.braked || count >= BREAKER {
                trial.braked = true;
                hold(draft, HoldReason::ClusterWide, &why);
            } else {
                trial.decided = Some(scene.t);
                count += 1;
            }
        }
    }
}

/// Whether `other` is undone before `me`: below it in the service graph; in a circle, or in one namespace
/// without a graph, by score, and the more recent one when that does not tell.
fn before(
    other: &(WorkloadId, Seconds, Conviction),
    me: &(WorkloadId, Seconds, Conviction),
    scene: &Scene<'_>,
) -> bool {
    let below = |a: &WorkloadId, b: &WorkloadId| scene.graph.callees(b).contains(&a);
    if scene.graph.is_empty() {
        // Those that their own old pods, or their own crashes, convict need nobody to explain them.
        let loose = |c: &Conviction| !c.strong;
        return other.0.namespace == me.0.namespace && loose(&me.2) && leads(other, me);
    }
    match (below(&other.0, &me.0), below(&me.0, &other.0)) {
        (true, false) => true,
        (true, true) => leads(other, me),
        _ => false,
    }
}

/// Whether `a` is to be blamed rather than `b`: by three nats, else the one that was rolled out last.
/// Who was convicted before is not let go again because another one looks worse now.
fn leads(a: &(WorkloadId, Seconds, Conviction), b: &(WorkloadId, Seconds, Conviction)) -> bool {
    if a.2.standing != b.2.standing {
        return a.2.standing;
    }
    let score = |c: &(WorkloadId, Seconds, Conviction)| {
        let age = c.2.since.map_or(0.0, |since| (since - c.1).max(0.0));
        c.2.split - age / START_HALF_LIFE * std::f64::consts::LN_2
    };
    let lead = score(a) - score(b);
    if lead.abs() >= BLAME_LEAD { lead > 0.0 } else { (a.1, &a.0) > (b.1, &b.0) }
}

/// Holds what convicts until another rollout is undone.
fn yield_to(draft: &mut Draft, first: &WorkloadId, below: bool) {
    // Not "is undone first": whether that one may be undone is not known here.
    let which = if below { "which it calls, fails as well and" } else { "which fails as well," };
    let why = format!("{first}, {which} comes first; once that is undone, this is measured again");
    hold(draft, HoldReason::Dependency, &why);
    draft.blamed = Some(first.clone());
}

/// Holds everything that convicts.
fn hold(draft: &mut Draft, reason: HoldReason, why: &str) {
    if let Some(fact) = draft.fact.as_mut().filter(|fact| fact.hold.is_none()) {
        fact.hold = Some(reason);
        fact.explanation.push_str(&format!(", but {why}."));
    }
    for answer in draft.answers.iter_mut().filter(|answer| answer.fails && answer.hold.is_none()) {
        answer.hold = Some(reason);
        answer.but = format!(", but {why}.");
    }
    for said in draft.streams_mut() {
        let (Opinion::Fail(_), Some(case)) = (&said.opinion, &said.case) else { continue };
        let text = format!("{}, but {why}.", case.sentence);
        said.opinion = Opinion::Hold(reason, text);
    }
}

/// How each trial looks to the others.
pub(super) fn stances(trials: &[(&mut Trial, Draft)]) -> Vec<Stance> {
    trials.iter().map(|(trial, draft)| draft.stance(trial)).collect()
}

impl Trial {
    /// Takes note of who is blamed instead.
    pub(super) fn wait_for(&mut self, blamed: Option<WorkloadId>, t: Seconds) {
        if let Some(blamed) = blamed
            && self.waiting.as_ref().is_none_or(|(id, _)| *id != blamed)
        {
            self.waiting = Some((blamed, t));
        }
    }

    /// How long it has waited for another rollout's undo.
    pub(super) fn waited(&self, t: Seconds) -> Seconds {
        self.waiting.as_ref().map_or(0.0, |(_, since)| t - since)
    }

    /// Who it is waiting for.
    pub(super) fn waits_for(&self) -> Option<&WorkloadId> {
        self.waiting.as_ref().map(|(id, _)| id)
    }

    /// Measures again from now on: what was counted while another rollout was broken says nothing of this
    /// one. Each time is one more chance of a false alarm, and there are as many as there are undos.
    pub(super) fn measure_again(&mut self) {
        let watch = self.rules.watch.as_secs_f64();
        (self.waiting, self.convicted, self.decided, self.braked) = (None, None, None, false);
        self.standing.clear();
        if let Some(errors) = &mut self.errors {
            errors.anew(watch);
        }
        self.latency.anew(watch);
        self.callers.anew();
    }
}
