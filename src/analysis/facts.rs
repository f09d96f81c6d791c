//! Hard facts from Kubernetes: no statistics, seconds (decision.md 2.2). Pure.

use super::{
    explain,
    roster::{Pod, Roster},
    tuning::*,
};
use crate::domain::{FailReason, HoldReason, Revision, Seconds};
use std::collections::{BTreeMap, BTreeSet};

/// Why a container cannot even start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stuck {
    Image,
    Config,
}

impl Stuck {
    pub(super) fn of(waiting: Option<&str>) -> Option<Self> {
        match waiting? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
                Some(Stuck::Image)
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Stuck::Config),
            _ => None,
        }
    }
}

/// A fault that needs no counting.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub(super) reason: FailReason,
    /// Why it is not this rollout's doing, if it is not.
    pub(super) hold: Option<HoldReason>,
    pub(super) explanation: String,
    pub(super) since: Option<Seconds>,
}

/// How many workloads show each fault that cannot be their own rollout's doing: on pods without a rollout, or
/// as a registry that does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Common([usize; 4]);

impl Common {
    pub(super) const REASONS: [FailReason; 4] =
        [FailReason::CrashLoop, FailReason::ImagePull, FailReason::ConfigError, FailReason::ProgressDeadline];

    /// The faults of one workload. `pulls`: whether its new pods cannot get their image.
    pub(super) fn of(facts: &Facts, pulls: bool, t: Seconds) -> Self {
        Self(
            Self::REASONS
                .map(|reason| usize::from(facts.seen(reason, t) || (pulls && reason == FailReason::ImagePull))),
        )
    }

    /// All but the ones of `own`.
    pub(super) fn without(self, own: Self) -> Self {
        let mut rest = self.0;
        rest.iter_mut().zip(own.0).for_each(|(sum, own)| *sum = sum.saturating_sub(own));
        Self(rest)
    }

    /// Whether so many others show it that it is not one rollout's doing (2.2): two, or one that cannot get
    /// its image either.
    fn shares(self, reason: FailReason) -> bool {
        let least = if reason == FailReason::ImagePull { 1 } else { PEERS_BROKEN };
        Self::REASONS.iter().zip(self.0).any(|(r, others)| *r == reason && others >= least)
    }
}

impl std::ops::AddAssign for Common {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

/// What was seen on the pods of one revision.
#[derive(Debug, Clone, Default)]
struct Old {
    ever_ready: bool,
    ever_looped: bool,
    /// When each fault was last seen on one of them.
    faults: Vec<(FailReason, Seconds)>,
}

/// What was seen on pods that are not of this rollout, and what was concluded from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    old: BTreeMap<Revision, Old>,
    /// The revision before, where it was itself never proved good: its faults may be its own.
    unproved: Option<Revision>,
    deadline: Option<Seconds>,
    /// A veto stays as long as the fault: an old pod's fault ages, its meaning does not.
    vetoed: Vec<(FailReason, HoldReason)>,
}

impl Facts {
    /// Nothing seen yet.
    pub(super) fn new(unproved: Option<&Revision>) -> Self {
        Self { unproved: unproved.cloned(), ..Self::default() }
    }

    /// Whether a fault was seen in the last ten minutes on a pod that is not of a rollout under trial. A revision that
    /// never served, or that nobody proved good, may have that fault of its own: it is no witness.
    pub(super) fn seen(&self, reason: FailReason, t: Seconds) -> bool {
        let witnesses = || self.old.iter().filter(|(of, old)| old.ever_ready && Some(*of) != self.unproved.as_ref());
        match reason {
            FailReason::ProgressDeadline => self.deadline.is_some_and(|at| t - at <= BEFORE),
            _ => witnesses().flat_map(|(_, old)| &old.faults).any(|(r, at)| *r == reason && t - at <= BEFORE),
        }
    }

    /// Whether any such pod does not run.
    pub(super) fn fault(&self, t: Seconds) -> bool {
        Common::REASONS.iter().any(|reason| self.seen(*reason, t))
    }

    /// Kubernetes gave up waiting for progress.
    pub(super) fn deadline_exceeded(&mut self, t: Seconds) {
        self.deadline.get_or_insert(t);
    }

    /// Takes note of an old pod's state.
    pub(super) fn old_pod(&mut self, t: Seconds, pod: &Pod) {
        let old = self.old.entry(pod.state.revision.clone()).or_default();
        old.ever_ready |= pod.first_ready.is_some();
        // One sign less than a conviction needs: this only ever prevents one.
        let crashes =
            pod.failed_exit() && (pod.restarts_within(BEFORE, t) + 1 >= CRASHES || pod.waits_for("CrashLoopBackOff"));
        old.ever_looped |= crashes;
        let stuck = Stuck::of(pod.state.waiting.as_deref());
        for (seen, reason) in [
            (crashes, FailReason::CrashLoop),
            (stuck == Some(Stuck::Image), FailReason::ImagePull),
            (stuck == Some(Stuck::Config), FailReason::ConfigError),
        ] {
            // What is said of a pod that is gone is what it was like before.
            if seen && pod.live() {
                old.faults.retain(|(r, _)| *r != reason);
                old.faults.push((reason, t));
            }
        }
    }

    /// The strongest fact now, and what speaks against blaming this rollout for it.
    pub(super) fn judge(&mut self, t: Seconds, roster: &Roster, to: &Revision, others: &Common) -> Option<Fact> {
        let new: Vec<&Pod> = roster.of(to).collect();
        let needed = ((new.len() as f64 * FACT_SHARE).ceil() as usize).max(1);
        let stuck = |pod: &Pod, kind| {
            pod.stuck.filter(|(k, since, _)| *k == kind && t - since >= STUCK).map(|(_, since, _)| since)
        };
        let kinds: [(FailReason, Vec<(&Pod, Seconds)>); 3] = [
            (FailReason::CrashLoop, new.iter().filter_map(|p| Some((*p, p.looping?))).collect()),
            (FailReason::ImagePull, new.iter().filter_map(|p| Some((*p, stuck(p, Stuck::Image)?))).collect()),
            (FailReason::ConfigError, new.iter().filter_map(|p| Some((*p, stuck(p, Stuck::Config)?))).collect()),
        ];
        let mut found = kinds.into_iter().find(|(_, affected)| affected.len() >= needed);
        if found.is_none() && self.deadline.is_some() {
            if !new.is_empty() && new.iter().all(|pod| pod.state.ready) {
                self.deadline = None;
            } else {
                let waiting = new.iter().filter(|pod| !pod.state.ready).map(|pod| (*pod, pod.seen)).collect();
                found = Some((FailReason::ProgressDeadline, waiting));
            }
        }
        let Some((reason, affected)) = found else {
            self.vetoed.clear();
            return None;
        };
        self.vetoed.retain(|(r, _)| *r == reason);
        let hold = self.veto(t, roster, to, reason, (&new, &affected), others);
        let since = affected.iter().map(|(_, since)| *since).min_by(f64::total_cmp).or(self.deadline);
        let mut explanation = explain::fact(reason, &affected, new.len());
        if let Some(hold) = hold {
            explanation.push_str(explain::fact_hold(hold));
        }
        Some(Fact { reason, hold, explanation, since })
    }

    fn veto(
        &mut self,
        t: Seconds,
        roster: &Roster,
        to: &Revision,
        reason: FailReason,
        (new, affected): (&[&Pod], &[(&Pod, Seconds)]),
        others: &Common,
    ) -> Option<HoldReason> {
        if let Some((_, hold)) = self.vetoed.iter().find(|(r, _)| *r == reason) {
            return Some(*hold);
        }
        let recent = |wanted| wanted != FailReason::ProgressDeadline && self.seen(wanted, t);
        let mut old = roster.not_of(to).filter(|pod| Some(&pod.state.revision) != self.unproved.as_ref()).peekable();
        let hold = if self.no_baseline() {
            Some(HoldReason::NoBaseline)
        } else if recent(reason)
            || (reason == FailReason::ProgressDeadline
                && (recent(FailReason::CrashLoop)
                    || recent(FailReason::ImagePull)
                    || recent(FailReason::ConfigError)
                    || (old.peek().is_some() && old.all(|pod| !pod.state.ready))))
            || others.shares(reason)
        {
            Some(HoldReason::Shared)
        } else {
            one_node(new, affected).then_some(HoldReason::Node)
        };
        self.vetoed.extend(hold.map(|hold| (reason, hold)));
        hold
    }

    /// Whether an old revision was seen crash looping and none was ever Ready: there is no place to go back to.
    pub(super) fn no_baseline(&self) -> bool {
        self.old.values().any(|old| old.ever_looped) && !self.old.values().any(|old| old.ever_ready)
    }
}

/// Whether all affected pods (several) share a node while new pods elsewhere are Ready.
fn one_node(new: &[&Pod], affected: &[(&Pod, Seconds)]) -> bool {
    let nodes: BTreeSet<&str> = affected.iter().filter_map(|(pod, _)| pod.state.node.as_deref()).collect();
    let elsewhere: Vec<&&Pod> =
        new.iter().filter(|pod| pod.state.node.as_deref().is_some_and(|node| !nodes.contains(node))).collect();
    affected.len() >= 2 && nodes.len() == 1 && !elsewhere.is_empty() && elsewhere.iter().all(|pod| pod.state.ready)
}
