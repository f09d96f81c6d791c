//! Sends the patch until its fate is known, then hands the fields back.

use super::{
    drive::{Executor, UndoError, crash_point, verify_within},
    handback::hand_back,
    prepare::Prepared,
    send::{self, Sent},
};
use crate::{
    cluster::{get_raw, of_raw},
    domain::{Revision, Rules, WorkloadId},
    record::{Incident, Phase},
};
use serde_json::Value;
use std::time::Duration;

const PATCH_TRIES: u32 = 4;

/// What became of a patch whose answer was not clear.
pub(super) enum Fate {
    Applied(Value),
    StillBad,
    Superseded(String),
    Unreadable,
}

impl Executor {
    /// Sends the patch until its fate is known, then hands the fields back.
    pub(super) async fn apply(
        &self,
        incident: Incident,
        id: &WorkloadId,
        prepared: &Prepared,
        rules: &Rules,
    ) -> Result<Incident, UndoError> {
        let plan = &prepared.plan;
        let mut why = String::new();
        for attempt in 0..PATCH_TRIES {
            // I9: asked again right before the request leaves.
            if !self.leadership.leads() {
                return Ok(self
                    .finish(&incident, Phase::Superseded, "another replica took the lead before the patch")
                    .await);
            }
            match send::patch(&self.cluster.writer, id, &plan.patch, false).await {
                Sent::Applied(object) => {
                    crash_point("after-patch");
                    let after = serde_json::to_value(&*object).unwrap_or_default();
                    return Ok(self.applied(incident, id, &prepared.live, &after, rules).await);
                }
                Sent::Refused(said) => {
                    return Ok(self
                        .finish(&incident, Phase::Failed, &format!("the API server refused the undo: {said}"))
                        .await);
                }
                Sent::MovedOn => why = "the workload changed between verdict and patch".into(),
                Sent::Later { after, why: said } => {
                    why = said;
                    tokio::time::sleep(after).await;
                }
                Sent::Unclear(said) => {
                    why = said;
                    tokio::time::sleep(Duration::from_millis(500 << attempt)).await;
                }
            }
            match self.fate(id, plan.undo_id.as_str(), &plan.bad, &incident.spec.workload.uid).await {
                Fate::Applied(after) => return Ok(self.applied(incident, id, &prepared.live, &after, rules).await),
                Fate::Superseded(text) => return Ok(self.finish(&incident, Phase::Superseded, &text).await),
                // Still the judged template: the patch's own tests make another try safe (I4).
                Fate::StillBad | Fate::Unreadable => {}
            }
        }
        Ok(self.finish(&incident, Phase::Failed, &format!("the patch could not be sent: {why}")).await)
    }

    /// What became of a patch whose answer was not clear: the mark on the object tells (I1).
    pub(super) async fn fate(&self, id: &WorkloadId, undo_id: &str, bad: &Revision, uid: &str) -> Fate {
        let Ok(object) = get_raw(&self.cluster.reader, id).await else { return Fate::Unreadable };
        let Some(seen) = of_raw(id.kind, &object) else { return Fate::Unreadable };
        if seen.uid != uid {
            return Fate::Superseded("the workload was deleted and made anew".into());
        }
        if seen.undo_id.as_deref() == Some(undo_id) {
            return Fate::Applied(serde_json::to_value(&object).unwrap_or_default());
        }
        if seen.template.revision == *bad {
            return Fate::StillBad;
        }
        Fate::Superseded(format!("a newer deploy is live: {}", seen.template.images.join(", ")))
    }

    /// Notes that the patch is in, and hands the fields back at once: the team's next deploy may come
    /// any moment.
    pub(super) async fn applied(
        &self,
        incident: Incident,
        id: &WorkloadId,
        before: &Value,
        after: &Value,
        rules: &Rules,
    ) -> Incident {
        let handed = self.hand_back(id, before, after).await;
        let now = self.clock.timestamp();
        let verify_by = now + verify_within(rules);
        let entries = [
            self.incidents.entry("patch", "applied: the template is the restored one"),
            self.incidents.entry("hand-back", handed),
        ];
        let incident = self
            .note(&incident, |status| {
                status.phase = Phase::Applied;
                status.message = "the restored revision is rolling out".into();
                status.applied = status.applied.or(Some(now));
                status.verify_by = status.verify_by.or(Some(verify_by));
                status.journal.extend(entries.clone());
            })
            .await;
        self.tell(&incident);
        incident
    }

    pub(super) async fn hand_back(&self, id: &WorkloadId, before: &Value, after: &Value) -> String {
        let fields = |object: &Value| object.pointer("/metadata/managedFields").cloned().unwrap_or(Value::Null);
        let before = fields(before);
        let mut after = fields(after);
        for _ in 0..5 {
            let Some(back) = hand_back(&before, &after) else { return "no fields to hand back".into() };
            match send::patch(&self.cluster.writer, id, &back.patch, false).await {
                Sent::Applied(_) => {
                    let to = if back.to.is_empty() { "nobody".into() } else { back.to.join(", ") };
                    let orphans = if back.orphans.is_empty() {
                        String::new()
                    } else {
                        format!("; {} fields have no owner now and may outlive the next deploy", back.orphans.len())
                    };
                    return format!("field ownership returned to {to}{orphans}");
                }
                Sent::Refused(why) => return format!("field ownership could not be returned: {why}"),
                // Controllers touch managedFields all the time during a rollout: read again.
                _ => match get_raw(&self.cluster.reader, id).await {
                    Ok(object) => after = fields(&serde_json::to_value(&object).unwrap_or_default()),
                    Err(error) => return format!("field ownership could not be returned: {error}"),
                },
            }
        }
        "field ownership could not be returned: the object changed too often; the next server-side apply may conflict"
            .into()
    }
}
