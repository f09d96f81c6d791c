//! Reads raw objects: what is missing or of another type reads as empty, never as an error.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// The text at a JSON pointer, or "".
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at a JSON pointer.
pub fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// The truth at a JSON pointer.
pub fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a JSON pointer.
pub fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The uid.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// The name.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The uid of the controller that owns it, or "".
pub fn controller(object: &Value) -> &str {
    let owner = list(object, "/metadata/ownerReferences").find(|owner| flag(owner, "/controller"));
    owner.map_or("", |owner| text(owner, "/uid"))
}

/// Whether it is being deleted.
pub fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// A label.
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// An annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|annotations| annotations.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// Sets a key of the map at a path of keys; maps that lack are made.
pub fn set(object: &mut Value, path: &[&str], key: &str, value: impl Into<Value>) {
    let mut map = take_map(object);
    match path.split_first() {
        Some((first, rest)) => set(map.entry(*first).or_insert(Value::Null), rest, key, value),
        None => {
            map.insert(key.to_owned(), value.into());
        }
    }
    *object = Value::Object(map);
}

/// Takes a key out of the map at a JSON pointer.
pub fn unset(object: &mut Value, pointer: &str, key: &str) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        map.remove(key);
    }
}

/// Takes a map out of its place; an empty one when there is none.
pub fn take_map(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Sets an annotation.
pub fn annotate(object: &mut Value, key: &str, value: impl Into<Value>) {
    set(object, &["metadata", "annotations"], key, value);
}

/// Sets a label.
pub fn put_label(object: &mut Value, key: &str, value: impl Into<Value>) {
    set(object, &["metadata", "labels"], key, value);
}

/// Kubernetes keeps whole seconds.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time at a JSON pointer.
pub fn when(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// Later by so many seconds.
pub fn after(at: Timestamp, seconds: f64) -> Timestamp {
    let later = SignedDuration::try_from_secs_f64(seconds).ok().and_then(|span| at.checked_add(span).ok());
    later.unwrap_or(Timestamp::MAX)
}

/// Seconds from one time to another.
pub fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// A count, or a share of `total`; `None` when it is neither.
pub fn count_or_share(value: &Value, total: i64, round_up: bool) -> Option<i64> {
    if let Some(count) = value.as_i64() {
        return Some(count);
    }
    let share: f64 = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    let exact = share * total as f64 / 100.0;
    Some(if round_up { exact.ceil() } else { exact.floor() } as i64)
}

/// A reference to the controller that owns something.
pub fn owned_by(owner: &Value, api_version: &str, kind: &str) -> Value {
    json!([{
        "apiVersion": api_version, "kind": kind, "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// A condition of a status by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").find(|condition| text(condition, "/type") == kind)
}

/// Since when a pod is Ready.
pub fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| text(ready, "/status") == "True")?;
    when(ready, "/lastTransitionTime")
}

/// Whether a pod counts for its controller: it has not ended, and is not being deleted.
pub fn active(pod: &Value) -> bool {
    !deleting(pod) && !matches!(text(pod, "/status/phase"), "Failed" | "Succeeded")
}

/// When a Ready pod is, or will be, available.
pub fn available_at(pod: &Value, min_ready: i64) -> Option<Timestamp> {
    ready_since(pod).map(|since| after(since, min_ready as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_as_kubernetes_rounds_them() {
        for (value, total, up, count) in [
            (json!(2), 3, true, Some(2)),
            (json!("25%"), 3, true, Some(1)),
            (json!("25%"), 3, false, Some(0)),
            (json!("100%"), 3, false, Some(3)),
            (json!("x"), 3, true, None),
            (json!(null), 3, true, None),
        ] {
            assert_eq!(count_or_share(&value, total, up), count, "{value} of {total}");
        }
    }

    #[test]
    fn maps_are_made_where_they_lack() {
        let mut object = json!({"metadata": {"annotations": null}});
        annotate(&mut object, "a", "1");
        assert_eq!(object, json!({"metadata": {"annotations": {"a": "1"}}}));
    }
}
