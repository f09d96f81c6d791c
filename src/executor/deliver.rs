//! Sends the patch until its fate is known, then hands the fields back.

use super::{
    drive::{Executor, crash_point, verify_within, workload_of},
    handback::hand_back,
    prepare::{Prepared, Stop, UndoRequest, prepare},
    send::{self, Sent},
};
use crate::{
    cluster::{ReadError, TemplateMark, get_raw, of_raw},
    domain::{Revision, Rules, WorkloadId},
    record::{Incident, Phase},
};
use serde_json::Value;
use std::time::Duration;

/// How often a patch whose answer was unclear is looked up and, if it is not in, sent again.
const PATCH_TRIES: u32 = 4;

/// What became of a patch whose answer was not clear.
pub(super) enum Fate {
    /// It is in; the object as it is now.
    Applied(Value),
    /// It was in, and something else is live now; whether that is the bad template again.
    Replaced {
        /// What is live now.
        by: String,
        /// Whether it is the bad template.
        put_back: bool,
    },
    /// It is not in, and the judged template is still live.
    StillBad,
    /// It is not in, and there is nothing left to undo.
    Superseded(String),
    /// Nobody can tell now.
    Unreadable,
}

impl Executor {
    /// Sends the patch until its fate is known. Before each further try all gates are passed anew, on what is
    /// read then: a person may have paused it, and whatever else the patch tests may have moved on.
    ///
    /// Leaves the incident open, for whoever sweeps, when the fate cannot be told or another replica leads.
    pub(super) async fn deliver(&self, incident: Incident, request: &UndoRequest, mut prepared: Prepared) -> Incident {
        let (id, rules) = (&request.id, &request.rules);
        for attempt in 0..PATCH_TRIES {
            // I9: asked again right before the request leaves. Whoever leads now owns the record, too.
            if !self.leadership.leads() {
                return incident;
            }
            let plan = &prepared.plan;
            match send::patch(&self.cluster.writer, id, &plan.patch, false).await {
                Sent::Applied(object) => {
                    crash_point("after-patch");
                    let after = serde_json::to_value(&*object).unwrap_or_default();
                    let incident = self.applied(incident, id, &prepared.live, &after, rules).await;
                    return self.as_planned(incident, &plan.target, &after).await;
                }
                Sent::Refused(said) => {
                    let text = format!("the API server refused the undo: {said}");
                    return self.finish(&incident, Phase::Failed, &text).await;
                }
                Sent::MovedOn => {}
                Sent::Later { after, .. } => tokio::time::sleep(after).await,
                Sent::Unclear(why) => {
                    tracing::warn!(workload = %id, why, "no clear answer to the undo; looking for its mark");
                    tokio::time::sleep(Duration::from_millis(500 << attempt)).await;
                }
            }
            match self.fate(&incident).await {
                Fate::Applied(after) => return self.applied(incident, id, &prepared.live, &after, rules).await,
                Fate::Replaced { by, put_back } => return self.replaced(&incident, &by, put_back).await,
                Fate::Superseded(text) => return self.finish(&incident, Phase::Superseded, &text).await,
                Fate::Unreadable => {}
                Fate::StillBad => {
                    if let Some(why) = self.taken_back(&incident) {
                        return self.finish(&incident, Phase::Superseded, &why).await;
                    }
                    match prepare(&self.readers(), request, &plan.undo_id.clone()).await {
                        Ok(again) => prepared = again,
                        Err(Stop::Blocked { blocked, .. }) => {
                            return self.finish(&incident, Phase::Superseded, &blocked.why).await;
                        }
                        Err(Stop::Error(why)) => {
                            tracing::warn!(workload = %id, why, "the undo cannot be prepared anew");
                        }
                    }
                }
            }
        }
        // Not known to be in and not known to be out: the next sweep looks again, until the intent is stale.
        incident
    }

    /// The patch was in, and something else is live now: there is nothing more to do, and it counts as an
    /// applied undo (I1).
    pub(super) async fn replaced(&self, incident: &Incident, by: &str, put_back: bool) -> Incident {
        let now = self.clock.timestamp();
        let incident = self.note(incident, |status| status.applied = status.applied.or(Some(now))).await;
        if put_back {
            let text =
                format!("the undo was applied, then {by} put the bad revision back; Lastgood does not fight over it");
            self.finish(&incident, Phase::Failed, &text).await
        } else {
            let text = format!("the undo was applied, then a newer deploy took over: {by}");
            self.finish(&incident, Phase::Superseded, &text).await
        }
    }

    /// What became of the patch of an intent: the mark on the object tells, also when its template is gone
    /// again (I1).
    pub(super) async fn fate(&self, incident: &Incident) -> Fate {
        let (id, spec) = (workload_of(incident), &incident.spec);
        let undo_id = incident.status.as_ref().and_then(|s| s.undo_id.clone()).unwrap_or_default();
        let object = match get_raw(&self.cluster.reader, &id).await {
            Ok(object) => object,
            Err(ReadError::Missing(_)) => return Fate::Superseded("the workload was deleted".into()),
            Err(_) => return Fate::Unreadable,
        };
        let Some(seen) = of_raw(id.kind, &object) else { return Fate::Unreadable };
        if seen.uid != spec.workload.uid {
            return Fate::Superseded("the workload was deleted and made anew".into());
        }
        let live = &seen.template.revision;
        let marked = seen.mark.as_ref().is_some_and(|mark| mark.undo_id == undo_id);
        let put_back = *live == spec.bad.hash;
        match (marked, spec.target.as_ref().is_some_and(|t| t.hash == *live)) {
            (true, true) => Fate::Applied(serde_json::to_value(&object).unwrap_or_default()),
            (true, false) => {
                let by = match (put_back, seen.owner) {
                    (true, owner) => owner.map_or("somebody".into(), |o| o.to_string()),
                    (false, _) => seen.template.images.join(", "),
                };
                Fate::Replaced { by, put_back }
            }
            (false, _) if put_back => Fate::StillBad,
            (false, _) => Fate::Superseded(format!("a newer deploy is live: {}", seen.template.images.join(", "))),
        }
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
        let verify_by = now.checked_add(verify_within(rules)).unwrap_or(jiff::Timestamp::MAX);
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

    /// I13: what was stored is what was rehearsed. A webhook that rewrites only the real request would
    /// otherwise look like a newer deploy.
    async fn as_planned(&self, incident: Incident, target: &Revision, after: &Value) -> Incident {
        let stored = TemplateMark::of(after.pointer("/spec/template").unwrap_or(&Value::Null)).revision;
        if stored == *target {
            return incident;
        }
        let text =
            format!("admission rewrote the restored template after a clean rehearsal: {stored} instead of {target}");
        self.finish(&incident, Phase::Failed, &text).await
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
                        format!(
                            "; without an owner now, and may outlive the next deploy: {} field(s)",
                            back.orphans.len()
                        )
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
