//! Pods as the decision may know them, and which workload and revision each is of.

use super::history::RevisionEntry;
use crate::{
    clock::seconds,
    domain::{Kind, PodId, PodState, PodTarget, Revision, Seconds, WorkloadId},
};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
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
    memory_limit: Option<f64>,
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
            memory_limit: spec.and_then(memory_limit),
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
            memory_limit: self.memory_limit,
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

/// What all containers may hold together; none where one of them may hold what it likes.
fn memory_limit(spec: &PodSpec) -> Option<f64> {
    let of = |container: &Container| bytes(&container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0);
    spec.containers.iter().map(of).try_fold(0.0, |sum, limit| Some(sum + limit?)).filter(|sum| *sum > 0.0)
}

/// A quantity of Kubernetes: `256Mi`, `1.5G`, `1e9`, `128974848000m`
/// (apimachinery, pkg/api/resource: a number, then a suffix).
fn bytes(quantity: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    let suffixed = |(suffix, unit): &(&str, f64)| Some(quantity.strip_suffix(suffix)?.parse::<f64>().ok()? * unit);
    SUFFIXES.iter().find_map(suffixed).filter(|bytes| bytes.is_finite() && *bytes >= 0.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bytes() {
        for (text, expected) in [
            ("256Mi", Some(268_435_456.0)),
            ("1.5G", Some(1.5e9)),
            ("1e9", Some(1e9)),
            ("128974848000m", Some(128_974_848.0)),
            ("0", Some(0.0)),
            ("5E", Some(5e18)),
            ("", None),
            ("Mi", None),
            ("much", None),
            ("-1Gi", None),
            ("infinity", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn a_pod_is_limited_where_all_of_its_containers_are() {
        let limit = |containers: serde_json::Value| {
            memory_limit(&serde_json::from_value(serde_json::json!({"containers": containers})).unwrap())
        };
        let one = |memory: &str| serde_json::json!({"name": "a", "resources": {"limits": {"memory": memory}}});
        assert_eq!(limit(serde_json::json!([one("1Ki"), one("2Ki")])), Some(3072.0));
        assert_eq!(limit(serde_json::json!([one("1Ki"), {"name": "b"}])), None);
        assert_eq!(limit(serde_json::json!([one("0")])), None);
    }
}
