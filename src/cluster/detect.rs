//! Pure. What changed in the workloads: the old view and the new one make a [`Change`].
//!
//! A rollout is told by state, not by edges: whoever starts in its middle sees it too, because a
//! workload seen for the first time is [`Change::Found`] and its state tells whether a rollout runs.

use super::view::WorkloadView;
use crate::domain::{Revision, RolloutCondition, Seconds, WorkloadId};
use std::{collections::BTreeMap, sync::Arc};

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Seen for the first time. `rolling`: its state says that a rollout runs or has just ended.
    Found {
        /// The workload.
        view: Arc<WorkloadView>,
        /// Whether a rollout runs, by its status alone.
        rolling: bool,
    },
    /// Its template changed: a rollout begins.
    Began {
        /// The workload now.
        view: Arc<WorkloadView>,
        /// Revision that was live before.
        from: Revision,
        /// Whether that revision was fully rolled out and available when it was last seen.
        from_settled: bool,
        /// Whether only a restart was asked for.
        restart_only: bool,
    },
    /// Its template changed by our own undo.
    Undone {
        /// The workload now.
        view: Arc<WorkloadView>,
        /// Revision that was undone.
        from: Revision,
        /// Id of the undo.
        undo_id: String,
    },
    /// Kubernetes says something of the rollout.
    Condition {
        /// Which workload.
        workload: WorkloadId,
        /// What it says.
        condition: RolloutCondition,
    },
    /// Paused rollouts go on.
    Resumed {
        /// The workload now.
        view: Arc<WorkloadView>,
    },
    /// The workload is gone.
    Gone {
        /// Which workload.
        workload: WorkloadId,
    },
}

struct Known {
    view: Arc<WorkloadView>,
    /// Whether the live revision was ever seen fully rolled out.
    settled: bool,
}

/// All workloads as last seen.
#[derive(Default)]
pub struct Tracker {
    known: BTreeMap<WorkloadId, Known>,
}

impl Tracker {
    /// An object as the API server shows it now. Seeing the same twice changes nothing.
    pub fn apply(&mut self, view: WorkloadView) -> Vec<Change> {
        let view = Arc::new(view);
        let complete = view.progress.complete();
        let Some(known) = self.known.get_mut(&view.id) else {
            return self.found(view);
        };
        if known.view.uid != view.uid {
            let mut changes = vec![Change::Gone { workload: view.id.clone() }];
            changes.extend(self.found(view));
            return changes;
        }
        let old = std::mem::replace(&mut known.view, view.clone());
        let mut changes = Vec::new();
        if old.template.revision == view.template.revision {
            known.settled |= complete;
        } else {
            let from_settled = std::mem::replace(&mut known.settled, complete);
            let from = old.template.revision.clone();
            // A mark that was there before is no news: people may go back to what an undo once restored.
            let undone = view.undo_id().filter(|_| old.mark != view.mark).map(str::to_owned);
            changes.push(match undone {
                Some(undo_id) => Change::Undone { view: view.clone(), from, undo_id },
                None => Change::Began {
                    restart_only: old.template.but_restart == view.template.but_restart,
                    view: view.clone(),
                    from,
                    from_settled,
                },
            });
        }
        let turned = |was: bool, is: bool| is && !was;
        let condition = |condition| Change::Condition { workload: view.id.clone(), condition };
        if turned(old.progress.deadline_exceeded, view.progress.deadline_exceeded) {
            changes.push(condition(RolloutCondition::ProgressDeadlineExceeded));
        }
        if turned(old.paused, view.paused) {
            changes.push(condition(RolloutCondition::Paused));
        }
        if turned(view.paused, old.paused) {
            changes.push(Change::Resumed { view: view.clone() });
        }
        if turned(old.deleting, view.deleting) {
            changes.push(condition(RolloutCondition::Deleted));
        }
        changes
    }

    /// An object that is gone.
    pub fn remove(&mut self, workload: &WorkloadId) -> Option<Change> {
        self.known.remove(workload).map(|_| Change::Gone { workload: workload.clone() })
    }

    /// Everything known, in order.
    pub fn views(&self) -> impl Iterator<Item = &Arc<WorkloadView>> {
        self.known.values().map(|known| &known.view)
    }

    /// One workload as last seen.
    pub fn get(&self, workload: &WorkloadId) -> Option<&Arc<WorkloadView>> {
        self.known.get(workload).map(|known| &known.view)
    }

    fn found(&mut self, view: Arc<WorkloadView>) -> Vec<Change> {
        let (settled, rolling) = (view.progress.complete(), view.progress.rolling());
        let deadline = view.progress.deadline_exceeded.then(|| Change::Condition {
            workload: view.id.clone(),
            condition: RolloutCondition::ProgressDeadlineExceeded,
        });
        self.known.insert(view.id.clone(), Known { view: view.clone(), settled });
        std::iter::once(Change::Found { view, rolling }).chain(deadline).collect()
    }
}

/// Whether a workload that was just found ended a rollout so recently that it is still to be watched.
///
/// A Deployment says when it last progressed; for the other kinds `newest` tells when their newest revision
/// was made (see `recent_revisions`).
pub fn ended_recently(view: &WorkloadView, newest: Option<Seconds>, now: Seconds, watch: Seconds) -> bool {
    view.progress.progressed.or(newest).is_some_and(|t| now - t < watch)
}

#[cfg(test)]
mod tests {
    use super::{
        super::view::{Progress, UndoMark},
        *,
    };
    use crate::{cluster::template::TemplateMark, domain::Kind};
    use proptest::prelude::*;
    use serde_json::json;

    fn view(image: &str, edit: impl FnOnce(&mut WorkloadView)) -> WorkloadView {
        let template = TemplateMark::of(&json!({"spec": {"containers": [{"image": image}]}}));
        let mut view = WorkloadView {
            id: WorkloadId::new("shop", Kind::Deployment, "web"),
            uid: "u1".into(),
            created: 0.0,
            generation: 1,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            template,
            selector: "app=web".into(),
            paused: false,
            deleting: false,
            progress: Progress {
                observed: true,
                desired: 2,
                total: 2,
                updated: 2,
                ready: 2,
                available: 2,
                revision_settled: true,
                ..Progress::default()
            },
            mark: None,
        };
        edit(&mut view);
        view
    }

    #[test]
    fn a_new_template_begins_a_rollout_once() {
        let mut tracker = Tracker::default();
        assert!(matches!(tracker.apply(view("a", |_| {}))[..], [Change::Found { rolling: false, .. }]));
        let began = tracker.apply(view("b", |v| v.progress.updated = 1));
        let [Change::Began { from, from_settled: true, restart_only: false, .. }] = &began[..] else {
            panic!("{began:?}")
        };
        assert_eq!(*from, view("a", |_| {}).template.revision);
        assert!(tracker.apply(view("b", |_| {})).is_empty());
    }

    #[test]
    fn annotations_and_replicas_begin_nothing() {
        let mut tracker = Tracker::default();
        tracker.apply(view("a", |_| {}));
        let changed = view("a", |v| {
            v.annotations.insert("lastgood.dev/mode".into(), "act".into());
            v.generation = 7;
            v.progress.desired = 9;
        });
        assert!(tracker.apply(changed).is_empty());
    }

    #[test]
    fn a_revision_that_never_settled_is_not_vouched_for() {
        let mut tracker = Tracker::default();
        tracker.apply(view("a", |_| {}));
        tracker.apply(view("b", |v| v.progress.available = 1));
        let began = tracker.apply(view("c", |_| {}));
        assert!(matches!(began[..], [Change::Began { from_settled: false, .. }]), "{began:?}");
    }

    #[test]
    fn found_in_the_middle_of_a_rollout() {
        let mut tracker = Tracker::default();
        let found = tracker.apply(view("a", |v| {
            v.progress.updated = 1;
            v.progress.deadline_exceeded = true;
        }));
        assert!(matches!(
            found[..],
            [
                Change::Found { rolling: true, .. },
                Change::Condition { condition: RolloutCondition::ProgressDeadlineExceeded, .. }
            ]
        ));
    }

    fn marked(v: &mut WorkloadView) {
        let revision = view("a", |_| {}).template.revision;
        v.mark = Some(UndoMark { revision, undo_id: "7".into() });
    }

    #[test]
    fn our_own_undo_is_no_rollout_and_a_new_uid_is_another_workload() {
        let mut tracker = Tracker::default();
        tracker.apply(view("b", |_| {}));
        let undone = tracker.apply(view("a", marked));
        assert!(matches!(&undone[..], [Change::Undone { undo_id, .. }] if undo_id == "7"));
        tracker.apply(view("c", marked));
        let by_hand = tracker.apply(view("a", marked));
        assert!(matches!(by_hand[..], [Change::Began { .. }]), "the old mark is no undo: {by_hand:?}");
        let anew = tracker.apply(view("z", |v| v.uid = "u2".into()));
        assert!(matches!(anew[..], [Change::Gone { .. }, Change::Found { .. }]));
    }

    #[test]
    fn pausing_resuming_and_deleting_are_told_once() {
        let mut tracker = Tracker::default();
        tracker.apply(view("a", |_| {}));
        let paused = tracker.apply(view("a", |v| v.paused = true));
        assert!(matches!(paused[..], [Change::Condition { condition: RolloutCondition::Paused, .. }]));
        assert!(tracker.apply(view("a", |v| v.paused = true)).is_empty());
        assert!(matches!(tracker.apply(view("a", |_| {}))[..], [Change::Resumed { .. }]));
        assert!(tracker.remove(&view("a", |_| {}).id).is_some());
        assert!(tracker.remove(&view("a", |_| {}).id).is_none());
    }

    proptest! {
        /// Duplicates, as a reconnecting watch delivers them, change nothing.
        #[test]
        fn fault_21_repeating_any_view_is_silent(images in prop::collection::vec("[a-c]", 1..12)) {
            let mut tracker = Tracker::default();
            for image in images {
                tracker.apply(view(&image, |_| {}));
                let again = tracker.apply(view(&image, |_| {}));
                prop_assert!(again.is_empty());
            }
        }
    }
}
