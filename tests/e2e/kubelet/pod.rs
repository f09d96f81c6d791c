//! The life of one pod.
use super::{
    World,
    behaviour::{Behaviour, Start},
    patiently,
    server::{self, App},
    status::{Status, seconds},
};
use crate::fail::Result;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// The node that a DaemonSet's pod is meant for.
pub(super) fn wanted_node(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node.clone());
    }
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().filter_map(|t| t.match_fields.as_ref()).flatten();
    fields.filter(|f| f.key == "metadata.name").find_map(|f| f.values.as_ref()?.first().cloned())
}

/// Runs a pod until it is told to go, then lets it finish and removes it.
pub(super) async fn live(
    client: kube::Client,
    world: Arc<World>,
    pod: Pod,
    node: String,
    mut leave: watch::Receiver<bool>,
) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let told = async { drop(leave.wait_for(|gone| *gone).await) };
    let work = run(&client, &api, world, &pod, &node);
    tokio::pin!(work);
    tokio::select! {
        () = told => {
            // Endpoints and proxies hear of it meanwhile: what a preStop hook is for.
            let _ = tokio::time::timeout(Duration::from_millis(1200), &mut work).await;
        }
        ended = &mut work => {
            if let Err(error) = ended {
                eprintln!("kubelet: pod {}: {error}", pod.name_any());
            }
            let _ = leave.wait_for(|gone| *gone).await;
        }
    }
    let uid = pod.metadata.uid.clone();
    let now = DeleteParams::default().grace_period(0).preconditions(Preconditions { uid, resource_version: None });
    // 404 and 409: it is gone already.
    let _ = patiently(|| async { api.delete(&pod.name_any(), &now).await }).await;
}

async fn run(client: &kube::Client, api: &Api<Pod>, world: Arc<World>, pod: &Pod, node: &str) -> Result<()> {
    if pod.spec.as_ref().is_some_and(|s| s.node_name.is_none()) {
        bind(client, pod, node).await?;
    }
    let namespace = pod.namespace().unwrap_or_default();
    let container = pod.spec.as_ref().and_then(|s| s.containers.first());
    let image = container.and_then(|c| c.image.clone()).unwrap_or_default();
    let port = container.and_then(|c| c.ports.as_ref()?.first().map(|p| p.container_port)).unwrap_or(8080);
    let behaviour = world.of_new_pod(&namespace, &image).unwrap_or_else(|| Behaviour::of_image(&image));
    let mut status = Status::new(api.clone(), pod);
    status.node_address = format!("10.244.255.{}", node.trim_start_matches("node-"));
    status.write("Pending", &waiting("ContainerCreating", ""), false).await?;
    match behaviour.start {
        Start::PullError => return pull_errors(&world, &namespace, &image, &mut status).await,
        Start::ConfigError => {
            world.note_harm(&namespace);
            let state = waiting("CreateContainerConfigError", "configmap \"settings\" not found");
            status.write("Pending", &state, false).await?;
            return std::future::pending().await;
        }
        Start::Runs | Start::Crashes | Start::OutOfMemory => {}
    }
    sleep(Duration::from_millis(400)).await;
    let address = world.next_address();
    status.address = Some(address);
    if behaviour.start != Start::Runs {
        return crashes(&world, &namespace, behaviour.start, &mut status).await;
    }
    let seed = u64::from(u32::from(address));
    let app = Arc::new(App::new(world.clone(), &namespace, &image, behaviour, seed));
    let state = json!({"running": {"startedAt": seconds(Timestamp::now())}});
    let report = async {
        status.write("Running", &state, false).await?;
        let Some(delay) = behaviour.ready_after else {
            world.note_harm(&namespace);
            return std::future::pending::<Result<()>>().await;
        };
        sleep(delay).await;
        app.ready.store(true, Ordering::Relaxed);
        status.write("Running", &state, true).await?;
        std::future::pending().await
    };
    let address = SocketAddr::from((address, u16::try_from(port).unwrap_or(8080)));
    tokio::select! {
        ended = report => ended,
        ended = server::serve(app.clone(), address) => ended.map_err(Into::into),
    }
}

async fn bind(client: &kube::Client, pod: &Pod, node: &str) -> Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}/binding", pod.name_any());
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name_any()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let ask = || {
        let request = http::Request::post(&path).header("content-type", "application/json");
        let request = request.body(binding.to_string().into_bytes());
        async { client.request::<Value>(request.map_err(kube::Error::HttpError)?).await }
    };
    match patiently(ask).await {
        // Bound already, or gone.
        Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}

/// A container that exits a second after each start, with the kubelet's back-off: the first restart
/// at once, then after 10 s, 20 s, 40 s, … up to 5 min.
async fn crashes(world: &World, namespace: &str, start: Start, status: &mut Status) -> Result<()> {
    let (code, reason) = if start == Start::OutOfMemory { (137, "OOMKilled") } else { (1, "Error") };
    let mut pause = Duration::ZERO;
    loop {
        let started = seconds(Timestamp::now());
        status.write("Running", &json!({"running": {"startedAt": started}}), false).await?;
        sleep(Duration::from_secs(1)).await;
        world.note_harm(namespace);
        let finished = seconds(Timestamp::now());
        let dead =
            json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": finished}});
        if pause.is_zero() {
            status.write("Running", &dead, false).await?;
        } else {
            let text = format!("back-off {}s restarting failed container", pause.as_secs());
            status.last = dead.clone();
            status.write("Running", &waiting("CrashLoopBackOff", &text), false).await?;
            sleep(pause).await;
        }
        status.last = dead;
        status.restarts += 1;
        if status.restarts == 3 {
            world.note_third_restart(namespace);
        }
        pause = (pause * 2).clamp(Duration::from_secs(10), Duration::from_secs(300));
    }
}

/// An image that does not exist, with the kubelet's back-off.
async fn pull_errors(world: &World, namespace: &str, image: &str, status: &mut Status) -> Result<()> {
    let mut pause = Duration::from_secs(10);
    let error = format!("failed to pull and unpack image \"{image}\": not found");
    let back_off = format!("Back-off pulling image \"{image}\"");
    loop {
        world.note_harm(namespace);
        status.write("Pending", &waiting("ErrImagePull", &error), false).await?;
        sleep(Duration::from_secs(2)).await;
        status.write("Pending", &waiting("ImagePullBackOff", &back_off), false).await?;
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(300));
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    if message.is_empty() {
        json!({"waiting": {"reason": reason}})
    } else {
        json!({"waiting": {"reason": reason, "message": message}})
    }
}
