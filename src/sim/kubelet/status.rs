//! The status that a kubelet writes for one pod.

use super::{
    super::{
        object::{condition, list, text, time},
        store::{Manager, Store},
    },
    life::{Ended, Life, Stage},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Writes what a pod has become; conditions keep the time of their last change.
pub fn write(store: &mut Store, life: &Life) {
    let now = store.now();
    if let Some(address) = life.address().filter(|address| address.ip().is_loopback()) {
        // Pods share the loopback address: each says at which port it is.
        let port = address.port().to_string();
        let _ = store.update(&life.key, Manager::KUBELET, |pod| {
            super::super::object::annotate(pod, "prometheus.io/port", port);
        });
    }
    // Gone in between: there is nothing to report on.
    let _ = store.update_status(&life.key, Manager::KUBELET, |pod| {
        let status = of(life, pod, now);
        pod["status"] = status;
    });
}

fn of(life: &Life, pod: &Value, now: Timestamp) -> Value {
    let has_address = life.address().is_some();
    let over = matches!(life.stage, Stage::Over);
    let wanted = [
        ("PodReadyToStartContainers", has_address && !over),
        ("Initialized", true),
        ("Ready", life.ready),
        ("ContainersReady", life.ready),
        ("PodScheduled", true),
    ];
    let conditions: Vec<Value> = wanted
        .iter()
        .map(|(kind, holds)| {
            let status = if *holds { "True" } else { "False" };
            let old = condition(pod, kind).filter(|old| text(old, "/status") == status);
            let since = old.map_or_else(|| time(now), |old| text(old, "/lastTransitionTime").to_owned());
            let mut condition =
                json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
            if !holds && kind.ends_with("Ready") {
                condition["reason"] = "ContainersNotReady".into();
                condition["message"] = "containers with unready status".into();
            }
            condition
        })
        .collect();
    let (state, last) = states(life);
    let running = matches!(life.stage, Stage::Running(_));
    let containers: Vec<Value> = list(pod, "/spec/containers")
        .map(|container| {
            json!({
                "name": text(container, "/name"), "image": text(container, "/image"),
                "imageID": if has_address { text(container, "/image") } else { "" },
                "ready": life.ready, "started": running, "restartCount": life.restarts,
                "state": state, "lastState": last,
            })
        })
        .collect();
    let phase = match (&life.stage, life.last) {
        (Stage::Over, Some(Ended { end, .. })) if end.code == 0 => "Succeeded",
        (Stage::Over, _) => "Failed",
        _ if has_address => "Running",
        _ => "Pending",
    };
    let host = host_of(&life.node);
    let mut status = json!({
        "phase": phase, "startTime": time(life.admitted), "conditions": conditions,
        "containerStatuses": containers, "hostIP": host, "hostIPs": [{"ip": host}], "qosClass": "BestEffort",
        "observedGeneration": pod["metadata"]["generation"],
    });
    if let Some(address) = life.address() {
        status["podIP"] = address.ip().to_string().into();
        status["podIPs"] = json!([{"ip": address.ip().to_string()}]);
    }
    status
}

/// `state` and `lastState` of the container.
fn states(life: &Life) -> (Value, Value) {
    let ended = life.last.map_or_else(|| json!({}), terminated);
    let state = match &life.stage {
        Stage::Creating => waiting("ContainerCreating", ""),
        Stage::Pulling(false) => {
            let image = &life.image;
            let said = format!(
                "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": not found"
            );
            waiting("ErrImagePull", &said)
        }
        Stage::Pulling(true) => waiting("ImagePullBackOff", &format!("Back-off pulling image \"{}\"", life.image)),
        Stage::Misconfigured => waiting("CreateContainerConfigError", "configmap \"settings\" not found"),
        Stage::Running(since) => json!({"running": {"startedAt": time(*since)}}),
        // Until the back-off is known the end itself is the state.
        Stage::Ended(false) | Stage::Over => return (ended, json!({})),
        Stage::Ended(true) => {
            let text = format!("back-off {}s restarting failed container", life.back_off());
            waiting("CrashLoopBackOff", &text)
        }
    };
    (state, ended)
}

fn terminated(ended: Ended) -> Value {
    json!({"terminated": {
        "exitCode": ended.end.code, "reason": ended.end.reason,
        "startedAt": time(ended.started), "finishedAt": time(ended.finished),
    }})
}

fn waiting(reason: &str, message: &str) -> Value {
    if message.is_empty() {
        json!({"waiting": {"reason": reason}})
    } else {
        json!({"waiting": {"reason": reason, "message": message}})
    }
}

/// The address of a node, by the number at the end of its name.
fn host_of(node: &str) -> String {
    let number: u8 = node.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(1);
    format!("10.244.255.{number}")
}
