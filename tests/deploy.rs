//! What is shipped under `deploy/`, read as data: the CRD is the one that the code means, and the
//! daemon gets no right that it does not need.
//!
//! `UPDATE=1 cargo test --test deploy` rewrites the generated files.

use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};

const CRD: &str = "deploy/base/crd.yaml";

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
}

fn documents(relative: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
}

/// Every object that the shipped kustomizations name, component included.
fn shipped() -> Vec<Value> {
    ["deploy/base", "deploy/components/evict"]
        .iter()
        .flat_map(|folder| {
            let kustomization = &documents(&format!("{folder}/kustomization.yaml"))[0];
            let files: Vec<String> =
                texts(&kustomization["resources"]).map(|file| format!("{folder}/{file}")).collect();
            assert!(!files.is_empty(), "{folder} ships nothing");
            files
        })
        .flat_map(|file| documents(&file))
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = shipped().into_iter().filter(|o| o["kind"] == kind).collect();
    assert!(!found.is_empty(), "no {kind} is shipped");
    found
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The CRD as the code has it.
fn incident_crd() -> Value {
    serde_json::to_value(lastgood::record::crd()).expect("a CRD is JSON")
}

#[test]
fn the_shipped_crd_is_the_generated_one() {
    let meant = incident_crd();
    if std::env::var_os("UPDATE").is_some() {
        let yaml = serde_saphyr::to_string(&meant).expect("JSON is YAML");
        let head = "# Generated from src/record/incident.rs: UPDATE=1 cargo test --test deploy\n";
        fs::write(path(CRD), format!("{head}{yaml}")).expect("write the CRD");
    }
    let shipped = documents(CRD);
    assert_eq!(shipped.len(), 1);
    assert_eq!(shipped[0], meant, "{CRD} is out of date: UPDATE=1 cargo test --test deploy");
    assert_eq!(shipped[0]["metadata"]["name"], "incidents.lastgood.dev");
    let version = &shipped[0]["spec"]["versions"][0];
    assert!(version.get("subresources").is_none());
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert_eq!(spec["findings"]["items"]["x-kubernetes-preserve-unknown-fields"], true);
}

/// Faults of one RBAC rule. Writes are a closed list; everything else may only be read.
fn faults_of_rule(rule: &Value) -> Vec<String> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITES: [(&str, &str, &[&str]); 10] = [
        ("apps", "deployments", &["patch"]),
        ("apps", "statefulsets", &["patch"]),
        ("apps", "daemonsets", &["patch"]),
        ("apps", "controllerrevisions", &["create", "delete"]),
        ("lastgood.dev", "incidents", &["create", "update", "patch"]),
        ("events.k8s.io", "events", &["create"]),
        ("coordination.k8s.io", "leases", &["create", "update"]),
        ("authorization.k8s.io", "selfsubjectaccessreviews", &["create"]),
        ("authorization.k8s.io", "selfsubjectrulesreviews", &["create"]),
        // The component's only rule.
        ("", "pods/eviction", &["create"]),
    ];
    /// Even reading these tells or allows too much.
    const NEVER: [&str; 5] = ["secrets", "pods/exec", "pods/log", "nodes/proxy", "serviceaccounts/token"];

    let mut faults = Vec::new();
    if rule.get("nonResourceURLs").is_some() {
        faults.push("names URLs".to_owned());
    }
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            if group.contains('*') || resource.contains('*') {
                faults.push(format!("wildcard {group}/{resource}"));
            }
            if NEVER.iter().any(|n| resource == *n || resource.starts_with(&format!("{n}/"))) {
                faults.push(format!("{resource} must stay out of reach"));
            }
            for verb in texts(&rule["verbs"]) {
                let listed = WRITES.iter().any(|(g, r, v)| *g == group && *r == resource && v.contains(&verb));
                if !READ.contains(&verb) && !listed {
                    faults.push(format!("{verb} on {group}/{resource}"));
                }
            }
        }
    }
    faults
}

#[test]
fn no_role_grants_more_than_the_closed_list() {
    let mut checked = 0;
    for role in of_kind("ClusterRole").into_iter().chain(of_kind("Role")) {
        assert!(role.get("aggregationRule").is_none(), "{} aggregates", role["metadata"]["name"]);
        for rule in role["rules"].as_array().expect("rules") {
            assert_eq!(faults_of_rule(rule), Vec::<String>::new(), "in {}: {rule}", role["metadata"]["name"]);
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} rules were found");
}

#[test]
fn the_rule_check_can_fail() {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| {
        faults_of_rule(&serde_json::json!({"apiGroups": groups, "resources": resources, "verbs": verbs}))
    };
    assert!(!rule(&[""], &["secrets"], &["get"]).is_empty());
    assert!(!rule(&[""], &["pods/exec"], &["get"]).is_empty());
    assert!(!rule(&["*"], &["pods"], &["get"]).is_empty());
    assert!(!rule(&["apps"], &["*"], &["get"]).is_empty());
    assert!(!rule(&["apps"], &["deployments"], &["*"]).is_empty());
    assert!(!rule(&["apps"], &["deployments"], &["update"]).is_empty());
    assert!(!rule(&["apps"], &["statefulsets"], &["delete"]).is_empty());
    assert!(!rule(&["apps"], &["deployments/scale"], &["patch"]).is_empty());
    assert!(!rule(&["rbac.authorization.k8s.io"], &["clusterroles"], &["escalate"]).is_empty());
    assert!(!rule(&[""], &["users"], &["impersonate"]).is_empty());
    assert!(rule(&["apps"], &["deployments"], &["get", "patch"]).is_empty());
}

#[test]
fn eviction_is_not_in_the_base() {
    let base: Vec<Value> = documents("deploy/base/rbac.yaml");
    let resources: BTreeSet<String> = base
        .iter()
        .flat_map(|o| o["rules"].as_array().cloned().unwrap_or_default())
        .flat_map(|rule| texts(&rule["resources"]).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(resources.contains("deployments"), "the base was not read");
    assert!(!resources.contains("pods/eviction"));
}

#[test]
fn every_binding_binds_a_shipped_role_to_the_daemon_alone() {
    let roles: BTreeSet<(String, String)> = of_kind("ClusterRole")
        .iter()
        .chain(&of_kind("Role"))
        .map(|r| (r["kind"].to_string(), r["metadata"]["name"].to_string()))
        .collect();
    for binding in of_kind("ClusterRoleBinding").iter().chain(&of_kind("RoleBinding")) {
        let role = (binding["roleRef"]["kind"].to_string(), binding["roleRef"]["name"].to_string());
        assert!(roles.contains(&role), "{role:?} is not shipped");
        let subjects = binding["subjects"].as_array().expect("subjects");
        assert_eq!(subjects.len(), 1);
        assert_eq!(
            (&subjects[0]["kind"], &subjects[0]["name"], &subjects[0]["namespace"]),
            (&Value::from("ServiceAccount"), &Value::from("lastgood"), &Value::from("lastgood"))
        );
    }
}

#[test]
fn the_pod_is_restricted() {
    let deployments = of_kind("Deployment");
    let pod = &deployments[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(host).is_none(), "{host}");
    }
    for volume in pod["volumes"].as_array().expect("volumes") {
        assert!(volume.get("projected").is_some() || volume["emptyDir"].get("sizeLimit").is_some(), "{volume}");
    }
    let containers = pod["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    for container in containers {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}));
        assert!(container["resources"]["limits"]["memory"].is_string());
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    }
    let namespace = &of_kind("Namespace")[0];
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(of_kind("ServiceAccount")[0]["automountServiceAccountToken"], false);
}

/// With service links a Service named `lastgood` sets LASTGOOD_PORT, which is how settings are
/// overridden: the daemon would refuse to start.
#[test]
fn service_links_do_not_reach_the_settings() {
    assert_eq!(of_kind("Deployment")[0]["spec"]["template"]["spec"]["enableServiceLinks"], false);
}

#[test]
fn the_image_tag_is_this_version() {
    let root = &documents("deploy/kustomization.yaml")[0];
    assert_eq!(root["images"][0]["name"], "lastgood");
    assert_eq!(root["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

/// Kustomize cannot read outside of its folder, so `deploy/` keeps copies of the default files. They need
/// no change for the cluster: the address comes from LASTGOOD_LISTEN, relative paths from the working folder.
#[test]
fn the_shipped_configuration_is_the_default_one() {
    for file in ["lastgood.yaml", "thresholds.yaml"] {
        let (from, to) = (format!("config/{file}"), format!("deploy/base/{file}"));
        let default = read(&from);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path(&to), &default).unwrap_or_else(|e| panic!("{to}: {e}"));
        }
        assert_eq!(read(&to), default, "{to} differs from {from}: UPDATE=1 cargo test --test deploy");
    }
}

/// The two policies that fence the daemon.
fn fences() -> Vec<Value> {
    let fences = of_kind("ValidatingAdmissionPolicy");
    assert_eq!(fences.len(), 2, "one for workloads, one for all other writes");
    fences
}

#[test]
fn the_fence_is_around_the_daemon_and_denies() {
    let account = of_kind("ServiceAccount")[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let bindings = of_kind("ValidatingAdmissionPolicyBinding");
    let mut messages = BTreeSet::new();
    for fence in fences() {
        let (name, spec) = (&fence["metadata"]["name"], &fence["spec"]);
        assert_eq!(spec["failurePolicy"], "Fail", "{name}");
        // By name alone: an installation that was moved to another namespace must not leave its fence behind.
        let condition = spec["matchConditions"][0]["expression"].as_str().expect("a condition");
        let wanted = format!(
            "request.userInfo.username.startsWith('system:serviceaccount:') \
             && request.userInfo.username.endsWith(':{account}')"
        );
        assert_eq!(condition, wanted, "{name}");
        assert_eq!(spec["matchConditions"].as_array().map(Vec::len), Some(1), "{name}: another condition lets out");
        let bound: Vec<_> = bindings.iter().filter(|b| b["spec"]["policyName"] == *name).collect();
        assert_eq!(bound.len(), 1, "{name} is bound once");
        assert_eq!(bound[0]["spec"]["validationActions"], serde_json::json!(["Deny"]), "{name}");
        assert!(bound[0]["spec"].get("matchResources").is_none(), "{name} is bound to all namespaces");
        for rule in spec["validations"].as_array().expect("validations") {
            let message = rule["message"].as_str().expect("a message").to_owned();
            assert!(message.starts_with("fence: "), "{message}");
            assert_eq!(rule["reason"], "Forbidden", "{message}");
            assert!(messages.insert(message.clone()), "two rules say {message}");
        }
    }
    assert!(messages.len() >= 12, "only {} rules were found", messages.len());
}

/// What RBAC grants is what the fence lets through: a right that is added in one place only is a fault.
#[test]
fn the_fence_lists_the_writes_of_the_roles_and_no_others() {
    let mut granted = BTreeSet::new();
    for role in of_kind("ClusterRole").iter().chain(&of_kind("Role")) {
        for rule in role["rules"].as_array().expect("rules") {
            for verb in texts(&rule["verbs"]).filter(|v| !["get", "list", "watch"].contains(v)) {
                let operation = if verb == "patch" { "UPDATE".to_owned() } else { verb.to_uppercase() };
                for group in texts(&rule["apiGroups"]) {
                    let dot = if group.is_empty() { "" } else { "." };
                    granted.extend(texts(&rule["resources"]).map(|r| format!("{operation} {r}{dot}{group}")));
                }
            }
        }
    }
    let fences = fences();
    let closed = fences.iter().find(|f| f["metadata"]["name"] == "lastgood-fence-writes").expect("the closed list");
    let list = closed["spec"]["validations"][0]["expression"].as_str().expect("an expression");
    let listed: BTreeSet<String> = list.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(granted.len() >= 10, "only {} writes were found", granted.len());
    assert_eq!(listed, granted);
}
