//! The fake kubelet: binds pods to nodes, runs each as a small HTTP server at its own address, and
//! reports their status as a real kubelet would.
mod behaviour;
mod metrics;
mod pod;
mod server;
mod status;

pub(crate) use behaviour::Behaviour;

use crate::fail::Result;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// What the kubelet and the stories share.
#[derive(Default)]
pub(crate) struct World {
    /// Behaviours that a story changed while pods run: by namespace and image.
    changed: Mutex<HashMap<(String, String), Changed>>,
    /// When each namespace first saw harm.
    harm: Mutex<HashMap<String, Harm>>,
    addresses: AtomicU32,
}

/// A behaviour that a story changed.
#[derive(Debug, Clone, Copy)]
struct Changed {
    behaviour: Behaviour,
    /// As when somebody overwrites a tag: what runs already stays as it is.
    new_pods_only: bool,
}

/// When the pods of a namespace first did harm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Harm {
    /// First failed answer, slow answer, crash, pull error or unready start.
    pub(crate) first: Option<Timestamp>,
    /// Third restart of one container.
    pub(crate) third_restart: Option<Timestamp>,
}

impl World {
    /// From now on, pods of this image behave otherwise.
    pub(crate) fn change(&self, namespace: &str, image: &str, behaviour: Behaviour, new_pods_only: bool) {
        let key = (namespace.to_owned(), image.to_owned());
        let changed = Changed { behaviour, new_pods_only };
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(key, changed);
    }

    pub(crate) fn harm(&self, namespace: &str) -> Harm {
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).copied().unwrap_or_default()
    }

    /// How a pod that starts now behaves, if a story changed that.
    fn of_new_pod(&self, namespace: &str, image: &str) -> Option<Behaviour> {
        self.changed(namespace, image).map(|c| c.behaviour)
    }

    /// How a running pod behaves, if a story changed that.
    fn of_running_pod(&self, namespace: &str, image: &str) -> Option<Behaviour> {
        self.changed(namespace, image).filter(|c| !c.new_pods_only).map(|c| c.behaviour)
    }

    fn changed(&self, namespace: &str, image: &str) -> Option<Changed> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.get(&(namespace.to_owned(), image.to_owned())).copied()
    }

    fn note_harm(&self, namespace: &str) {
        let mut harm = self.harm.lock().unwrap_or_else(PoisonError::into_inner);
        harm.entry(namespace.to_owned()).or_default().first.get_or_insert_with(Timestamp::now);
    }

    fn note_third_restart(&self, namespace: &str) {
        let mut harm = self.harm.lock().unwrap_or_else(PoisonError::into_inner);
        harm.entry(namespace.to_owned()).or_default().third_restart.get_or_insert_with(Timestamp::now);
    }

    /// The next pod address. Addresses are not used again: 60,000 are enough for one suite.
    fn next_address(&self) -> Ipv4Addr {
        let n = self.addresses.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = (n / 250 * 256 + n % 250 + 2).to_be_bytes();
        Ipv4Addr::new(10, 244, high, low)
    }
}

/// Asks an API server again that is away or overloaded, as a kubelet does.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match ask().await {
            Err(error) if passes(&error) && Instant::now() < deadline => sleep(Duration::from_millis(500)).await,
            answer => return answer,
        }
    }
}

fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}

/// Creates the nodes and runs pods until the task is dropped.
pub(crate) async fn run(client: kube::Client, world: Arc<World>) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    for (n, name) in NODES.iter().enumerate() {
        let address = format!("10.244.255.{}", n + 1);
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
            "spec": {"taints": []},
        });
        let as_kubelet = PatchParams::apply("kubelet").force();
        nodes.patch(name, &as_kubelet, &Patch::Apply(&node)).await?;
        // Admission taints every new node until a controller, which does not run here, finds it ready.
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": null}}))).await?;
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
        let status = json!({"status": {
            "capacity": room, "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    let mut running: HashMap<String, watch::Sender<bool>> = HashMap::new();
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let mut turn = 0;
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(()),
            Err(_) => continue,
        };
        match event {
            watcher::Event::Apply(found) | watcher::Event::InitApply(found) => {
                let Some(uid) = found.metadata.uid.clone() else { continue };
                let leaving = found.metadata.deletion_timestamp.is_some();
                let known = running.entry(uid).or_insert_with(|| {
                    turn += 1;
                    let (tell, told) = watch::channel(false);
                    let node = pod::wanted_node(&found).unwrap_or_else(|| NODES[turn % NODES.len()].to_owned());
                    tokio::spawn(pod::live(client.clone(), world.clone(), found, node, told));
                    tell
                });
                if leaving {
                    known.send_replace(true);
                }
            }
            watcher::Event::Delete(gone) => {
                if let Some(tell) = gone.metadata.uid.and_then(|uid| running.remove(&uid)) {
                    tell.send_replace(true);
                }
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
    }
}
