//! Tells people of incidents: Event, report file, notices. Delivery state is kept in the Incident, so that
//! a restart sends what is missing and nothing twice.

use crate::{
    clock::{Clock, seconds},
    domain::WorkloadId,
    record::{Incident, Incidents, Leadership, Phase, RecentIncidents, TOLD_FOR},
    report::{
        Context, ReportError,
        events::{EventReason, Events},
        file_name,
        notify::{Notifiers, record},
        text, write,
    },
    telemetry::metrics,
    watchdog::stopped,
};
use kube::ResourceExt;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Whoever tells people.
pub(super) struct Teller {
    pub incidents: Incidents,
    pub recent: RecentIncidents,
    pub events: Arc<Events>,
    pub notifiers: Notifiers,
    pub context: Context,
    pub folder: PathBuf,
    pub leadership: Leadership,
    pub clock: Clock,
}

impl Teller {
    /// Runs until the executor is gone.
    pub async fn run(self, mut outcomes: mpsc::Receiver<Incident>, mut stop: watch::Receiver<bool>) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A notice that failed waits this long.
        let mut not_before: BTreeMap<String, f64> = BTreeMap::new();
        loop {
            tokio::select! {
                incident = outcomes.recv() => match incident {
                    Some(incident) => {
                        self.announce(&incident).await;
                        self.deliver(&incident, &mut not_before).await;
                    }
                    None => return,
                },
                _ = sweep.tick() => if self.leadership.leads() { self.sweep(&mut not_before).await },
                _ = stopped(&mut stop) => {
                    while let Ok(incident) = outcomes.try_recv() {
                        self.announce(&incident).await;
                        self.deliver(&incident, &mut not_before).await;
                    }
                    return;
                }
            }
        }
    }

    /// Once, when something happened.
    async fn announce(&self, incident: &Incident) {
        let status = incident.status.clone().unwrap_or_default();
        let spec = &incident.spec;
        metrics::undo(status.phase);
        if status.phase == Phase::Applied
            && let Some(applied) = status.applied
        {
            metrics::issued(seconds(applied) - seconds(spec.decided));
        }
        if status.phase == Phase::Verified
            && let (Some(applied), Some(finished)) = (status.applied, status.finished)
        {
            metrics::verified(seconds(finished) - seconds(applied));
        }
        tracing::info!(
            incident = %incident.name_any(), namespace = incident.namespace().unwrap_or_default(),
            workload = spec.workload.name, phase = status.phase.as_str(), "{}", text::headline(incident)
        );
        if let Some(reason) = EventReason::of_phase(status.phase) {
            let id = WorkloadId::new(
                incident.namespace().unwrap_or_default(),
                spec.workload.kind,
                spec.workload.name.clone(),
            );
            let _ = self.events.publish(&id, &spec.workload.uid, reason, &text::paragraph(incident)).await;
        }
        self.file(incident).await;
    }

    async fn file(&self, incident: &Incident) {
        let (folder, incident, context) = (self.folder.clone(), incident.clone(), self.context.clone());
        let written = tokio::task::spawn_blocking(move || write(&folder, &incident, &context)).await;
        match written {
            Ok(Ok(path)) => {
                metrics::report_written(true);
                tracing::debug!(path = %path.display(), "report written");
            }
            Ok(Err(error)) => self.lost(&error),
            Err(error) => tracing::error!(%error, "writing a report broke off"),
        }
    }

    fn lost(&self, error: &ReportError) {
        metrics::report_written(false);
        tracing::error!(%error, "the report could not be written; it can be shown with `lastgood incident show`");
    }

    /// Sends what is due, and notes it in the Incident.
    async fn deliver(&self, incident: &Incident, not_before: &mut BTreeMap<String, f64>) {
        for notice in self.notifiers.due(incident) {
            if not_before.get(&notice.key).is_some_and(|t| self.clock.now() < *t) {
                continue;
            }
            let delivery = self.notifiers.deliver(&notice, incident).await;
            match &delivery {
                crate::report::notify::Delivery::Retry { after, .. } => {
                    not_before.insert(notice.key.clone(), self.clock.now() + after.as_secs_f64());
                }
                _ => {
                    not_before.remove(&notice.key);
                }
            }
            let namespace = incident.namespace().unwrap_or_default();
            let edit = self
                .incidents
                .edit(&namespace, &incident.name_any(), |status| record(status, &notice, &delivery))
                .await;
            if let Err(error) = edit {
                // It may be sent once more, with the same key.
                tracing::warn!(incident = %incident.name_any(), %error, "the delivery could not be noted");
            }
        }
    }

    /// What a crash or a full queue left untold. At rest this asks nobody.
    async fn sweep(&self, not_before: &mut BTreeMap<String, f64>) {
        let now = self.clock.now();
        let told_no_more = |incident: &Incident| now - seconds(incident.spec.decided) >= TOLD_FOR;
        for known in self.recent.all() {
            if told_no_more(&known) || !(self.lacks_file(&known) || self.is_untold(&known, not_before)) {
                continue;
            }
            // The watch may be behind what this very task has written.
            let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
            match self.incidents.get(&namespace, &name).await {
                Ok(Some(incident)) => {
                    if self.lacks_file(&incident) {
                        self.file(&incident).await;
                    }
                    self.deliver(&incident, not_before).await;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(incident = name, %error, "an incident cannot be swept"),
            }
        }
    }

    fn lacks_file(&self, incident: &Incident) -> bool {
        let phase = incident.status.as_ref().map(|s| s.phase).unwrap_or_default();
        phase.is_final() && !self.folder.join(file_name(incident, &self.context)).exists()
    }

    fn is_untold(&self, incident: &Incident, not_before: &BTreeMap<String, f64>) -> bool {
        let now = self.clock.now();
        self.notifiers.due(incident).iter().any(|notice| not_before.get(&notice.key).is_none_or(|t| now >= *t))
    }
}
