//! What must be read before a rollout can be judged: its revisions, then the past of its signals.

use super::live::Inherited;
use crate::{
    clock::Clock,
    cluster::{Cluster, PodSeen, READ_DEADLINE, RevisionEntry, WorkloadView, before, pod_seen, revisions, within},
    domain::{Observation, Observed, PodTarget, Revision, Rules, Seconds, TrialTarget, WorkloadId},
    sources::Sources,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How far back the baseline goes.
const BASELINE: Seconds = 1800.0;
/// A crash loop must not wait longer than this for a slow Prometheus.
const PAST_DEADLINE: Duration = Duration::from_secs(6);
/// A controller makes the new revision's object within moments; this long it is waited for.
const TRIES: u32 = 40;

/// Everything an opening needs.
pub(super) struct Opening {
    pub cluster: Cluster,
    pub sources: Arc<Sources>,
    pub clock: Clock,
    pub step: Duration,
    pub view: Arc<WorkloadView>,
    pub rules: Arc<Rules>,
    /// Revision that was live before, if it was seen.
    pub from: Option<Revision>,
    /// When the rollout began, if that was seen.
    pub began: Option<Seconds>,
    /// What it takes over from a trial that was cut short.
    pub inherited: Inherited,
}

/// What an opening found.
pub(super) enum Opened {
    /// The revisions: the trial begins.
    Revisions {
        view: Arc<WorkloadView>,
        from: Revision,
        to: Revision,
        began: Seconds,
        /// Value of the pods' revision label → revision.
        labels: BTreeMap<String, Revision>,
    },
    /// The past of its signals, in order of time; empty when nothing could be read.
    Past {
        workload: WorkloadId,
        to: Revision,
        observed: Vec<Observed>,
        /// Where its pods can be reached.
        pods: Vec<PodTarget>,
    },
    /// It cannot be judged.
    Failed { workload: WorkloadId, to: Revision, why: String },
}

impl Opened {
    pub fn workload(&self) -> &WorkloadId {
        match self {
            Opened::Revisions { view, .. } => &view.id,
            Opened::Past { workload, .. } | Opened::Failed { workload, .. } => workload,
        }
    }

    pub fn to(&self) -> &Revision {
        match self {
            Opened::Revisions { to, .. } | Opened::Past { to, .. } | Opened::Failed { to, .. } => to,
        }
    }
}

impl Opening {
    pub async fn run(self, tx: mpsc::Sender<Opened>) {
        let (workload, to) = (self.view.id.clone(), self.view.template.revision.clone());
        let entries = match self.entries(&to).await {
            Ok(entries) => entries,
            Err(why) => {
                let _ = tx.send(Opened::Failed { workload, to, why }).await;
                return;
            }
        };
        let before = before(&entries, &to).map(|e| e.mark.revision.clone());
        // A first deploy has nothing before it: it is judged, but can never be undone.
        let from = self.from.clone().or(before).unwrap_or_else(|| Revision::from("none"));
        let created = entries.iter().find(|e| e.mark.revision == to).map(|e| e.created);
        let restarted = self.inherited.restarted.clone();
        let named = |revision: Revision| if restarted.as_ref() == Some(&revision) { to.clone() } else { revision };
        let labels: BTreeMap<String, Revision> =
            entries.into_iter().map(|e| (e.pod_label, named(e.mark.revision))).collect();
        let pods = self.pods(&labels).await;
        // A revision that was live before has an old object; its rollout began with its oldest pod, then.
        let oldest = pods.iter().filter(|p| p.state.revision == to && !p.state.deleted).filter_map(|p| p.state.created);
        let began = self.began.or(match (created, oldest.reduce(f64::min)) {
            (Some(made), Some(pod)) => Some(made.max(pod)),
            (made, pod) => made.or(pod),
        });
        let began = began.unwrap_or_else(|| self.clock.now());
        let revisions =
            Opened::Revisions { view: self.view.clone(), from, to: to.clone(), began, labels: labels.clone() };
        if tx.send(revisions).await.is_err() {
            return;
        }
        let (mut observed, pods) = self.past(pods, began).await;
        observed.sort_by(|a, b| a.t.total_cmp(&b.t));
        let _ = tx.send(Opened::Past { workload, to, observed, pods }).await;
    }

    /// The revisions, once the live one is among them.
    async fn entries(&self, to: &Revision) -> Result<Vec<RevisionEntry>, String> {
        let mut why = String::from("no revision object holds the live template");
        for attempt in 0..TRIES {
            match revisions(&self.cluster.reader, &self.view.id, &self.view.uid, &self.view.selector).await {
                Ok(entries) if entries.iter().any(|e| e.mark.revision == *to) => return Ok(entries),
                Ok(_) => {}
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(250 * u64::from(attempt.min(8) + 1))).await;
        }
        Err(why)
    }

    /// The pods of its known revisions; none when they cannot be listed.
    async fn pods(&self, labels: &BTreeMap<String, Revision>) -> Vec<PodSeen> {
        let api: Api<Pod> = Api::namespaced(self.cluster.reader.clone(), &self.view.id.namespace);
        let params = ListParams::default().labels(&self.view.selector);
        match within(READ_DEADLINE, "listing pods", api.list(&params)).await {
            Ok(pods) => pods.items.iter().filter_map(|p| pod_seen(&self.view.id, labels, p)).collect(),
            Err(error) => {
                tracing::warn!(workload = %self.view.id, %error, "no baseline: the pods cannot be listed");
                Vec::new()
            }
        }
    }

    /// Counters from before the rollout until now, by range query; nothing when no source has a past.
    async fn past(&self, seen: Vec<PodSeen>, began: Seconds) -> (Vec<Observed>, Vec<PodTarget>) {
        // Pods first, so that their counters are known to be theirs.
        let mut observed: Vec<Observed> = seen
            .iter()
            .map(|p| Observed { t: p.state.created.unwrap_or(began), what: Observation::Pod(p.state.clone()) })
            .collect();
        let target = TrialTarget {
            workload: self.view.id.clone(),
            rules: self.rules.clone(),
            pods: seen.into_iter().map(|p| p.target).collect(),
        };
        let step = self.step.max(Duration::from_secs(5));
        let past =
            self.sources.history(&target, self.inherited.proven.unwrap_or(began) - BASELINE, self.clock.now(), step);
        match tokio::time::timeout(PAST_DEADLINE, past).await {
            Ok(Ok(past)) => observed.extend(past),
            Ok(Err(error)) => tracing::warn!(workload = %self.view.id, %error, "no baseline: the past cannot be read"),
            Err(_) => tracing::warn!(workload = %self.view.id, "no baseline: the past was not answered in time"),
        }
        (observed, target.pods)
    }
}
