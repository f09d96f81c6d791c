//! Pods of workloads with a live trial, by revision.

use super::{connect::Cluster, history::revision_label, view::WorkloadView, watch::WATCH_SECONDS};
use crate::{
    clock::seconds,
    domain::{PodId, PodState, PodTarget, Revision, WorkloadId},
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api, ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::{sync::mpsc, task::AbortHandle};

/// A pod as seen now, or gone (`state.deleted`).
#[derive(Debug, Clone)]
pub struct PodSeen {
    /// What the decision may know of it.
    pub state: PodState,
    /// Where it can be reached.
    pub target: PodTarget,
}

/// One open pod watch; dropping it ends the watch.
pub struct PodWatch(AbortHandle);

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches the pods of one workload and sends what it sees. Pods whose revision label is in none of
/// `labels` are left out: they belong to no revision that is known.
pub fn watch_pods(
    cluster: &Cluster,
    view: &WorkloadView,
    labels: BTreeMap<String, Revision>,
    tx: mpsc::Sender<PodSeen>,
) -> PodWatch {
    let id = view.id.clone();
    let api: Api<DeserializeGuard<Pod>> = Api::namespaced(cluster.reader.clone(), &id.namespace);
    let config = watcher::Config::default().labels(&view.selector).timeout(WATCH_SECONDS);
    let labels = Arc::new(labels);
    let task = tokio::spawn(async move {
        let mut known: BTreeMap<String, PodSeen> = BTreeMap::new();
        let mut listed: BTreeSet<String> = BTreeSet::new();
        let mut events = watcher(api, config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            // Errors are told by the workload watches; the pods come back with the next list.
            let Ok(event) = event else { continue };
            let mut out = Vec::new();
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(pod) | Event::Apply(pod) => {
                    listed.insert(pod.name_any());
                    let Ok(pod) = pod.0 else { continue };
                    if let Some(seen) = seen(&id, &labels, &pod) {
                        known.insert(pod.name_any(), seen.clone());
                        out.push(seen);
                    }
                }
                Event::InitDone => {
                    let gone: Vec<String> = known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                    out.extend(gone.iter().filter_map(|name| known.remove(name)).map(deleted));
                }
                Event::Delete(pod) => {
                    listed.remove(&pod.name_any());
                    out.extend(known.remove(&pod.name_any()).map(deleted));
                }
            }
            for seen in out {
                if tx.send(seen).await.is_err() {
                    return;
                }
            }
        }
    });
    PodWatch(task.abort_handle())
}

fn deleted(mut seen: PodSeen) -> PodSeen {
    seen.state.deleted = true;
    seen.state.ready = false;
    seen.state.ready_since = None;
    seen
}

/// A pod in our words; `None` when it is of no known revision.
pub fn seen(id: &WorkloadId, labels: &BTreeMap<String, Revision>, pod: &Pod) -> Option<PodSeen> {
    let revision = labels.get(pod.labels().get(revision_label(id.kind))?)?.clone();
    let name = PodId::new(id.namespace.clone(), pod.name_any());
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let inits = status.init_container_statuses.unwrap_or_default();
    let all = || inits.iter().chain(&containers);
    let ended = all().filter_map(last_end).max_by_key(|end| end.at);
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
    // An evicted pod stays as a corpse that no controller removes; it is no pod of the workload any more.
    let ended_for_good = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let deleted = pod.metadata.deletion_timestamp.is_some() || ended_for_good;
    let spec = pod.spec.as_ref();
    let state = PodState {
        pod: name.clone(),
        workload: id.clone(),
        revision: revision.clone(),
        node: spec.and_then(|s| s.node_name.clone()),
        ready: ready.is_some() && !deleted,
        restarts: all().map(|c| u32::try_from(c.restart_count).unwrap_or(0)).sum(),
        waiting: all().find_map(waiting),
        exit_code: ended.as_ref().map(|end| end.code),
        oom_killed: ended.is_some_and(|end| end.oom),
        deleted,
        created: pod.metadata.creation_timestamp.as_ref().map(|t| seconds(t.0)),
        ready_since: ready.filter(|_| !deleted).and_then(|c| c.last_transition_time.as_ref()).map(|t| seconds(t.0)),
    };
    let target = PodTarget {
        pod: name,
        revision,
        address: status.pod_ip.and_then(|ip| ip.parse().ok()),
        ready: state.ready,
        scrape: pod
            .annotations()
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("prometheus.io/")?.to_owned(), value.clone())))
            .collect(),
        port: spec
            .and_then(|s| s.containers.iter().flat_map(|c| c.ports.iter().flatten()).next())
            .and_then(|p| u16::try_from(p.container_port).ok()),
    };
    Some(PodSeen { state, target })
}

struct End {
    at: Option<jiff::Timestamp>,
    code: i32,
    oom: bool,
}

fn last_end(container: &ContainerStatus) -> Option<End> {
    let now = container.state.as_ref().and_then(|s| s.terminated.as_ref());
    let end = now.or_else(|| container.last_state.as_ref().and_then(|s| s.terminated.as_ref()))?;
    Some(End {
        at: end.finished_at.as_ref().map(|t| t.0),
        code: end.exit_code,
        oom: end.reason.as_deref() == Some("OOMKilled"),
    })
}

/// Why a container waits; the ordinary reasons of a start are none.
fn waiting(container: &ContainerStatus) -> Option<String> {
    let reason = container.state.as_ref()?.waiting.as_ref()?.reason.clone()?;
    (!matches!(reason.as_str(), "ContainerCreating" | "PodInitializing")).then_some(reason)
}
