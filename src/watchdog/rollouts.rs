//! Rollouts begin and end here: what the watches tell opens and closes trials.

use super::{
    Watchdog,
    live::{Inherited, Live, Purpose},
    opening::{Opened, Opening},
};
use crate::{
    cluster::{Change, PodSeen, Recent, Seen, WorkloadView, ended_recently},
    config::Facts,
    domain::{Decision, Mode, Observation, Observed, Revision, RolloutCondition, Rules, Seconds, WorkloadId},
    telemetry::metrics,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long the last judgement of a finished trial is still shown.
const SHOWN_FOR: Seconds = 3600.0;
/// A trial with few requests passes this long after its watch at the latest.
const PASS_ANYWAY: Seconds = 10_800.0;
/// How long signals are read after an undo, at least.
const RECOVERY_WATCH: Seconds = 900.0;

impl Watchdog {
    pub(super) async fn on_seen(&mut self, seen: Seen) {
        let changes = match seen {
            Seen::Applied(view) => {
                self.take_rules(&view);
                let same = |live: &&Live| view.progress.observed && live.to == view.template.revision;
                if let Some(live) = self.live.get(&view.id).filter(same) {
                    live.observed.send_replace(true);
                }
                self.tracker.apply(*view)
            }
            Seen::Removed(id) => {
                self.rules.remove(&id);
                self.malformed.remove(&id);
                self.tracker.remove(&id).into_iter().collect()
            }
            Seen::Synced(kind) => {
                self.trouble.remove(kind.plural());
                self.synced.insert(kind);
                Vec::new()
            }
            Seen::Skipped { kind, what } => {
                self.skipped += 1;
                metrics::object_skipped(kind.as_str());
                tracing::warn!(kind = %kind, what, "an object cannot be read and is skipped");
                Vec::new()
            }
            Seen::Trouble { kind, why, forbidden } => {
                metrics::watch_restarted(kind.plural());
                let need =
                    if forbidden { format!(" (needs list and watch on {})", kind.plural()) } else { String::new() };
                let said = format!("cannot watch {}: {why}{need}", kind.plural());
                if self.trouble.insert(kind.plural(), said.clone()).is_none() {
                    tracing::warn!("{said}; trying again");
                }
                Vec::new()
            }
        };
        for change in changes {
            self.on_change(change).await;
        }
    }

    pub(super) async fn on_change(&mut self, change: Change) {
        let now = self.inputs.clock.now();
        match change {
            Change::Found { view, rolling } => self.take_up(&view, rolling),
            Change::Began { view, from, from_settled, restart_only } => {
                // A revision whose own trial is still open must have said something for itself.
                let on_trial = self.live.get(&view.id).filter(|l| l.purpose == Purpose::Trial && l.to == from);
                let vouched = from_settled && on_trial.is_none_or(|trial| trial.speaks_for_itself(now));
                let (serving, began, inherited) = match on_trial.filter(|_| !vouched) {
                    None => (from.clone(), now, Inherited::default()),
                    Some(trial) => trial.hand_on(&from, restart_only, now),
                };
                tracing::info!(workload = %view.id, from = %from, to = %view.template.revision, restart_only, "a rollout began");
                if self.rules_of(&view.id).mode != Mode::Off {
                    self.decide(Decision::Began {
                        workload: view.id.clone(),
                        uid: view.uid.clone(),
                        from: from.clone(),
                        to: view.template.revision.clone(),
                        vouched,
                        restart_only,
                    })
                    .await;
                }
                self.open(&view, Purpose::Trial, Some(serving), Some(began), inherited);
            }
            Change::Undone { view, from, undo_id } => {
                tracing::info!(workload = %view.id, undo_id, "our undo is live; its effect is watched");
                self.open(&view, Purpose::Recovery, Some(from), Some(now), Inherited::default());
            }
            Change::Condition { workload, condition } => {
                self.observe(now, Observation::Condition { workload: workload.clone(), condition });
                if condition == RolloutCondition::Deleted {
                    self.close(&workload);
                }
            }
            // Judged again from scratch: a paused rollout has no honest windows.
            Change::Resumed { view } => self.open(&view, Purpose::Trial, None, Some(now), Inherited::default()),
            Change::Gone { workload } => {
                self.close(&workload);
                self.finished.remove(&workload);
                self.witnesses.forget(&workload);
            }
        }
    }

    /// Looks at a workload of which nothing was seen before: what its state tells of a rollout or an undo.
    fn take_up(&mut self, view: &Arc<WorkloadView>, rolling: bool) {
        let (now, rules) = (self.inputs.clock.now(), self.rules_of(&view.id));
        let Recent { newest, passed, begun } = &self.inputs.recent;
        let newest = newest.get(&view.uid).copied();
        let ended = |within: Duration| ended_recently(view, newest, now, within.as_secs_f64());
        let passed = passed.get(&view.uid).filter(|(revision, _)| *revision == view.template.revision);
        // What nobody saw begin is not judged a day later: who was installed today knows nothing of it.
        let begun = begun.get(&view.uid).is_some_and(|t| now - t < rules.late_watch.as_secs_f64());
        let undone = view.mark.as_ref().filter(|_| view.undo_id().is_some()).and_then(|mark| mark.planned());
        let undone = undone.filter(|t| now - t < recovery_watch(&rules));
        if undone.is_some() {
            self.open(view, Purpose::Recovery, None, undone, Inherited::default());
        } else if rolling || ended(rules.watch) {
            self.open(view, Purpose::Trial, None, None, Inherited::default());
        } else if let Some((revision, at)) = passed.filter(|_| rules.mode != Mode::Off) {
            let began = at - rules.watch.as_secs_f64();
            self.docket.watch_late((began, *at), view.id.clone(), revision.clone(), rules);
        } else if begun && ended(rules.late_watch) && view.undo_id().is_none() {
            self.open(view, Purpose::Trial, None, None, Inherited::default());
        }
    }

    /// Starts to look at a rollout: the history is read beside the loop.
    pub(super) fn open(
        &mut self,
        view: &Arc<WorkloadView>,
        purpose: Purpose,
        from: Option<Revision>,
        began: Option<Seconds>,
        inherited: Inherited,
    ) {
        // The watch after an undo takes over the limits of the trial that convicted: that one stays open till then.
        self.live.remove(&view.id);
        self.passed.forget(&view.id);
        if purpose == Purpose::Trial {
            self.docket.close(&view.id);
        }
        let rules = self.rules_of(&view.id);
        // A Deployment that was changed while it was paused has no new revision to judge: its rollout begins when it
        // is resumed. One that was paused in the middle of a rollout has new pods, and they may be bad.
        let untouched = view.paused && !(view.progress.observed && view.progress.updated > 0);
        if rules.mode == Mode::Off || untouched {
            self.docket.close(&view.id);
            return;
        }
        // A trial that is opened again brings the view that it began with.
        let latest = self.tracker.get(&view.id).filter(|v| v.template.revision == view.template.revision);
        let (seen, observed) = watch::channel(latest.unwrap_or(view).progress.observed);
        let opening = Opening {
            cluster: self.inputs.cluster.clone(),
            sources: self.inputs.sources.clone(),
            clock: self.inputs.clock,
            step: self.inputs.interval,
            view: view.clone(),
            rules,
            from,
            began,
            inherited: inherited.clone(),
            observed,
            turns: self.turns.clone(),
        };
        let task = tokio::spawn(opening.run(self.opened_tx.clone()));
        self.live.insert(view.id.clone(), Live::opening(view.clone(), purpose, inherited, seen, task.abort_handle()));
    }

    pub(super) async fn on_opened(&mut self, opened: Opened) {
        let id = opened.workload().clone();
        // A newer rollout may have begun meanwhile.
        let rules = self.rules_of(&id);
        let Some(live) = self.live.get_mut(&id).filter(|l| l.view.template.revision == *opened.to()) else { return };
        match opened {
            Opened::Revisions { from, to, began, members, .. } => {
                live.start(from, to, began, rules);
                let (watch, known) = self.pod_watches.watch(members);
                live.pod_watch = Some(watch);
                known.into_iter().for_each(|pod| self.on_pod(pod));
            }
            Opened::Past { observed, pods, .. } => {
                if live.pods.is_empty() {
                    live.pods = pods.into_iter().map(|pod| (pod.pod.clone(), pod)).collect();
                    live.pods_listed = true;
                }
                self.begin(&id, &observed);
                // After a restart its past alone may convict it.
                self.hear_peers_first();
                // At once, not at the next tick: the old pods may be gone by then, and with them what they
                // would have said beside the new ones.
                if self.outstanding == 0 {
                    self.on_tick().await;
                }
            }
            Opened::Failed { why, .. } => {
                tracing::warn!(workload = %id, why, "the rollout cannot be judged yet; trying again");
                self.reopen(&id);
            }
        }
    }

    /// The trial begins with its past: what lies after the rollout's begin is judged tick by tick, as it
    /// would have been then. What the pod watch has shown meanwhile comes last.
    pub(super) fn begin(&mut self, id: &WorkloadId, past: &[Observed]) {
        let Some(live) = self.live.get_mut(id) else { return };
        let (Some(began), Some(from), Some(rules)) = (live.began, live.from.clone(), live.rules.clone()) else {
            return;
        };
        let (to, waiting) = (live.to.clone(), std::mem::take(&mut live.waiting));
        live.past_read = true;
        let proven = live.inherited.proven.unwrap_or(began);
        let (conditions, replicas) = (conditions(&live.view), u32::try_from(live.view.progress.desired).unwrap_or(0));
        let purpose = live.purpose;
        let convicted = live.view.undo_id().and_then(|undo| self.inputs.convictions.get(undo)).copied();
        let calls = self.calls(id);
        self.witnesses.told(id, &calls);
        let what = Observation::Workload { workload: id.clone(), replicas, calls: Some(calls) };
        self.take(&Observed { t: began, what });
        // A trace tells in a line what the docket is told by a call.
        let (of, new) = (from.clone(), to.clone());
        let rollout = Observation::Rollout { workload: id.clone(), from: of, to: new, past: Some(past.len()) };
        self.record(&[&[Observed { t: began, what: rollout }], past].concat());
        match purpose {
            Purpose::Trial => self.docket.open_after(began, proven, id.clone(), from, to, rules),
            Purpose::Recovery => self.docket.watch_recovery(began, id.clone(), from, to, rules, convicted),
        }
        self.docket.catch_up(began, past);
        let now = self.inputs.clock.now();
        waiting.iter().for_each(|observed| self.take(observed));
        for condition in conditions {
            self.observe(now, Observation::Condition { workload: id.clone(), condition });
        }
    }

    pub(super) fn on_pod(&mut self, pod: PodSeen) {
        let now = self.inputs.clock.now();
        let Some(live) = self.live.get_mut(&pod.state.workload) else { return };
        if std::mem::take(&mut live.pods_listed) {
            // The watch knows better; a pod that went in between must not be read for ever.
            live.pods.clear();
        }
        if pod.state.deleted {
            live.pods.remove(&pod.state.pod);
        } else {
            live.pods.insert(pod.state.pod.clone(), pod.target.clone());
        }
        if live.watch_from.is_none() && pod.state.ready && pod.state.revision == live.to {
            live.watch_from = Some(pod.state.ready_since.unwrap_or(now));
        }
        let observed = Observed { t: now, what: Observation::from(pod.state) };
        if live.past_read {
            self.take(&observed);
        } else {
            live.waiting.push(observed);
        }
    }

    pub(super) fn close(&mut self, id: &WorkloadId) {
        self.docket.close(id);
        self.live.remove(id);
        self.passed.forget(id);
    }

    pub(super) fn close_old(&mut self) {
        let now = self.inputs.clock.now();
        let old = |live: &Live| {
            let longest = |rules: &Arc<Rules>| match live.purpose {
                Purpose::Trial => rules.late_watch.as_secs_f64().max(rules.watch.as_secs_f64() + PASS_ANYWAY),
                Purpose::Recovery => recovery_watch(rules),
            };
            live.began.zip(live.rules.as_ref()).is_some_and(|(began, rules)| now - began > longest(rules))
        };
        let ended: Vec<WorkloadId> = self.live.iter().filter(|(_, l)| old(l)).map(|(id, _)| id.clone()).collect();
        for id in ended {
            if let Some(judgement) = self.live.get_mut(&id).and_then(|l| l.judgement.take()) {
                self.finished.insert(id.clone(), (now, judgement));
            }
            self.close(&id);
        }
        let watched: BTreeSet<WorkloadId> = self.docket.late_ids().cloned().collect();
        self.finished.retain(|id, (at, _)| now - *at < SHOWN_FOR || watched.contains(id));
    }

    /// What holds for a workload is read when it or the thresholds change. One that was not watched until now is
    /// looked at as at start: its rollout may be running.
    fn take_rules(&mut self, view: &WorkloadView) {
        let was = self.rules.get(&view.id).map(|rules| rules.mode);
        self.read_rules(view);
        if was == Some(Mode::Off) && self.rules_of(&view.id).mode != Mode::Off {
            self.take_up(&Arc::new(view.clone()), view.progress.rolling());
        } else {
            self.refresh(&view.id);
        }
    }

    /// The rules of a workload; malformed annotations are told and disarm it.
    fn read_rules(&mut self, view: &WorkloadView) {
        let facts = Facts {
            namespace: &view.id.namespace,
            kind: view.id.kind,
            name: &view.id.name,
            labels: &view.labels,
            annotations: &view.annotations,
        };
        let found = self.inputs.thresholds.borrow().thresholds.rules_for(&facts);
        if found.faults.is_empty() {
            self.malformed.remove(&view.id);
        } else if self.malformed.get(&view.id) != Some(&found.faults) {
            for fault in &found.faults {
                tracing::warn!(workload = %view.id, "{fault}");
            }
            self.malformed.insert(view.id.clone(), found.faults);
        }
        self.rules.insert(view.id.clone(), found.rules);
    }

    pub(super) fn rules_of(&self, id: &WorkloadId) -> Arc<Rules> {
        self.rules.get(id).cloned().unwrap_or_default()
    }

    /// New thresholds hold from now on, for live trials too.
    pub(super) fn on_thresholds(&mut self) {
        let views: Vec<Arc<WorkloadView>> = self.tracker.views().cloned().collect();
        for view in views {
            self.take_rules(&view);
        }
        self.publish();
    }

    /// What holds for a workload now holds for its live trial, too: a person may disarm it at any moment.
    fn refresh(&mut self, id: &WorkloadId) {
        let rules = self.rules_of(id);
        self.docket.refresh_late(id, &rules);
        let Some(live) = self.live.get_mut(id) else {
            if rules.mode == Mode::Off {
                self.close(id);
            }
            return;
        };
        let Some(old) = live.rules.clone().filter(|old| *old != rules) else { return };
        let same_limits =
            Rules { mode: rules.mode, undo: rules.undo.clone(), policy: rules.policy.clone(), ..(*old).clone() }
                == *rules;
        if same_limits && rules.mode != Mode::Off {
            live.rules = Some(rules);
        } else {
            // Other limits: the trial is judged anew from its past, as after a restart.
            self.reopen(id);
        }
    }

    /// Opens a trial again as it was opened before.
    fn reopen(&mut self, id: &WorkloadId) {
        let Some(live) = self.live.get(id) else { return };
        let (view, purpose, from, began) = (live.view.clone(), live.purpose, live.from.clone(), live.began);
        let inherited = live.inherited.clone();
        self.open(&view, purpose, from, began, inherited);
    }
}

/// How long signals are read after an undo: a while longer than it may take to verify it.
fn recovery_watch(rules: &Rules) -> Seconds {
    RECOVERY_WATCH.max(rules.undo.verify_within.as_secs_f64() + 60.0)
}

fn conditions(view: &WorkloadView) -> Vec<RolloutCondition> {
    use RolloutCondition::{Paused, ProgressDeadlineExceeded};
    [(view.paused, Paused), (view.progress.deadline_exceeded, ProgressDeadlineExceeded)]
        .into_iter()
        .filter_map(|(holds, condition)| holds.then_some(condition))
        .collect()
}
