//! What people do to the cluster: the team's manifests, and the steps of a story. All of it goes to the store at once,
//! as somebody else's `kubectl`: none of it is subject to the daemon's faults.

use crate::story::{Act, Fault, Story, Workload, place};
use lastgood::sim::{self, Key, Manager, Resource, Sim, World};
use serde_json::{Value, json};

/// A secret that stands in every template, and must be seen nowhere else (I12).
pub const CANARY: &str = "canary-5Tq";
const KUBECTL: Manager<'static> = Manager("kubectl-client-side-apply");

/// The kinds of workloads.
pub const KINDS: [Resource; 3] = [Resource::Deployments, Resource::StatefulSets, Resource::DaemonSets];

/// Makes the cluster of a story: nodes, namespaces, workloads with their Services, images.
pub fn found(sim: &Sim, story: &Story) {
    sim.with(|world| {
        world.add_nodes(3);
        let crd = serde_json::to_value(lastgood::record::crd()).unwrap();
        create(world, Resource::CustomResourceDefinitions, "", crd);
        for namespace in ["lastgood", "shop", "other"] {
            create(world, Resource::Namespaces, "", json!({"metadata": {"name": namespace}}));
        }
        for (image, does) in &story.images {
            world.set_behaviour(image, does.clone());
        }
        for workload in &story.workloads {
            make(world, workload, &workload.image);
        }
    });
}

/// Users come to every workload.
pub fn open_doors(sim: &Sim, story: &Story) {
    sim.with(|world| {
        for workload in &story.workloads {
            world.set_load(&workload.namespace, &workload.name, workload.load);
            for needed in &workload.calls {
                world.traffic.set_call(&workload.namespace, &workload.name, needed);
            }
        }
    });
}

fn create(world: &mut World, resource: Resource, namespace: &str, object: Value) {
    world.store.create(resource, namespace, object, KUBECTL).unwrap_or_else(|e| panic!("{resource:?}: {e:?}"));
}

fn make(world: &mut World, workload: &Workload, image: &str) {
    let (resource, object) = manifest(workload, image);
    create(world, resource, &workload.namespace, object);
    let service = json!({
        "metadata": {"name": workload.name},
        "spec": {"selector": {"app": workload.name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    let key = Key::new(Resource::Services, workload.namespace.as_str(), workload.name.as_str());
    if world.store.get(&key).is_none() {
        create(world, Resource::Services, &workload.namespace, service);
    }
}

fn manifest(workload: &Workload, image: &str) -> (Resource, Value) {
    let resource = *KINDS.iter().find(|r| r.kind() == workload.kind).expect("a kind of workload");
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": workload.kind,
        "metadata": {"name": workload.name, "namespace": workload.namespace, "labels": {"app": workload.name}},
        "spec": {
            "selector": {"matchLabels": {"app": workload.name}},
            "template": {
                "metadata": {"labels": {"app": workload.name}},
                "spec": {"containers": [{
                    "name": "app", "image": image,
                    "env": [{"name": "PASSWORD", "value": CANARY}],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "resources": {"limits": {"memory": "256Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}},
                }]},
            },
        },
    });
    match resource {
        Resource::DaemonSets => {}
        Resource::StatefulSets => {
            object["spec"]["replicas"] = json!(workload.replicas);
            object["spec"]["serviceName"] = json!(workload.name);
        }
        _ => object["spec"]["replicas"] = json!(workload.replicas),
    }
    if !workload.calls.is_empty() {
        object["metadata"]["annotations"] = json!({"lastgood.dev/calls": workload.calls.join(", ")});
    }
    merge(&mut object, &workload.set);
    (resource, object)
}

/// Does what a step says. What belongs to the daemon (thresholds, restarts) is not done here.
pub fn act(sim: &Sim, story: &Story, workload: &str, act: &Act) {
    let (namespace, name) = place(workload);
    let described = || story.workloads.iter().find(|w| (w.namespace.as_str(), w.name.as_str()) == (namespace, name));
    sim.with(|world| {
        let key = |world: &World| find(world, workload);
        let stamp = world.store.now().to_string();
        match act {
            Act::Deploy(image) => {
                edit(world, key(world), |o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
            }
            Act::Edit(patch) => edit(world, key(world), |o| merge(o, patch)),
            Act::Restart(true) => edit(world, key(world), |o| {
                let annotations = json!({"kubectl.kubernetes.io/restartedAt": stamp});
                merge(&mut o["spec"]["template"]["metadata"], &json!({"annotations": annotations}));
            }),
            Act::Scale(replicas) => edit(world, key(world), |o| o["spec"]["replicas"] = json!(replicas)),
            Act::Pause(paused) => edit(world, key(world), |o| o["spec"]["paused"] = json!(paused)),
            Act::Delete(true) => drop(key(world).map(|key| world.store.delete(&key))),
            Act::Recreate(image) => {
                key(world).map(|key| world.store.delete(&key));
                make(world, described().expect("a workload of the story"), image);
            }
            Act::Image { name, does } => world.set_behaviour(name, does.clone()),
            Act::Load(load) => world.set_load(namespace, name, *load),
            Act::Outage(share) => world.traffic.set_outage(*share),
            Act::DeletePods(true) => {
                let pods = world.store.list(Resource::Pods, Some(namespace));
                let ours = pods.filter(|(_, pod)| pod["metadata"]["labels"]["app"] == name).map(|(key, _)| key.clone());
                for pod in ours.collect::<Vec<_>>() {
                    let _ = world.store.delete(&pod);
                }
            }
            Act::Remove { resource, name } => {
                let resource = *Resource::ALL.iter().find(|r| r.plural() == resource).expect("a kind");
                let _ = world.store.delete(&Key::new(resource, namespace, name.as_str()));
            }
            Act::Compact(true) => world.store.forget(),
            Act::Incidents(patch) => {
                // A later version brings its own schema.
                let crd = Key::new(Resource::CustomResourceDefinitions, "", "incidents.lastgood.dev");
                let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/phase/enum";
                edit(world, Some(crd), |o| match o.pointer_mut(schema).and_then(Value::as_array_mut) {
                    Some(phases) => phases.push(patch["status"]["phase"].clone()),
                    None => panic!("the schema of phases was not found"),
                });
                let all: Vec<Key> = world.store.list(Resource::Incidents, None).map(|(key, _)| key.clone()).collect();
                for key in all {
                    world.store.update(&key, Manager("another-version"), |o| merge(o, patch)).unwrap();
                }
            }
            _ => {}
        }
    });
}

/// Puts a fault on the daemon's way to the API server.
pub fn disturb(sim: &Sim, who: &'static str, fault: &Fault) {
    let how = match fault.how.as_str() {
        "refuse" => sim::Fault::Refuse(fault.status, fault.retry_after),
        "deny" => sim::Fault::Deny(fault.status),
        "resetBefore" => sim::Fault::ResetBefore,
        "resetAfter" => sim::Fault::ResetAfter,
        "lost" => sim::Fault::Lost,
        "lostAnswer" => sim::Fault::LostAnswer,
        "garbage" => sim::Fault::Garbage("<html>sign in</html>".into()),
        "truncated" => sim::Fault::Truncated,
        "cutWatch" => sim::Fault::CutWatch,
        "silentWatch" => sim::Fault::SilentWatch,
        "doubledWatch" => sim::Fault::DoubledWatch,
        "reversedWatch" => sim::Fault::ReversedWatch,
        other => panic!("there is no fault {other}"),
    };
    let only = fault.only.clone();
    let rule = sim::Rule::new(how, move |asked| {
        asked.who == who
            && match only.as_str() {
                "all" => true,
                "reads" => matches!(asked.verb, "get" | "list"),
                "writes" => asked.is_write(),
                "watches" => asked.verb == "watch",
                "streamingLists" => asked.url.contains("sendInitialEvents"),
                "furtherPages" => asked.url.contains("continue="),
                "undo" => asked.writes_workload(),
                "incidents" => asked.is_write() && asked.resource == Some(Resource::Incidents),
                other => panic!("there are no requests called {other}"),
            }
    });
    let rule = fault.times.map_or(rule.clone(), |times| rule.times(times));
    let rule = fault.chance.map_or(rule.clone(), |chance| rule.with_chance(chance));
    sim.faults(|faults| faults.add(rule));
}

fn edit(world: &mut World, key: Option<Key>, change: impl FnOnce(&mut Value)) {
    // The generator also edits what it has deleted: then nothing happens, as with kubectl.
    if let Some(key) = key {
        let done = world.store.update(&key, KUBECTL, change);
        assert!(done.is_ok(), "{key}: {done:?}");
    }
}

/// The object of a workload, if it is there.
pub fn find(world: &World, workload: &str) -> Option<Key> {
    let (namespace, name) = place(workload);
    KINDS.iter().map(|r| Key::new(*r, namespace, name)).find(|key| world.store.get(key).is_some())
}

/// A merge patch; what is not given changes nothing.
pub fn merge(into: &mut Value, patch: &Value) {
    if !patch.is_null() {
        lastgood::sim::merge_patch(into, patch);
    }
}
