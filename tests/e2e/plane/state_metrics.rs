//! What kube-state-metrics tells of one namespace: the metrics that a backtest asks for, under the names and labels
//! of its documentation (kubernetes/kube-state-metrics, docs/metrics/workload). A stand-in, not the program: every
//! scrape lists the live objects.
use super::{Plane, prometheus};
use crate::{fail::Result, http};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use std::{fmt::Write as _, path::PathBuf};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running one, and a target of Prometheus; dropping it ends both.
pub(crate) struct StateMetrics {
    server: JoinHandle<()>,
    run: PathBuf,
}

impl Drop for StateMetrics {
    fn drop(&mut self) {
        self.server.abort();
        let _ = prometheus::write_state_targets(&self.run, &[]);
    }
}

impl StateMetrics {
    /// Starts it for a namespace.
    pub(crate) async fn start(plane: &Plane, namespace: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?.to_string();
        let cluster = Cluster { client: plane.admin.clone(), namespace: namespace.into() };
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One scraper, one connection: the next one waits for its end.
                let _ = cluster.serve(stream).await;
            }
        });
        prometheus::write_state_targets(&plane.run, &[json!({"targets": [target]})])?;
        Ok(Self { server, run: plane.run.clone() })
    }
}

struct Cluster {
    client: kube::Client,
    namespace: String,
}

impl Cluster {
    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        while http::read(&mut stream).await?.is_some() {
            let (code, text) = match self.text().await {
                Ok(text) => (200, text),
                Err(error) => (500, error.to_string()),
            };
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            stream.write_all(&http::answer(code, "", kind, &text)).await?;
        }
        Ok(())
    }

    async fn text(&self) -> Result<String> {
        let mut page = Page { namespace: self.namespace.clone(), ..Page::default() };
        self.list::<Pod>().await?.iter().for_each(|pod| page.pod(pod));
        self.list::<ReplicaSet>().await?.iter().for_each(|set| page.replica_set(set));
        self.list::<Deployment>().await?.iter().for_each(|deployment| page.deployment(deployment));
        self.list::<StatefulSet>().await?.iter().for_each(|set| page.stateful_set(set));
        self.list::<DaemonSet>().await?.iter().for_each(|set| page.daemon_set(set));
        Ok(page.text)
    }

    async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.list(&ListParams::default()).await?.items)
    }
}

#[derive(Default)]
struct Page {
    namespace: String,
    text: String,
}

impl Page {
    /// One sample, labelled with what tells the object from others and with more; no value, no sample.
    fn add(&mut self, name: &str, own: &[(&str, &str)], more: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        let _ = write!(self.text, "{name}{{namespace=\"{}\"", self.namespace);
        for (label, text) in own.iter().chain(more) {
            let _ = write!(self.text, ",{label}=\"{text}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    /// One sample for each state that a condition can be in: 1 for the one that it is in.
    fn condition(&mut self, name: &str, own: &[(&str, &str)], label: &str, is: &str) {
        for state in ["true", "false", "unknown"] {
            let value = f64::from(u8::from(is.eq_ignore_ascii_case(state)));
            self.add(name, own, &[(label, state)], Some(value));
        }
    }

    fn pod(&mut self, pod: &Pod) {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let own = [("pod", name.as_str()), ("uid", uid.as_str())];
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let owner = pod.owner_references().first();
        let (kind, owner) = owner.map_or(("", ""), |owner| (owner.kind.as_str(), owner.name.as_str()));
        let info = [("node", node), ("created_by_kind", kind), ("created_by_name", owner)];
        self.add("kube_pod_info", &own, &info, Some(1.0));
        self.add("kube_pod_created", &own, &[], pod.creation_timestamp().as_ref().map(seconds));
        self.add("kube_pod_deletion_timestamp", &own, &[], pod.metadata.deletion_timestamp.as_ref().map(seconds));
        let Some(status) = &pod.status else { return };
        for container in status.container_statuses.iter().flatten() {
            let own = [own[0], own[1], ("container", container.name.as_str())];
            let name = |what: &str| format!("kube_pod_container_status_{what}");
            self.add(&name("restarts_total"), &own, &[], Some(container.restart_count.into()));
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            if let Some(reason) = waiting.and_then(|waiting| waiting.reason.as_deref()) {
                self.add(&name("waiting_reason"), &own, &[("reason", reason)], Some(1.0));
            }
            if let Some(ended) = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()) {
                let reason = ended.reason.as_deref().unwrap_or_default();
                self.add(&name("last_terminated_reason"), &own, &[("reason", reason)], Some(1.0));
                self.add(&name("last_terminated_exitcode"), &own, &[], Some(ended.exit_code.into()));
            }
        }
        let Some(ready) = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready") else {
            return;
        };
        let since = ready.last_transition_time.as_ref().map(seconds).filter(|_| ready.status == "True");
        self.add("kube_pod_status_ready_time", &own, &[], since);
        self.condition("kube_pod_status_ready", &own, "condition", &ready.status);
    }

    fn replica_set(&mut self, set: &ReplicaSet) {
        let name = set.name_any();
        let own = ("replicaset", name.as_str());
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        self.add("kube_replicaset_spec_replicas", &[own], &[], replicas.map(f64::from));
        self.add("kube_replicaset_created", &[own], &[], set.creation_timestamp().as_ref().map(seconds));
        for owner in set.owner_references() {
            let by =
                [("owner_kind", owner.kind.as_str()), ("owner_name", &owner.name), ("owner_is_controller", "true")];
            self.add("kube_replicaset_owner", &[own], &by, Some(1.0));
        }
    }

    fn deployment(&mut self, deployment: &Deployment) {
        let name = deployment.name_any();
        let own = ("deployment", name.as_str());
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        self.add("kube_deployment_spec_replicas", &[own], &[], replicas.map(f64::from));
        for condition in deployment.status.iter().flat_map(|status| status.conditions.iter().flatten()) {
            let reason = condition.reason.as_deref().unwrap_or_default();
            let labels = [own, ("reason", reason), ("condition", &condition.type_)];
            self.condition("kube_deployment_status_condition", &labels, "status", &condition.status);
        }
    }

    fn stateful_set(&mut self, set: &StatefulSet) {
        let name = set.name_any();
        let own = ("statefulset", name.as_str());
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        self.add("kube_statefulset_replicas", &[own], &[], replicas.map(f64::from));
        if let Some(revision) = set.status.as_ref().and_then(|status| status.update_revision.as_deref()) {
            self.add("kube_statefulset_status_update_revision", &[own], &[("revision", revision)], Some(1.0));
        }
    }

    fn daemon_set(&mut self, set: &DaemonSet) {
        let name = set.name_any();
        let own = ("daemonset", name.as_str());
        let status = set.status.clone().unwrap_or_default();
        let (updated, desired) = (status.updated_number_scheduled.unwrap_or(0), status.desired_number_scheduled);
        let generation = set.metadata.generation.map(|generation| generation as f64);
        self.add("kube_daemonset_metadata_generation", &[own], &[], generation);
        self.add("kube_daemonset_status_updated_number_scheduled", &[own], &[], Some(updated.into()));
        self.add("kube_daemonset_status_desired_number_scheduled", &[own], &[], Some(desired.into()));
    }
}

fn seconds(time: &Time) -> f64 {
    time.0.as_second() as f64
}
