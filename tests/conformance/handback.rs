//! The outcomes of safety.md 2.4: what the team's next deploy finds after an undo, by how it was handed back.
//!
//! Good had A=1 and B=1, bad has A=2 only, the fix has A=3 only.
use super::{
    Ground,
    apply::{config, held, holds},
    cases, refused, taken,
};
use serde_json::{Map, Value, json};

cases![
    without_a_hand_back_the_next_apply_conflicts,
    with_our_entry_removed_a_leftover_stays,
    with_our_fields_given_to_the_team_all_is_right,
    without_a_hand_back_client_side_apply_leaves_a_leftover,
    with_last_applied_kept_in_step_client_side_apply_is_right,
    a_hand_back_raises_no_generation,
];

const WEB: &str = "deployments/web";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn good() -> Value {
    config("shop/web:ok-v1", &[("A", "1"), ("B", "1")])
}

fn bad() -> Value {
    config("shop/web:crash-v2", &[("A", "2")])
}

fn fix() -> Value {
    config("shop/web:ok-v3", &[("A", "3")])
}

fn env(object: &Value) -> Vec<String> {
    let env = object.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).expect("env");
    let mut env: Vec<String> = env
        .iter()
        .map(|e| format!("{}={}", e["name"].as_str().unwrap_or_default(), e["value"].as_str().unwrap_or_default()))
        .collect();
    env.sort();
    env
}

/// Undoes the live template to that of `good`, as Lastgood does.
async fn undo(g: &Ground, good: &Value, more: &[Value]) -> Value {
    let live = g.read(WEB).await;
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]}),
        json!({"op": "test", "path": "/spec/template", "value": live["spec"]["template"]}),
        json!({"op": "replace", "path": "/spec/template", "value": good["spec"]["template"]}),
    ];
    if live["metadata"].get("annotations").is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(json!({"op": "add", "path": "/metadata/annotations/lastgood.dev~1undo", "value": "x"}));
    operations.extend_from_slice(more);
    taken(g.json_patch(&g.at(WEB), "lastgood", &Value::Array(operations)).await)
}

/// Good, then bad by server-side apply, then undone.
async fn undone_after_apply(g: &Ground) -> Value {
    let good = taken(g.apply(&g.at(WEB), "team", &good()).await);
    taken(g.apply(&g.at(WEB), "team", &bad()).await);
    let undone = undo(g, &good, &[]).await;
    assert_eq!(env(&undone), ["A=1", "B=1"]);
    assert!(holds(&undone, "lastgood", "Update", "f:image") && !holds(&undone, "team", "Apply", "f:image"));
    undone
}

async fn without_a_hand_back_the_next_apply_conflicts(g: Ground) {
    undone_after_apply(&g).await;
    let status = refused(g.apply(&g.at(WEB), "team", &fix()).await);
    assert_eq!(status.code, 409);
    let said = "Apply failed with 2 conflicts: conflicts with \"lastgood\" using apps/v1:\n- .spec.template.spec.containers[name=\"app\"].image\n- .spec.template.spec.containers[name=\"app\"].env[name=\"A\"].value";
    assert_eq!(status.message, said);
}

fn entry(object: &Value, manager: &str) -> usize {
    let entries = object["metadata"]["managedFields"].as_array().expect("entries");
    entries.iter().position(|e| e["manager"] == manager).expect("an entry")
}

async fn with_our_entry_removed_a_leftover_stays(g: Ground) {
    let undone = undone_after_apply(&g).await;
    let at = entry(&undone, "lastgood");
    let patch = json!([
        {"op": "test", "path": format!("/metadata/managedFields/{at}/manager"), "value": "lastgood"},
        {"op": "remove", "path": format!("/metadata/managedFields/{at}")},
    ]);
    taken(g.json_patch(&g.at(WEB), "lastgood", &patch).await);
    let fixed = taken(g.apply(&g.at(WEB), "team", &fix()).await);
    assert_eq!(env(&fixed), ["A=3", "B=1"], "nobody owned B any more");
}

/// Lays one field set over another.
fn merged(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        let here = into.entry(key.clone()).or_insert_with(|| json!({}));
        if let (Value::Object(here), Value::Object(value)) = (here, value) {
            merged(here, value);
        }
    }
}

async fn hand_back(g: &Ground, undone: &Value) -> Value {
    let ours = held(undone, "lastgood", "Update");
    let mut team = held(undone, "team", "Apply").as_object().cloned().expect("the team's fields");
    merged(&mut team, json!({"f:spec": ours["f:spec"]}).as_object().expect("our fields"));
    let (our_place, team_place) = (entry(undone, "lastgood"), entry(undone, "team"));
    let keep = json!({"f:metadata": {"f:annotations": {"f:lastgood.dev/undo": {}}}});
    let patch = json!([
        {"op": "test", "path": format!("/metadata/managedFields/{our_place}/manager"), "value": "lastgood"},
        {"op": "test", "path": format!("/metadata/managedFields/{team_place}/manager"), "value": "team"},
        {"op": "replace", "path": format!("/metadata/managedFields/{team_place}/fieldsV1"), "value": team},
        {"op": "replace", "path": format!("/metadata/managedFields/{our_place}/fieldsV1"), "value": keep},
    ]);
    taken(g.json_patch(&g.at(WEB), "lastgood", &patch).await)
}

async fn with_our_fields_given_to_the_team_all_is_right(g: Ground) {
    let undone = undone_after_apply(&g).await;
    let handed = hand_back(&g, &undone).await;
    assert!(holds(&handed, "team", "Apply", "f:image"));
    let fixed = taken(g.apply(&g.at(WEB), "team", &fix()).await);
    assert_eq!((env(&fixed), super::image(&fixed)), (vec!["A=3".to_owned()], "shop/web:ok-v3"));
    assert_eq!(fixed["metadata"]["annotations"]["lastgood.dev/undo"], "x", "our own mark stays ours");
}

async fn a_hand_back_raises_no_generation(g: Ground) {
    let undone = undone_after_apply(&g).await;
    let handed = hand_back(&g, &undone).await;
    assert_eq!(handed["metadata"]["generation"], undone["metadata"]["generation"]);
}

/// What `kubectl apply` sends: what the live object lacks, and deletions of what was applied last and is not now.
async fn client_side_apply(g: &Ground, wanted: &Value) -> Value {
    let live = g.get(&g.at(WEB)).await.ok();
    let text = wanted.to_string();
    let mut sent = wanted.clone();
    sent["metadata"]["annotations"][LAST_APPLIED] = text.into();
    let Some(live) = live else {
        return taken(g.post(&g.at("deployments"), "kubectl-client-side-apply", &sent).await);
    };
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str().expect("last applied");
    let last: Value = serde_json::from_str(last).expect("JSON");
    let names = |object: &Value| -> Vec<String> {
        env(object).iter().filter_map(|e| e.split_once('=').map(|(name, _)| name.to_owned())).collect()
    };
    let now = names(wanted);
    let env = sent["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().expect("env");
    env.extend(names(&last).iter().filter(|n| !now.contains(n)).map(|n| json!({"name": n, "$patch": "delete"})));
    taken(g.strategic(&g.at(WEB), "kubectl-client-side-apply", &sent).await)
}

async fn without_a_hand_back_client_side_apply_leaves_a_leftover(g: Ground) {
    let first = client_side_apply(&g, &good()).await;
    client_side_apply(&g, &bad()).await;
    undo(&g, &first, &[]).await;
    let fixed = client_side_apply(&g, &fix()).await;
    assert_eq!(env(&fixed), ["A=3", "B=1"], "the last applied of the bad version does not know B");
}

async fn with_last_applied_kept_in_step_client_side_apply_is_right(g: Ground) {
    let first = client_side_apply(&g, &good()).await;
    client_side_apply(&g, &bad()).await;
    let path = format!("/metadata/annotations/{}", LAST_APPLIED.replace('/', "~1"));
    let step = json!({"op": "replace", "path": path, "value": good().to_string()});
    undo(&g, &first, &[step]).await;
    let fixed = client_side_apply(&g, &fix()).await;
    assert_eq!((env(&fixed), super::image(&fixed)), (vec!["A=3".to_owned()], "shop/web:ok-v3"));
}
