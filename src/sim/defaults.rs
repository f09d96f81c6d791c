//! Pure. What the API server fills in and tidies before it stores an object, and what it refuses as invalid.
//!
//! Completing a complete object changes nothing, so that a template that is written back as it was read is equal.

use super::{
    refusal::Refusal,
    resource::{Key, Resource},
    selector::Selector,
};
use serde_json::{Map, Value, json};

/// Whether the object has a pod template with the rules of `apps`.
fn has_template(resource: Resource) -> bool {
    use Resource::{DaemonSets, Deployments, ReplicaSets, StatefulSets};
    matches!(resource, Deployments | ReplicaSets | StatefulSets | DaemonSets)
}

/// Fills in what is missing.
pub(super) fn complete(resource: Resource, object: &mut Value) {
    // Schemas and what they govern may hold nulls and empty lists that mean something.
    let is_free = resource.is_custom() || resource == Resource::CustomResourceDefinitions;
    if let Some(map) = object.as_object_mut().filter(|_| !is_free) {
        for (key, value) in map.iter_mut().filter(|(key, _)| *key == "metadata" || *key == "spec") {
            tidy(key, value);
        }
        map.retain(|key, value| !value.is_null() || key == "data");
    }
    if has_template(resource) {
        workload(resource, &mut object["spec"]);
        let template = &mut object["spec"]["template"];
        if template.is_object() {
            pod_spec(&mut template["spec"]);
        }
    }
    match resource {
        Resource::Pods => {
            let spec = &mut object["spec"];
            pod_spec(spec);
            for (key, value) in [
                ("enableServiceLinks", json!(true)),
                ("priority", json!(0)),
                ("preemptionPolicy", json!("PreemptLowerPriority")),
                ("serviceAccountName", json!("default")),
                ("serviceAccount", json!("default")),
            ] {
                default(spec, key, value);
            }
        }
        Resource::Services => service(&mut object["spec"]),
        Resource::Namespaces => {
            let name = object["metadata"]["name"].clone();
            default(&mut object["metadata"], "labels", json!({}));
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            default(object, "spec", json!({"finalizers": ["kubernetes"]}));
        }
        Resource::PersistentVolumeClaims => default(&mut object["spec"], "volumeMode", json!("Filesystem")),
        Resource::Secrets => default(object, "type", json!("Opaque")),
        _ => {}
    }
}

/// The status of a new object.
pub(super) fn first_status(resource: Resource) -> Option<Value> {
    match resource {
        Resource::Pods => Some(json!({"phase": "Pending", "qosClass": "BestEffort"})),
        Resource::Namespaces => Some(json!({"phase": "Active"})),
        Resource::PersistentVolumeClaims => Some(json!({"phase": "Pending"})),
        Resource::Services => Some(json!({"loadBalancer": {}})),
        Resource::StatefulSets => Some(json!({"replicas": 0, "availableReplicas": 0})),
        Resource::ReplicaSets => Some(json!({"replicas": 0})),
        Resource::DaemonSets => Some(json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
        })),
        Resource::Deployments => Some(json!({})),
        _ => None,
    }
}

/// Drops what a typed object would not write: nulls, empty lists, empty maps of free keys.
fn tidy(field: &str, value: &mut Value) {
    const FREE: [&str; 5] = ["labels", "annotations", "nodeSelector", "limits", "requests"];
    match value {
        Value::Object(map) if field != "managedFields" => {
            map.iter_mut().for_each(|(key, value)| tidy(key, value));
            map.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !(map.is_empty() && FREE.contains(&key.as_str())),
                _ => true,
            });
        }
        Value::Array(list) if field != "managedFields" => {
            list.iter_mut().for_each(|item| tidy(field, item));
            if field == "env" {
                let unvalued = |item: &mut Map<String, Value>| item.get("value").is_some_and(|v| v == "");
                list.iter_mut().filter_map(Value::as_object_mut).filter_map(|i| unvalued(i).then_some(i)).for_each(
                    |item| {
                        item.remove("value");
                    },
                );
            }
        }
        _ => {}
    }
}

fn default(object: &mut Value, key: &str, value: Value) {
    if object.get(key).is_none_or(Value::is_null) && (object.is_object() || object.is_null()) {
        object[key] = value;
    }
}

fn workload(resource: Resource, spec: &mut Value) {
    match resource {
        Resource::Deployments => {
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "progressDeadlineSeconds", json!(600));
            default(spec, "strategy", json!({}));
            default(&mut spec["strategy"], "type", json!("RollingUpdate"));
            if spec["strategy"]["type"] == "RollingUpdate" {
                default(&mut spec["strategy"], "rollingUpdate", json!({}));
                default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", json!("25%"));
                default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", json!("25%"));
            }
        }
        Resource::StatefulSets => {
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "podManagementPolicy", json!("OrderedReady"));
            default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
            default(&mut spec["persistentVolumeClaimRetentionPolicy"], "whenDeleted", json!("Retain"));
            default(&mut spec["persistentVolumeClaimRetentionPolicy"], "whenScaled", json!("Retain"));
            default(spec, "updateStrategy", json!({}));
            if spec["updateStrategy"].get("type").is_none() {
                spec["updateStrategy"]["type"] = json!("RollingUpdate");
                default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
            }
            if spec["updateStrategy"]["rollingUpdate"].is_object() {
                default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", json!(0));
            }
        }
        Resource::DaemonSets => {
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "updateStrategy", json!({}));
            default(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
                default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", json!(1));
                default(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", json!(0));
            }
        }
        _ => default(spec, "replicas", json!(1)),
    }
}

fn pod_spec(spec: &mut Value) {
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    for (a, b) in [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")] {
        if let Some(name) = spec.get(b).filter(|n| n.is_string()).cloned() {
            default(spec, a, name);
        }
    }
    for list in ["initContainers", "containers"] {
        spec[list].as_array_mut().into_iter().flatten().for_each(container);
        // Reading a field that is not there must not make it.
        if let Some(map) = spec.as_object_mut().filter(|m| m.get(list).is_some_and(Value::is_null)) {
            map.remove(list);
        }
    }
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.iter_mut().for_each(volume);
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !name.contains('@') && (name.ends_with(":latest") || !name.contains(':'));
    default(container, "imagePullPolicy", json!(if is_latest { "Always" } else { "IfNotPresent" }));
    default(container, "resources", json!({}));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    if let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) {
        ports.iter_mut().for_each(|port| default(port, "protocol", json!("TCP")));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|p| p.is_object()) else { continue };
        for (key, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            default(probe, key, json!(value));
        }
        if let Some(get) = probe.get_mut("httpGet").filter(|g| g.is_object()) {
            default(get, "path", json!("/"));
            default(get, "scheme", json!("HTTP"));
        }
    }
    for env in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(reference) = env.pointer_mut("/valueFrom/fieldRef") {
            default(reference, "apiVersion", json!("v1"));
        }
    }
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|v| v.len() == 1) {
        volume["emptyDir"] = json!({});
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source).filter(|s| s.is_object()) {
            default(source, "defaultMode", json!(420));
        }
    }
}

fn service(spec: &mut Value) {
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
}

/// Refuses an object that the real server would not store either, as far as somebody here could send one.
pub(super) fn validate(key: &Key, old: Option<&Value>, new: &Value) -> Result<(), Refusal> {
    let mut causes: Vec<(String, String)> = Vec::new();
    let mut wrong = |field: &str, why: String| causes.push((field.to_owned(), why));
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let name = &key.name;
    if old.is_none() && (name.len() > 253 || !name.chars().all(is_name) || name.starts_with('-') || name.ends_with('-'))
    {
        wrong(
            "metadata.name",
            format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
            ),
        );
    }
    let spec = &new["spec"];
    if has_template(key.resource) {
        if !spec["selector"].is_object() {
            wrong("spec.selector", "Required value".into());
        }
        let labels = &spec["template"]["metadata"]["labels"];
        if !Selector::of_object(&spec["selector"]).selects_labels(labels) {
            let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
            wrong("spec.template.metadata.labels", why);
        }
        if let Some(old) = old.filter(|old| old["spec"]["selector"] != spec["selector"]) {
            wrong("spec.selector", format!("Invalid value: {}: field is immutable", old["spec"]["selector"]));
        }
        if spec["replicas"].as_i64().is_some_and(|n| n < 0) {
            wrong("spec.replicas", format!("Invalid value: {}: must be greater than or equal to 0", spec["replicas"]));
        }
    }
    let (place, pod) = match key.resource {
        Resource::Pods => ("spec", spec),
        _ => ("spec.template.spec", &spec["template"]["spec"]),
    };
    if has_template(key.resource) || key.resource == Resource::Pods {
        let containers = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        if containers.is_empty() {
            wrong(&format!("{place}.containers"), "Required value".into());
        }
        for (i, container) in containers.iter().enumerate() {
            for field in ["name", "image"] {
                if container[field].as_str().is_none_or(str::is_empty) {
                    wrong(&format!("{place}.containers[{i}].{field}"), "Required value".into());
                }
            }
        }
    }
    if let Some(old) = old.filter(|_| key.resource == Resource::StatefulSets) {
        const CHANGEABLE: [&str; 7] = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ];
        let fixed = |object: &Value| {
            let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
            spec.retain(|k, _| !CHANGEABLE.contains(&k.as_str()) && k != "selector");
            spec
        };
        if fixed(old) != fixed(new) {
            wrong("spec", "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden".into());
        }
    }
    if let Some(old) = old.filter(|old| key.resource == Resource::ControllerRevisions && old["data"] != new["data"]) {
        wrong("data", format!("Invalid value: {}: field is immutable", old["data"]));
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(key, &causes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completing_twice_is_completing_once() {
        let mut object = json!({"metadata": {"labels": {}}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}, "creationTimestamp": null},
            "spec": {"serviceAccountName": "web", "volumes": [{"name": "v"}], "containers": [{"name": "c", "image": "r/i:1", "env": [],
                "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}]}}}});
        complete(Resource::Deployments, &mut object);
        assert_eq!(object.pointer("/spec/template/spec/containers/0/imagePullPolicy"), Some(&json!("IfNotPresent")));
        assert_eq!(object.pointer("/spec/template/spec/containers/0/env"), None);
        assert_eq!(object["metadata"], json!({}));
        let once = object.clone();
        complete(Resource::Deployments, &mut object);
        assert_eq!(object, once);
        assert_eq!(validate(&Key::new(Resource::Deployments, "n", "web"), None, &object), Ok(()));
    }

    #[test]
    fn wrong_objects_are_refused_with_their_fields() {
        let key = Key::new(Resource::Deployments, "n", "web");
        let refusal = validate(&key, None, &json!({"spec": {"template": {}}})).expect_err("refused");
        assert_eq!(refusal.code, 422);
        assert!(
            refusal.message.starts_with("Deployment.apps \"web\" is invalid: [spec.selector: Required value"),
            "{}",
            refusal.message
        );
        assert_eq!(refusal.details["causes"].as_array().map(Vec::len), Some(2));
    }
}
