//! Health and smoke probes (decision.md 2.2): failures in a row on every new pod, measured by what
//! the old version answered. Pure.

use super::{bounds, explain, roster::Roster, tuning::*};
use crate::domain::{HoldReason, ProbeOutcome, ProbeResult, Revision, Seconds};
use std::collections::BTreeMap;

/// Answers of one asked party.
#[derive(Debug, Clone, Default)]
pub(super) struct Streak {
    /// Failures in a row.
    pub(super) fails: u32,
    pub(super) since: Option<Seconds>,
    pub(super) passes: u32,
    /// Failures that were followed by a pass.
    healed: u32,
    pub(super) last: Option<Seconds>,
}

impl Streak {
    pub(super) fn note(&mut self, t: Seconds, outcome: ProbeOutcome) {
        match outcome {
            ProbeOutcome::Pass => {
                self.passes += 1;
                self.healed += self.fails;
                self.fails = 0;
                self.since = None;
                self.last = Some(t);
            }
            ProbeOutcome::Fail => {
                self.fails += 1;
                self.since.get_or_insert(t);
                self.last = Some(t);
            }
            ProbeOutcome::Error => {}
        }
    }
}

/// One probe of one rollout.
#[derive(Debug, Clone, Default)]
struct Book {
    old: BTreeMap<u32, Streak>,
    new: BTreeMap<u32, Streak>,
    before: Streak,
    service: Streak,
    last_old_pass: Option<Seconds>,
    detail: Option<String>,
}

/// What a probe says of the rollout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) probe: String,
    pub(super) new: (u32, u32),
    pub(super) old: (u32, u32),
    /// It convicts, unless `hold` says why not.
    pub(super) fails: bool,
    pub(super) hold: Option<HoldReason>,
    /// What was seen, without a final stop.
    pub(super) explanation: String,
    /// The rest of the sentence when it is held.
    pub(super) but: String,
    pub(super) since: Option<Seconds>,
    /// Whether old pods that are still asked pass it.
    pub(super) old_passes: bool,
}

/// All probes of one rollout.
#[derive(Debug, Clone, Default)]
pub(super) struct Probes {
    books: BTreeMap<String, Book>,
}

impl Probes {
    /// Takes an answer. One from a pod that was never Ready says nothing new: Kubernetes knows.
    pub(super) fn observe(&mut self, t: Seconds, probe: &ProbeResult, roster: &Roster, to: &Revision, grace: Seconds) {
        let book = self.books.entry(probe.name.clone()).or_default();
        let streak = match &probe.pod {
            Some(id) => {
                let Some(pod) = roster.get(id) else { return };
                if pod.state.revision != *to {
                    if probe.outcome == ProbeOutcome::Pass {
                        book.last_old_pass = Some(t);
                    }
                    book.old.entry(pod.serial).or_default()
                } else if pod.first_ready.is_some_and(|ready| t >= ready + grace) {
                    book.new.entry(pod.serial).or_default()
                } else {
                    return;
                }
            }
            None => {
                let serving = roster.of(to).filter_map(|pod| pod.first_ready).min_by(f64::total_cmp);
                let of_old = probe.revision.as_ref().is_some_and(|revision| revision != to);
                if of_old || serving.is_none_or(|ready| t < ready) {
                    if probe.outcome == ProbeOutcome::Pass {
                        book.last_old_pass = Some(t);
                    }
                    &mut book.before
                } else if serving.is_some_and(|ready| t < ready + grace) {
                    return;
                } else {
                    &mut book.service
                }
            }
        };
        streak.note(t, probe.outcome);
        if probe.outcome == ProbeOutcome::Fail {
            book.detail.clone_from(&probe.detail);
        }
    }

    /// What each probe says now.
    pub(super) fn judge(&self, t0: Seconds, roster: &Roster, to: &Revision, grace: Seconds, t: Seconds) -> Vec<Answer> {
        self.books.iter().map(|(name, book)| book.judge(name, t0, roster, to, grace, t)).collect()
    }

    /// Whether a new pod, or the Service, has failed twice in a row.
    pub(super) fn failing(&self) -> bool {
        self.books.values().flat_map(|book| book.new.values().chain([&book.service])).any(|streak| streak.fails >= 2)
    }

    /// Whether anything answered at all.
    pub(super) fn measured(&self) -> bool {
        self.books.values().any(|book| !book.new.is_empty() || book.service.last.is_some())
    }
}

impl Book {
    fn judge(&self, name: &str, t0: Seconds, roster: &Roster, to: &Revision, grace: Seconds, t: Seconds) -> Answer {
        let sum = |streaks: &mut dyn Iterator<Item = &Streak>| {
            streaks.fold((0, 0), |(bad, all), s| (bad + s.healed + s.fails, all + s.healed + s.fails + s.passes))
        };
        let old = sum(&mut self.old.values().chain([&self.before]));
        let new = sum(&mut self.new.values().chain([&self.service]));
        let asked: Vec<&Streak> = roster
            .of(to)
            .filter(|pod| pod.first_ready.is_some_and(|ready| t >= ready + grace))
            .filter_map(|pod| self.new.get(&pod.serial))
            .collect();
        let least = self.needed(PROBE_FAILS);
        let streaks: Vec<&Streak> = asked.iter().copied().filter(|streak| streak.fails >= least).collect();
        // A pod that joined a moment ago need not have failed as often, but it must not have passed:
        // a rollout would otherwise hide itself behind its next pod.
        let joining = |streak: &Streak| streak.fails > 0 && streak.passes == 0;
        let by_pod = !streaks.is_empty() && asked.iter().all(|streak| streak.fails >= least || joining(streak));
        let shortest = streaks.iter().map(|streak| streak.fails).min();
        let by_service = self.service.fails >= self.needed(PROBE_FAILS_SERVICE);
        let passed_before = self.last_old_pass.is_some_and(|at| at >= t0 - BEFORE);
        let broken = by_pod || by_service;
        let old_fails = roster.not_of(to).any(|p| self.old.get(&p.serial).is_some_and(|s| s.fails >= PROBE_FAILS));
        let hold = (broken && old_fails).then_some(HoldReason::Shared);
        let old_passes = roster
            .not_of(to)
            .filter_map(|pod| self.old.get(&pod.serial))
            .any(|streak| streak.fails == 0 && streak.last.is_some_and(|at| t - at <= OLD_PASS));
        let since =
            if by_pod { streaks.iter().filter_map(|s| s.since).min_by(f64::total_cmp) } else { self.service.since };
        let fails = broken && passed_before;
        let explanation = if by_pod {
            explain::probe_pods(name, streaks.len(), shortest.unwrap_or(0), old, self.detail.as_deref())
        } else {
            explain::probe_service(name, self.service.fails, self.detail.as_deref())
        };
        Answer {
            probe: name.to_owned(),
            new,
            old,
            fails,
            hold,
            explanation,
            but: hold.map(explain::fact_hold).unwrap_or_default().to_owned(),
            since: since.filter(|_| broken),
            old_passes,
        }
    }

    /// Failures in a row that flakiness does not explain: the probe's own share of failures that
    /// healed, on old and new pods, makes a run of that length rarer than [`PROBE_CHANCE`].
    fn needed(&self, least: u32) -> u32 {
        let streaks = || self.old.values().chain(self.new.values()).chain([&self.before, &self.service]);
        let healed: u32 = streaks().map(|s| s.healed).sum();
        let passes: u32 = streaks().map(|s| s.passes).sum();
        if healed == 0 {
            return least;
        }
        // As high as it may be: how often a probe fails by itself is known from what it did so far, and no better.
        let share = bounds::upper(f64::from(healed), f64::from(healed + passes), BASELINE_CONFIDENCE);
        least.max((PROBE_CHANCE.ln() / share.ln()).ceil() as u32)
    }
}
