//! Drives one undo from request to outcome. The steps lie beside it: `prepare`, `deliver`, `verify`; `writeup`
//! keeps the record, `resume` takes up what a crash left open.

use super::{
    gate::{Blocked, Gate},
    plan::named_leftovers,
    prepare::{Prepared, Readers, Stop, UndoRequest, prepare},
    verify::{Claim, verify},
};
use crate::{
    clock::{Clock, seconds},
    cluster::{Cluster, Freezes},
    domain::{Judgement, Recovery, Revision, Rules, Verdict, WorkloadId},
    record::{Incident, IncidentStatus, Incidents, JournalEntry, Leadership, Phase, Pins, RecordError},
};
use jiff::SignedDuration;
use kube::ResourceExt;
use ring::rand::SecureRandom;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, watch};

/// Why an undo ended without an incident to show for it.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// A gate stood in the way; the incident, if one was written.
    #[error("not undone: {}", .0.why)]
    Blocked(Blocked, Option<Box<Incident>>),
    /// The cluster could not be read, or did not answer. Nothing was written to the workload.
    #[error("could not undo: {0}")]
    Failed(String),
}

/// The one writer.
pub struct Executor {
    pub(super) cluster: Cluster,
    pub(super) incidents: Incidents,
    pub(super) pins: Pins,
    pub(super) leadership: Leadership,
    pub(super) clock: Clock,
    pub(super) environment: String,
    /// Everything worth telling goes here; a full channel loses nothing, since Incidents are swept too.
    pub(super) outcomes: mpsc::Sender<Incident>,
    pub(super) signals: Mutex<BTreeMap<WorkloadId, watch::Sender<Option<Recovery>>>>,
    /// One undo at a time goes from its gates to its intent, so that the brakes count right (I11).
    gatekeeper: tokio::sync::Mutex<()>,
    /// Incidents that this process is at work on: none is taken up twice.
    driving: Mutex<BTreeSet<String>>,
    /// Convictions that were taken back: the workload, its revision, and what was said then.
    withdrawn: Mutex<BTreeMap<WorkloadId, (Revision, String)>>,
    /// What people have frozen; `None` for a person's own undo.
    freezes: Option<watch::Receiver<Arc<Freezes>>>,
}

/// Held while this process works on an incident.
pub(super) struct AtWork<'a> {
    driving: &'a Mutex<BTreeSet<String>>,
    name: String,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Executor {
    /// Puts the parts together.
    pub fn new(
        cluster: Cluster,
        leadership: Leadership,
        clock: Clock,
        environment: String,
        outcomes: mpsc::Sender<Incident>,
        freezes: Option<watch::Receiver<Arc<Freezes>>>,
    ) -> Self {
        let incidents = Incidents::new(cluster.writer.clone(), clock, &cluster.namespaces);
        let pins = Pins::new(cluster.writer.clone());
        Self {
            cluster,
            incidents,
            pins,
            leadership,
            clock,
            environment,
            outcomes,
            signals: Mutex::default(),
            gatekeeper: tokio::sync::Mutex::default(),
            driving: Mutex::default(),
            withdrawn: Mutex::default(),
            freezes,
        }
    }

    /// What the signals say after an undo; ignored when none is being verified.
    pub fn recovery(&self, recovery: Recovery) {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.retain(|_, tx| !tx.is_closed());
        if let Some(tx) = signals.get(&recovery.workload) {
            tx.send_replace(Some(recovery));
        }
    }

    /// What is said of a rollout now: an undo that could not be sent yet is dropped when its conviction is taken back.
    pub fn judged(&self, judgement: &Judgement) {
        let mut withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(judgement.verdict, Verdict::Fail(_)) {
            withdrawn.remove(&judgement.workload);
        } else {
            withdrawn.insert(judgement.workload.clone(), (judgement.to.clone(), judgement.explanation.clone()));
        }
    }

    /// Why the conviction that an incident rests on holds no more, if so. What a person asked for rests on none.
    pub(super) fn taken_back(&self, incident: &Incident) -> Option<String> {
        let withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, said) = withdrawn.get(&workload_of(incident))?;
        let holds = incident.spec.trigger.manual || *revision != incident.spec.bad.hash;
        (!holds).then(|| format!("the verdict was taken back before the undo could be sent: {said}"))
    }

    /// Goes through all gates and the rehearsal, and writes nothing.
    ///
    /// # Errors
    /// The gate, or what could not be read.
    pub async fn rehearse(&self, request: &UndoRequest) -> Result<Prepared, UndoError> {
        match prepare(&self.readers(), request, "rehearsal").await {
            Ok(prepared) => Ok(prepared),
            Err(Stop::Blocked { blocked, .. }) => Err(UndoError::Blocked(blocked, None)),
            Err(Stop::Error(why)) => Err(UndoError::Failed(why)),
        }
    }

    /// Undoes, verifies, and answers with the finished incident.
    ///
    /// # Errors
    /// [`UndoError::Blocked`] when a gate stands in the way, else what went wrong before the patch.
    pub async fn undo(&self, request: UndoRequest) -> Result<Incident, UndoError> {
        let (incident, prepared) = self.intend(&request).await?;
        let Some(_at_work) = self.at_work(&incident) else { return Ok(incident) };
        crash_point("after-intent");
        let incident = self.deliver(incident, &request, prepared).await;
        Ok(self.prove(incident, &request.rules).await)
    }

    /// From the gates to the stored intent.
    pub(super) async fn intend(&self, request: &UndoRequest) -> Result<(Incident, Prepared), UndoError> {
        let _turn = self.gatekeeper.lock().await;
        let undo_id = self.undo_id();
        let prepared = match prepare(&self.readers(), request, &undo_id).await {
            Ok(prepared) => prepared,
            Err(Stop::Error(why)) => return Err(UndoError::Failed(why)),
            Err(Stop::Blocked { blocked, bad, target }) => {
                let incident = self.report(request, &blocked, bad, target).await;
                return Err(UndoError::Blocked(blocked, incident.map(Box::new)));
            }
        };
        crash_point("before-intent");
        let mut status = IncidentStatus {
            phase: Phase::Intended,
            message: format!("undoing to {}: {}", prepared.target.mark.images.join(", "), prepared.target.why),
            undo_id: Some(undo_id),
            leftovers: named_leftovers(&prepared.plan.leftovers),
            ..IncidentStatus::default()
        };
        status.journal = vec![
            self.incidents.entry("decided", self.reason(request)),
            self.incidents.entry("target", format!("{} {}", prepared.target.object, prepared.target.why)),
            self.incidents
                .entry("dry-run", "the API server would change the template and our annotation, and nothing else"),
        ];
        if !prepared.unchecked.is_empty() {
            let text = format!("could not be looked up: {}", prepared.unchecked.join(", "));
            status.journal.push(self.incidents.entry("references", text));
        }
        status.journal.push(self.incidents.entry("intent", "stored before the patch"));
        let incident = self.new_incident(request, prepared.bad.clone(), Some(prepared.target.reference()), status);
        match self.incidents.create(&incident).await {
            Ok(incident) => Ok((incident, prepared)),
            Err(RecordError::Exists(name)) => self.take_over(request, &name, incident, prepared).await,
            Err(error) => Err(UndoError::Failed(error.to_string())),
        }
    }

    /// An incident of this name exists: it may only have been reported so far (observe mode, a freeze);
    /// then it becomes this intent, against the version that was read.
    pub(super) async fn take_over(
        &self,
        request: &UndoRequest,
        name: &str,
        ours: Incident,
        prepared: Prepared,
    ) -> Result<(Incident, Prepared), UndoError> {
        let failed = |e: RecordError| UndoError::Failed(e.to_string());
        let existing = self.incidents.get(&request.id.namespace, name).await.map_err(failed)?;
        let Some(mut existing) = existing else {
            return Err(UndoError::Failed(format!("incident {name} came and went")));
        };
        let status = existing.status.get_or_insert_default();
        // Failed before anything was applied: the gates have found no mark of it on the workload.
        let nothing_done = matches!(status.phase, Phase::Reported | Phase::Superseded | Phase::Failed);
        let reported_only = nothing_done && status.applied.is_none();
        if !reported_only {
            let why = format!("incident {name} is already at work on it ({})", status.phase.as_str());
            return Err(UndoError::Blocked(Blocked { gate: Gate::AlreadyUndone, why }, None));
        }
        let new = ours.status.unwrap_or_default();
        let mut journal = std::mem::take(&mut status.journal);
        journal.extend(new.journal.clone());
        let notices = std::mem::take(&mut status.notices);
        *status = IncidentStatus { journal, notices, ..new };
        existing.spec = ours.spec;
        self.incidents.replace(&existing).await.map(|incident| (incident, prepared)).map_err(failed)
    }

    /// Proves that the undo arrived and helped, and writes the outcome.
    pub(super) async fn prove(&self, incident: Incident, rules: &Rules) -> Incident {
        let Some(status) = incident.status.clone().filter(|s| s.phase == Phase::Applied) else { return incident };
        let Some(target) = incident.spec.target.as_ref() else { return incident };
        crash_point("during-verify");
        let id = workload_of(&incident);
        let applied = status.applied.unwrap_or_else(|| self.clock.timestamp());
        let (tx, rx) = watch::channel(None);
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), tx);
        let claim = Claim {
            id: &id,
            uid: &incident.spec.workload.uid,
            bad: &incident.spec.bad.hash,
            target: &target.hash,
            applied,
            verify_by: status
                .verify_by
                .or_else(|| applied.checked_add(verify_within(rules)).ok())
                .unwrap_or(jiff::Timestamp::MAX),
            needs_signals: matches!(incident.spec.reason.as_str(), "errors" | "latency" | "health"),
            may_evict: rules.undo.evict_stuck_pods,
        };
        // Whoever leads next goes on with it, with the same deadline.
        let Some(proof) = verify(&self.cluster, self.clock, &claim, rx, &self.leadership).await else {
            return incident;
        };
        let mut journal = Vec::new();
        if !proof.evicted.is_empty() {
            let text = format!("evicted pods stuck on the bad revision: {}", proof.evicted.join(", "));
            journal.push(self.incidents.entry("evict", text));
        }
        if let Some(t) = proof.completed {
            let text = "all pods run the restored revision and are available".into();
            journal.push(JournalEntry { t, step: "complete".into(), text });
        }
        self.finish_with(&incident, proof.phase, &proof.text, journal).await
    }

    /// Marks an incident as being worked on; `None` when it is already.
    pub(super) fn at_work(&self, incident: &Incident) -> Option<AtWork<'_>> {
        let name = format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any());
        let new = self.driving.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        new.then_some(AtWork { driving: &self.driving, name })
    }

    pub(super) fn readers(&self) -> Readers<'_> {
        Readers {
            cluster: &self.cluster,
            incidents: &self.incidents,
            pins: &self.pins,
            leads: self.leadership.leads(),
            now: self.clock.now(),
            freezes: self.freezes.as_ref().map(|freezes| freezes.borrow().clone()),
        }
    }

    /// An id that no other undo has: time, then randomness.
    pub(super) fn undo_id(&self) -> String {
        let mut random = [0u8; 4];
        // Without randomness the time alone must do; creation of the incident still decides.
        let _ = ring::rand::SystemRandom::new().fill(&mut random);
        let random: String = random.iter().map(|b| format!("{b:02x}")).collect();
        format!("{random}{:x}", seconds(self.clock.timestamp()) as u64)
    }
}

pub(super) fn verify_within(rules: &Rules) -> SignedDuration {
    SignedDuration::try_from(rules.undo.verify_within).unwrap_or(SignedDuration::from_secs(600))
}

pub(super) fn phase(incident: &Incident) -> Phase {
    incident.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

/// The workload that an incident is about.
pub fn workload_of(incident: &Incident) -> WorkloadId {
    let workload = &incident.spec.workload;
    WorkloadId::new(incident.namespace().unwrap_or_default(), workload.kind, workload.name.clone())
}

/// Dies at a named point, or with `stop-` before its name stands still there until SIGCONT, for tests of crash
/// recovery and of late writers; compiled into debug builds only.
pub(super) fn crash_point(name: &str) {
    #[cfg(debug_assertions)]
    if let Ok(at) = std::env::var("LASTGOOD_CRASH_AT") {
        if at == name {
            std::process::abort();
        }
        if at.strip_prefix("stop-") == Some(name) {
            // A process cannot signal itself without unsafe code. Its threads stop one after another: the shell is
            // waited for, and ends when it sees the process stand still. It must not look for ever: whoever sends
            // SIGCONT may be quicker than its look.
            let stop = "kill -STOP $PPID
                for look in $(seq 200); do grep -q '^State:.T' /proc/$PPID/status && exit; done";
            let _ = std::process::Command::new("sh").args(["-c", stop]).status();
        }
    }
    let _ = name;
}
