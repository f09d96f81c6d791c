//! Takes up every incident that a crash or a change of leader left open.

use super::{
    deliver::Fate,
    drive::{Executor, phase, workload_of},
    prepare::{Choice, Stop, UndoRequest, prepare},
};
use crate::{
    domain::Rules,
    record::{Incident, Phase},
};
use jiff::SignedDuration;
use kube::ResourceExt;
use std::sync::Arc;

/// An intent whose evidence is older than this is not carried out any more.
const STALE_INTENT: SignedDuration = SignedDuration::from_secs(300);

impl Executor {
    /// Brings an incident that a crash or a change of leader left open to its end (I7, I18); nothing when this
    /// process is at work on it already.
    pub async fn resume(&self, known: &Incident, rules: &Arc<Rules>) {
        let Some(_at_work) = self.at_work(known) else { return };
        // What is known of it may be older than the end that this process has just written.
        let namespace = known.namespace().unwrap_or_default();
        let Ok(Some(incident)) = self.incidents.get(&namespace, &known.name_any()).await else { return };
        if phase(&incident).is_final() {
            return;
        }
        // A person's own undo is verified by the command that asked for it, as long as its time lasts.
        let own = incident.spec.trigger.manual && phase(&incident) == Phase::Applied;
        let by = incident.status.as_ref().and_then(|s| s.verify_by);
        if own && by.is_some_and(|by| self.clock.timestamp() < by) {
            return;
        }
        let intended = phase(&incident) == Phase::Intended;
        let incident = if intended { Box::pin(self.resume_intent(incident, rules)).await } else { incident };
        self.prove(incident, rules).await;
    }

    /// An intent was stored, and nobody knows whether its patch was sent.
    async fn resume_intent(&self, incident: Incident, rules: &Arc<Rules>) -> Incident {
        match self.fate(&incident).await {
            Fate::Applied(after) => {
                let entry =
                    self.incidents.entry("resume", "found the mark of this undo on the workload after a restart");
                let incident = self.note(&incident, |status| status.journal.push(entry.clone())).await;
                // What held the fields before is not known any more; the heir is whoever holds the template now.
                self.applied(incident.clone(), &workload_of(&incident), &after, &after, rules).await
            }
            Fate::Replaced { by, put_back } => self.replaced(&incident, &by, put_back).await,
            Fate::Superseded(text) => self.finish(&incident, Phase::Superseded, &text).await,
            Fate::Unreadable => incident,
            Fate::StillBad if self.clock.timestamp().duration_since(incident.spec.decided) > STALE_INTENT => {
                let text = "the intent was too old to be carried out; the rollout is judged afresh";
                self.finish(&incident, Phase::Superseded, text).await
            }
            Fate::StillBad => match self.taken_back(&incident) {
                Some(why) => self.finish(&incident, Phase::Superseded, &why).await,
                None => self.carry_out(incident, rules).await,
            },
        }
    }

    /// The judged template is still live and the evidence is fresh: go through the gates again, with the
    /// same undo id, and send.
    async fn carry_out(&self, incident: Incident, rules: &Arc<Rules>) -> Incident {
        let Some(target) = incident.spec.target.clone() else {
            return self.finish(&incident, Phase::Failed, "the intent names no target").await;
        };
        let undo_id = incident.status.as_ref().and_then(|s| s.undo_id.clone()).unwrap_or_default();
        let request = UndoRequest {
            id: workload_of(&incident),
            uid: incident.spec.workload.uid.clone(),
            bad: incident.spec.bad.hash.clone(),
            from: None,
            rules: rules.clone(),
            judgement: None,
            began: None,
            by: incident.spec.trigger.clone(),
            choice: Choice::Revision(target.hash),
        };
        match prepare(&self.readers(), &request, &undo_id).await {
            Ok(prepared) => self.deliver(incident, &request, prepared).await,
            Err(Stop::Blocked { blocked, .. }) => self.finish(&incident, Phase::Superseded, &blocked.why).await,
            // It stays an intent: the next sweep tries again, until it is stale.
            Err(Stop::Error(why)) => {
                tracing::warn!(incident = %incident.name_any(), why, "the intent cannot be carried out yet");
                incident
            }
        }
    }
}
