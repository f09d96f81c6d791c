//! From facts, evidence and gates to one verdict with its sentence and its table. Pure.

use super::{
    bake::{self, Baked},
    bounds,
    counter::Tally,
    evidence::Evidence,
    explain,
    facts::Fact,
    family::Latency,
    findings,
    gates::{self, Gate, Surroundings},
    health::Answer,
    trial::{Now, Trial},
    tuning::*,
};
use crate::domain::{
    AppliedLimits, Conviction, FailReason, HoldReason, Judgement, LatencyCut, Seconds, UnknownReason, Verdict,
};

/// What one family says after the gates.
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

/// An [`Opinion`] with when the harm began.
pub(super) struct Said {
    pub(super) opinion: Opinion,
    pub(super) since: Option<Seconds>,
}

impl Trial {
    /// What is said of this rollout at `now.t`.
    pub(super) fn judge(&mut self, now: Now<'_>) -> Judgement {
        self.advance(now);
        let t = now.t.max(self.judged);
        let fact = self.facts.judge(t, &self.roster, &self.to);
        let grace = self.probe_grace();
        let answers = self.probes.judge(self.t0, &self.roster, &self.to, grace, t);
        let errors = self.say_errors(t);
        let latency = self.say_latency(t);
        self.standing = [(FailReason::Errors, &errors), (FailReason::Latency, &latency)]
            .into_iter()
            .filter(|(_, said)| matches!(said.opinion, Opinion::Fail(_)))
            .map(|(reason, _)| reason)
            .collect();
        let (verdict, explanation, since) = self.decide(t, fact.as_ref(), &answers, &errors, &latency);
        if let Verdict::Fail(reason) = verdict {
            self.last_fail = Some(reason);
        }
        Judgement {
            t: now.t,
            workload: self.workload.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            verdict,
            log_e: self.strongest(),
            explanation,
            findings: findings::table(self, fact.as_ref(), &answers, &errors, &latency),
            harm_since: since,
            baseline_good: self.baseline_good(),
            limits: self.limits(),
        }
    }

    /// What its last conviction rested on.
    pub(super) fn conviction(&self) -> Conviction {
        Conviction { reason: self.last_fail, limits: self.limits() }
    }

    /// The limits as they applied to this rollout.
    fn limits(&self) -> AppliedLimits {
        let cut = self.latency.tested().map(|slow| slow.cut);
        AppliedLimits {
            errors: self.errors.as_ref().map(|family| family.evidence.theta()),
            latency: cut.map(|cut| LatencyCut { seconds: cut.seconds, quantile: cut.quantile }),
        }
    }

    fn strongest(&self) -> f64 {
        let errors = self.errors.as_ref().map(|family| family.evidence.log_e());
        let latency = self.latency.tested().map(|slow| slow.evidence().log_e());
        errors.into_iter().chain(latency).reduce(f64::max).unwrap_or(0.0)
    }

    /// What the numbers from before the rollout say of the revision that was serving. Nothing, when they are
    /// those of an earlier one, because that revision was itself unproved.
    fn baseline_good(&self) -> Option<bool> {
        if self.proven < self.t0 {
            return None;
        }
        let limit = self.rules.errors.max;
        let before = match &self.errors {
            Some(family) => family.baseline.before,
            None => self.baseline.errors(limit).before,
        };
        if before.total < SOME_TRAFFIC {
            return None;
        }
        let broken = before.ratio().is_some_and(|ratio| ratio > limit)
            && bounds::lower(before.bad, before.total, BASELINE_CONFIDENCE) > limit;
        Some(!broken)
    }

    fn say(
        &self,
        reason: FailReason,
        evidence: &Evidence,
        before: Tally,
        t: Seconds,
        text: &dyn Fn(Tally, Tally) -> String,
    ) -> Said {
        if evidence.new_total().total <= 0.0 {
            return Said { opinion: Opinion::Silent, since: None };
        }
        if !evidence.fired() {
            let opinion = if evidence.log_e() < 0.0 { Opinion::Clean } else { Opinion::Open };
            return Said { opinion, since: None };
        }
        let Some(onset) = evidence.onset() else { return Said { opinion: Opinion::Open, since: None } };
        let around = Surroundings { roster: &self.roster, before, t };
        let sentence = text(onset.new, onset.old);
        let opinion = match gates::pass(evidence, &onset, &around) {
            Gate::Wait(_) if self.standing.contains(&reason) => Opinion::Fail(format!("{sentence}{}", explain::SURE)),
            Gate::Open => Opinion::Fail(format!("{sentence}{}", explain::SURE)),
            Gate::Wait(why) => Opinion::Wait(format!("{sentence}, but {why}.")),
            Gate::Hold(reason, why) => Opinion::Hold(reason, format!("{sentence}, but {why}.")),
        };
        let since = self.first_ready.map_or(onset.t, |ready| onset.t.max(ready));
        Said { opinion, since: Some(since) }
    }

    fn say_errors(&self, t: Seconds) -> Said {
        let Some(family) = &self.errors else { return Said { opinion: Opinion::Silent, since: None } };
        let baseline = &family.baseline;
        let said = self.say(FailReason::Errors, &family.evidence, self.baseline.last_minutes(), t, &|new, old| {
            explain::errors(new, old, baseline, self.rules.errors.max)
        });
        // Above the user's limit, but not above what it was before: not this rollout's doing.
        match &family.plain {
            Some(plain) if plain.fired() && !family.evidence.fired() => {
                let sentence = explain::errors(plain.new_total(), plain.old_total(), baseline, self.rules.errors.max);
                let opinion =
                    Opinion::Hold(HoldReason::Before, format!("{sentence}, but it was no better before the rollout."));
                Said { opinion, since: None }
            }
            _ => said,
        }
    }

    fn say_latency(&self, t: Seconds) -> Said {
        let Some(slow) = self.latency.tested() else { return Said { opinion: Opinion::Silent, since: None } };
        self.say(FailReason::Latency, slow.evidence(), Tally::default(), t, &|new, old| {
            explain::slow(new, old, &slow.cut, self.rules.latency)
        })
    }

    fn decide(
        &self,
        t: Seconds,
        fact: Option<&Fact>,
        answers: &[Answer],
        errors: &Said,
        latency: &Said,
    ) -> (Verdict, String, Option<Seconds>) {
        let health = answers.iter().find(|answer| answer.fails);
        // Hard facts do not need the sources that count.
        if let Some(fact) = fact.filter(|fact| fact.hold.is_none()) {
            return (Verdict::Fail(fact.reason), format!("{}.", fact.explanation), fact.since);
        }
        let families = [(FailReason::Errors, errors), (FailReason::Latency, latency)];
        let convict = health
            .filter(|answer| answer.hold.is_none())
            .map(|answer| (FailReason::Health, format!("{}.", answer.explanation), answer.since))
            .or_else(|| {
                families.iter().filter(|_| self.frozen.is_none()).find_map(|(reason, said)| match &said.opinion {
                    Opinion::Fail(text) => Some((*reason, text.clone(), said.since)),
                    _ => None,
                })
            });
        if let Some((reason, text, since)) = convict {
            if self.facts.no_baseline() {
                let text = format!("{}{}", text.trim_end_matches('.'), explain::fact_hold(HoldReason::NoBaseline));
                return (Verdict::Hold(HoldReason::NoBaseline), text, since);
            }
            return (Verdict::Fail(reason), text, since);
        }
        if let Some((fact, hold)) = fact.and_then(|fact| Some((fact, fact.hold?))) {
            return (Verdict::Hold(hold), fact.explanation.clone(), fact.since);
        }
        if let Some((answer, hold)) = health.and_then(|answer| Some((answer, answer.hold?))) {
            let text = format!("{}{}", answer.explanation, explain::fact_hold(hold));
            return (Verdict::Hold(hold), text, answer.since);
        }
        if let Some(outage) = &self.frozen {
            let reason = if outage.monitoring { UnknownReason::Monitoring } else { UnknownReason::Source };
            return (Verdict::Unknown(reason), explain::frozen(outage), None);
        }
        for (_, said) in families {
            if let Opinion::Hold(reason, text) = &said.opinion {
                return (Verdict::Hold(*reason), text.clone(), said.since);
            }
        }
        for (_, said) in families {
            if let Opinion::Wait(text) = &said.opinion {
                return (Verdict::Watching, text.clone(), said.since);
            }
        }
        let (verdict, text) = self.bake(t, errors, latency);
        (verdict, text, None)
    }

    /// Nothing convicts: pass, wait, or say what cannot be known.
    fn bake(&self, t: Seconds, errors: &Said, latency: &Said) -> (Verdict, String) {
        let counted = errors.opinion != Opinion::Silent || latency.opinion != Opinion::Silent;
        let callers_open = self
            .callers
            .test()
            .is_some_and(|(_, evidence)| evidence.log_e() >= 0.0 && evidence.new_total().total > 0.0);
        // Where it was bad before, the test runs at what it was; nothing above the user's own limit is good.
        let plain = self.errors.as_ref().and_then(|family| family.plain.as_ref());
        let above_the_limit = plain.is_some_and(|plain| plain.log_e() >= 0.0);
        let baked = bake::judge(&bake::Oven {
            age: self.first_ready.map(|ready| t - ready),
            watch: self.rules.watch.as_secs_f64(),
            requests: self.requests,
            min_requests: self.rules.min_requests as f64,
            all_ready: self.all_ready(),
            counted,
            seen: self.measured || self.probes.measured() || self.callers.test().is_some(),
            clean: [errors, latency].iter().all(|said| matches!(said.opinion, Opinion::Clean | Opinion::Silent))
                && !callers_open
                && !above_the_limit,
            saturated: matches!(self.latency, Latency::Saturated(_)),
        });
        let verdict = match baked {
            Baked::Pass => Verdict::Pass,
            Baked::NoData => Verdict::Unknown(UnknownReason::NoData),
            Baked::TooFew => Verdict::Unknown(UnknownReason::TooFew),
            Baked::Saturated => Verdict::Unknown(UnknownReason::Saturated),
            Baked::NotReady | Baked::Unsettled | Baked::Baking(_) => Verdict::Watching,
        };
        (verdict, explain::baked(self, baked, t))
    }

    fn all_ready(&self) -> bool {
        let mut pods = self.roster.of(&self.to).peekable();
        pods.peek().is_some() && pods.all(|pod| pod.state.ready)
    }
}
