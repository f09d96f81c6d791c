//! Services: one EndpointSlice that names the pods behind each.

use super::super::{
    object::{active, deleting, label, name, owned_by, ready_since, text, uid},
    random::Random,
    resource::{Key, Resource},
    store::{Manager, Store},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Label of a slice that names its Service.
pub const SERVICE: &str = "kubernetes.io/service-name";

/// One step.
pub fn reconcile(store: &mut Store, random: &mut Random, key: &Key) -> Option<Timestamp> {
    let service = store.get(key)?.clone();
    let selector = service.pointer("/spec/selector").and_then(Value::as_object).filter(|map| !map.is_empty())?.clone();
    let selects = |pod: &Value| selector.iter().all(|(key, value)| value.as_str() == Some(label(pod, key)));
    let mut endpoints: Vec<Value> = store
        .list(Resource::Pods, Some(&key.namespace))
        .map(|(_, pod)| pod)
        .filter(|pod| selects(pod) && !text(pod, "/status/podIP").is_empty() && (active(pod) || deleting(pod)))
        .map(endpoint)
        .collect();
    endpoints.sort_by_cached_key(|endpoint| text(endpoint, "/targetRef/name").to_owned());
    let ports: Vec<Value> = super::super::object::list(&service, "/spec/ports")
        .map(|port| {
            let number = port.get("targetPort").filter(|port| port.is_number()).or(port.get("port")).cloned();
            json!({"name": text(port, "/name"), "port": number, "protocol": "TCP"})
        })
        .collect();
    let mut slices = store.list(Resource::EndpointSlices, Some(&key.namespace));
    let slice = slices.find(|(_, slice)| label(slice, SERVICE) == key.name).map(|(key, _)| key.clone());
    drop(slices);
    let done = match slice {
        Some(slice) => store.update(&slice, Manager::CONTROLLERS, |slice| {
            slice["endpoints"] = endpoints.into();
            slice["ports"] = ports.into();
        }),
        None => {
            let slice = json!({
                "metadata": {
                    "name": format!("{}-{}", key.name, random.suffix(5)),
                    "generateName": format!("{}-", key.name),
                    "labels": {SERVICE: key.name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                    "ownerReferences": owned_by(&service, "v1", "Service"),
                },
                "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
            });
            store.create(Resource::EndpointSlices, &key.namespace, slice, Manager::CONTROLLERS)
        }
    };
    // A namespace that is going takes no new slice; then nobody needs one.
    drop(done);
    None
}

fn endpoint(pod: &Value) -> Value {
    let serving = ready_since(pod).is_some();
    json!({
        "addresses": [text(pod, "/status/podIP")],
        "conditions": {"ready": serving && !deleting(pod), "serving": serving, "terminating": deleting(pod)},
        "nodeName": text(pod, "/spec/nodeName"),
        "targetRef": {"kind": "Pod", "name": name(pod), "namespace": text(pod, "/metadata/namespace"), "uid": uid(pod)},
    })
}
