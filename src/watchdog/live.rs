//! What the loop keeps of one rollout under watch.

use crate::{
    analysis::succession,
    cluster::{PodWatch, WorkloadView},
    domain::{Judgement, Observed, PodId, PodTarget, Recovery, Revision, Rules, Seconds, TrialTarget, Verdict},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::watch, task::AbortHandle};

/// What a rollout is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Is the new revision good?
    Trial,
    /// Did our undo help?
    Recovery,
}

/// What a trial takes over from one that a newer rollout cut short before it had proved its revision good.
#[derive(Debug, Clone, Default)]
pub(super) struct Inherited {
    /// Up to when what was measured stands for "before": the unproved revision sets no standard.
    pub proven: Option<Seconds>,
    /// The unproved revision, when the newer one is only its restart: its pods count as new ones, and the
    /// trial goes on.
    pub restarted: Option<Revision>,
}

/// One rollout under watch; dropping it ends its pod watch and its opening.
pub(super) struct Live {
    pub view: Arc<WorkloadView>,
    pub purpose: Purpose,
    pub from: Option<Revision>,
    pub to: Revision,
    /// When the rollout began; `None` while its history is being read.
    pub began: Option<Seconds>,
    pub rules: Option<Arc<Rules>>,
    /// What it takes over from a trial that a newer rollout cut short.
    pub inherited: Inherited,
    /// Since when the first new pod is Ready: the watch counts from there.
    pub watch_from: Option<Seconds>,
    pub pods: BTreeMap<PodId, PodTarget>,
    pub pod_watch: Option<PodWatch>,
    /// Whether `pods` comes from a list that was read before the pod watch spoke.
    pub pods_listed: bool,
    /// Counters are read only after the past is in, so that they come in order.
    pub past_read: bool,
    /// What the pod watch showed before the past was in.
    pub waiting: Vec<Observed>,
    pub judgement: Option<Judgement>,
    pub recovery: Option<Recovery>,
    /// What was last told, and when.
    pub said: Option<(Verdict, Seconds)>,
    /// Whether it was told that the revision before was beyond its limits.
    pub doubted: bool,
    /// Tells its opening that the controller has seen the live template.
    pub observed: watch::Sender<bool>,
    opening: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.opening.abort();
    }
}

impl Live {
    pub fn opening(
        view: Arc<WorkloadView>,
        purpose: Purpose,
        inherited: Inherited,
        observed: watch::Sender<bool>,
        opening: AbortHandle,
    ) -> Self {
        Self {
            to: view.template.revision.clone(),
            view,
            purpose,
            from: None,
            began: None,
            rules: None,
            inherited,
            watch_from: None,
            pods: BTreeMap::new(),
            pod_watch: None,
            pods_listed: false,
            past_read: false,
            waiting: Vec::new(),
            judgement: None,
            recovery: None,
            said: None,
            doubted: false,
            observed,
            opening,
        }
    }

    pub fn start(&mut self, from: Revision, to: Revision, began: Seconds, rules: Arc<Rules>) {
        self.from = Some(from);
        self.to = to;
        self.began = Some(began);
        self.rules = Some(rules);
    }

    /// What the sources must know; `None` while the past is still being read.
    pub fn target(&self) -> Option<TrialTarget> {
        let rules = self.rules.clone().filter(|_| self.past_read)?;
        Some(TrialTarget {
            workload: self.view.id.clone(),
            rules,
            pods: self.pods.values().cloned().collect(),
            gone: Vec::new(),
        })
    }

    /// What the next rollout takes over from this trial, whose revision is not proved good: which revision
    /// was serving, when the rollout began, and the rest.
    pub fn hand_on(&self, from: &Revision, restart_only: bool, now: Seconds) -> (Revision, Seconds, Inherited) {
        let (Some(serving), Some(began)) = (self.from.clone(), self.began) else {
            return (from.clone(), now, Inherited::default());
        };
        let proven = Some(self.inherited.proven.unwrap_or(began));
        if restart_only {
            // The same content again: the trial goes on.
            (serving, began, Inherited { proven, restarted: Some(from.clone()) })
        } else {
            (from.clone(), now, Inherited { proven, restarted: None })
        }
    }

    /// Whether the revision on trial may be presumed good although its trial has not ended.
    pub fn speaks_for_itself(&self, now: Seconds) -> bool {
        let watch = self.rules.as_ref().map_or(f64::MAX, |rules| rules.watch.as_secs_f64());
        let watched = self.watch_from.map(|from| now - from);
        let first = self.from.as_ref().is_some_and(|from| from.0 == "none");
        succession::speaks_for_itself(self.judgement.as_ref(), watched, watch, first)
    }

    /// Whether a judgement is to be told: when the verdict is another, and a conviction again and again.
    pub fn due(&self, judgement: &Judgement, now: Seconds, again: Seconds) -> bool {
        match self.said {
            Some((verdict, _)) if verdict != judgement.verdict => true,
            Some((Verdict::Fail(_), at)) => now - at >= again,
            Some(_) => false,
            // The first word of a trial is "watching": worth no message.
            None => judgement.verdict != Verdict::Watching,
        }
    }
}
