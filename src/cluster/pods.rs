//! Pods as the decision may know them, and which workload and revision each is of.

use super::history::RevisionEntry;
use crate::{
    clock::seconds,
    domain::{Kind, PodId, PodState, PodTarget, Revision, Seconds, WorkloadId},
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use std::{collections::BTreeMap, net::IpAddr};

/// Label of pods of StatefulSets and DaemonSets that names their revision.
const REVISION_HASH: &str = "controller-revision-hash";

/// A pod as seen now, or gone (`state.deleted`).
#[derive(Debug, Clone)]
pub struct PodSeen {
    /// What the decision may know of it.
    pub state: PodState,
    /// Where it can be reached.
    pub target: PodTarget,
}

/// Which pods are a workload's, and of which revision.
#[derive(Debug, Clone)]
pub struct Members {
    id: WorkloadId,
    uid: String,
    /// Deployments: name of the ReplicaSet; else the value of `controller-revision-hash`.
    revisions: BTreeMap<String, Revision>,
}

impl Members {
    /// The pods of these revisions of a workload; `named` says by which name each revision goes.
    pub fn new(id: &WorkloadId, uid: &str, entries: &[RevisionEntry], named: impl Fn(&Revision) -> Revision) -> Self {
        let key = |e: &RevisionEntry| match id.kind {
            Kind::Deployment => e.object.strip_prefix("ReplicaSet/").map(str::to_owned),
            Kind::StatefulSet | Kind::DaemonSet => Some(e.pod_label.clone()),
        };
        let revisions = entries.iter().filter_map(|e| Some((key(e)?, named(&e.mark.revision)))).collect();
        Self { id: id.clone(), uid: uid.to_owned(), revisions }
    }

    /// A pod in our words; `None` when it is another workload's, or of no known revision.
    pub fn seen(&self, pod: &Pod) -> Option<PodSeen> {
        self.own(&PodView::of(pod))
    }

    /// The namespace that they are in.
    pub(super) fn namespace(&self) -> &str {
        &self.id.namespace
    }

    pub(super) fn own(&self, pod: &PodView) -> Option<PodSeen> {
        let owner = pod.owner.as_ref()?;
        let key = match self.id.kind {
            Kind::Deployment if owner.kind == "ReplicaSet" => &owner.name,
            Kind::StatefulSet | Kind::DaemonSet if owner.uid == self.uid => pod.hash.as_ref()?,
            _ => return None,
        };
        Some(pod.of_workload(&self.id, self.revisions.get(key)?))
    }
}

/// What is kept of each pod of a namespace with a rollout under watch.
#[derive(Debug, Clone)]
pub(super) struct PodView {
    pub(super) name: PodId,
    owner: Option<Controller>,
    /// Its `controller-revision-hash`.
    hash: Option<String>,
    node: Option<String>,
    ready: bool,
    restarts: u32,
    waiting: Option<String>,
    exit_code: Option<i32>,
    oom_killed: bool,
    deleted: bool,
    created: Option<Seconds>,
    ready_since: Option<Seconds>,
    address: Option<IpAddr>,
    scrape: BTreeMap<String, String>,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
struct Controller {
    kind: String,
    name: String,
    uid: String,
}

impl PodView {
    pub(super) fn of(pod: &Pod) -> Self {
        let empty = Default::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let containers = || status.container_statuses.iter().flatten();
        let all = || status.init_container_statuses.iter().flatten().chain(containers());
        let ended = all().filter_map(last_end).max_by_key(|end| end.at);
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
        // An evicted pod stays as a corpse that no controller removes; it is no pod of the workload any more.
        let ended_for_good = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let deleted = pod.metadata.deletion_timestamp.is_some() || ended_for_good;
        let spec = pod.spec.as_ref();
        let owner = pod.owner_references().iter().find(|o| o.controller == Some(true));
        Self {
            name: PodId::new(pod.namespace().unwrap_or_default(), pod.name_any()),
            owner: owner.map(|o| Controller { kind: o.kind.clone(), name: o.name.clone(), uid: o.uid.clone() }),
            hash: pod.labels().get(REVISION_HASH).cloned(),
            node: spec.and_then(|s| s.node_name.clone()),
            ready: ready.is_some() && !deleted,
            restarts: all().map(|c| u32::try_from(c.restart_count).unwrap_or(0)).sum(),
            waiting: all().find_map(waiting),
            exit_code: ended.as_ref().map(|end| end.code),
            oom_killed: ended.is_some_and(|end| end.oom),
            deleted,
            created: pod.metadata.creation_timestamp.as_ref().map(|t| seconds(t.0)),
            ready_since: ready.filter(|_| !deleted).and_then(|c| c.last_transition_time.as_ref()).map(|t| seconds(t.0)),
            address: status.pod_ip.as_ref().and_then(|ip| ip.parse().ok()),
            scrape: pod
                .annotations()
                .iter()
                .filter_map(|(key, value)| Some((key.strip_prefix("prometheus.io/")?.to_owned(), value.clone())))
                .collect(),
            port: spec
                .and_then(|s| s.containers.iter().flat_map(|c| c.ports.iter().flatten()).next())
                .and_then(|p| u16::try_from(p.container_port).ok()),
        }
    }

    /// The same pod, gone.
    pub(super) fn gone(mut self) -> Self {
        self.deleted = true;
        self.ready = false;
        self.ready_since = None;
        self
    }

    /// Where it can be reached, if it is a Ready pod of this workload. A Deployment's is told by the name of its
    /// ReplicaSet: which revision it is of does not matter here.
    pub(super) fn neighbour(&self, id: &WorkloadId, uid: &str) -> Option<PodTarget> {
        let owner = self.owner.as_ref().filter(|_| self.ready)?;
        let ours = match id.kind {
            Kind::Deployment => {
                owner.kind == "ReplicaSet" && owner.name.rsplit_once('-').is_some_and(|(name, _)| name == id.name)
            }
            Kind::StatefulSet | Kind::DaemonSet => owner.uid == uid,
        };
        ours.then(|| self.target(Revision::from("")))
    }

    fn of_workload(&self, id: &WorkloadId, revision: &Revision) -> PodSeen {
        let state = PodState {
            pod: self.name.clone(),
            workload: id.clone(),
            revision: revision.clone(),
            node: self.node.clone(),
            ready: self.ready,
            restarts: self.restarts,
            waiting: self.waiting.clone(),
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            deleted: self.deleted,
            created: self.created,
            ready_since: self.ready_since,
        };
        PodSeen { state, target: self.target(revision.clone()) }
    }

    fn target(&self, revision: Revision) -> PodTarget {
        PodTarget {
            pod: self.name.clone(),
            revision,
            address: self.address,
            ready: self.ready,
            scrape: self.scrape.clone(),
            port: self.port,
        }
    }
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
