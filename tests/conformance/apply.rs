//! Who holds which field: updates move fields to who writes them, server-side apply respects it.
use super::{Answer, Ground, cases, refused, taken, version};
use serde_json::{Value, json};

cases![
    an_update_takes_what_it_changes,
    a_create_takes_what_it_names,
    an_apply_takes_what_it_names,
    an_apply_of_another_value_conflicts,
    an_apply_of_the_same_value_shares,
    force_takes_the_field,
    what_is_no_longer_applied_goes,
    what_another_holds_stays,
    an_apply_of_the_same_writes_nothing,
    managed_fields_can_be_edited,
    managed_fields_can_be_reset,
    who_does_not_know_managed_fields_does_not_wipe_them,
    the_status_has_its_own_holder,
];

const WEB: &str = "deployments/web";

pub(super) fn config(image: &str, env: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut config = super::deployment("web", image);
    config["spec"]["replicas"] = 0.into();
    config["spec"]["template"]["spec"]["containers"][0]["env"] = env.into();
    config
}

/// The fields of the entry of a manager.
pub(super) fn held(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("managedFields");
    let found = entries.iter().find(|e| e["manager"] == manager && e["operation"] == operation);
    found.map_or(Value::Null, |e| e["fieldsV1"].clone())
}

const CONTAINER: &str = "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}";

pub(super) fn holds(object: &Value, manager: &str, operation: &str, field: &str) -> bool {
    held(object, manager, operation).pointer(&format!("{CONTAINER}/{field}")).is_some()
}

async fn apply(g: &Ground, manager: &str, config: &Value) -> Answer {
    g.apply(&g.at(WEB), manager, config).await
}

async fn an_update_takes_what_it_changes(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1")])).await);
    let patch = json!([
        {"op": "replace", "path": super::TEMPLATE_IMAGE, "value": "shop/web:ok-v2"},
        {"op": "add", "path": "/metadata/annotations", "value": {"lastgood.dev/undo": "x"}},
    ]);
    let after = taken(g.json_patch(&g.at(WEB), "lastgood", &patch).await);
    let image_only =
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:image": {}}}}}}});
    let mut expected = image_only;
    expected["f:metadata"] = json!({"f:annotations": {"f:lastgood.dev/undo": {}}});
    let mut found = held(&after, "lastgood", "Update");
    // The controllers may have annotated it before: then the map itself is theirs.
    found["f:metadata"]["f:annotations"].as_object_mut().expect("annotations").remove(".");
    assert_eq!(found, expected);
    assert!(!holds(&after, "team", "Apply", "f:image"));
    assert!(holds(&after, "team", "Apply", "f:env"));
}

async fn a_create_takes_what_it_names(g: Ground) {
    let mut wanted = config("shop/web:ok-v1", &[("A", "1")]);
    wanted["metadata"]["annotations"] = json!({"a": "1"});
    let made = g.create("deployments", &wanted).await;
    let fields = held(&made, "tester", "Update");
    let container = fields.pointer(CONTAINER).expect("the container");
    let expected = json!({
        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
        "f:env": {".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:ports": {".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
    });
    assert_eq!(*container, expected);
    assert_eq!(
        fields["f:metadata"],
        json!({"f:annotations": {".": {}, "f:a": {}}, "f:labels": {".": {}, "f:app": {}}})
    );
    let mut spec = fields["f:spec"].clone();
    spec.as_object_mut().expect("a spec").remove("f:template");
    let expected = json!({
        "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
        "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
    });
    assert_eq!(spec, expected);
}

async fn an_apply_takes_what_it_names(g: Ground) {
    let made = taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1")])).await);
    let expected = json!({
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {
            "f:replicas": {}, "f:selector": {},
            "f:template": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {
                "f:terminationGracePeriodSeconds": {},
                "f:containers": {"k:{\"name\":\"app\"}": {
                    ".": {}, "f:image": {}, "f:name": {},
                    "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }},
            }},
        },
    });
    assert_eq!(held(&made, "team", "Apply"), expected);
    assert_eq!(made["metadata"]["managedFields"].as_array().map(Vec::len), Some(1), "defaults are nobody's");
}

async fn an_apply_of_another_value_conflicts(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1")])).await);
    let patch = super::deploys("shop/web:ok-v2");
    taken(g.strategic(&g.at(WEB), "lastgood", &patch).await);
    let status = refused(apply(&g, "team", &config("shop/web:ok-v3", &[("A", "1")])).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let said = "Apply failed with 1 conflict: conflict with \"lastgood\" using apps/v1: .spec.template.spec.containers[name=\"app\"].image";
    assert_eq!(status.message, said);
    let causes = status.details.expect("details").causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(super::image(&g.read(WEB).await), "shop/web:ok-v2");
}

async fn an_apply_of_the_same_value_shares(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    let part =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 0}});
    let after = taken(apply(&g, "tuner", &part).await);
    assert_eq!(held(&after, "tuner", "Apply"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(held(&after, "team", "Apply").pointer("/f:spec/f:replicas").is_some());
}

async fn force_takes_the_field(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    let url = format!("{}?force=true", g.at(WEB));
    let after = taken(g.apply(&url, "tuner", &config("shop/web:ok-v2", &[])).await);
    assert_eq!(super::image(&after), "shop/web:ok-v2");
    assert!(holds(&after, "tuner", "Apply", "f:image") && !holds(&after, "team", "Apply", "f:image"));
}

async fn what_is_no_longer_applied_goes(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1"), ("B", "1")])).await);
    let after = taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "2")])).await);
    let env = after.pointer("/spec/template/spec/containers/0/env").expect("env");
    assert_eq!(*env, json!([{"name": "A", "value": "2"}]));
    let after = taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    assert_eq!(after.pointer("/spec/template/spec/containers/0/env"), None);
}

async fn what_another_holds_stays(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1"), ("B", "1")])).await);
    let add = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "env": [{"name": "C", "value": "3"}]}]}}}});
    taken(g.strategic(&g.at(WEB), "tuner", &add).await);
    let after = taken(apply(&g, "team", &config("shop/web:ok-v1", &[("A", "1")])).await);
    let env = after.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).expect("env");
    let mut names: Vec<&str> = env.iter().filter_map(|e| e["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "C"]);
}

async fn an_apply_of_the_same_writes_nothing(g: Ground) {
    let wanted = config("shop/web:ok-v1", &[("A", "1")]);
    taken(apply(&g, "team", &wanted).await);
    let before =
        g.until_is(WEB, "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    let after = taken(apply(&g, "team", &wanted).await);
    assert_eq!(version(&after), version(&before));
}

async fn managed_fields_can_be_edited(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    let before =
        g.until_is(WEB, "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    let mut fields = held(&before, "team", "Apply");
    fields["f:spec"].as_object_mut().expect("a spec").remove("f:replicas");
    let patch = json!([
        {"op": "test", "path": "/metadata/managedFields/0/manager", "value": "team"},
        {"op": "replace", "path": "/metadata/managedFields/0/fieldsV1", "value": fields},
    ]);
    let after = taken(g.json_patch(&g.at(WEB), "lastgood", &patch).await);
    assert_eq!(held(&after, "team", "Apply"), fields);
    assert_eq!(held(&after, "lastgood", "Update"), Value::Null, "nothing else changed");
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    assert!(version(&after) > version(&before));
    let wrong = json!([{"op": "test", "path": "/metadata/managedFields/0/manager", "value": "other"}]);
    assert_eq!(super::code(g.json_patch(&g.at(WEB), "lastgood", &wrong).await).0, 422);
}

async fn managed_fields_can_be_reset(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    g.until_is(WEB, "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    taken(g.merge(&g.at(WEB), "t", &json!({"metadata": {"managedFields": [{}]}})).await);
    let updated = taken(g.merge(&g.at(WEB), "t", &json!({"metadata": {"labels": {"l": "1"}}})).await);
    assert_eq!(updated["metadata"].get("managedFields"), None, "from then on nobody counts");
    let status = refused(apply(&g, "team", &config("shop/web:ok-v2", &[])).await);
    assert!(status.message.contains("\"before-first-apply\" using apps/v1"), "{}", status.message);
    let after = taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    assert!(holds(&after, "team", "Apply", "f:image") && holds(&after, "before-first-apply", "Update", "f:image"));
}

async fn who_does_not_know_managed_fields_does_not_wipe_them(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    let mut ignorant =
        g.until_is(WEB, "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    ignorant["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    ignorant["metadata"]["labels"]["l"] = "1".into();
    let after = taken(g.put(&g.at(WEB), "other", &ignorant).await);
    assert_eq!(held(&after, "other", "Update"), json!({"f:metadata": {"f:labels": {"f:l": {}}}}));
    assert!(holds(&after, "team", "Apply", "f:image"));
}

async fn the_status_has_its_own_holder(g: Ground) {
    taken(apply(&g, "team", &config("shop/web:ok-v1", &[])).await);
    let status = json!({"status": {"collisionCount": 3}});
    let after = taken(g.merge(&g.at("deployments/web/status"), "team", &status).await);
    let entries = after["metadata"]["managedFields"].as_array().expect("entries");
    let own = entries.iter().find(|e| e["manager"] == "team" && e["subresource"] == "status").expect("its own entry");
    assert_eq!(own["fieldsV1"], json!({"f:status": {"f:collisionCount": {}}}));
    assert_eq!(own["operation"], "Update");
}
