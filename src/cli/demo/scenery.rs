//! Pure. What the demo plays with: three services, their users, and the daemon's configuration.

use crate::sim::{Behaviour, Manager, Resource, World, behaviour::Latency};
use serde_json::{Value, json};

/// Where the services live.
pub(super) const NAMESPACE: &str = "shop";
/// How the API server knows those who use `kubectl apply`.
pub(super) const KUBECTL: &str = "kubectl-client-side-apply";
/// Requests a second to each service.
pub(super) const RATE: f64 = 100.0;

/// Short times, so that a story is over while one looks. Nothing else is eased: limits and the certainty that a
/// verdict needs are the defaults.
pub(super) const THRESHOLDS: &str = "\
apiVersion: lastgood.dev/v1
kind: Thresholds
defaults:
  mode: act
  watch: 30s
  minRequests: 200
";

/// Says so.
pub(super) const HONESTY: &str = "\
Short for a demo: looks every 2 s (default 15 s), watches 30 s (30 min), asks for 200 requests to pass (300), acts (observes).
As shipped: the limits (5 % errors, p95 +50 %) and the certainty (a false alarm in 1 of 10,000 rollouts).";

/// The three services.
pub(super) const SERVICES: [&str; 3] = ["web", "checkout", "mail"];

/// What each image does.
fn images() -> [(&'static str, Behaviour); 3] {
    let quick = Behaviour { latency: Latency { median: 0.03, sigma: 0.4 }, ..Behaviour::default() };
    [
        ("shop/checkout:2", Behaviour { errors: vec![(0.0, 0.12)], ..quick.clone() }),
        ("shop/mail:2", Behaviour { crash_after: Some(1.0), ready_after: None, ..quick.clone() }),
        ("shop/web:3", Behaviour { ready_after: Some(6.0), ..quick }),
    ]
}

/// Puts everything on the stage.
///
/// # Errors
/// When the cluster refuses one of the objects, which would be a defect.
pub(super) fn set_up(world: &mut World) -> Result<(), String> {
    world.add_nodes(3);
    for (image, behaviour) in images() {
        world.set_behaviour(image, behaviour);
    }
    let mut create = |resource, namespace: &str, object| {
        let created = world.store.create(resource, namespace, object, Manager(KUBECTL));
        created.map(drop).map_err(|refusal| refusal.to_string())
    };
    create(Resource::Namespaces, "", json!({"metadata": {"name": NAMESPACE}}))?;
    for service in SERVICES {
        create(Resource::Services, NAMESPACE, service_of(service))?;
        create(Resource::Deployments, NAMESPACE, deployment(service))?;
    }
    for service in SERVICES {
        world.set_load(NAMESPACE, service, RATE);
    }
    Ok(())
}

fn service_of(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": name, "image": format!("shop/{name}:1"), "ports": [{"containerPort": 8080}],
                }]},
            },
        },
    })
}
