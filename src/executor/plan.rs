//! Pure. The undo as a JSON patch, and the check of what the API server would make of it.

use super::target::Target;
use crate::{
    cluster::TemplateMark,
    domain::{Revision, UNDO_ANNOTATION},
};
use serde_json::{Map, Value, json};

/// kubectl's memory of what was applied; kept in step with an undo (safety.md 2.4).
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An undo that is ready to be sent: no choices are left.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Id of this undo.
    pub undo_id: String,
    /// The JSON patch.
    pub patch: Value,
    /// The bad revision.
    pub bad: Revision,
    /// The restored revision.
    pub target: Revision,
    /// The whole value of the undo annotation.
    pub mark: String,
    /// Fields that the restored template has and the bad one has not: what a tool that knows nothing of
    /// the undo (Helm 3, an operator) may leave behind at its next deploy.
    pub leftovers: Vec<String>,
}

/// The API server itself counts a DaemonSet's template changes here, beside `metadata.generation`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Plans the undo of the live object to `target`.
///
/// The patch tests the uid and the exact bad template, so that it applies only to what was judged (I4);
/// it sets the template, one annotation key of ours, and the template inside a present last-applied
/// annotation, and nothing else (I5).
pub fn plan(live: &Value, target: &Target, undo_id: &str) -> Plan {
    let uid = live.pointer("/metadata/uid").cloned().unwrap_or(Value::Null);
    let bad_template = live.pointer("/spec/template").cloned().unwrap_or(Value::Null);
    let bad = TemplateMark::of(&bad_template).revision;
    let mark = format!("{}/{}/{undo_id}", uid.as_str().unwrap_or_default(), target.mark.revision);
    let mut ops = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/spec/template", "value": bad_template}),
        json!({"op": "replace", "path": "/spec/template", "value": target.template}),
    ];
    match live.pointer("/metadata/annotations").and_then(Value::as_object) {
        Some(annotations) => {
            if let Some(old) = annotations.get(LAST_APPLIED)
                && let Some(new) = in_step(old, &target.template)
            {
                let path = format!("/metadata/annotations/{}", escape(LAST_APPLIED));
                ops.push(json!({"op": "test", "path": path, "value": old}));
                ops.push(json!({"op": "replace", "path": path, "value": new}));
            }
        }
        None => {
            // Making the map must not wipe one that appears meanwhile.
            let version = live.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
            ops.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
            ops.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
        }
    }
    let path = format!("/metadata/annotations/{}", escape(UNDO_ANNOTATION));
    ops.push(json!({"op": "add", "path": path, "value": mark}));
    let mut leftovers = Vec::new();
    only_in(&target.template, &bad_template, "", &mut leftovers);
    Plan {
        undo_id: undo_id.into(),
        patch: Value::Array(ops),
        bad,
        target: target.mark.revision.clone(),
        mark,
        leftovers,
    }
}

/// The last-applied annotation with the restored template in it; `None` when it cannot be read.
fn in_step(old: &Value, template: &Value) -> Option<Value> {
    let mut applied: Value = serde_json::from_str(old.as_str()?).ok()?;
    *applied.pointer_mut("/spec/template")? = template.clone();
    // kubectl itself ends the annotation with a line break.
    Some(Value::String(format!("{applied}\n")))
}

/// Compares what the API server would store with what is live: only what an undo may change may differ
/// (I5), and the template must come out as the target.
///
/// # Errors
/// What differs, without values: templates can hold secrets.
pub fn check(live: &Value, rehearsed: &Value, plan: &Plan) -> Result<(), String> {
    let template = rehearsed.pointer("/spec/template").unwrap_or(&Value::Null);
    let got = TemplateMark::of(template).revision;
    if got != plan.target {
        return Err(format!("admission changes the restored template: {got} instead of {}", plan.target));
    }
    if rehearsed.pointer("/metadata/annotations").and_then(|a| a.get(UNDO_ANNOTATION)) != Some(&json!(plan.mark)) {
        return Err("admission drops the mark of the undo".into());
    }
    let (mut live, mut rehearsed) = (live.clone(), rehearsed.clone());
    for object in [&mut live, &mut rehearsed] {
        if let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut) {
            spec.remove("template");
        }
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            for own in ["managedFields", "resourceVersion", "generation"] {
                metadata.remove(own);
            }
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.remove(UNDO_ANNOTATION);
                annotations.remove(LAST_APPLIED);
                annotations.remove(TEMPLATE_GENERATION);
            }
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
    }
    let mut changed = Vec::new();
    only_in(&live, &rehearsed, "", &mut changed);
    only_in(&rehearsed, &live, "", &mut changed);
    differing(&live, &rehearsed, "", &mut changed);
    changed.sort();
    changed.dedup();
    if changed.is_empty() { Ok(()) } else { Err(format!("the undo would also change {}", changed.join(", "))) }
}

/// Paths of `a` that `b` has not. Lists of named things are compared by name.
pub(super) fn only_in(a: &Value, b: &Value, path: &str, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a.iter().filter(|(_, v)| !v.is_null()) {
                let path = join(path, key);
                match b.get(key) {
                    Some(other) if !other.is_null() => only_in(value, other, &path, out),
                    _ => out.push(path),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for (index, value) in a.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_str);
                let other = match name {
                    Some(name) => b.iter().find(|o| o.get("name").and_then(Value::as_str) == Some(name)),
                    None => b.get(index),
                };
                let path = format!("{path}[{}]", name.map_or_else(|| index.to_string(), str::to_owned));
                match other {
                    Some(other) => only_in(value, other, &path, out),
                    None => out.push(path),
                }
            }
        }
        _ => {}
    }
}

/// Paths at which both have something, but not the same.
fn differing(a: &Value, b: &Value, path: &str, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                if let Some(other) = b.get(key) {
                    differing(value, other, &join(path, key), out);
                }
            }
        }
        _ if a != b => out.push(if path.is_empty() { "everything".into() } else { path.into() }),
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key as a JSON pointer's token (RFC 6901).
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Fields of a template that only exist by server defaulting are not worth naming as leftovers.
pub fn named_leftovers(leftovers: &[String]) -> Vec<String> {
    let defaults = ["terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "creationTimestamp"];
    leftovers.iter().filter(|path| !defaults.iter().any(|d| path.ends_with(d))).cloned().collect()
}

/// Whether a value is an object without keys.
pub(super) fn is_empty_map(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Value {
        json!({
            "metadata": {"uid": "u", "name": "web", "resourceVersion": "7", "generation": 2,
                         "annotations": {"deployment.kubernetes.io/revision": "2", "team": "a"}},
            "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}},
        })
    }

    fn target() -> Target {
        let template = json!({"spec": {"containers": [{"name": "c", "image": "x:1", "env": [{"name": "B", "value": "1"}]}],
                                        "fieldOf2040": {"a": [1]}}});
        Target {
            mark: TemplateMark::of(&template),
            number: Some(1),
            object: "ReplicaSet/web-1".into(),
            template,
            why: String::new(),
        }
    }

    /// What the API server would answer, by applying the patch's writes by hand.
    fn applied(live: &Value, plan: &Plan) -> Value {
        let mut object = live.clone();
        for op in plan.patch.as_array().expect("ops") {
            let path = op["path"].as_str().expect("path");
            match op["op"].as_str() {
                Some("test") => assert_eq!(object.pointer(path), Some(&op["value"]), "{path}"),
                _ => {
                    let (parent, key) = path.rsplit_once('/').expect("a parent");
                    let key = key.replace("~1", "/").replace("~0", "~");
                    object.pointer_mut(parent).expect("parent")[key] = op["value"].clone();
                }
            }
        }
        object
    }

    #[test]
    fn the_patch_tests_what_was_judged_and_changes_only_what_it_may() {
        let plan = plan(&live(), &target(), "7");
        let after = applied(&live(), &plan);
        assert_eq!(after["spec"]["template"], target().template, "every stored field, known or not (I6)");
        assert_eq!(after["spec"]["replicas"], 3);
        assert_eq!(after["metadata"]["annotations"]["team"], "a");
        assert_eq!(after["metadata"]["annotations"]["lastgood.dev/undo"], plan.mark);
        check(&live(), &after, &plan).expect("nothing else changed");
        let tests: Vec<&str> = plan
            .patch
            .as_array()
            .expect("ops")
            .iter()
            .filter(|op| op["op"] == "test")
            .filter_map(|op| op["path"].as_str())
            .collect();
        assert_eq!(tests, ["/metadata/uid", "/spec/template"]);
    }

    #[test]
    fn without_annotations_the_map_is_made_but_never_over_another() {
        let mut bare = live();
        bare["metadata"].as_object_mut().expect("metadata").remove("annotations");
        let plan = plan(&bare, &target(), "7");
        assert_eq!(plan.patch[0]["path"], "/metadata/resourceVersion");
        check(&bare, &applied(&bare, &plan), &plan).expect("nothing else changed");
    }

    #[test]
    fn last_applied_is_kept_in_step_and_guarded() {
        let mut object = live();
        let applied_text =
            json!({"kind": "Deployment", "spec": {"replicas": 3, "template": {"old": true}}}).to_string();
        object["metadata"]["annotations"][LAST_APPLIED] = json!(applied_text);
        let plan = plan(&object, &target(), "7");
        let after = applied(&object, &plan);
        let text = after["metadata"]["annotations"][LAST_APPLIED].as_str().expect("text");
        let parsed: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(parsed["spec"]["template"], target().template);
        assert_eq!(parsed["spec"]["replicas"], 3);
        check(&object, &after, &plan).expect("allowed");
    }

    #[test]
    fn anything_else_that_changes_is_named_without_its_value() {
        let plan = plan(&live(), &target(), "7");
        let good = applied(&live(), &plan);
        for (path, value, named) in [
            ("/spec/replicas", json!(9), "spec.replicas"),
            ("/metadata/labels", json!({"a": "s3cret"}), "metadata.labels"),
            ("/metadata/annotations/team", json!("s3cret"), "metadata.annotations.team"),
        ] {
            let mut rewritten = good.clone();
            let (parent, key) = path.rsplit_once('/').expect("a parent");
            rewritten.pointer_mut(parent).expect("parent")[key] = value;
            let said = check(&live(), &rewritten, &plan).expect_err("must be refused");
            assert!(said.contains(named) && !said.contains("s3cret"), "{said}");
        }
        let mut rewritten = good.clone();
        rewritten["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
        assert!(check(&live(), &rewritten, &plan).is_err());
        let mut dropped = good;
        dropped["metadata"]["annotations"].as_object_mut().expect("map").remove("team");
        assert!(check(&live(), &dropped, &plan).is_err());
    }

    #[test]
    fn leftovers_name_what_only_the_restored_template_has() {
        let plan = plan(&live(), &target(), "7");
        assert_eq!(plan.leftovers, ["spec.containers[c].env", "spec.fieldOf2040"]);
    }
}
