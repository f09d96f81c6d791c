//! What a Deployment tells of itself: counts, and the conditions Available, Progressing and ReplicaFailure.

use super::{
    super::{
        object::{after, condition, flag, name, number, text, when},
        store::{Manager, Store},
    },
    deployment::{View, sum},
    status::{Condition, write},
};
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counts {
    pub total: i64,
    pub updated: i64,
    pub ready: i64,
    pub available: i64,
}

impl Counts {
    pub fn of(view: &View) -> Self {
        Self {
            total: sum(view.all(), "/status/replicas"),
            updated: sum(view.new.iter(), "/status/replicas"),
            ready: sum(view.all(), "/status/readyReplicas"),
            available: sum(view.all(), "/status/availableReplicas"),
        }
    }

    fn told(deployment: &Value) -> Self {
        let get = |field| number(deployment, field).unwrap_or(0);
        Self {
            total: get("/status/replicas"),
            updated: get("/status/updatedReplicas"),
            ready: get("/status/readyReplicas"),
            available: get("/status/availableReplicas"),
        }
    }

    fn better_than(self, old: Self) -> bool {
        self.updated > old.updated
            || self.total - self.updated < old.total - old.updated
            || self.ready > old.ready
            || self.available > old.available
    }
}

/// Writes the status; tells when the deadline must be looked at again.
pub(super) fn tell(store: &mut Store, view: &View, note: Option<Condition>) -> Option<Timestamp> {
    let now = store.now();
    let counts = Counts::of(view);
    let unavailable = (sum(view.all(), "/spec/replicas") - counts.available).max(0);
    let enough = counts.available >= view.wanted() - view.fences().unavailable;
    // Annotations written a moment ago have counted the generation up.
    let generation = store.get(&view.key).and_then(|d| number(d, "/metadata/generation")).unwrap_or(0);
    let (progressing, again) = progress(view, counts, now, note);
    write(store, &view.key, Manager::CONTROLLERS, now, |status| {
        status.insert("observedGeneration".into(), json!(generation));
        for (field, count) in [
            ("replicas", counts.total),
            ("updatedReplicas", counts.updated),
            ("readyReplicas", counts.ready),
            ("availableReplicas", counts.available),
            ("unavailableReplicas", unavailable),
        ] {
            if count > 0 {
                status.insert(field.into(), json!(count));
            } else {
                status.remove(field);
            }
        }
        let available = if enough {
            Condition::new("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            let text = "Deployment does not have minimum availability.";
            Condition::new("Available", "False", "MinimumReplicasUnavailable", text)
        };
        let failed = view.all().find_map(|set| condition(set, "ReplicaFailure"));
        let failure = failed.map(|c| Condition::new("ReplicaFailure", "True", "FailedCreate", text(c, "/message")));
        std::iter::once(available).chain(progressing).chain(failure).collect()
    });
    again
}

/// What is said of the progress of the rollout (`syncRolloutStatus`).
fn progress(
    view: &View,
    counts: Counts,
    now: Timestamp,
    note: Option<Condition>,
) -> (Option<Condition>, Option<Timestamp>) {
    let Some(deadline) = view.deadline() else { return (None, None) };
    if note.is_some() {
        return (note, Some(after(now, deadline)));
    }
    let old = condition(&view.deployment, "Progressing");
    let reason = old.map_or("", |c| text(c, "/reason"));
    let keep = |c: &Value| Condition::kept("Progressing", c);
    let settled = counts.total == counts.updated && reason == "NewReplicaSetAvailable";
    if settled || flag(&view.deployment, "/spec/paused") {
        return (old.map(keep), None);
    }
    let subject = match &view.new {
        Some(new) => format!("ReplicaSet \"{}\"", name(new)),
        None => format!("Deployment \"{}\"", name(&view.deployment)),
    };
    let done = counts.updated == view.wanted() && counts.total == view.wanted() && counts.available == view.wanted();
    if done {
        let text = format!("{subject} has successfully progressed.");
        return (Some(Condition::new("Progressing", "True", "NewReplicaSetAvailable", text)), None);
    }
    if counts.better_than(Counts::told(&view.deployment)) {
        let text = format!("{subject} is progressing.");
        let moved = Condition::new("Progressing", "True", "ReplicaSetUpdated", text).touched();
        return (Some(moved), Some(after(now, deadline + 1.0)));
    }
    let since = old.and_then(|c| when(c, "/lastUpdateTime"));
    match since.map(|since| after(since, deadline)) {
        _ if matches!(reason, "ProgressDeadlineExceeded" | "NewReplicaSetAvailable") => (old.map(keep), None),
        Some(end) if end < now => {
            let text = format!("{subject} has timed out progressing.");
            (Some(Condition::new("Progressing", "False", "ProgressDeadlineExceeded", text)), None)
        }
        // One second later, as the real controller looks: the condition keeps whole seconds.
        Some(end) => (old.map(keep), Some(after(end, 1.0))),
        None => (None, None),
    }
}
