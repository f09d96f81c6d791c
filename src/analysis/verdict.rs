//! From a draft that was held against all others to one verdict with its sentence and its table. Pure.

use super::{
    bake::{self, Baked},
    bounds,
    draft::{Draft, Opinion, Said},
    explain,
    family::{Errors, Latency},
    findings,
    trial::Trial,
    tuning::*,
};
use crate::domain::{
    AppliedLimits, Conviction, FailReason, HoldReason, Judgement, LatencyCut, Seconds, Severity, UnknownReason, Verdict,
};

impl Trial {
    /// The last word on a draft that was held against all others.
    pub(super) fn conclude(&mut self, t: Seconds, draft: &Draft) -> Judgement {
        let convicts = |said: &Said| matches!(said.opinion, Opinion::Fail(_));
        self.standing = draft.streams().into_iter().filter(|(_, said)| convicts(said)).map(|(r, _)| r).collect();
        let (verdict, mut explanation, since) = self.decide(draft);
        let undecided = matches!(verdict, Verdict::Watching | Verdict::Unknown(_));
        self.next = if undecided { self.next_look(t) } else { None };
        if self.next.is_some() {
            explanation.push_str(explain::SELDOM);
        }
        if let Verdict::Fail(reason) = verdict {
            self.last_fail = Some(reason);
        }
        Judgement {
            t,
            workload: self.workload.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            verdict,
            log_e: self.strongest(),
            explanation,
            findings: findings::table(self, draft),
            harm_since: since,
            baseline_good: self.baseline_good(),
            worse_than_before: matches!(verdict, Verdict::Fail(_)) && self.worse_than_before(),
            severity: match verdict {
                Verdict::Fail(reason) => Some(self.severity(reason, draft)),
                _ => None,
            },
            convicted: self.convicted.filter(|_| matches!(verdict, Verdict::Fail(_))),
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

    /// How bad it is: what still serves counts.
    fn severity(&self, reason: FailReason, draft: &Draft) -> Severity {
        let half = |said: &Said| said.case.as_ref().is_some_and(|case| case.shift >= HALF);
        match reason {
            FailReason::Latency => Severity::Medium,
            FailReason::Health => Severity::Critical,
            FailReason::Errors if half(&draft.errors) || half(&draft.callers) => Severity::Critical,
            FailReason::Errors => Severity::High,
            _ if self.roster.all().any(|pod| pod.live() && pod.state.ready) => Severity::High,
            _ => Severity::Critical,
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
        // After a restart nobody may know that it was unproved; then what was measured is that of another one.
        if self.unproved.is_some() || self.from_served < SOME_TRAFFIC {
            return None;
        }
        let limit = self.rules.errors.max;
        let before = self.errors.as_ref().map_or_else(|| self.baseline.before().0, |family| family.baseline.before);
        if before.total < SOME_TRAFFIC {
            return None;
        }
        let broken = before.ratio().is_some_and(|ratio| ratio > limit)
            && bounds::lower(before.bad, before.total, BASELINE_CONFIDENCE) > limit;
        Some(!broken)
    }

    /// Whether the new pods fail more than the old ones did, beyond chance, where those were beyond the user's limit:
    /// the test ran against what was measured of them. Nothing, where that was of an earlier revision.
    fn worse_than_before(&self) -> bool {
        let limit = self.rules.errors.max;
        let worse = |family: &Errors| family.evidence.fired() && family.evidence.theta() > limit;
        self.unproved.is_none() && self.errors.as_ref().is_some_and(worse)
    }

    fn decide(&self, draft: &Draft) -> (Verdict, String, Option<Seconds>) {
        let fact = draft.fact.as_ref();
        let health = draft.answers.iter().find(|answer| answer.fails);
        // Hard facts do not need the sources that count.
        if let Some(fact) = fact.filter(|fact| fact.hold.is_none()) {
            return (Verdict::Fail(fact.reason), format!("{}.", fact.explanation), fact.since);
        }
        let streams = draft.streams();
        let convict = health
            .filter(|answer| answer.hold.is_none())
            .map(|answer| (FailReason::Health, format!("{}.", answer.explanation), answer.since))
            .or_else(|| {
                streams.iter().filter(|_| self.frozen.is_none()).find_map(|(reason, said)| match &said.opinion {
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
            return (Verdict::Hold(hold), format!("{}{}", answer.explanation, answer.but), answer.since);
        }
        if let Some(outage) = &self.frozen {
            let reason = if outage.monitoring { UnknownReason::Monitoring } else { UnknownReason::Source };
            return (Verdict::Unknown(reason), explain::frozen(outage), None);
        }
        for (_, said) in streams {
            if let Opinion::Hold(reason, text) = &said.opinion {
                return (Verdict::Hold(*reason), text.clone(), said.since);
            }
        }
        for (_, said) in streams {
            if let Opinion::Wait(text) = &said.opinion {
                return (Verdict::Watching, text.clone(), said.since);
            }
        }
        let (verdict, text) = self.bake(draft);
        (verdict, text, None)
    }

    /// Nothing convicts: pass, wait, or say what cannot be known.
    fn bake(&self, draft: &Draft) -> (Verdict, String) {
        let (t, errors, latency) = (draft.t, &draft.errors, &draft.latency);
        let counted = errors.opinion != Opinion::Silent || latency.opinion != Opinion::Silent;
        let callers_open = self
            .callers
            .test()
            .is_some_and(|(_, evidence)| evidence.log_e() >= 0.0 && evidence.new_total().total > 0.0);
        // Where it was bad before, the test runs at what it was; nothing above the user's own limit is good.
        let plain = self.errors.as_ref().and_then(|family| family.plain.as_ref());
        let above_the_limit = plain.is_some_and(|plain| !plain.speaks_for());
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
            runs_out: if self.killed_for_memory() { Some(0.0) } else { self.leak.map(|leak| leak.left) },
        });
        let verdict = match baked {
            Baked::Pass => Verdict::Pass,
            Baked::NoData => Verdict::Unknown(UnknownReason::NoData),
            Baked::TooFew => Verdict::Unknown(UnknownReason::TooFew),
            Baked::Saturated => Verdict::Unknown(UnknownReason::Saturated),
            Baked::NotReady | Baked::Unsettled | Baked::Baking(_) | Baked::Leaking(_) => Verdict::Watching,
        };
        (verdict, explain::baked(self, baked, t))
    }

    /// Whether a new pod was.
    pub(super) fn killed_for_memory(&self) -> bool {
        self.roster.of(&self.to).any(|pod| pod.state.oom_killed)
    }

    fn all_ready(&self) -> bool {
        let mut pods = self.roster.of(&self.to).peekable();
        pods.peek().is_some() && pods.all(|pod| pod.state.ready)
    }
}
