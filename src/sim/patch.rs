//! Pure. The three patches that change an object where it stands: JSON patch, merge patch, strategic merge patch.

use super::{
    fields::{self, ListShape},
    refusal::Refusal,
    resource::Resource,
};
use serde_json::{Map, Value};

/// Applies a JSON patch (RFC 6902). An operation that cannot be done, a failed `test` among them, refuses all.
pub(super) fn json_patch(object: &mut Value, operations: &Value) -> Result<(), Refusal> {
    let operations = operations
        .as_array()
        .ok_or_else(|| Refusal::bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch"))?;
    operations.iter().try_for_each(|operation| one(object, operation)).map_err(|()| Refusal::unprocessable_patch())
}

fn one(object: &mut Value, operation: &Value) -> Result<(), ()> {
    let path = operation["path"].as_str().ok_or(())?;
    let from = || operation["from"].as_str().ok_or(());
    let value = || operation.get("value").cloned().ok_or(());
    match operation["op"].as_str() {
        Some("add") => add(object, path, value()?),
        Some("remove") => take(object, path).map(drop),
        Some("replace") => {
            *object.pointer_mut(path).ok_or(())? = value()?;
            Ok(())
        }
        Some("move") => {
            let moved = take(object, from()?)?;
            add(object, path, moved)
        }
        Some("copy") => {
            let copied = object.pointer(from()?).ok_or(())?.clone();
            add(object, path, copied)
        }
        // A missing field equals null, as for the library of the real server.
        Some("test") => (object.pointer(path).unwrap_or(&Value::Null) == &operation["value"]).then_some(()).ok_or(()),
        _ => Err(()),
    }
}

/// The parent of a place and its last step.
fn parent<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), ()> {
    let (parent, last) = path.rsplit_once('/').ok_or(())?;
    let last = last.replace("~1", "/").replace("~0", "~");
    Ok((object.pointer_mut(parent).ok_or(())?, last))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), ()> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    match parent(object, path)? {
        (Value::Object(map), key) => {
            map.insert(key, value);
            Ok(())
        }
        (Value::Array(list), last) => {
            let at = if last == "-" { list.len() } else { last.parse().map_err(drop)? };
            if at > list.len() {
                return Err(());
            }
            list.insert(at, value);
            Ok(())
        }
        _ => Err(()),
    }
}

fn take(object: &mut Value, path: &str) -> Result<Value, ()> {
    match parent(object, path)? {
        (Value::Object(map), key) => map.remove(&key).ok_or(()),
        (Value::Array(list), last) => {
            let at: usize = last.parse().map_err(drop)?;
            if at < list.len() { Ok(list.remove(at)) } else { Err(()) }
        }
        _ => Err(()),
    }
}

/// Applies a merge patch (RFC 7386): objects are merged, null removes, everything else replaces.
pub fn merge_patch(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(map) = object.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies a strategic merge patch: as a merge patch, but lists of named things are merged by name, and
/// `$patch: replace` and `$patch: delete` are heard. (`$setElementOrder` and `$deleteFromPrimitiveList` are not.)
pub(super) fn strategic(resource: Resource, object: &mut Value, patch: &Value) {
    strategic_at(resource, "", object, patch);
}

fn strategic_at(resource: Resource, field: &str, object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if changes.get("$patch").is_some_and(|p| p == "replace") {
        *object = patch.clone();
        if let Some(map) = object.as_object_mut() {
            map.remove("$patch");
        }
        return;
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(map) = object.as_object_mut() else { return };
    for (key, value) in changes.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            map.remove(key);
            continue;
        }
        let here = map.entry(key.clone()).or_insert(Value::Null);
        match (value, merge_keys(resource, field, key)) {
            (Value::Array(items), Some(keys)) => strategic_list(resource, key, &keys, here, items),
            (Value::Array(_), None) => *here = value.clone(),
            _ => strategic_at(resource, key, here, value),
        }
        if here.as_object().is_some_and(|m| m.get("$patch").is_some_and(|p| p == "delete")) {
            map.remove(key);
        }
    }
}

/// Ports of a container are merged by their number alone, unlike in server-side apply.
fn merge_keys(resource: Resource, parent: &str, field: &str) -> Option<Vec<&'static str>> {
    match fields::list_shape(resource, parent, field) {
        ListShape::Keyed(keys) => Some(vec![*keys.first()?]),
        ListShape::Set | ListShape::Atomic => None,
    }
}

fn strategic_list(resource: Resource, field: &str, keys: &[&str], object: &mut Value, items: &[Value]) {
    if items.iter().any(|i| i["$patch"] == "replace") {
        *object = items.iter().filter(|i| i.get("$patch").is_none()).cloned().collect();
        return;
    }
    if !object.is_array() {
        *object = Value::Array(Vec::new());
    }
    let Some(list) = object.as_array_mut() else { return };
    for item in items {
        let at = list.iter().position(|old| keys.iter().all(|k| old[*k] == item[*k]));
        match (at, item["$patch"] == "delete") {
            (Some(i), true) => {
                list.remove(i);
            }
            (None, true) => {}
            (Some(i), false) => strategic_at(resource, field, &mut list[i], item),
            (None, false) => list.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_json_patch_is_done_whole_or_refused() {
        let object = json!({"a": {"b/c": [1, 2]}, "u": "x"});
        let apply = |operations: Value| {
            let mut changed = object.clone();
            json_patch(&mut changed, &operations).map(|()| changed).map_err(|r| r.code)
        };
        let add =
            json!([{"op": "add", "path": "/a/b~1c/1", "value": 9}, {"op": "add", "path": "/a/b~1c/-", "value": 3}]);
        assert_eq!(apply(add), Ok(json!({"a": {"b/c": [1, 9, 2, 3]}, "u": "x"})));
        assert_eq!(
            apply(json!([{"op": "move", "from": "/u", "path": "/v"}])),
            Ok(json!({"a": {"b/c": [1, 2]}, "v": "x"}))
        );
        assert_eq!(apply(json!([{"op": "test", "path": "/u", "value": "y"}])), Err(422));
        assert_eq!(apply(json!([{"op": "remove", "path": "/none"}])), Err(422));
        assert_eq!(apply(json!([{"op": "replace", "path": "/none/x", "value": 1}])), Err(422));
    }

    #[test]
    fn strategic_merge_knows_containers_by_name() {
        let mut object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["x"]}, {"name": "b", "image": "1"}]}}}});
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}], "args": ["y"]}, {"name": "b", "$patch": "delete"}]}}}});
        strategic(Resource::Deployments, &mut object, &patch);
        let containers = json!([{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["y"]}]);
        assert_eq!(object["spec"]["template"]["spec"]["containers"], containers);
        let patch = json!({"spec": {"template": {"$patch": "replace", "spec": {"containers": []}}}});
        strategic(Resource::Deployments, &mut object, &patch);
        assert_eq!(object, json!({"spec": {"template": {"spec": {"containers": []}}}}));
    }

    #[test]
    fn a_merge_patch_removes_by_null() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        merge_patch(&mut object, &json!({"a": {"b": null}, "l": [2], "n": {"m": 1}}));
        assert_eq!(object, json!({"a": {"c": 2}, "l": [2], "n": {"m": 1}}));
    }
}
