//! The status that the kubelet writes for one pod.
use super::patiently;
use crate::fail::Result;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What is known of a pod, and the writer of its status.
pub(super) struct Status {
    api: Api<Pod>,
    name: String,
    uid: String,
    images: Vec<(String, String)>,
    conditions: BTreeMap<&'static str, (bool, Timestamp)>,
    started: Timestamp,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) node_address: String,
    pub(super) restarts: u32,
    /// State of the container before this one.
    pub(super) last: Value,
}

impl Status {
    pub(super) fn new(api: Api<Pod>, pod: &Pod) -> Self {
        let containers = pod.spec.iter().flat_map(|s| &s.containers);
        Self {
            api,
            name: pod.name_any(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            images: containers.map(|c| (c.name.clone(), c.image.clone().unwrap_or_default())).collect(),
            conditions: BTreeMap::new(),
            started: Timestamp::now(),
            address: None,
            node_address: String::new(),
            restarts: 0,
            last: json!({}),
        }
    }

    /// Writes phase, container state and readiness; conditions keep the time of their last change.
    pub(super) async fn write(&mut self, phase: &str, state: &Value, ready: bool) -> Result<()> {
        let now = Timestamp::now();
        let wanted = [
            ("PodReadyToStartContainers", self.address.is_some()),
            ("Initialized", true),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", true),
        ];
        let conditions: Vec<Value> = wanted
            .iter()
            .map(|(name, holds)| {
                let entry = self.conditions.entry(name).or_insert((*holds, now));
                if entry.0 != *holds {
                    *entry = (*holds, now);
                }
                let mut condition = json!({
                    "type": name, "status": if *holds { "True" } else { "False" }, "lastTransitionTime": seconds(entry.1),
                });
                if !*holds && name.ends_with("Ready") {
                    condition["reason"] = "ContainersNotReady".into();
                    condition["message"] = "containers with unready status".into();
                }
                condition
            })
            .collect();
        let running = !state["running"].is_null();
        let containers: Vec<Value> = self
            .images
            .iter()
            .map(|(name, image)| {
                json!({
                    "name": name, "image": image, "imageID": if running { image.as_str() } else { "" },
                    "ready": ready, "started": running, "restartCount": self.restarts,
                    "state": state, "lastState": self.last,
                })
            })
            .collect();
        let mut status = json!({
            "phase": phase, "startTime": seconds(self.started), "conditions": conditions,
            "containerStatuses": containers, "hostIP": self.node_address, "hostIPs": [{"ip": self.node_address}],
        });
        if let Some(address) = self.address {
            status["podIP"] = address.to_string().into();
            status["podIPs"] = json!([{"ip": address}]);
        }
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match patiently(|| self.api.patch_status(&self.name, &params, &patch)).await {
            // Gone, or another pod of the same name: nothing to report on.
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => Ok(()),
            other => other.map(drop).map_err(Into::into),
        }
    }
}

/// Kubernetes keeps whole seconds.
pub(super) fn seconds(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
