//! `tests/e2e/run --scale`: what the daemon costs beside thousands of idle Deployments and hundreds of
//! live trials, on the real API server and a real Prometheus. Figures, no verdicts.
use crate::{
    daemon::{Daemon, Launch},
    fail::{Context, Result, bail},
    figures::ProcessFigures,
    options::Scale,
    plane::{DAEMON, Plane, prometheus},
    wait,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

/// Idle Deployments in one namespace.
const PER_NAMESPACE: usize = 100;
/// Requests to the API server at once while the cluster is filled.
const AT_ONCE: usize = 16;
/// A rollout that ended longer ago than this is no trial for a daemon that starts.
const WATCH: Duration = Duration::from_secs(60);
/// Where the workloads with a live trial are.
const LIVE: &str = "scale-live";

/// Fills the cluster, runs the daemon, measures, tells.
pub(crate) async fn run(plane: &Plane, lastgood: &Path, out: &Path, scale: &Scale) -> Result<()> {
    let mut told = Told { text: String::new(), file: out.join("scale.txt") };
    let Scale { idle, live, minutes, .. } = *scale;
    told.say(&format!("{idle} idle Deployments, {live} that will roll out, windows of {minutes} min"));
    told.say(&format!("lastgood: {} ({} bytes)", lastgood.display(), std::fs::metadata(lastgood)?.len()));
    fill(plane, idle, live).await?;
    told.say("all Deployments are complete; waiting until their rollouts are old");
    sleep(WATCH + Duration::from_secs(10)).await;

    let folder = out.join("scale");
    std::fs::create_dir_all(&folder).context(folder.display())?;
    let began = Position::now(plane)?;
    let launch = Launch {
        name: "scale",
        namespace: LIVE,
        folder: &folder,
        // As shipped: the whole cluster, a lease, a look every 15 s.
        settings: &json!({
            "namespaces": [], "leaderElection": true, "interval": "15s", "log": {"level": "info"},
        }),
        // Nothing passes, so that every trial stays live.
        thresholds: &json!({"defaults": {"mode": "observe", "watch": "1m", "minRequests": 10_000_000}}),
        prometheus: Some(prometheus::URL),
        env: &[],
        kubeconfig: &plane.daemon_kubeconfig,
    };
    let mut daemon = Daemon::start(lastgood, &launch)?;
    // On a busy machine a child takes a while to become the program that it is to be.
    daemon.wait_ready(&plane.http).await?;
    let process = daemon.figures()?;
    told.say(&format!("\nsynced: {}", process.memory()?));
    sleep(Duration::from_secs(20)).await;
    told.say(&format!("20 s later: {}, {} live trials", process.memory()?, trials(plane, &daemon).await?));
    tell_requests(&mut told, "API requests from the start to here", &began, plane, None)?;

    measure(&mut told, "idle", plane, &daemon, &process, minutes).await?;

    told.say(&format!("\nrolling out {live} Deployments"));
    let began = Position::now(plane)?;
    roll_out(plane, live).await?;
    wait::until("every rollout is under watch", Duration::from_secs(300), async || {
        let now = trials(plane, &daemon).await.map_err(|e| e.to_string())?;
        if now >= live as f64 { Ok(()) } else { Err(format!("{now} live trials").into()) }
    })
    .await?;
    complete(plane, LIVE, live).await?;
    let load = users(plane).await?;
    told.say(&format!("every rollout is complete and under watch: {}", process.memory()?));
    tell_requests(&mut told, "API requests of the rollouts", &began, plane, None)?;
    sleep(Duration::from_secs(45)).await;
    measure(&mut told, "with live trials", plane, &daemon, &process, minutes).await?;
    load.abort();
    told.say(&format!("at the end: {}, {} live trials", process.memory()?, trials(plane, &daemon).await?));
    daemon.stop().await
}

/// Says things and keeps them.
struct Told {
    text: String,
    file: PathBuf,
}

impl Told {
    fn say(&mut self, text: &str) {
        println!("{text}");
        let _ = writeln!(self.text, "{text}");
        let _ = std::fs::write(&self.file, &self.text);
    }
}

/// One window of so many minutes in which nothing happens from outside.
async fn measure(
    told: &mut Told,
    title: &str,
    plane: &Plane,
    daemon: &Daemon,
    process: &ProcessFigures,
    minutes: u64,
) -> Result<()> {
    let (began, cpu, asked) = (Position::now(plane)?, process.cpu_seconds()?, queries(plane).await?);
    let mut largest = 0;
    for _ in 0..minutes * 6 {
        sleep(Duration::from_secs(10)).await;
        largest = largest.max(process.status("VmRSS")?);
    }
    let minutes = minutes as f64;
    let (cpu, asked_now) = (process.cpu_seconds()? - cpu, queries(plane).await?);
    told.say(&format!("\n{title}: {} live trials", trials(plane, daemon).await?));
    told.say(&format!("memory at the end: {}, largest seen {largest} kB", process.memory()?));
    told.say(&format!("processor: {:.3} s a minute", cpu / minutes));
    let mut total = 0.0;
    for (handler, n) in asked_now {
        let n = n - asked.get(&handler).copied().unwrap_or(0.0);
        if n > 0.0 && handler.starts_with("/api/v1/") {
            total += n;
            told.say(&format!("Prometheus {handler}: {:.1} a minute", n / minutes));
        }
    }
    told.say(&format!("Prometheus in all: {:.1} a minute", total / minutes));
    tell_requests(told, "API requests a minute", &began, plane, Some(minutes))
}

/// Namespaces, idle Deployments without pods, and Deployments with two pods each.
async fn fill(plane: &Plane, idle: usize, live: usize) -> Result<()> {
    let namespaces = idle.div_ceil(PER_NAMESPACE);
    let names = (0..namespaces).map(idle_namespace).chain([LIVE.to_owned()]);
    let api: Api<Namespace> = Api::all(plane.admin.clone());
    stream::iter(names)
        .map(|name| {
            let api = api.clone();
            async move { create(&api, json!({"metadata": {"name": name}})).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let account = ["wait", "--for=create", "serviceaccount/default", "--timeout=60s", "-n", LIVE];
    plane.kubectl(&account, None).await?.ok("the namespace has its ServiceAccount")?;
    println!("creating {live} Deployments with 2 pods each");
    let live_ones = (0..live).map(|n| (LIVE.to_owned(), deployment(LIVE, &format!("live-{n}"), 2)));
    create_all(plane, live_ones).await?;
    complete(plane, LIVE, live).await?;
    println!("creating {idle} Deployments without pods");
    let idle_ones = (0..idle).map(|n| {
        let namespace = idle_namespace(n / PER_NAMESPACE);
        let object = deployment(&namespace, &format!("service-{n}"), 0);
        (namespace, object)
    });
    create_all(plane, idle_ones).await?;
    for n in 0..namespaces {
        complete(plane, &idle_namespace(n), PER_NAMESPACE.min(idle - n * PER_NAMESPACE)).await?;
    }
    Ok(())
}

fn idle_namespace(n: usize) -> String {
    format!("scale-{n:02}")
}

async fn create_all(plane: &Plane, objects: impl Iterator<Item = (String, Value)>) -> Result<()> {
    stream::iter(objects)
        .map(|(namespace, object)| async move {
            create(&Api::<Deployment>::namespaced(plane.admin.clone(), &namespace), object).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await.map(drop).map_err(Into::into)
}

/// A Deployment as teams have them: probes, resources, environment, and kubectl's copy of it all.
fn deployment(namespace: &str, name: &str, replicas: u32) -> Value {
    let env: Vec<Value> =
        (0..12).map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value {n} of {name}")})).collect();
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace,
                "app.kubernetes.io/version": "1.0.0", "team": namespace,
            },
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {
                "metadata": {
                    "labels": {"app.kubernetes.io/name": name, "team": namespace},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
                },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "app", "image": "registry.example.com/shop/web:ok-v1",
                        "ports": [{"name": "http", "containerPort": 8080}], "env": env,
                        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                        "readinessProbe": probe("/health"), "livenessProbe": probe("/health"),
                    }],
                },
            },
        },
    });
    let copy = object.to_string();
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": copy});
    object
}

/// Waits until so many Deployments of a namespace are complete, by their own status.
async fn complete(plane: &Plane, namespace: &str, expected: usize) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(plane.admin.clone(), namespace);
    let what = format!("{expected} Deployments of {namespace} are complete");
    wait::until(&what, Duration::from_secs(900), async || {
        let list = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let done = list.items.iter().filter(|d| is_complete(d)).count();
        if done == list.items.len() && done >= expected {
            return Ok(());
        }
        // A list of many is dear: the poll must not be what the machine is busy with.
        sleep(Duration::from_secs(2)).await;
        Err(format!("{done} of {}", list.items.len()).into())
    })
    .await
}

fn is_complete(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let desired = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= desired
        && status.available_replicas.unwrap_or(0) >= desired
        && status.replicas.unwrap_or(0) <= desired
}

async fn roll_out(plane: &Plane, live: usize) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(plane.admin.clone(), LIVE);
    let containers = json!([{"name": "app", "image": "registry.example.com/shop/web:ok-v2"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    stream::iter(0..live)
        .map(|n| {
            let (api, patch) = (api.clone(), Patch::Strategic(patch.clone()));
            async move { api.patch(&format!("live-{n}"), &PatchParams::default(), &patch).await.map(drop) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(Into::into)
}

/// One request to each running pod every four seconds, so that there is something to count.
async fn users(plane: &Plane) -> Result<JoinHandle<()>> {
    let pods: Api<Pod> = Api::namespaced(plane.admin.clone(), LIVE);
    let list = pods.list(&ListParams::default()).await?;
    let urls: Vec<String> =
        list.iter().filter_map(|p| Some(format!("http://{}:8080/", p.status.as_ref()?.pod_ip.as_ref()?))).collect();
    if urls.is_empty() {
        bail!("no pod of {} has an address", LIVE);
    }
    println!("{} pods run", urls.len());
    let http = plane.http.clone();
    Ok(tokio::spawn(async move {
        let each = Duration::from_secs(4) / u32::try_from(urls.len()).unwrap_or(u32::MAX);
        let mut tick = tokio::time::interval(each);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for url in urls.iter().cycle() {
            tick.tick().await;
            let request = http.get(url).send();
            tokio::spawn(async move { drop(request.await) });
        }
    }))
}

/// A place in the audit log.
struct Position {
    offset: u64,
}

impl Position {
    fn now(plane: &Plane) -> Result<Self> {
        Ok(Self { offset: std::fs::metadata(&plane.audit_log)?.len() })
    }
}

/// What the daemon asked the API server for since `began`, by verb and resource.
fn tell_requests(told: &mut Told, title: &str, began: &Position, plane: &Plane, minutes: Option<f64>) -> Result<()> {
    let mut file = std::fs::File::open(&plane.audit_log)?;
    file.seek(SeekFrom::Start(began.offset))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(DAEMON)) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let is_watch = event["verb"] == "watch";
        // A watch is logged when it begins and when it ends; anything else once.
        let counted = event["stage"] == if is_watch { "ResponseStarted" } else { "ResponseComplete" };
        if event["user"]["username"] != DAEMON || !counted {
            continue;
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (verb, mut resource) = (text(&event["verb"]), text(&event["objectRef"]["resource"]));
        if resource.is_empty() {
            resource = text(&event["requestURI"]);
        }
        *counts.entry(format!("{verb} {resource}")).or_default() += 1;
    }
    told.say(&format!("{title}: {}", per(counts.values().sum(), minutes)));
    for (what, n) in counts {
        told.say(&format!("    {what}: {}", per(n, minutes)));
    }
    Ok(())
}

fn per(count: u64, minutes: Option<f64>) -> String {
    minutes.map_or(count.to_string(), |minutes| format!("{:.1}", count as f64 / minutes))
}

/// `lastgood_trials` of the daemon.
async fn trials(plane: &Plane, daemon: &Daemon) -> Result<f64> {
    let text = plane.http.get(format!("http://{}/metrics", daemon.listen)).send().await?.text().await?;
    let line = text.lines().find_map(|l| l.strip_prefix("lastgood_trials "));
    line.and_then(|v| v.parse().ok()).context("no lastgood_trials in /metrics")
}

/// Requests that Prometheus has answered, by handler.
async fn queries(plane: &Plane) -> Result<BTreeMap<String, f64>> {
    let text = plane.http.get(format!("{}/metrics", prometheus::URL)).send().await?.text().await?;
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("prometheus_http_requests_total{")) {
        let handler = line.split("handler=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        if let (Some(handler), Some(value)) = (handler, value) {
            *all.entry(handler.to_owned()).or_default() += value;
        }
    }
    Ok(all)
}
