//! Single objects: creating, reading, replacing, deleting, and their metadata.
use super::{Ground, cases, code, deployment, image, refused, taken, version, workload};
use serde_json::{Value, json};

cases![
    a_created_object_has_uid_version_and_generation,
    a_taken_name_is_refused,
    generate_name_adds_five_letters,
    a_missing_object_is_not_found,
    an_invalid_object_is_refused_with_causes,
    a_selector_cannot_change,
    defaults_are_filled_in_once,
    a_stale_version_cannot_replace,
    another_uid_is_another_object,
    the_same_again_writes_nothing,
    what_is_wanted_raises_the_generation,
    a_status_write_raises_no_generation,
    the_status_is_written_by_itself,
    labels_select,
    fields_select,
    lists_come_in_pages,
    metadata_alone_can_be_asked_for,
    an_unknown_namespace_is_not_found,
    an_unknown_kind_has_no_details,
    a_lease_is_created_once_and_replaced_by_version,
    an_incident_is_stored_with_its_status_once,
    an_incident_is_replaced_by_version,
    an_incident_must_fit_its_schema,
    events_are_stored,
    rights_can_be_asked_for,
    a_deletion_can_name_its_uid,
    finalizers_hold_an_object,
    what_is_owned_goes_with_its_owner,
    a_dry_run_writes_nothing,
    a_controller_revision_stays_as_it_is,
    a_namespace_takes_all_with_it,
];

fn config_map(name: &str, labels: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(|i| i["metadata"]["name"].as_str()).collect()
}

async fn a_created_object_has_uid_version_and_generation(g: Ground) {
    let made = g.create("deployments", &deployment("web", "shop/web:ok-v1")).await;
    let metadata = &made["metadata"];
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    assert!(version(&made) > 0);
    assert_eq!((&metadata["generation"], &metadata["namespace"]), (&json!(1), &json!(g.namespace)));
    assert!(metadata["creationTimestamp"].as_str().is_some_and(|t| t.len() == 20 && t.ends_with('Z')), "{metadata}");
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Deployment"), &json!("apps/v1")));
}

async fn a_taken_name_is_refused(g: Ground) {
    g.create("configmaps", &config_map("a", &json!({}))).await;
    let status = refused(g.post(&g.at("configmaps"), "tester", &config_map("a", &json!({}))).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(status.message, "configmaps \"a\" already exists");
    let details = status.details.expect("details");
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("a", "configmaps"));
}

async fn generate_name_adds_five_letters(g: Ground) {
    let made = g.create("configmaps", &json!({"metadata": {"generateName": "a-"}})).await;
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
}

async fn a_missing_object_is_not_found(g: Ground) {
    let status = refused(g.get(&g.at("deployments/web")).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "deployments.apps \"web\" not found");
    let details = status.details.expect("details");
    assert_eq!((details.name.as_str(), details.group.as_str(), details.kind.as_str()), ("web", "apps", "deployments"));
    assert_eq!(code(g.delete(&g.at("deployments/web")).await).0, 404);
    assert_eq!(code(g.merge(&g.at("deployments/web"), "t", &json!({})).await).0, 404);
}

async fn an_invalid_object_is_refused_with_causes(g: Ground) {
    let mut wrong = deployment("web", "shop/web:ok-v1");
    wrong["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    let status = refused(g.post(&g.at("deployments"), "tester", &wrong).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(
        status.message.starts_with("Deployment.apps \"web\" is invalid: spec.template.metadata.labels"),
        "{}",
        status.message
    );
    let causes = status.details.expect("details").causes;
    assert_eq!(causes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["spec.template.metadata.labels"]);
    let mut empty = deployment("web", "shop/web:ok-v1");
    empty["spec"]["template"]["spec"]["containers"] = json!([]);
    assert_eq!(code(g.post(&g.at("deployments"), "tester", &empty).await).0, 422);
    assert_eq!(code(g.post(&g.at("deployments"), "tester", &deployment("Web", "shop/web:ok-v1")).await).0, 422);
}

async fn a_selector_cannot_change(g: Ground) {
    g.create("deployments", &deployment("web", "shop/web:ok-v1")).await;
    let labels = json!({"app": "other"});
    let change = json!({"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}});
    let status = refused(g.merge(&g.at("deployments/web"), "t", &change).await);
    assert_eq!(status.code, 422);
    assert!(status.message.ends_with("field is immutable"), "{}", status.message);
}

async fn defaults_are_filled_in_once(g: Ground) {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 8080}});
    wanted["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "c"}}]);
    let made = g.create("deployments", &wanted).await;
    let spec = &made["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    assert_eq!(spec["strategy"], strategy);
    let pod = json!({
        "containers": [{
            "name": "app", "image": "shop/web:ok-v1", "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1,
                "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}],
    });
    assert_eq!(spec["template"]["spec"], pod);
    let template = json!([{"op": "replace", "path": "/spec/template", "value": spec["template"]}]);
    let again = taken(g.json_patch(&g.at("deployments/web"), "t", &template).await);
    assert_eq!(again["metadata"]["generation"], 1, "a complete template is complete");
    let set = g.create("statefulsets", &workload("StatefulSet", "db", "shop/db:ok-v1")).await;
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
    let daemon = g.create("daemonsets", &workload("DaemonSet", "agent", "shop/agent:ok-v1")).await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    assert_eq!(daemon["spec"]["updateStrategy"], strategy);
}

async fn a_stale_version_cannot_replace(g: Ground) {
    let made = g.create("configmaps", &config_map("a", &json!({}))).await;
    let mut changed = made.clone();
    changed["data"]["k"] = "w".into();
    let new = taken(g.put(&g.at("configmaps/a"), "t", &changed).await);
    assert!(version(&new) > version(&made));
    let status = refused(g.put(&g.at("configmaps/a"), "t", &made).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let said = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!(status.message, said);
    let patch = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"k": "x"}});
    assert_eq!(code(g.merge(&g.at("configmaps/a"), "t", &patch).await), (409, "Conflict".into()));
}

async fn another_uid_is_another_object(g: Ground) {
    let made = g.create("configmaps", &config_map("a", &json!({}))).await;
    let other = "00000000-0000-4000-8000-000000000000";
    let status = refused(g.merge(&g.at("configmaps/a"), "t", &json!({"metadata": {"uid": other}})).await);
    assert_eq!(status.code, 422);
    assert!(status.message.ends_with("field is immutable"), "{}", status.message);
    let mut replaced = made;
    replaced["metadata"]["uid"] = other.into();
    assert_eq!(code(g.put(&g.at("configmaps/a"), "t", &replaced).await), (409, "Conflict".into()));
}

async fn the_same_again_writes_nothing(g: Ground) {
    let made = g.create("configmaps", &config_map("a", &json!({}))).await;
    let same = taken(g.put(&g.at("configmaps/a"), "tester", &made).await);
    assert_eq!(version(&same), version(&made));
    let same = taken(g.merge(&g.at("configmaps/a"), "tester", &json!({"data": {"k": "v"}})).await);
    assert_eq!(version(&same), version(&made));
}

async fn what_is_wanted_raises_the_generation(g: Ground) {
    let annotate = json!({"metadata": {"annotations": {"a": "1"}}});
    let label = json!({"metadata": {"labels": {"l": "1"}}});
    for (place, kind, by_annotation) in
        [("deployments/x", "Deployment", 2), ("statefulsets/x", "StatefulSet", 1), ("daemonsets/x", "DaemonSet", 1)]
    {
        let plural = place.trim_end_matches("/x");
        let mut wanted = workload(kind, "x", "shop/x:ok-v1");
        // No pods: their controllers would write meanwhile.
        if kind == "DaemonSet" {
            wanted["spec"]["template"]["spec"]["nodeSelector"] = json!({"no": "where"});
        } else {
            wanted["spec"]["replicas"] = 0.into();
        }
        g.create(plural, &wanted).await;
        let labelled = taken(g.merge(&g.at(place), "t", &label).await);
        assert_eq!(labelled["metadata"]["generation"], 1, "{kind}: a label is not wanted");
        let annotated = taken(g.merge(&g.at(place), "t", &annotate).await);
        assert!(
            annotated["metadata"]["generation"].as_u64() >= Some(by_annotation),
            "{kind} {}",
            annotated["metadata"]
        );
        if by_annotation == 1 {
            assert_eq!(annotated["metadata"]["generation"], 1, "{kind}");
        }
        let before = annotated["metadata"]["generation"].as_u64();
        let changed = taken(g.merge(&g.at(place), "t", &json!({"spec": {"minReadySeconds": 1}})).await);
        assert!(changed["metadata"]["generation"].as_u64() > before, "{kind}");
    }
}

async fn a_status_write_raises_no_generation(g: Ground) {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["paused"] = true.into();
    wanted["spec"]["replicas"] = 0.into();
    g.create("deployments", &wanted).await;
    let before = g
        .until_is("deployments/web", "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"])
        .await;
    let condition = json!({"type": "Odd", "status": "True", "lastUpdateTime": null, "lastTransitionTime": null});
    let status = json!({"status": {"conditions": [condition]}});
    let after = taken(g.merge(&g.at("deployments/web/status"), "t", &status).await);
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    assert!(version(&after) > version(&before));
}

async fn the_status_is_written_by_itself(g: Ground) {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["paused"] = true.into();
    wanted["status"] = json!({"replicas": 7});
    let made = g.create("deployments", &wanted).await;
    assert_ne!(made["status"]["replicas"], 7);
    let changed = json!({"status": {"replicas": 7}, "metadata": {"labels": {"l": "1"}}});
    let after = taken(g.merge(&g.at("deployments/web"), "t", &changed).await);
    assert_ne!(after["status"]["replicas"], 7, "the object's own endpoint ignores it");
    let both = json!({"status": {"collisionCount": 7}, "spec": {"replicas": 3}});
    let after = taken(g.merge(&g.at("deployments/web/status"), "t", &both).await);
    assert_eq!(after["status"]["collisionCount"], 7);
    assert_eq!(after["spec"]["replicas"], 1, "and the status endpoint ignores the rest");
}

async fn labels_select(g: Ground) {
    for (name, labels) in [("a", json!({"app": "x", "t": "1"})), ("b", json!({"app": "y"})), ("c", json!({}))] {
        g.create("configmaps", &config_map(name, &labels)).await;
    }
    let ours = async |selector: &str| {
        let items = g.items(&format!("configmaps?labelSelector={selector}")).await;
        let names = names(&items).join("");
        names.replace("kube-root-ca.crt", "")
    };
    assert_eq!(ours("app").await, "ab");
    assert_eq!(ours("app%3Dx").await, "a");
    assert_eq!(ours("app+in+(x,y),t").await, "a");
    assert_eq!(ours("app+notin+(x)").await, "bc");
    assert_eq!(ours("!t,app!%3Dz").await, "bc");
    assert_eq!(code(g.get(&g.at("configmaps?labelSelector=a+b+c")).await).0, 400);
}

async fn fields_select(g: Ground) {
    for name in ["a", "b"] {
        g.create("configmaps", &config_map(name, &json!({}))).await;
    }
    assert_eq!(names(&g.items("configmaps?fieldSelector=metadata.name%3Da").await), ["a"]);
}

async fn lists_come_in_pages(g: Ground) {
    for name in ["a", "b", "c"] {
        g.create("leases", &json!({"metadata": {"name": name, "labels": {"l": "1"}}})).await;
    }
    let first = g.read("leases?limit=2").await;
    assert_eq!(names(first["items"].as_array().expect("items")), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    assert_eq!(first["kind"], "LeaseList");
    let token = first["metadata"]["continue"].as_str().expect("a token");
    g.create("leases", &json!({"metadata": {"name": "bb"}})).await;
    let rest = g.read(&format!("leases?limit=2&continue={token}")).await;
    assert_eq!(names(rest["items"].as_array().expect("items")), ["c"], "as it was when the list began");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"]["continue"].as_str().unwrap_or_default().is_empty());
    assert_eq!(code(g.get(&g.at("leases?limit=2&continue=nonsense")).await).0, 400);
    let status = refused(g.get(&g.at("leases?resourceVersion=999999999&resourceVersionMatch=NotOlderThan")).await);
    assert_eq!((status.code, status.reason.as_str()), (504, "Timeout"));
}

async fn metadata_alone_can_be_asked_for(g: Ground) {
    use k8s_openapi::api::core::v1::ConfigMap;
    g.create("configmaps", &config_map("a", &json!({"l": "1"}))).await;
    let api: kube::Api<ConfigMap> = kube::Api::namespaced(g.client.clone(), &g.namespace);
    let found = api.get_metadata("a").await.expect("metadata");
    assert_eq!(found.metadata.labels.and_then(|l| l.get("l").cloned()).as_deref(), Some("1"));
    assert!(api.get_metadata_opt("b").await.expect("an answer").is_none());
    let list = api.list_metadata(&kube::api::ListParams::default().labels("l")).await.expect("a list");
    assert_eq!(list.items.len(), 1);
}

async fn an_unknown_namespace_is_not_found(g: Ground) {
    let status = refused(g.post("/api/v1/namespaces/nowhere/configmaps", "t", &config_map("a", &json!({}))).await);
    assert_eq!((status.code, status.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    let list = taken(g.get("/api/v1/namespaces/nowhere/configmaps").await);
    assert_eq!(list["items"], json!([]));
}

async fn an_unknown_kind_has_no_details(g: Ground) {
    let status = refused(g.get(&format!("/apis/nobody.example/v1/namespaces/{}/things/x", g.namespace)).await);
    assert_eq!(status.code, 404);
    assert!(status.details.is_none_or(|d| d.name.is_empty()));
}

async fn a_lease_is_created_once_and_replaced_by_version(g: Ground) {
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}});
    let made = g.create("leases", &lease).await;
    assert_eq!(code(g.post(&g.at("leases"), "t", &lease).await), (409, "AlreadyExists".into()));
    let mut renewed = made.clone();
    renewed["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z".into();
    let new = taken(g.put(&g.at("leases/l"), "t", &renewed).await);
    assert_eq!(new["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(code(g.put(&g.at("leases/l"), "t", &renewed).await), (409, "Conflict".into()));
    assert_eq!(code(g.put(&g.at("leases/l"), "t", &lease).await), (422, "Invalid".into()), "no version");
}

fn incident(name: &str) -> Value {
    json!({
        "apiVersion": "lastgood.dev/v1", "kind": "Incident", "metadata": {"name": name, "labels": {"l": "1"}},
        "spec": {
            "workload": {"kind": "Deployment", "name": "web", "uid": "u"}, "environment": "e", "bad": {"hash": "h"},
            "trigger": {"by": "Lastgood", "manual": false}, "reason": "errors", "explanation": "x",
            "decided": "2026-01-01T00:00:00Z", "findings": [{"any": {"thing": 1}}],
        },
        "status": {"phase": "Intended", "message": "m"},
    })
}

async fn an_incident_is_stored_with_its_status_once(g: Ground) {
    let made = g.create("incidents", &incident("i")).await;
    assert_eq!((&made["status"]["phase"], &made["metadata"]["generation"]), (&json!("Intended"), &json!(1)));
    assert_eq!(made["spec"]["findings"], json!([{"any": {"thing": 1}}]));
    assert_eq!(made["spec"]["bad"]["images"], json!([]), "the schema's default");
    assert_eq!(code(g.post(&g.at("incidents"), "t", &incident("i")).await), (409, "AlreadyExists".into()));
    assert_eq!(names(&g.items("incidents?labelSelector=l%3D1").await), ["i"]);
}

async fn an_incident_is_replaced_by_version(g: Ground) {
    let made = g.create("incidents", &incident("i")).await;
    let mut next = made.clone();
    next["status"]["phase"] = "Applied".into();
    let new = taken(g.put(&g.at("incidents/i"), "t", &next).await);
    assert_eq!((&new["status"]["phase"], &new["metadata"]["generation"]), (&json!("Applied"), &json!(2)));
    assert_eq!(code(g.put(&g.at("incidents/i"), "t", &next).await), (409, "Conflict".into()));
    assert_eq!(code(g.put(&g.at("incidents/i"), "t", &incident("i")).await), (422, "Invalid".into()), "no version");
    assert_eq!(code(g.put(&g.at("incidents/i/status"), "t", &new).await).0, 404, "there is no status endpoint");
}

async fn an_incident_must_fit_its_schema(g: Ground) {
    let mut wrong = incident("i");
    wrong["spec"].as_object_mut().expect("a spec").remove("environment");
    let status = refused(g.post(&g.at("incidents"), "t", &wrong).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.contains("spec.environment: Required value"), "{}", status.message);
    let mut wrong = incident("i");
    wrong["spec"]["reason"] = 5.into();
    assert_eq!(code(g.post(&g.at("incidents"), "t", &wrong).await).0, 422);
    let mut odd = incident("i");
    odd["spec"]["unheardOf"] = 5.into();
    let made = taken(g.post(&g.at("incidents"), "t", &odd).await);
    assert_eq!(made["spec"].get("unheardOf"), None, "unknown fields are dropped");
}

async fn events_are_stored(g: Ground) {
    let event = json!({
        "metadata": {"name": "web.1"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Undo", "reason": "UndoStarted",
        "type": "Warning", "note": "n", "reportingController": "lastgood.dev/lastgood", "reportingInstance": "pod",
        "regarding": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": g.namespace, "name": "web", "uid": "u"},
    });
    let made = g.create("events", &event).await;
    assert_eq!((&made["note"], &made["regarding"]["name"]), (&json!("n"), &json!("web")));
    assert_eq!(code(g.post(&g.at("events"), "t", &event).await), (409, "AlreadyExists".into()));
    assert_eq!(g.items("events").await.len(), 1);
}

async fn rights_can_be_asked_for(g: Ground) {
    let asked = json!({"verb": "patch", "group": "apps", "resource": "deployments", "namespace": g.namespace});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}});
    let answer = taken(g.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", &review).await);
    assert_eq!(answer["status"]["allowed"], true);
}

async fn a_deletion_can_name_its_uid(g: Ground) {
    let made = g.create("configmaps", &config_map("a", &json!({}))).await;
    let delete = async |uid: &Value| {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
        g.send(http::Method::DELETE, &g.at("configmaps/a"), "application/json", Some(&options)).await
    };
    assert_eq!(code(delete(&json!("00000000-0000-4000-8000-000000000000")).await), (409, "Conflict".into()));
    let status = taken(delete(&made["metadata"]["uid"]).await);
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(code(g.get(&g.at("configmaps/a")).await).0, 404);
}

async fn finalizers_hold_an_object(g: Ground) {
    let mut held = config_map("a", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.dev/hold"]);
    g.create("configmaps", &held).await;
    taken(g.delete(&g.at("configmaps/a")).await);
    let marked = g.read("configmaps/a").await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    taken(g.merge(&g.at("configmaps/a"), "t", &json!({"metadata": {"finalizers": null}})).await);
    assert_eq!(code(g.get(&g.at("configmaps/a")).await).0, 404);
}

async fn what_is_owned_goes_with_its_owner(g: Ground) {
    let owner = g.create("configmaps", &config_map("owner", &json!({}))).await;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]});
    let mut owned = config_map("owned", &json!({}));
    owned["metadata"]["ownerReferences"] = json!([reference]);
    g.create("configmaps", &owned).await;
    taken(g.delete(&g.at("configmaps/owner")).await);
    g.until("the owned object is gone", async || match g.get(&g.at("configmaps/owned")).await {
        Ok(_) => Err("it is there".into()),
        Err(status) => {
            assert_eq!(status.code, 404);
            Ok(())
        }
    })
    .await;
}

async fn a_dry_run_writes_nothing(g: Ground) {
    let would = taken(g.post(&format!("{}?dryRun=All", g.at("configmaps")), "t", &config_map("a", &json!({}))).await);
    assert!(would["metadata"]["uid"].is_string());
    assert_eq!(code(g.get(&g.at("configmaps/a")).await).0, 404);
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["replicas"] = 0.into();
    g.create("deployments", &wanted).await;
    let before = g
        .until_is("deployments/web", "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"])
        .await;
    let patch = json!([{"op": "replace", "path": super::TEMPLATE_IMAGE, "value": "shop/web:ok-v2"}]);
    let would = taken(g.json_patch(&format!("{}?dryRun=All", g.at("deployments/web")), "lastgood", &patch).await);
    assert_eq!(image(&would), "shop/web:ok-v2");
    let grown = would["metadata"]["generation"].as_u64() > before["metadata"]["generation"].as_u64();
    assert!(grown, "as it would be stored");
    assert!(would["metadata"]["managedFields"].to_string().contains("lastgood"));
    let after = g.read("deployments/web").await;
    assert_eq!(image(&after), "shop/web:ok-v1");
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    taken(g.delete(&format!("{}?dryRun=All", g.at("deployments/web"))).await);
    g.read("deployments/web").await;
}

async fn a_controller_revision_stays_as_it_is(g: Ground) {
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"spec": {"template": {"x": null}}}});
    let made = g.create("controllerrevisions", &revision).await;
    assert_eq!(made["data"], revision["data"], "raw, with its nulls");
    let change = json!({"data": {"spec": {"template": {"y": 1}}}});
    assert_eq!(code(g.merge(&g.at("controllerrevisions/r"), "t", &change).await).0, 422);
}

async fn a_namespace_takes_all_with_it(g: Ground) {
    let name = format!("{}-inner", g.namespace);
    let url = format!("/api/v1/namespaces/{name}");
    taken(g.post("/api/v1/namespaces", "t", &json!({"metadata": {"name": name}})).await);
    taken(g.post(&format!("{url}/configmaps"), "t", &config_map("a", &json!({}))).await);
    taken(g.delete(&url).await);
    g.until("the namespace is gone", async || match g.get(&url).await {
        Ok(found) => Err(found["status"].to_string()),
        Err(_) => Ok(()),
    })
    .await;
    assert_eq!(taken(g.get(&format!("{url}/configmaps")).await)["items"], json!([]));
}
