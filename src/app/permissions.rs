//! What this daemon may do, asked of the API server itself: a missing verb is named, and the feature that
//! needs it is degraded; nothing else stops.

use crate::cluster::{READ_DEADLINE, within};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

/// A permission and what is lost without it.
struct Need {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    own_namespace: bool,
    lost: &'static str,
}

const NEEDS: &[Need] = &[
    need("apps", "deployments", &["list", "watch", "get"], "Deployments are not watched"),
    need("apps", "statefulsets", &["list", "watch", "get"], "StatefulSets are not watched"),
    need("apps", "daemonsets", &["list", "watch", "get"], "DaemonSets are not watched"),
    need("apps", "replicasets", &["list"], "Deployments have no history, so no rollout can be judged"),
    need("apps", "controllerrevisions", &["list", "create", "delete"], "good revisions cannot be pinned"),
    need("", "pods", &["list", "watch"], "crash loops and health are not seen"),
    need("apps", "deployments", &["patch"], "no Deployment can be undone"),
    need("apps", "statefulsets", &["patch"], "no StatefulSet can be undone"),
    need("apps", "daemonsets", &["patch"], "no DaemonSet can be undone"),
    need(
        "lastgood.dev",
        "incidents",
        &["get", "list", "watch", "create", "update"],
        "no incident can be stored, so nothing is undone",
    ),
    need("events.k8s.io", "events", &["create"], "nobody is told by Events"),
    need("", "configmaps", &["get"], "ConfigMaps that an old revision names are not looked up"),
    need("", "serviceaccounts", &["get"], "ServiceAccounts that an old revision names are not looked up"),
    need("", "persistentvolumeclaims", &["get"], "volume claims that an old revision names are not looked up"),
    need("", "namespaces", &["list", "watch"], "pauses of namespaces are not seen, so nothing is undone"),
    Need {
        own_namespace: true,
        ..need("coordination.k8s.io", "leases", &["get", "create", "update"], "no leader can be elected")
    },
    Need { own_namespace: true, ..need("", "configmaps", &["list", "watch"], "a pause of the cluster is not seen") },
];

const fn need(group: &'static str, resource: &'static str, verbs: &'static [&'static str], lost: &'static str) -> Need {
    Need { group, resource, verbs, own_namespace: false, lost }
}

/// Every missing permission in one sentence. A question that gets no answer is a sentence too.
///
/// `scopes`: the watched namespaces; empty for the whole cluster.
pub(super) async fn missing(client: &Client, own_namespace: &str, scopes: &[String], lease: bool) -> Vec<String> {
    let mut out = Vec::new();
    for need in NEEDS.iter().filter(|n| lease || n.resource != "leases") {
        let namespaces: Vec<Option<&str>> = if need.own_namespace {
            vec![Some(own_namespace)]
        } else if scopes.is_empty() || need.resource == "namespaces" {
            vec![None]
        } else {
            scopes.iter().map(|s| Some(s.as_str())).collect()
        };
        for namespace in namespaces {
            for verb in need.verbs {
                match allowed(client, need, verb, namespace).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let group = if need.group.is_empty() { String::new() } else { format!(".{}", need.group) };
                        let place = namespace.map_or("the cluster".to_owned(), |n| format!("namespace {n}"));
                        out.push(format!(
                            "missing permission: {verb} {}{group} in {place}: {}",
                            need.resource, need.lost
                        ));
                    }
                    Err(why) => {
                        out.push(format!("permissions could not be asked for: {why}"));
                        return out;
                    }
                }
            }
        }
    }
    out
}

async fn allowed(client: &Client, need: &Need, verb: &str, namespace: Option<&str>) -> Result<bool, String> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(need.group.into()),
                resource: Some(need.resource.into()),
                verb: Some(verb.into()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let create = async { api.create(&PostParams::default(), &review).await };
    let answer = within(READ_DEADLINE, "asking for permissions", create).await.map_err(|e| e.to_string())?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}
