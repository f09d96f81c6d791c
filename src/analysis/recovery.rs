//! Whether an undo helped (decision.md 2.7). Pure.

use super::{
    bounds,
    counter::Tally,
    explain::{duration, latency, percent, plural, share},
    facts::Stuck,
    roster::{Pod, Roster},
    tuning::*,
};
use crate::domain::{
    Conviction, Counts, FailReason, Observation, PodId, ProbeOutcome, Recovery, RecoveryState, Revision, Rules,
    Seconds, WorkloadId,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// The watch after one undo: only what was measured after it, on pods of the restored revision.
#[derive(Debug, Clone)]
pub(super) struct RecoveryWatch {
    began: Seconds,
    workload: WorkloadId,
    pub(super) target: Revision,
    rules: Arc<Rules>,
    pub(super) roster: Roster,
    theta: f64,
    /// What the undone rollout had broken: the restored revision must keep it.
    pub(super) broken: Conviction,
    /// Errors and slow requests by the time of their reading.
    recent: VecDeque<(Seconds, Tally, Tally)>,
    probes_passed: u32,
    /// Failures in a row by probe and pod.
    probes_failing: BTreeMap<(String, Option<u32>), u32>,
    said: Option<(RecoveryState, String)>,
    judged: Seconds,
}

impl RecoveryWatch {
    pub(super) fn new(
        began: Seconds,
        workload: WorkloadId,
        target: Revision,
        rules: Arc<Rules>,
        roster: Roster,
        mut broken: Conviction,
    ) -> Self {
        // After a restart they come from an object that people may edit.
        let share = |p: f64| p > 0.0 && p < 1.0;
        broken.limits.errors = broken.limits.errors.filter(|max| share(*max));
        broken.limits.latency = broken.limits.latency.filter(|cut| cut.seconds > 0.0 && share(cut.quantile));
        Self {
            began,
            workload,
            target,
            theta: broken.limits.errors.unwrap_or(rules.errors.max),
            broken,
            rules,
            roster,
            recent: VecDeque::new(),
            probes_passed: 0,
            probes_failing: BTreeMap::new(),
            said: None,
            judged: began,
        }
    }

    pub(super) fn observe(&mut self, t: Seconds, what: &Observation, interval: Seconds) {
        match what {
            Observation::Pod(state) => {
                self.roster.update(t, state, self.began);
            }
            Observation::Counters { pod, counts } => self.counters(t, pod, counts, interval),
            Observation::Probe(probe) if t > self.began => {
                let pod = match &probe.pod {
                    None => None,
                    Some(id) => match self.roster.get(id) {
                        Some(pod) if pod.state.revision == self.target && pod.first_ready.is_some() => Some(pod.serial),
                        _ => return,
                    },
                };
                let failing = self.probes_failing.entry((probe.name.clone(), pod)).or_default();
                match probe.outcome {
                    ProbeOutcome::Pass => {
                        *failing = 0;
                        self.probes_passed += 1;
                    }
                    ProbeOutcome::Fail => {
                        *failing += 1;
                        self.probes_passed = 0;
                    }
                    ProbeOutcome::Error => {}
                }
            }
            _ => {}
        }
    }

    fn counters(&mut self, t: Seconds, id: &PodId, counts: &Counts, interval: Seconds) {
        let began = self.began;
        let warm_up = WARM_UP.min(self.deadline() / 10.0);
        let Some(pod) = self.roster.get_mut(id) else { return };
        let read = pod.read(t, counts, interval);
        if pod.state.revision != self.target || t <= began {
            return;
        }
        let Some(ready) = pod.first_ready.filter(|ready| *ready <= t) else { return };
        // An interval that began before the undo is not fresh (I13).
        let fresh = |from: Option<Seconds>| from.map_or_else(|| pod.came_with(began), |from| from >= began);
        let errors = read.pair.filter(|(from, _)| fresh(*from)).map(|(_, tally)| tally).unwrap_or_default();
        let slow = self
            .broken
            .limits
            .latency
            .zip(read.latency)
            .filter(|(_, (from, _))| fresh(*from) && from.is_some_and(|from| from >= ready + warm_up))
            .and_then(|(cut, (_, h))| h.above(cut.seconds).map(|above| Tally::new(above.interpolated, h.total())))
            .unwrap_or_default();
        if errors.total > 0.0 || slow.total > 0.0 {
            self.recent.push_back((t, errors, slow));
        }
    }

    fn deadline(&self) -> Seconds {
        self.rules.undo.verify_within.as_secs_f64()
    }

    /// What is said now. Once it is settled whether it helped, it stays so.
    pub(super) fn judge(&mut self, t: Seconds) -> Recovery {
        self.judged = self.judged.max(t);
        let t = self.judged;
        let settled = self.said.as_ref().filter(|(state, _)| *state != RecoveryState::CannotTell);
        if settled.is_none() {
            for pod in self.roster.all_mut() {
                pod.refresh(t, self.began);
            }
            while self.recent.front().is_some_and(|(then, _, _)| *then <= t - RECOVERY_WINDOW) {
                self.recent.pop_front();
            }
            self.roster.forget(t);
            let (state, text) = self.weigh(t);
            self.said = (state != RecoveryState::Waiting).then(|| (state, text.clone()));
            return self.say(t, state, text);
        }
        let (state, text) = self.said.clone().unwrap_or((RecoveryState::CannotTell, String::new()));
        self.say(t, state, text)
    }

    /// When the undo was applied.
    pub(super) fn began(&self) -> Seconds {
        self.began
    }

    /// Whether it is known, or given up, whether the undo helped.
    pub(super) fn settled(&self) -> bool {
        self.said.is_some()
    }

    fn say(&self, t: Seconds, state: RecoveryState, explanation: String) -> Recovery {
        Recovery { t, workload: self.workload.clone(), target: self.target.clone(), state, explanation }
    }

    fn weigh(&self, t: Seconds) -> (RecoveryState, String) {
        let elapsed = t - self.began;
        let late = elapsed >= self.deadline() / 2.0;
        let pods: Vec<&Pod> = self.roster.of(&self.target).collect();
        let ready = !pods.is_empty() && pods.iter().all(|pod| pod.state.ready);
        let sick = |pod: &&&Pod| {
            pod.looping.is_some_and(|since| since > self.began) && pod.came_with(self.began)
                || pod.stuck.is_some_and(|(kind, since, _)| {
                    matches!(kind, Stuck::Image | Stuck::Config) && t - since.max(self.began) >= STUCK
                })
        };
        let sick = pods.iter().filter(sick).count();
        if sick > 0 && sick as f64 >= FACT_SHARE * pods.len() as f64 {
            let text = format!("{sick} of {} of the restored revision do not run either.", plural(pods.len(), "pod"));
            return (RecoveryState::DidNotHelp, text);
        }
        let errors: Tally = self.recent.iter().map(|(_, errors, _)| *errors).sum();
        let slow: Tally = self.recent.iter().map(|(_, _, slow)| *slow).sum();
        let slow_limit = self.broken.limits.latency.map_or(1.0, |cut| 1.0 - cut.quantile);
        let in_words = self.in_words(errors, slow);
        let over = |tally: Tally, limit: f64| tally.ratio().is_some_and(|ratio| ratio > limit);
        let failing = self.probes_failing.values().any(|fails| *fails >= PROBE_FAILS_SERVICE);
        if late
            && (errors.total >= RECOVERY_REQUESTS && over(errors, self.theta)
                || slow.total >= RECOVERY_REQUESTS
                    && bounds::lower(slow.bad, slow.total, RECOVERY_CONFIDENCE) > slow_limit
                || failing)
        {
            let text = format!("After {} the restored revision still breaks the limit: {in_words}.", duration(elapsed));
            return (RecoveryState::DidNotHelp, text);
        }
        let kept = |tally: Tally, limit: f64| {
            bounds::upper(tally.bad, tally.total, RECOVERY_CONFIDENCE) < limit
                || (tally.bad <= 0.0 && tally.total >= RECOVERY_CLEAN)
        };
        let slow_fine = match self.broken.reason {
            Some(FailReason::Latency) => kept(slow, slow_limit),
            _ => slow.total < SOME_TRAFFIC || !over(slow, slow_limit),
        };
        // A fault that only probes or latency showed is not disproved by requests without errors.
        let proof = match self.broken.reason {
            Some(FailReason::Health) => f64::from(self.probes_passed) >= RECOVERY_CLEAN,
            Some(FailReason::Latency) => slow_fine && (errors.total <= 0.0 || !over(errors, self.theta)),
            _ => kept(errors, self.theta) || (errors.total <= 0.0 && f64::from(self.probes_passed) >= RECOVERY_CLEAN),
        };
        let calm = self.probes_failing.values().all(|fails| *fails < PROBE_FAILS);
        if ready && proof && slow_fine && calm {
            return (RecoveryState::Helped, format!("The restored revision keeps the limits: {in_words}."));
        }
        if elapsed >= self.deadline() {
            let text = format!("Nothing proves within {} that the undo helped: {in_words}.", duration(elapsed));
            return (RecoveryState::CannotTell, text);
        }
        let ready = pods.iter().filter(|pod| pod.state.ready).count();
        let text =
            format!("{ready} of {} of the restored revision Ready; {in_words} so far.", plural(pods.len(), "pod"));
        (RecoveryState::Waiting, text)
    }

    fn in_words(&self, errors: Tally, slow: Tally) -> String {
        let mut parts = Vec::new();
        if let Some(text) = share(errors) {
            parts.push(format!("{text} requests failed (limit {})", percent(self.theta)));
        }
        if let (Some(cut), Some(text)) = (self.broken.limits.latency, share(slow)) {
            parts.push(format!(
                "{text} took longer than {} (limit {})",
                latency(cut.seconds),
                percent(1.0 - cut.quantile)
            ));
        }
        if self.probes_passed > 0 {
            parts.push(format!("{} probes passed in a row", self.probes_passed));
        }
        if parts.is_empty() { "nothing was measured".to_owned() } else { parts.join(", ") }
    }
}
