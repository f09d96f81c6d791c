//! One run as a cluster: a simulated API server whose objects follow the run's script, and the real daemon on it.
//!
//! The script says which pods there are, on which node, in which state, and what each Deployment's controller would
//! say of them. A Deployment that the daemon has put back is left alone from then on: nobody reacts to an undo.
use super::{Play, end, table::Decided, until};
use crate::{
    fail::{Context, Failure, Result},
    plane::prometheus,
};
use jiff::{SignedDuration, Timestamp};
use lastgood::{
    app::{
        Daemon,
        simulated::{Simulated, install, thresholds},
    },
    bench::{Deploy, Look, Service},
    config::Settings,
    domain::Seconds,
    sim::{Key, Manager, Resource, Sim, World, store::Change},
    wire::Wire,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

const TEAM: Manager<'_> = Manager("kubectl");
/// How long everything had been running before.
const AGE: SignedDuration = SignedDuration::from_hours(9);
/// Letters of names that controllers make.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What happens, in the order in which it happens at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Deploy(usize),
    Made(usize),
    Looks(usize, Look),
    Gone(usize),
    Deadline(usize),
}

/// Plays a run from then on to its end; says what the daemon decided of each rollout.
pub(super) async fn play(play: Arc<Play>, start: Instant, reports: PathBuf) -> Result<Vec<Decided>> {
    tokio::time::sleep_until(start).await;
    let sim = Sim::new(Timestamp::now().checked_sub(AGE)?, play.seed);
    sim.with(World::stand_still);
    install(&sim);
    let script = script(&play);
    // What is there from the run's first moment on has been there for long.
    let (old, to_come) = script.split_at(script.partition_point(|(t, _)| *t <= 0.0));
    sim.with(|world| {
        set_up(world, &play)?;
        old.iter().try_for_each(|(t, event)| happens(world, &play, *t, *event))
    })?;
    sim.leap(AGE);
    let (stop, daemon) = daemon(&sim, &play, reports)?;
    for (t, event) in to_come {
        until(start, *t).await;
        sim.with(|world| happens(world, &play, *t, *event))?;
    }
    until(start, end()).await;
    let decided = sim.with(|world| decided(world, &play));
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(20), daemon).await;
    Ok(decided)
}

fn script(play: &Play) -> Vec<(Seconds, Event)> {
    let mut all: Vec<(Seconds, Event)> = Vec::new();
    for (which, deploy) in play.world.deploys.iter().enumerate() {
        all.push((deploy.at, Event::Deploy(which)));
        let next = play.world.deploys.iter().filter(|d| d.service == deploy.service && d.at > deploy.at);
        let until = next.map(|d| d.at).fold(end(), f64::min);
        let deadline = play.tape.deadlines[which].filter(|t| *t < until);
        all.extend(deadline.map(|t| (t, Event::Deadline(which))));
    }
    for (which, pod) in play.tape.pods.iter().enumerate() {
        all.push((pod.created.unwrap_or(0.0), Event::Made(which)));
        all.extend(pod.looks.iter().map(|(t, look)| (*t, Event::Looks(which, *look))));
        all.push((pod.gone, Event::Gone(which)));
    }
    let rank = |event: &Event| match event {
        Event::Deploy(_) => 0,
        Event::Made(_) => 1,
        Event::Looks(..) => 2,
        Event::Gone(_) => 3,
        Event::Deadline(_) => 4,
    };
    all.retain(|(t, _)| *t < end());
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(rank(&a.1).cmp(&rank(&b.1))));
    all
}

fn daemon(sim: &Sim, play: &Play, reports: PathBuf) -> Result<(watch::Sender<bool>, tokio::task::JoinHandle<()>)> {
    let mut settings = Settings { namespace: "lastgood".into(), leader_election: false, ..Settings::default() };
    settings.reports.folder = reports;
    settings.sources.prometheus = Some(serde_json::from_value(json!({"url": prometheus::URL}))?);
    let (_, in_force) = watch::channel(Arc::new(
        thresholds("scenario", &play.thresholds, sim.now()).map_err(|faults| Failure::new(faults.to_string()))?,
    ));
    let simulated =
        Simulated { sim, who: "lastgood", settings, thresholds: in_force, pods: Wire::Network, notices: Wire::Network };
    let daemon = Daemon::new(simulated.surroundings()?)?;
    let (stop, stopped) = watch::channel(false);
    Ok((stop, tokio::spawn(Box::pin(daemon.run(stopped)))))
}

// --- names ---------------------------------------------------------------------------------------

fn letters(mut n: usize, length: usize) -> String {
    let mut letter = || {
        let letter = char::from(LETTERS[n % LETTERS.len()]);
        n /= LETTERS.len();
        letter
    };
    (0..length).map(|_| letter()).collect()
}

fn hash(revision: &str) -> String {
    letters(revision.bytes().map(usize::from).sum::<usize>() * 7_919_111, 8)
}

fn set_name(service: &Service, revision: &str) -> String {
    format!("{}-{}", service.id.name, hash(revision))
}

pub(super) fn pod_name(play: &Play, which: usize) -> String {
    let pod = &play.tape.pods[which];
    format!("{}-{}", set_name(&play.world.services[pod.service], pod.revision), letters(which * 104_729, 5))
}

fn key(play: &Play, resource: Resource, service: &Service, name: impl Into<String>) -> Key {
    Key::new(resource, play.namespace(&service.id.namespace), name)
}

// --- objects -------------------------------------------------------------------------------------

fn set_up(world: &mut World, play: &Play) -> Result<()> {
    let names: BTreeSet<&str> = play.world.services.iter().map(|service| service.id.namespace.as_str()).collect();
    for name in names {
        create(world, Resource::Namespaces, "", json!({"metadata": {"name": play.namespace(name)}}))?;
    }
    for (index, service) in play.world.services.iter().enumerate() {
        let calls: Vec<String> =
            service.calls.iter().map(|callee| play.world.services[*callee].id.name.clone()).collect();
        let first = play.world.deploys.iter().find(|deploy| deploy.service == index).map_or("a", |deploy| deploy.from);
        let deployment = json!({
            "metadata": {
                "name": service.id.name, "labels": {"app": service.id.name},
                "annotations": {"lastgood.dev/calls": calls.join(", ")},
            },
            "spec": {
                "replicas": if service.per_pod { service.pods } else { 1 },
                "selector": {"matchLabels": {"app": service.id.name}}, "template": template(service, first),
            },
        });
        create(world, Resource::Deployments, &play.namespace(&service.id.namespace), deployment)?;
        roll(world, play, service, first, 1)?;
    }
    Ok(())
}

fn create(world: &mut World, resource: Resource, namespace: &str, object: Value) -> Result<Value> {
    world.store.create(resource, namespace, object, TEAM).map_err(|refusal| Failure::new(refusal.to_string()))
}

fn template(service: &Service, revision: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": service.id.name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "app", "image": format!("shop/{}:{revision}", service.id.name), "ports": [{"containerPort": 8080}],
            }],
        },
    })
}

/// The revision becomes the live one: its template, its ReplicaSet and its number.
fn roll(world: &mut World, play: &Play, service: &Service, revision: &str, number: usize) -> Result<()> {
    let deployment = key(play, Resource::Deployments, service, &*service.id.name);
    let changed = world.store.update(&deployment, TEAM, |object| {
        object["spec"]["template"] = template(service, revision);
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = number.to_string().into();
    });
    let object = changed.map_err(|refusal| Failure::new(refusal.to_string()))?;
    let mut template = template(service, revision);
    template["metadata"]["labels"]["pod-template-hash"] = hash(revision).into();
    let labels = template["metadata"]["labels"].clone();
    let set = json!({
        "metadata": {
            "name": set_name(service, revision), "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
            "ownerReferences": owned_by(&object, "Deployment"),
        },
        "spec": {"replicas": service.pods, "selector": {"matchLabels": labels}, "template": template},
    });
    create(world, Resource::ReplicaSets, &deployment.namespace, set).map(drop)
}

fn owned_by(object: &Value, kind: &str) -> Value {
    let metadata = &object["metadata"];
    json!([{
        "apiVersion": "apps/v1", "kind": kind, "name": metadata["name"], "uid": metadata["uid"], "controller": true,
    }])
}

fn happens(world: &mut World, play: &Play, t: Seconds, event: Event) -> Result<()> {
    let pods = &play.tape.pods;
    let service = match event {
        Event::Deploy(deploy) | Event::Deadline(deploy) => play.world.deploys[deploy].service,
        Event::Made(pod) | Event::Looks(pod, _) | Event::Gone(pod) => pods[pod].service,
    };
    let it = &play.world.services[service];
    match event {
        Event::Deploy(deploy) => {
            let number = 2 + play.world.deploys[..deploy].iter().filter(|earlier| earlier.service == service).count();
            roll(world, play, it, play.world.deploys[deploy].to, number)?;
        }
        Event::Made(pod) => {
            let set = key(play, Resource::ReplicaSets, it, set_name(it, pods[pod].revision));
            let owner = world.store.get(&set).context("a pod without a ReplicaSet")?;
            let mut object = json!({
                "metadata": {
                    "name": pod_name(play, pod), "labels": owner["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": owned_by(owner, "ReplicaSet"),
                },
                "spec": owner["spec"]["template"]["spec"],
            });
            object["spec"]["nodeName"] = format!("node-{}", pods[pod].node).into();
            create(world, Resource::Pods, &set.namespace, object)?;
        }
        Event::Looks(pod, look) => {
            let name = key(play, Resource::Pods, it, pod_name(play, pod));
            let now = time(world.store.now());
            let written = world.store.update_status(&name, Manager::KUBELET, |object| {
                object["status"] = pod_status(&object["status"], look, &now);
            });
            written.map_err(|refusal| Failure::new(refusal.to_string()))?;
        }
        Event::Gone(pod) => {
            let name = key(play, Resource::Pods, it, pod_name(play, pod));
            world.store.remove(&name).map_err(|refusal| Failure::new(refusal.to_string()))?;
        }
        Event::Deadline(_) => {}
    }
    tell(world, play, service, t, matches!(event, Event::Deadline(_)))
}

/// The state of a pod, as a kubelet writes it.
fn pod_status(before: &Value, look: Look, now: &str) -> Value {
    let word = if look.ready { "True" } else { "False" };
    let ready = &before["conditions"][0];
    let since = if ready["status"] == word { ready["lastTransitionTime"].clone() } else { now.into() };
    let state = match look.waiting {
        Some(reason) => json!({"waiting": {"reason": reason}}),
        None => json!({"running": {"startedAt": now}}),
    };
    let ended = look.exit.map(|code| {
        let reason = if look.oom { "OOMKilled" } else { "Error" };
        json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}})
    });
    json!({
        "phase": if look.waiting.is_some_and(|why| why.contains("Image") || why.contains("Config")) { "Pending" } else { "Running" },
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": since}],
        "containerStatuses": [{
            "name": "app", "image": "app", "imageID": "app", "ready": look.ready, "restartCount": look.restarts,
            "state": state, "lastState": ended.unwrap_or_else(|| json!({})),
        }],
    })
}

/// What the controller says of a Deployment, unless the daemon has put it back.
fn tell(world: &mut World, play: &Play, service: usize, t: Seconds, gives_up: bool) -> Result<()> {
    let it = &play.world.services[service];
    let name = key(play, Resource::Deployments, it, &*it.id.name);
    let deploys = || play.world.deploys.iter().filter(|deploy| deploy.service == service);
    let live = deploys()
        .rev()
        .find(|deploy| deploy.at <= t)
        .map_or_else(|| deploys().next().map_or("a", |d| d.from), |d| d.to);
    let object = world.store.get(&name).context("a Deployment is gone")?;
    let image = "/spec/template/spec/containers/0/image";
    if object.pointer(image) != json!({"spec": {"template": template(it, live)}}).pointer(image) {
        return Ok(());
    }
    let pods = || play.tape.pods.iter().filter(|pod| pod.service == service);
    let there = || pods().filter(|pod| pod.created.is_none_or(|created| created <= t) && t < pod.gone);
    let ready = there().filter(|pod| pod.look(t).is_some_and(|look| look.ready)).count();
    let (total, updated) = (there().count(), there().filter(|pod| pod.revision == live).count());
    let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
    let (now, generation) = (time(world.store.now()), object["metadata"]["generation"].clone());
    let (word, reason) = match (total == wanted && updated == wanted && ready >= wanted, gives_up) {
        (true, _) => ("True", "NewReplicaSetAvailable"),
        (false, true) => ("False", "ProgressDeadlineExceeded"),
        (false, false) => ("True", "ReplicaSetUpdated"),
    };
    let status = json!({
        "observedGeneration": generation, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "lastUpdateTime": now, "lastTransitionTime": now},
            {"type": "Progressing", "status": word, "reason": reason, "lastUpdateTime": now, "lastTransitionTime": now},
        ],
    });
    let written = world.store.update_status(&name, Manager::CONTROLLERS, |object| object["status"] = status);
    written.map(drop).map_err(|refusal| Failure::new(refusal.to_string()))
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

// --- what came of it -----------------------------------------------------------------------------

/// What the daemon wrote into the cluster about each rollout.
fn decided(world: &World, play: &Play) -> Vec<Decided> {
    let mut all = vec![Decided::default(); play.world.deploys.len()];
    let ended = world.store.now();
    for entry in world.store.since(world.store.floor()).into_iter().flatten() {
        if entry.key.resource != Resource::Events || entry.change != Change::Added {
            continue;
        }
        let t = end() - ended.duration_since(entry.at).as_secs_f64();
        let text = |pointer: &str| entry.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let action = match text("/reason") {
            "UndoStarted" => "undo",
            "RolloutBad" => "report",
            "RolloutHeld" => "hold",
            _ => "none",
        };
        let about = |deploy: &Deploy| {
            let id = &play.world.services[deploy.service].id;
            id.name == text("/regarding/name") && play.namespace(&id.namespace) == entry.key.namespace && deploy.at <= t
        };
        if let Some(which) = play.world.deploys.iter().rposition(about) {
            let why = format!("{}: {}", text("/reason"), text("/note"));
            all[which].is(action, t - play.world.deploys[which].at, &why);
        }
    }
    all
}
