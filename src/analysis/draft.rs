//! What one rollout's own observations say, before anybody else is heard. Pure.

use super::{
    bounds,
    counter::Tally,
    evidence::Evidence,
    explain,
    facts::{Common, Fact},
    gates::{self, Gate, Surroundings},
    health::Answer,
    roster::Pod,
    scene::{Compared, Stance},
    series::Series,
    trial::Trial,
    tuning::*,
};
use crate::domain::{FailReason, HoldReason, Seconds, WorkloadId};

/// What one stream of one family says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Opinion {
    /// Nothing measured, or nothing to compare with.
    Silent,
    /// The evidence speaks for it.
    Clean,
    /// Neither way yet.
    Open,
    /// The evidence convicts; a gate is not settled.
    Wait(String),
    Hold(HoldReason, String),
    Fail(String),
}

/// What the other workloads must know of a signal that convicts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) reason: FailReason,
    pub(super) onset: Seconds,
    /// When it may have begun.
    pub(super) earliest: Seconds,
    /// By how much the share of bad requests rose.
    pub(super) shift: f64,
    /// Old pods with real traffic tell it apart from the hour that they live in, too.
    pub(super) strong: bool,
    /// Evidence of the split between old and new pods.
    pub(super) split: f64,
    /// Whether old pods served enough to compare with.
    pub(super) compared: bool,
    /// The node that has nearly all that is bad.
    pub(super) node: Option<String>,
    /// Whether it says nothing of this rollout unless peers are calm: old and new pods are mixed in it.
    pub(super) needs_peers: bool,
    /// Whether a second signal makes up for half of the evidence.
    pub(super) seconded: bool,
    /// What was seen, without a final stop.
    pub(super) sentence: String,
}

/// An [`Opinion`] with when the harm began.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) opinion: Opinion,
    pub(super) since: Option<Seconds>,
    pub(super) case: Option<Case>,
}

impl Said {
    fn plain(opinion: Opinion) -> Self {
        Self { opinion, since: None, case: None }
    }
}

/// All that one trial says at one tick.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) t: Seconds,
    pub(super) fact: Option<Fact>,
    pub(super) answers: Vec<Answer>,
    pub(super) errors: Said,
    pub(super) latency: Said,
    pub(super) callers: Said,
    /// How many peers were asked, if any of it convicts.
    pub(super) compared: Compared,
    /// The rollout that is blamed instead.
    pub(super) blamed: Option<WorkloadId>,
}

/// What convicts, for the choice of whom to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conviction {
    pub(super) since: Option<Seconds>,
    /// Its own old pods, or a hard fact, say so whoever else is broken.
    pub(super) strong: bool,
    pub(super) split: f64,
    /// Whether it was convicted at the tick before as well.
    pub(super) standing: bool,
}

impl Draft {
    /// The counted streams, the most telling first.
    pub(super) fn streams(&self) -> [(FailReason, &Said); 3] {
        [(FailReason::Errors, &self.errors), (FailReason::Latency, &self.latency), (FailReason::Errors, &self.callers)]
    }

    pub(super) fn streams_mut(&mut self) -> [&mut Said; 3] {
        [&mut self.errors, &mut self.latency, &mut self.callers]
    }

    /// What convicts now, if anything does.
    pub(super) fn conviction(&self) -> Option<Conviction> {
        if let Some(fact) = self.fact.as_ref().filter(|fact| fact.hold.is_none()) {
            return Some(Conviction { since: fact.since, strong: true, split: 0.0, standing: false });
        }
        if let Some(answer) = self.answers.iter().find(|answer| answer.fails && answer.hold.is_none()) {
            return Some(Conviction { since: answer.since, strong: answer.old_passes, split: 0.0, standing: false });
        }
        let convicts = |said: &&Said| matches!(said.opinion, Opinion::Fail(_));
        let said = self.streams().map(|(_, said)| said).into_iter().find(convicts)?;
        let (strong, split) = said.case.as_ref().map_or((false, 0.0), |case| (case.strong, case.split));
        Some(Conviction { since: said.since, strong, split, standing: false })
    }

    /// How it looks from outside.
    pub(super) fn stance(&self, trial: &Trial) -> Stance {
        let fact = self.fact.as_ref().map(|fact| (fact.since.unwrap_or(trial.t0), fact.hold.is_none()));
        let failing = self.answers.iter().filter(|answer| answer.fails);
        let probes = failing.filter_map(|answer| Some((answer.since?, answer.hold.is_none())));
        let counted = self.streams().into_iter().filter_map(|(_, said)| {
            let case = said.case.as_ref()?;
            Some((case.onset, !matches!(said.opinion, Opinion::Hold(..))))
        });
        let all: Vec<(Seconds, bool)> = fact.into_iter().chain(probes).chain(counted).collect();
        let errors = trial.errors.as_ref().map(|family| &family.evidence);
        let latency = trial.latency.tested().map(|slow| slow.evidence());
        let tests = || errors.into_iter().chain(latency);
        Stance {
            workload: trial.workload.clone(),
            t0: trial.t0,
            broken: all.iter().map(|(since, _)| *since).reduce(f64::min),
            own: all.iter().any(|(_, own)| *own),
            rising: all.is_empty() && tests().any(|test| test.log_e() >= RISING && test.over_now(self.t)),
            measured: tests().any(|test| test.new_total().total >= SOME_TRAFFIC),
        }
    }
}

impl Trial {
    /// Faults that every workload shows, or a registry that no workload reaches, are nobody's rollout.
    pub(super) fn faults(&self, t: Seconds) -> Common {
        let pulls = self.roster.of(&self.to).any(super::peers::cannot_pull);
        Common::of(&self.facts, pulls, t)
    }

    /// What this rollout's own observations say at `t`, up to which they were brought.
    pub(super) fn draft(&mut self, t: Seconds, others: &Common) -> Draft {
        let t = t.max(self.judged);
        let fact = self.facts.judge(t, &self.roster, &self.to, others);
        let grace = self.probe_grace();
        let answers = self.probes.judge(self.t0, &self.roster, &self.to, grace, t);
        Draft {
            t,
            fact,
            answers,
            errors: self.say_errors(t),
            latency: self.say_latency(t),
            callers: self.say_callers(t),
            compared: Compared::default(),
            blamed: None,
        }
    }

    fn say(
        &self,
        reason: FailReason,
        evidence: &Evidence,
        (before, usual): (Tally, Tally),
        second: Option<String>,
        t: Seconds,
        text: &dyn Fn(Tally, Tally) -> String,
    ) -> Said {
        if evidence.new_total().total <= 0.0 {
            return Said::plain(Opinion::Silent);
        }
        // A second signal that points the same way makes up for half of the evidence.
        let seconded = || evidence.log_e() >= SECONDED && evidence.over_now(t);
        let second = second.filter(|_| seconded());
        if !evidence.fired() && second.is_none() {
            return Said::plain(if evidence.speaks_for() { Opinion::Clean } else { Opinion::Open });
        }
        let Some(onset) = evidence.onset() else { return Said::plain(Opinion::Open) };
        let history = if reason == FailReason::Errors { self.baseline.history() } else { Series::default() };
        let lately = |pod: &&Pod| pod.state.ready && pod.first_ready.is_some_and(|at| t - at < 2.0 * self.cadence);
        let due: Vec<u32> = self.roster.of(&self.to).filter(lately).map(|pod| pod.serial).collect();
        let around = Surroundings { roster: &self.roster, before, history: &history, due: &due, t };
        let second = second.map(|said| format!(", and {said}")).unwrap_or_default();
        let sentence = format!("{}{second}", text(onset.new, onset.old));
        let opinion = match gates::pass(evidence, &onset, &around) {
            Gate::Open | Gate::Wait(_) if self.standing.contains(&reason) => Opinion::Fail(sentence.clone()),
            Gate::Open if evidence.kept_now(t) => {
                Opinion::Wait(format!("{sentence}, but it has kept the limit for a minute."))
            }
            Gate::Open => Opinion::Fail(sentence.clone()),
            Gate::Wait(why) => Opinion::Wait(format!("{sentence}, but {why}.")),
            Gate::Hold(reason, why) => Opinion::Hold(reason, format!("{sentence}, but {why}.")),
        };
        let since = self.first_ready.map_or(onset.t, |ready| onset.t.max(ready));
        let case = Case {
            reason,
            onset: since,
            earliest: evidence.earliest(&onset),
            shift: (onset.new.ratio().unwrap_or(0.0) - usual.ratio().unwrap_or(0.0)).max(0.0),
            strong: gates::told_apart(evidence, &onset),
            split: super::split::log_split(onset.beside[0], onset.beside[1]),
            compared: onset.beside[1].total >= SOME_TRAFFIC,
            node: gates::culprit_node(evidence, &onset, &around),
            needs_peers: gates::rests_on_peers(evidence, &onset),
            seconded: !evidence.fired(),
            sentence,
        };
        Said { opinion, since: Some(since), case: Some(case) }
    }

    fn say_errors(&self, t: Seconds) -> Said {
        let Some(family) = &self.errors else { return Said::plain(Opinion::Silent) };
        let baseline = &family.baseline;
        let before = (self.baseline.last_minutes(), baseline.before);
        let said = self.say(FailReason::Errors, &family.evidence, before, self.issues.loud(), t, &|new, old| {
            explain::errors(new, old, baseline, self.rules.errors.max)
        });
        // Above the user's limit, but not above what it was before: not this rollout's doing.
        match &family.plain {
            Some(plain) if plain.fired() && !family.evidence.fired() => {
                let sentence = explain::errors(plain.new_total(), plain.old_total(), baseline, self.rules.errors.max);
                Said::plain(Opinion::Hold(
                    HoldReason::Before,
                    format!("{sentence}, but it was no better before the rollout."),
                ))
            }
            _ => said,
        }
    }

    fn say_latency(&self, t: Seconds) -> Said {
        let Some(slow) = self.latency.tested() else { return Said::plain(Opinion::Silent) };
        let before = (Tally::default(), slow.cut.before_tally);
        let whole = slow.slower_as_a_whole().map(|(new, cut)| explain::slower_as_a_whole(new, cut));
        self.say(FailReason::Latency, slow.evidence(), before, whole, t, &|new, old| {
            explain::slow(new, old, &slow.cut, self.rules.latency)
        })
    }

    /// The callers' view: only where new pods are silent or do not show what their callers see, and only
    /// above what callers saw before.
    fn say_callers(&self, t: Seconds) -> Said {
        let Some((baseline, evidence)) = self.callers.test() else { return Said::plain(Opinion::Silent) };
        if !evidence.fired() {
            return Said::plain(if evidence.speaks_for() { Opinion::Clean } else { Opinion::Open });
        }
        let Some((onset, ready)) = evidence.onset().zip(self.first_ready) else { return Said::plain(Opinion::Open) };
        let after = CALLERS_AFTER.max(GAP_INTERVALS * self.cadence);
        let silent = t - self.new_seen.unwrap_or(ready) >= after || !self.per_pod;
        let own = self.errors.as_ref().map(|family| &family.evidence);
        let hidden = own.is_some_and(|own| own.log_e() < 0.0 && own.new_total().total >= SOME_TRAFFIC);
        let before = baseline.before;
        let worse = bounds::lower(onset.new.bad, onset.new.total, BASELINE_CONFIDENCE)
            > before.ratio().map_or(0.0, |_| bounds::upper(before.bad, before.total, BASELINE_CONFIDENCE));
        if !(silent || hidden) || !worse {
            return Said::plain(Opinion::Open);
        }
        let since = onset.t.max(ready);
        let sentence = explain::callers(onset.new, baseline, self.rules.errors.max, silent);
        let old = own.map(|own| own.old_since(since)).unwrap_or_default();
        let opinion = if old.total >= SOME_TRAFFIC && old.ratio().is_some_and(|ratio| ratio > baseline.theta) {
            let text = format!("{sentence}, but old pods fail as well in the same minutes.");
            Opinion::Hold(HoldReason::OldVersion, text)
        } else {
            Opinion::Fail(sentence.clone())
        };
        let case = Case {
            reason: FailReason::Errors,
            onset: since,
            earliest: evidence.earliest(&onset),
            shift: (onset.new.ratio().unwrap_or(0.0) - before.ratio().unwrap_or(0.0)).max(0.0),
            strong: false,
            split: 0.0,
            compared: false,
            node: None,
            // Issues that are new in this revision say whose doing it is.
            needs_peers: self.issues.loud().is_none(),
            seconded: false,
            sentence,
        };
        Said { opinion, since: Some(since), case: Some(case) }
    }
}
