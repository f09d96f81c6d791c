//! Keeps the record: what is written into Incidents, and who is told.

use super::{
    drive::Executor,
    gate::{Blocked, Gate},
    prepare::UndoRequest,
};
use crate::{
    clock::timestamp,
    record::{
        BAD_LABEL, Incident, IncidentSpec, IncidentStatus, IncidentWorkload, JournalEntry, Phase, RecordError,
        RevisionRef, UID_LABEL, incident_name,
    },
};
use kube::ResourceExt;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

impl Executor {
    /// Writes (once) an incident that is only reported, because a gate stands in the way.
    pub(super) async fn report(
        &self,
        request: &UndoRequest,
        blocked: &Blocked,
        bad: RevisionRef,
        target: Option<RevisionRef>,
    ) -> Option<Incident> {
        // Nothing to report of a verdict that others work on or that is moot.
        if request.by.manual || matches!(blocked.gate, Gate::NotLeader | Gate::Superseded | Gate::Deleting) {
            return None;
        }
        let entries = vec![
            self.incidents.entry("decided", self.reason(request)),
            self.incidents.entry("gate", format!("{}: {}", blocked.gate, blocked.why)),
        ];
        let status = IncidentStatus {
            message: blocked.why.clone(),
            journal: entries.clone(),
            finished: Some(self.clock.timestamp()),
            ..IncidentStatus::default()
        };
        // A revision's number moves with every rollout of it, and is the same after a restart of this process.
        let rollout =
            bad.number.map_or_else(|| format!("{:x}", request.began.unwrap_or_default() as u64), |n| n.to_string());
        let mut incident = self.new_incident(request, bad, target, status);
        if blocked.gate == Gate::AlreadyUndone {
            // The first incident of this template is closed; that it came again is one of its own (case 60).
            incident.metadata.name = Some(format!("{}-again-{rollout}", incident.name_any()));
        }
        let name = incident.name_any();
        match self.incidents.create(&incident).await {
            Ok(incident) => {
                self.tell(&incident);
                Some(incident)
            }
            // Known already: said again only when the reason changed.
            Err(RecordError::Exists(_)) => {
                let known = self.incidents.get(&request.id.namespace, &name).await.ok().flatten()?;
                let status = known.status.clone().unwrap_or_default();
                if status.phase != Phase::Reported || status.message == blocked.why {
                    return Some(known);
                }
                let edited = self.note(&known, |status| {
                    status.message.clone_from(&blocked.why);
                    status.journal.extend(entries[1..].iter().cloned());
                });
                let edited = edited.await;
                self.tell(&edited);
                Some(edited)
            }
            Err(error) => {
                tracing::error!(workload = %request.id, %error, "the incident could not be stored");
                None
            }
        }
    }

    pub(super) fn new_incident(
        &self,
        request: &UndoRequest,
        bad: RevisionRef,
        target: Option<RevisionRef>,
        status: IncidentStatus,
    ) -> Incident {
        let judgement = request.judgement.as_ref();
        let mut name = incident_name(&request.id, &request.uid, &request.bad);
        if request.by.manual {
            // A person may ask as often as they like: each time is an incident of its own.
            let id = status.undo_id.clone().unwrap_or_default();
            name = format!("{name}-{}", id.get(..6).unwrap_or("manual"));
        }
        let spec = IncidentSpec {
            workload: IncidentWorkload {
                kind: request.id.kind,
                name: request.id.name.clone(),
                uid: request.uid.clone(),
            },
            environment: self.environment.clone(),
            bad,
            target,
            trigger: request.by.clone(),
            reason: judgement.and_then(|j| j.verdict.reason()).unwrap_or("manual").into(),
            explanation: judgement.map_or_else(|| self.reason(request), |j| j.explanation.clone()),
            findings: judgement.map(|j| j.findings.clone()).unwrap_or_default(),
            log_e: judgement.map(|j| j.log_e).filter(|l| l.is_finite()),
            limits: judgement.map(|j| j.limits).unwrap_or_default(),
            rollout_began: request.began.map(timestamp),
            harm_since: judgement.and_then(|j| j.harm_since).map(timestamp),
            decided: judgement.map_or_else(|| self.clock.timestamp(), |j| timestamp(j.t)),
            epoch: Some(self.leadership.epoch()),
        };
        let mut incident = Incident::new(&name, spec);
        incident.metadata.namespace = Some(request.id.namespace.clone());
        incident.metadata.labels = Some(BTreeMap::from([
            (UID_LABEL.to_owned(), request.uid.clone()),
            (BAD_LABEL.to_owned(), request.bad.0.clone()),
        ]));
        incident.status = Some(status);
        incident
    }

    pub(super) fn reason(&self, request: &UndoRequest) -> String {
        match (&request.judgement, &request.by.note) {
            (Some(judgement), _) => judgement.explanation.clone(),
            (None, Some(note)) => format!("{} asked for it: {note}", request.by.by),
            (None, None) => format!("{} asked for it", request.by.by),
        }
    }

    pub(super) async fn finish(&self, incident: &Incident, phase: Phase, text: &str) -> Incident {
        self.finish_with(incident, phase, text, Vec::new()).await
    }

    pub(super) async fn finish_with(
        &self,
        incident: &Incident,
        phase: Phase,
        text: &str,
        mut journal: Vec<JournalEntry>,
    ) -> Incident {
        journal.push(self.incidents.entry("outcome", format!("{}: {text}", phase.as_str())));
        let now = self.clock.timestamp();
        let ended = AtomicBool::new(false);
        let incident = self
            .note(incident, |status| {
                // An end that another leader has written stands.
                if status.phase.is_final() {
                    return;
                }
                ended.store(true, Ordering::Relaxed);
                status.phase = phase;
                status.message = text.to_owned();
                status.finished = Some(now);
                status.journal.extend(journal.clone());
            })
            .await;
        if ended.load(Ordering::Relaxed) {
            self.tell(&incident);
        }
        incident
    }

    /// Writes to the Incident. When that fails, the change is kept in the answer and told: the workload's
    /// own mark and the next resume put the record right.
    pub(super) async fn note(&self, incident: &Incident, edit: impl Fn(&mut IncidentStatus)) -> Incident {
        let namespace = incident.namespace().unwrap_or_default();
        // What is known here but may not be stored yet, because an earlier note failed (I1 counts `applied`).
        let known = incident.status.clone().unwrap_or_default();
        let edit = |status: &mut IncidentStatus| {
            status.applied = status.applied.or(known.applied);
            status.verify_by = status.verify_by.or(known.verify_by);
            for entry in known.journal.iter().filter(|e| !status.journal.contains(e)).cloned().collect::<Vec<_>>() {
                status.journal.push(entry);
            }
            edit(status);
        };
        for pause in [0, 500, 2000] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match self.incidents.edit(&namespace, &incident.name_any(), &edit).await {
                Ok(incident) => return incident,
                Err(error) => {
                    tracing::warn!(incident = %incident.name_any(), %error, "the incident could not be updated");
                }
            }
        }
        let mut local = incident.clone();
        edit(local.status.get_or_insert_default());
        local
    }

    pub(super) fn tell(&self, incident: &Incident) {
        if self.outcomes.try_send(incident.clone()).is_err() {
            tracing::warn!(incident = %incident.name_any(), "the queue of outcomes is full; the sweep will tell it");
        }
    }
}
