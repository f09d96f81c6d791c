//! Pure. The clean hand-back: ownership of what an undo changed goes to whoever held it before, so that
//! the team's next apply neither conflicts with us nor inherits leftovers (safety.md 2.4).

use super::plan::is_empty_map;
use crate::domain::{FIELD_MANAGER, UNDO_ANNOTATION};
use serde_json::{Map, Value, json};

/// A hand-back that is ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct HandBack {
    /// The JSON patch on `/metadata/managedFields`.
    pub patch: Value,
    /// Managers that get fields back.
    pub to: Vec<String>,
    /// Paths that nobody held before: they belong to no one now.
    pub orphans: Vec<String>,
}

/// Plans the hand-back from the managedFields before and after the undo; `None` when nothing of ours is
/// to be given.
pub fn hand_back(before: &Value, after: &Value) -> Option<HandBack> {
    let entries = after.as_array()?;
    let (our_index, ours) = entries.iter().enumerate().find(|(_, e)| is_ours(e))?;
    let mut keep = ours.get("fieldsV1")?.clone();
    let mut give = keep.clone();
    // Our own annotation stays ours; everything else is given.
    let own = format!("f:{UNDO_ANNOTATION}");
    remove(&mut give, &["f:metadata", "f:annotations", &own]);
    keep = match keep.pointer(&format!("/f:metadata/f:annotations/{}", super::plan::escape(&own))) {
        Some(_) => json!({"f:metadata": {"f:annotations": {own: {}}}}),
        None => json!({}),
    };
    prune(&mut give);
    if is_empty_map(&give) {
        return None;
    }
    let heir = sole_holder(before);
    let mut gifts: Vec<(usize, Value)> = Vec::new();
    let mut orphans = Vec::new();
    for path in leaves(&give) {
        let holder = before
            .as_array()
            .into_iter()
            .flatten()
            .find(|e| !is_ours(e) && lookup(&e["fieldsV1"], &path).is_some())
            .or(heir.filter(|_| path.starts_with(&["f:spec".to_owned(), "f:template".to_owned()])));
        let index = holder.and_then(|h| entries.iter().position(|e| same_manager(e, h)));
        match index {
            Some(index) => {
                if !gifts.iter().any(|(i, _)| *i == index) {
                    gifts.push((index, entries[index].get("fieldsV1").cloned().unwrap_or_else(|| json!({}))));
                }
                if let Some((_, fields)) = gifts.iter_mut().find(|(i, _)| *i == index) {
                    insert(fields, &path);
                }
            }
            None => orphans.push(path.join(".").replace("f:", "")),
        }
    }
    let mut ops = vec![
        json!({"op": "test", "path": at(our_index, "manager"), "value": ours["manager"]}),
        json!({"op": "test", "path": at(our_index, "fieldsV1"), "value": ours["fieldsV1"]}),
    ];
    for (index, fields) in &gifts {
        let entry = &entries[*index];
        ops.push(json!({"op": "test", "path": at(*index, "manager"), "value": entry["manager"]}));
        ops.push(json!({"op": "test", "path": at(*index, "operation"), "value": entry["operation"]}));
        ops.push(json!({"op": "test", "path": at(*index, "fieldsV1"), "value": entry["fieldsV1"]}));
        ops.push(json!({"op": "replace", "path": at(*index, "fieldsV1"), "value": fields}));
    }
    ops.push(json!({"op": "replace", "path": at(our_index, "fieldsV1"), "value": keep}));
    let to = gifts.iter().filter_map(|(i, _)| entries[*i]["manager"].as_str().map(str::to_owned)).collect();
    Some(HandBack { patch: Value::Array(ops), to, orphans })
}

fn at(index: usize, field: &str) -> String {
    format!("/metadata/managedFields/{index}/{field}")
}

fn is_ours(entry: &Value) -> bool {
    entry["manager"] == FIELD_MANAGER
}

fn same_manager(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "apiVersion", "subresource"].iter().all(|key| a.get(*key) == b.get(*key))
}

/// The one manager that held fields of the template: the one Apply manager, else the one Update manager.
/// It inherits what only the restored template has.
fn sole_holder(before: &Value) -> Option<&Value> {
    let holders = |operation: &str| {
        let held = |e: &&Value| {
            !is_ours(e) && e["operation"] == operation && e["fieldsV1"].pointer("/f:spec/f:template").is_some()
        };
        before.as_array().into_iter().flatten().filter(held).collect::<Vec<_>>()
    };
    let (apply, update) = (holders("Apply"), holders("Update"));
    match (&apply[..], &update[..]) {
        ([one], _) | ([], [one]) => Some(one),
        _ => None,
    }
}

/// Every leaf of a field set, as a path of its keys. `.` stands for the item itself and is a leaf too.
fn leaves(fields: &Value) -> Vec<Vec<String>> {
    fn walk(value: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map) => {
                for (key, value) in map {
                    path.push(key.clone());
                    walk(value, path, out);
                    path.pop();
                }
            }
            None => out.push(path.clone()),
        }
    }
    let mut out = Vec::new();
    walk(fields, &mut Vec::new(), &mut out);
    out
}

/// Whether a field set holds a path. A leaf that stands for a whole value holds everything below it.
fn lookup<'a>(fields: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut here = fields;
    for key in path {
        match here.get(key) {
            Some(next) => here = next,
            None => return None,
        }
    }
    Some(here)
}

fn insert(fields: &mut Value, path: &[String]) {
    let mut here = fields;
    for key in path {
        if !here.is_object() {
            return;
        }
        here = &mut here[key.as_str()];
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
    }
}

fn remove(fields: &mut Value, path: &[&str]) {
    if let Some((last, parents)) = path.split_last() {
        let parent = parents.iter().try_fold(fields, |here, key| here.get_mut(*key));
        if let Some(map) = parent.and_then(Value::as_object_mut) {
            map.remove(*last);
        }
    }
}

/// Drops the containers that the removal of our own annotation left empty.
fn prune(fields: &mut Value) {
    for path in [&["f:metadata", "f:annotations"][..], &["f:metadata"][..]] {
        let empty = {
            let found = path.iter().try_fold(&*fields, |here, key| here.get(*key));
            found.and_then(Value::as_object).is_some_and(|map| map.is_empty() || map.keys().all(|k| k == "."))
        };
        if empty {
            remove(fields, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "reads like the JSON it makes")]
    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn env(names: &[&str]) -> Value {
        let env: Map<String, Value> =
            names.iter().map(|n| (format!("k:{{\"name\":\"{n}\"}}"), json!({".": {}, "f:value": {}}))).collect();
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:env": env, "f:image": {}}}}}}})
    }

    fn ours(mut template: Value) -> Value {
        template["f:metadata"] = json!({"f:annotations": {"f:lastgood.dev/undo": {}}});
        entry("lastgood", "Update", template)
    }

    fn gift(back: &HandBack, index: usize) -> Value {
        let path = format!("/metadata/managedFields/{index}/fieldsV1");
        let mut ops = back.patch.as_array().expect("ops").iter();
        let found = ops.rfind(|op| op["op"] == "replace" && op["path"] == path);
        found.map(|op| op["value"].clone()).expect("a gift")
    }

    #[test]
    fn the_teams_apply_entry_gets_all_template_fields_and_we_keep_our_mark() {
        let before = json!([entry("kubectl", "Apply", env(&["A"]))]);
        let after = json!([entry("kubectl", "Apply", env(&[])), ours(env(&["A", "B"]))]);
        let back = hand_back(&before, &after).expect("a hand-back");
        assert_eq!(gift(&back, 0), env(&["A", "B"]), "B too, which the bad revision had not");
        assert_eq!(gift(&back, 1), json!({"f:metadata": {"f:annotations": {"f:lastgood.dev/undo": {}}}}));
        assert_eq!((back.to, back.orphans), (vec!["kubectl".to_owned()], vec![]));
    }

    #[test]
    fn several_holders_get_their_own_fields_and_the_rest_is_named() {
        let before = json!([entry("team", "Apply", env(&["A"])), entry("tuner", "Apply", env(&["C"]))]);
        let after =
            json!([entry("team", "Apply", env(&[])), entry("tuner", "Apply", env(&[])), ours(env(&["A", "B", "C"]))]);
        let back = hand_back(&before, &after).expect("a hand-back");
        let a = [
            "f:spec",
            "f:template",
            "f:spec",
            "f:containers",
            "k:{\"name\":\"c\"}",
            "f:env",
            "k:{\"name\":\"A\"}",
            "f:value",
        ];
        let a: Vec<String> = a.iter().map(|s| (*s).to_owned()).collect();
        let c: Vec<String> = a.iter().map(|s| s.replace("\"A\"", "\"C\"")).collect();
        assert!(lookup(&gift(&back, 0), &a).is_some());
        assert!(lookup(&gift(&back, 1), &c).is_some() && lookup(&gift(&back, 1), &a).is_none());
        assert!(back.orphans.iter().any(|path| path.contains("\"B\"")), "{:?}", back.orphans);
    }

    #[test]
    fn last_applied_returns_to_kubectl() {
        let annotation =
            json!({"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}});
        let mut held = env(&["A"]);
        held["f:metadata"] = annotation["f:metadata"].clone();
        let before = json!([entry("kubectl-client-side-apply", "Update", held)]);
        let mut mine = env(&["A"]);
        mine["f:metadata"] = json!({"f:annotations": {"f:lastgood.dev/undo": {},
            "f:kubectl.kubernetes.io/last-applied-configuration": {}}});
        let after = json!([entry("kubectl-client-side-apply", "Update", env(&[])), entry("lastgood", "Update", mine)]);
        let back = hand_back(&before, &after).expect("a hand-back");
        assert!(
            gift(&back, 0)
                .pointer("/f:metadata/f:annotations/f:kubectl.kubernetes.io~1last-applied-configuration")
                .is_some()
        );
    }

    #[test]
    fn nothing_to_give_is_no_patch() {
        assert_eq!(hand_back(&json!([]), &json!([ours(json!({}))])), None);
        assert_eq!(hand_back(&json!([]), &json!([entry("kubectl", "Apply", env(&["A"]))])), None);
        assert_eq!(hand_back(&Value::Null, &Value::Null), None);
    }
}
