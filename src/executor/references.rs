//! Whether what a template names still exists: an undo to a revision whose ConfigMap was pruned would
//! only break differently. Secrets cannot be looked up with our rights; they are named as unchecked.

use crate::cluster::{READ_DEADLINE, ReadError, within};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, ServiceAccount};
use kube::{Api, Client, core::PartialObjectMeta};
use serde_json::Value;
use std::collections::BTreeSet;

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Named by the template and gone.
    pub missing: Vec<String>,
    /// Could not be looked up.
    pub unchecked: Vec<String>,
}

/// What a template names: `(kind, name)`. Optional references are left out.
fn named(template: &Value) -> BTreeSet<(&'static str, String)> {
    let mut out = BTreeSet::new();
    let spec = &template["spec"];
    let mut add = |kind: &'static str, reference: &Value| {
        let required = reference["optional"] != Value::Bool(true);
        let name = ["name", "secretName", "claimName"].iter().find_map(|key| reference[*key].as_str());
        if let Some(name) = name.filter(|n| required && !n.is_empty()) {
            out.insert((kind, name.to_owned()));
        }
    };
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if let Some(account) = spec["serviceAccountName"].as_str() {
        add("ServiceAccount", &serde_json::json!({ "name": account }));
    }
    for volume in items(&spec["volumes"]) {
        add("ConfigMap", &volume["configMap"]);
        add("Secret", &volume["secret"]);
        add("PersistentVolumeClaim", &volume["persistentVolumeClaim"]);
        for source in items(&volume["projected"]["sources"]) {
            add("ConfigMap", &source["configMap"]);
            add("Secret", &source["secret"]);
        }
    }
    for container in items(&spec["initContainers"]).iter().chain(&items(&spec["containers"])) {
        for from in items(&container["envFrom"]) {
            add("ConfigMap", &from["configMapRef"]);
            add("Secret", &from["secretRef"]);
        }
        for env in items(&container["env"]) {
            add("ConfigMap", &env["valueFrom"]["configMapKeyRef"]);
            add("Secret", &env["valueFrom"]["secretKeyRef"]);
        }
    }
    out
}

/// Looks up what a template names.
pub async fn check(client: &Client, namespace: &str, template: &Value) -> References {
    let mut found = References::default();
    for (kind, name) in named(template) {
        let what = format!("{kind} {name}");
        let exists = match kind {
            "ConfigMap" => exists::<ConfigMap>(client, namespace, &name).await,
            "ServiceAccount" => exists::<ServiceAccount>(client, namespace, &name).await,
            "PersistentVolumeClaim" => exists::<PersistentVolumeClaim>(client, namespace, &name).await,
            _ => {
                found.unchecked.push(what);
                continue;
            }
        };
        match exists {
            Ok(true) => {}
            Ok(false) => found.missing.push(what),
            Err(_) => found.unchecked.push(what),
        }
    }
    found
}

async fn exists<K>(client: &Client, namespace: &str, name: &str) -> Result<bool, ReadError>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found: Option<PartialObjectMeta<K>> =
        within(READ_DEADLINE, format!("looking for {name}"), api.get_metadata_opt(name)).await?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_required_reference_is_named_once() {
        let template = json!({"spec": {
            "serviceAccountName": "sa",
            "volumes": [{"configMap": {"name": "a"}}, {"configMap": {"name": "o", "optional": true}},
                        {"secret": {"secretName": "s"}}, {"persistentVolumeClaim": {"claimName": "p"}},
                        {"projected": {"sources": [{"configMap": {"name": "q"}}]}}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "a"}}],
                            "env": [{"valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}]}],
        }});
        let names: Vec<String> = named(&template).into_iter().map(|(k, n)| format!("{k} {n}")).collect();
        assert_eq!(
            names,
            ["ConfigMap a", "ConfigMap b", "ConfigMap q", "PersistentVolumeClaim p", "Secret s", "ServiceAccount sa"]
        );
        assert!(named(&json!({"spec": "odd"})).is_empty());
    }
}
