//! The patches, above all the one by which Lastgood undoes a rollout.
use super::{Ground, cases, code, deployment, deploys, image, refused, taken, version};
use serde_json::{Value, json};

cases![
    a_failed_test_is_unprocessable,
    a_patch_of_nothing_is_unprocessable,
    an_undo_is_applied_once,
    an_undo_of_a_changed_template_is_refused,
    a_patch_to_an_invalid_object_has_causes,
    a_merge_patch_removes_by_null,
    a_strategic_patch_merges_by_name,
    a_strategic_patch_replaces_a_template,
    an_unknown_patch_is_refused,
    a_patch_may_not_rename,
];

const WEB: &str = "deployments/web";

async fn web(g: &Ground) -> Value {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["replicas"] = 0.into();
    wanted["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]);
    g.create("deployments", &wanted).await
}

async fn a_failed_test_is_unprocessable(g: Ground) {
    web(&g).await;
    let patch = json!([
        {"op": "test", "path": "/metadata/name", "value": "other"},
        {"op": "replace", "path": super::TEMPLATE_IMAGE, "value": "shop/web:ok-v2"},
    ]);
    let status = refused(g.json_patch(&g.at(WEB), "lastgood", &patch).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(status.message, "the server rejected our request due to an error in our request");
    assert!(status.details.is_none_or(|d| d.causes.is_empty()));
    assert_eq!(image(&g.read(WEB).await), "shop/web:ok-v1");
}

async fn a_patch_of_nothing_is_unprocessable(g: Ground) {
    web(&g).await;
    for patch in [
        json!([{"op": "remove", "path": "/metadata/annotations/none"}]),
        json!([{"op": "replace", "path": "/spec/none/none", "value": 1}]),
        json!([{"op": "test", "path": "/metadata/annotations/none", "value": "x"}]),
        json!([{"op": "add", "path": "/spec/template/spec/containers/7", "value": {}}]),
    ] {
        assert_eq!(code(g.json_patch(&g.at(WEB), "t", &patch).await), (422, "Invalid".into()), "{patch}");
    }
}

/// The request of safety.md 2.2.
fn undo(live: &Value, target: &Value) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]}),
        json!({"op": "test", "path": "/spec/template", "value": live["spec"]["template"]}),
        json!({"op": "replace", "path": "/spec/template", "value": target}),
    ];
    if live["metadata"].get("annotations").is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(json!({"op": "add", "path": "/metadata/annotations/lastgood.dev~1undo", "value": "{}"}));
    Value::Array(operations)
}

async fn an_undo_is_applied_once(g: Ground) {
    let good = web(&g).await;
    let bad = taken(g.strategic(&g.at(WEB), "t", &deploys("shop/web:crash-v2")).await);
    let patch = undo(&bad, &good["spec"]["template"]);
    let undone = taken(g.json_patch(&g.at(WEB), "lastgood", &patch).await);
    assert_eq!(undone["spec"]["template"], good["spec"]["template"]);
    assert!(version(&undone) > version(&bad));
    assert_eq!(code(g.json_patch(&g.at(WEB), "lastgood", &patch).await).0, 422, "a blind retry is harmless");
}

async fn an_undo_of_a_changed_template_is_refused(g: Ground) {
    let good = web(&g).await;
    let bad = taken(g.strategic(&g.at(WEB), "t", &deploys("shop/web:crash-v2")).await);
    let patch = undo(&bad, &good["spec"]["template"]);
    taken(g.strategic(&g.at(WEB), "t", &deploys("shop/web:ok-v3")).await);
    assert_eq!(code(g.json_patch(&g.at(WEB), "lastgood", &patch).await).0, 422);
    assert_eq!(image(&g.read(WEB).await), "shop/web:ok-v3");
}

async fn a_patch_to_an_invalid_object_has_causes(g: Ground) {
    web(&g).await;
    let patch = json!([{"op": "remove", "path": super::TEMPLATE_IMAGE}]);
    let status = refused(g.json_patch(&g.at(WEB), "t", &patch).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.details.is_some_and(|d| !d.causes.is_empty()), "{}", status.message);
}

async fn a_merge_patch_removes_by_null(g: Ground) {
    web(&g).await;
    taken(g.merge(&g.at(WEB), "t", &json!({"metadata": {"annotations": {"a": "1", "b": "1"}}})).await);
    let after = taken(g.merge(&g.at(WEB), "t", &json!({"metadata": {"annotations": {"a": null}}})).await);
    assert_eq!(
        (after["metadata"]["annotations"].get("a"), &after["metadata"]["annotations"]["b"]),
        (None, &json!("1"))
    );
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "shop/web:ok-v2"}]}}}});
    let after = taken(g.merge(&g.at(WEB), "t", &patch).await);
    assert_eq!(after.pointer("/spec/template/spec/containers/0/env"), None, "lists are replaced");
}

async fn a_strategic_patch_merges_by_name(g: Ground) {
    web(&g).await;
    let container = json!({"name": "app", "env": [{"name": "C", "value": "3"}, {"name": "B", "$patch": "delete"}, {"name": "A", "value": "2"}]});
    let after = taken(
        g.strategic(&g.at(WEB), "t", &json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await,
    );
    let found = after.pointer("/spec/template/spec/containers/0").expect("a container");
    assert_eq!(found["image"], "shop/web:ok-v1");
    let mut env: Vec<String> =
        found["env"].as_array().expect("env").iter().map(|e| format!("{}={}", e["name"], e["value"])).collect();
    env.sort();
    assert_eq!(env, [r#""A"="2""#, r#""C"="3""#]);
}

async fn a_strategic_patch_replaces_a_template(g: Ground) {
    let made = web(&g).await;
    let mut template = made["spec"]["template"].clone();
    template["spec"]["containers"][0].as_object_mut().expect("a container").remove("env");
    template["$patch"] = "replace".into();
    let after = taken(g.strategic(&g.at(WEB), "t", &json!({"spec": {"template": template}})).await);
    assert_eq!(after.pointer("/spec/template/spec/containers/0/env"), None);
    assert_eq!(image(&after), "shop/web:ok-v1");
}

async fn an_unknown_patch_is_refused(g: Ground) {
    web(&g).await;
    let answer = g.send(http::Method::PATCH, &g.at(WEB), "application/json", Some(&json!({}))).await;
    assert_eq!(code(answer).0, 415);
}

async fn a_patch_may_not_rename(g: Ground) {
    web(&g).await;
    assert_eq!(code(g.merge(&g.at(WEB), "t", &json!({"metadata": {"name": "other"}})).await).0, 400);
}
