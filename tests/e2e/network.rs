//! A proxy at every Service's own address, to the ready pods behind it: kube-proxy for the stories.
use crate::fail::Result;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// Ready pods by namespace, Service, port name, and slice.
#[derive(Default)]
struct Endpoints {
    slices: Mutex<HashMap<String, Slice>>,
}

struct Slice {
    service: (String, String),
    ports: HashMap<String, Vec<SocketAddr>>,
}

impl Endpoints {
    fn put(&self, slice: &EndpointSlice) {
        let Some(service) = slice.labels().get("kubernetes.io/service-name") else { return };
        let service = (slice.namespace().unwrap_or_default(), service.clone());
        let ready = slice.endpoints.iter().filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
        let addresses: Vec<IpAddr> = ready.flat_map(|e| &e.addresses).filter_map(|a| a.parse().ok()).collect();
        let ports = slice.ports.iter().flatten().filter_map(|p| {
            let port = u16::try_from(p.port?).ok()?;
            let to = addresses.iter().map(|a| SocketAddr::new(*a, port)).collect();
            Some((p.name.clone().unwrap_or_default(), to))
        });
        let slice_of = Slice { service, ports: ports.collect() };
        self.lock().insert(key(slice), slice_of);
    }

    fn of(&self, service: &(String, String), port: &str) -> Vec<SocketAddr> {
        let slices = self.lock();
        let found = slices.values().filter(|s| s.service == *service);
        let mut all: Vec<_> = found.filter_map(|s| s.ports.get(port)).flatten().copied().collect();
        all.sort_unstable();
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slice>> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: ResourceExt>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

enum Change {
    Service(Box<watcher::Event<Service>>),
    Slice(Box<watcher::Event<EndpointSlice>>),
}

/// Keeps a proxy for every Service until the task is dropped.
pub(crate) async fn run(client: kube::Client) -> Result<()> {
    let endpoints = Arc::new(Endpoints::default());
    let services = watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).default_backoff();
    let slices = watcher(Api::<EndpointSlice>::all(client), watcher::Config::default()).default_backoff();
    let mut changes = stream::select(
        services.map_ok(|e| Change::Service(Box::new(e))).boxed(),
        slices.map_ok(|e| Change::Slice(Box::new(e))).boxed(),
    );
    let mut proxies: HashMap<String, Vec<AbortHandle>> = HashMap::new();
    let mut tasks = JoinSet::new();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Slice(event)) => match *event {
                watcher::Event::Apply(slice) | watcher::Event::InitApply(slice) => endpoints.put(&slice),
                watcher::Event::Delete(slice) => {
                    endpoints.lock().remove(&key(&slice));
                }
                watcher::Event::Init | watcher::Event::InitDone => {}
            },
            Ok(Change::Service(event)) => match *event {
                watcher::Event::Apply(service) | watcher::Event::InitApply(service) => {
                    // Address and ports of a story's Service do not change.
                    proxies.entry(key(&service)).or_insert_with(|| proxy(&service, &endpoints, &mut tasks));
                }
                watcher::Event::Delete(service) => {
                    proxies.remove(&key(&service)).iter().flatten().for_each(AbortHandle::abort);
                }
                watcher::Event::Init | watcher::Event::InitDone => {}
            },
            Err(_) => {}
        }
        while tasks.try_join_next().is_some() {}
    }
    Ok(())
}

fn proxy(service: &Service, endpoints: &Arc<Endpoints>, tasks: &mut JoinSet<()>) -> Vec<AbortHandle> {
    let id = (service.namespace().unwrap_or_default(), service.name_any());
    let spec = service.spec.as_ref();
    let address = spec.and_then(|s| s.cluster_ip.as_ref()?.parse::<IpAddr>().ok());
    let Some(address) = address.filter(|_| id.0 != "default") else { return Vec::new() };
    let ports = spec.and_then(|s| s.ports.as_ref()).into_iter().flatten();
    let mut started = Vec::new();
    for port in ports {
        let name = port.name.clone().unwrap_or_default();
        let at = SocketAddr::new(address, u16::try_from(port.port).unwrap_or_default());
        let (id, endpoints) = (id.clone(), endpoints.clone());
        started.push(tasks.spawn(async move {
            if let Err(error) = forward(&id, &name, at, &endpoints).await {
                eprintln!("proxy of Service {}/{}: {error}", id.0, id.1);
            }
        }));
    }
    started
}

/// Connections are handed to the ready pods in turn; with none, they are closed at once.
async fn forward(id: &(String, String), port: &str, at: SocketAddr, endpoints: &Endpoints) -> std::io::Result<()> {
    let listener = TcpListener::bind(at).await?;
    let mut open = JoinSet::new();
    let mut turn = 0_usize;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut from, _)) = accepted else { continue };
                let ready = endpoints.of(id, port);
                if ready.is_empty() {
                    continue;
                }
                turn = turn.wrapping_add(1);
                let to = ready[turn % ready.len()];
                open.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
            Some(_) = open.join_next() => {}
        }
    }
}
