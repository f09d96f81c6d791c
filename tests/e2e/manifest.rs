//! What a team would have in Git for one workload of a story.
use crate::{
    daemon::merge,
    story::{Deploy, Workload},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The workload's manifest.
pub(crate) fn workload(w: &Workload) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": w.kind,
        "metadata": {"name": w.name, "labels": {"app": w.name}},
        "spec": {
            "selector": {"matchLabels": {"app": w.name}},
            "template": {
                "metadata": {
                    "labels": {"app": w.name},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
                },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "app", "image": w.image, "ports": [{"name": "http", "containerPort": 8080}],
                    }],
                },
            },
        },
    });
    for (key, value) in &w.labels {
        object["metadata"]["labels"][key] = value.clone().into();
    }
    if !w.annotations.is_empty() {
        object["metadata"]["annotations"] = json!(w.annotations);
    }
    if w.kind != "DaemonSet" {
        object["spec"]["replicas"] = w.replicas.into();
    }
    if w.kind == "StatefulSet" {
        object["spec"]["serviceName"] = w.name.clone().into();
    }
    set_env(&mut object, &w.env);
    merge(&mut object, &w.set);
    object
}

/// Its Service.
pub(crate) fn service(w: &Workload) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": w.name},
        "spec": {"selector": {"app": w.name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// What the team changes for a deploy.
pub(crate) fn change(object: &mut Value, deploy: &Deploy) {
    if let Some(image) = &deploy.image {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = image.clone().into();
    }
    if let Some(env) = &deploy.env {
        set_env(object, env);
    }
    merge(object, &deploy.set);
}

fn set_env(object: &mut Value, env: &BTreeMap<String, String>) {
    let list: Vec<Value> = env.iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    if list.is_empty() {
        if let Some(container) = container.as_object_mut() {
            container.remove("env");
        }
    } else {
        container["env"] = list.into();
    }
}
