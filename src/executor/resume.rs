//! Takes up every incident that a crash or a change of leader left open.

use super::{
    deliver::Fate,
    drive::{Executor, phase, workload_of},
    prepare::{Choice, Stop, UndoRequest, prepare},
};
use crate::{
    domain::{Brake, Rules, UndoRules, WorkloadId},
    record::{Incident, Phase, RecordError},
};
use jiff::SignedDuration;
use std::{sync::Arc, time::Duration};

/// An intent whose evidence is older than this is not carried out after a restart.
const STALE_INTENT: SignedDuration = SignedDuration::from_secs(300);
/// The brakes counted this undo when its intent was stored.
const ANY: Brake = Brake { count: u32::MAX, window: Duration::from_secs(1) };

impl Executor {
    /// Every incident of the cluster that is not at its end (I7, I18), with the workload it is about.
    ///
    /// # Errors
    /// When the incidents cannot be listed.
    pub async fn open(&self) -> Result<Vec<(WorkloadId, Incident)>, RecordError> {
        let all = self.incidents.all().await?;
        Ok(all.into_iter().filter(|i| !phase(i).is_final()).map(|i| (workload_of(&i), i)).collect())
    }

    /// Brings an incident that a crash or a change of leader left open to its end.
    pub async fn resume(&self, incident: Incident, rules: &Arc<Rules>) -> Incident {
        let intended = phase(&incident) == Phase::Intended;
        let incident = if intended { Box::pin(self.resume_intent(incident, rules)).await } else { incident };
        self.prove(incident, rules).await
    }

    /// An intent was stored, and nobody knows whether its patch was sent.
    pub(super) async fn resume_intent(&self, incident: Incident, rules: &Arc<Rules>) -> Incident {
        let id = workload_of(&incident);
        let undo_id = incident.status.as_ref().and_then(|s| s.undo_id.clone()).unwrap_or_default();
        match self.fate(&id, &undo_id, &incident.spec.bad.hash, &incident.spec.workload.uid).await {
            Fate::Applied(after) => {
                let entry =
                    self.incidents.entry("resume", "found the mark of this undo on the workload after a restart");
                let incident = self.note(&incident, |status| status.journal.push(entry.clone())).await;
                // What held the fields before is not known any more; the heir is whoever holds the template now.
                self.applied(incident, &id, &after, &after, rules).await
            }
            Fate::Superseded(text) => self.finish(&incident, Phase::Superseded, &text).await,
            Fate::Unreadable => incident,
            Fate::StillBad if self.clock.timestamp().duration_since(incident.spec.decided) > STALE_INTENT => {
                let text = "the intent was too old to be carried out after a restart; the rollout is judged afresh";
                self.finish(&incident, Phase::Superseded, text).await
            }
            Fate::StillBad => self.carry_out(incident, &id, &undo_id, rules).await,
        }
    }

    /// The judged template is still live and the evidence is fresh: go through the gates again, with the
    /// same undo id, and send.
    pub(super) async fn carry_out(
        &self,
        incident: Incident,
        id: &WorkloadId,
        undo_id: &str,
        rules: &Arc<Rules>,
    ) -> Incident {
        let Some(target) = incident.spec.target.clone() else {
            return self.finish(&incident, Phase::Failed, "the intent names no target").await;
        };
        let request = UndoRequest {
            id: id.clone(),
            uid: incident.spec.workload.uid.clone(),
            bad: incident.spec.bad.hash.clone(),
            from: None,
            // The gates of the first time have let it pass; what matters now is what changed since.
            rules: Arc::new(Rules {
                undo: UndoRules {
                    max_per_workload: ANY,
                    max_per_namespace: ANY,
                    max_per_cluster: ANY,
                    ..rules.undo.clone()
                },
                ..(**rules).clone()
            }),
            frozen: None,
            judgement: None,
            began: None,
            by: incident.spec.trigger.clone(),
            choice: Choice::Revision(target.hash),
        };
        let prepared = prepare(&self.readers(), &request, undo_id).await;
        match prepared {
            Ok(prepared) => match self.apply(incident.clone(), id, &prepared, rules).await {
                Ok(done) => done,
                Err(error) => self.finish(&incident, Phase::Failed, &error.to_string()).await,
            },
            Err(Stop::Blocked { blocked, .. }) => self.finish(&incident, Phase::Superseded, &blocked.why).await,
            Err(Stop::Error(why)) => self.finish(&incident, Phase::Failed, &why).await,
        }
    }
}
