//! Pure. `metadata.managedFields`: who holds which field, after an update and by a server-side apply.

use super::{
    fields::{self, FieldSet, ListShape, in_words},
    refusal::Refusal,
    resource::Resource,
    store::{Manager, seconds},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One manager's fields.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

impl Entry {
    fn decode(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let valid =
            matches!(value["operation"].as_str(), Some("Apply" | "Update")) && value["fieldsType"] == "FieldsV1";
        valid.then(|| Self {
            manager: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::decode(&value["fieldsV1"]),
        })
    }

    fn encode(&self) -> Value {
        let mut value = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.encode(),
        });
        for (key, text) in [("time", &self.time), ("subresource", &self.subresource)] {
            if !text.is_empty() {
                value[key] = text.clone().into();
            }
        }
        value
    }

    fn is(&self, manager: &str, operation: &str, subresource: &str) -> bool {
        (self.manager.as_str(), self.operation.as_str(), self.subresource.as_str()) == (manager, operation, subresource)
    }
}

fn decode(managed: &Value) -> Option<Vec<Entry>> {
    managed.as_array()?.iter().map(Entry::decode).collect()
}

/// Writes the entries into an object, in the real server's order.
fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.fields.is_empty());
    entries.sort_by(|a, b| {
        let order = |e: &Entry| (e.operation.clone(), e.time.clone(), e.manager.clone(), e.subresource.clone());
        order(a).cmp(&order(b))
    });
    if entries.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    } else {
        object["metadata"]["managedFields"] = entries.iter().map(Entry::encode).collect();
    }
}

/// The object without its managedFields.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    bare
}

/// Fields that nobody manages.
fn stripped(path: &[String]) -> bool {
    const METADATA: [&str; 8] = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ];
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["f:apiVersion" | "f:kind" | "f:metadata"] => true,
        ["f:metadata", field] => METADATA.contains(&field),
        _ => false,
    }
}

/// Fields that a write by this way does not own, because it cannot change them.
fn reset(resource: Resource, subresource: &str, path: &[String]) -> bool {
    let step = |i: usize| path.get(i).map(String::as_str);
    match (subresource, step(0)) {
        _ if !resource.has_status() => false,
        ("status", Some("f:status")) => false,
        // Controllers annotate through the status.
        ("status", Some("f:metadata")) => step(1) != Some("f:annotations"),
        ("status", _) => true,
        (_, first) => first == Some("f:status"),
    }
}

/// Brings managedFields of `new` up to date after an update (or create: `old` is then empty).
pub(super) fn after_update(
    resource: Resource,
    old: &Value,
    new: &mut Value,
    by: Manager<'_>,
    subresource: &str,
    now: Timestamp,
) {
    let given = &new["metadata"]["managedFields"];
    let is_reset = given.as_array().is_some_and(|g| g.is_empty() || g[..] == [json!({})]);
    // Whoever does not know managedFields sends none, and must not wipe them.
    let given = decode(given).filter(|g| !g.is_empty() && subresource.is_empty());
    let live = || decode(&old["metadata"]["managedFields"]).unwrap_or_default();
    let mut entries = if is_reset && subresource.is_empty() { Vec::new() } else { given.unwrap_or_else(live) };
    // Where nobody is counted any more, an update does not begin to count.
    if entries.is_empty() && old["metadata"]["uid"].is_string() {
        return encode(new, entries);
    }
    let mut difference = fields::compare(resource, &bare(old), &bare(new));
    for set in [&mut difference.added, &mut difference.modified] {
        set.retain(|path| !stripped(path) && !reset(resource, subresource, path));
    }
    difference.removed.retain(|path| !reset(resource, subresource, path));
    let mut taken = difference.added;
    taken.union(&difference.modified);
    for entry in &mut entries {
        entry.fields.subtract(&taken);
        entry.fields.subtract(&difference.removed);
    }
    if !taken.is_empty() {
        let time = seconds(now);
        match entries.iter_mut().find(|e| e.is(by.0, "Update", subresource)) {
            Some(own) => {
                own.fields.union(&taken);
                own.time = time;
            }
            None => entries.push(Entry {
                manager: by.0.to_owned(),
                operation: "Update".into(),
                api_version: resource.api_version(),
                subresource: subresource.into(),
                time,
                fields: taken,
            }),
        }
    }
    encode(new, entries);
}

/// Merges a configuration into an object as server-side apply does.
///
/// `defaulted` completes the merged object.
pub(super) fn apply(
    resource: Resource,
    live: &Value,
    config: &Value,
    by: Manager<'_>,
    force: bool,
    now: Timestamp,
    defaulted: impl FnOnce(&mut Value),
) -> Result<Value, Refusal> {
    if config["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    let mut entries = decode(&live["metadata"]["managedFields"]).unwrap_or_default();
    if entries.is_empty() && live["metadata"]["uid"].is_string() {
        let mut counted = live.clone();
        after_update(resource, &json!({}), &mut counted, Manager("before-first-apply"), "", now);
        entries = decode(&counted["metadata"]["managedFields"]).unwrap_or_default();
    }
    let mut named = fields::named(resource, config);
    named.retain(|path| !stripped(path) && !reset(resource, "", path));
    let before = bare(live);
    let mut new = merge(resource, "", "", Some(&before), config);
    let position = entries.iter().position(|e| e.is(by.0, "Apply", ""));
    let last = position.map(|i| entries[i].fields.clone()).unwrap_or_default();
    let own = position.unwrap_or_else(|| {
        entries.push(Entry {
            manager: by.0.to_owned(),
            operation: "Apply".into(),
            api_version: resource.api_version(),
            subresource: String::new(),
            time: seconds(now),
            fields: FieldSet::default(),
        });
        entries.len() - 1
    });
    entries[own].fields = named;
    // What was applied before, is not applied now and is nobody else's goes away.
    let mut held = FieldSet::default();
    entries.iter().for_each(|e| held.union(&e.fields));
    for path in last.0.iter().filter(|p| !held.contains(p) && !held.has_below(p)) {
        fields::remove(resource, &mut new, path);
    }
    defaulted(&mut new);
    let difference = fields::compare(resource, &before, &new);
    let mut changed = difference.added;
    changed.union(&difference.modified);
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (_, entry) in entries.iter_mut().enumerate().filter(|(i, _)| *i != own) {
        let mut lost: Vec<_> = entry.fields.0.intersection(&changed.0).cloned().collect();
        lost.sort_by_key(|path| level_order(path));
        conflicts.extend(lost.iter().map(|path| (described(entry), in_words(path))));
        entry.fields.subtract(&FieldSet(lost.into_iter().collect()));
        entry.fields.subtract(&difference.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    if new != before {
        entries[own].time = seconds(now);
    }
    encode(&mut new, entries);
    Ok(new)
}

/// The order in which sets are told: at each level what ends there before what goes on.
fn level_order(path: &[String]) -> Vec<(bool, String)> {
    path.iter().enumerate().map(|(i, step)| (i + 1 < path.len(), step.clone())).collect()
}

fn described(entry: &Entry) -> String {
    let mut said = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        said = format!("{said} with subresource {:?}", entry.subresource);
    }
    if entry.operation == "Update" {
        said = format!("{said} using {}", entry.api_version);
    }
    said
}

fn conflict(conflicts: &[(String, String)]) -> Refusal {
    let message = if let [(manager, path)] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
    } else {
        let mut managers: Vec<&String> = conflicts.iter().map(|(m, _)| m).collect();
        managers.sort();
        managers.dedup();
        let mut lines = Vec::new();
        for manager in managers {
            lines.push(format!("conflicts with {manager}:"));
            lines.extend(conflicts.iter().filter(|(m, _)| m == manager).map(|(_, path)| format!("- {path}")));
        }
        format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    };
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(m, path)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {m}"), "field": path}))
        .collect();
    Refusal { details: json!({"causes": causes}), ..Refusal::new(409, "Conflict", message) }
}

/// The live value with the configuration laid over it.
fn merge(resource: Resource, parent: &str, field: &str, live: Option<&Value>, config: &Value) -> Value {
    match (live, config) {
        (Some(Value::Object(live)), Value::Object(config)) if !fields::is_atomic_map(resource, field) => {
            let mut out = live.clone();
            for (key, value) in config {
                out.insert(key.clone(), merge(resource, field, key, live.get(key), value));
            }
            Value::Object(out)
        }
        (Some(Value::Array(live)), Value::Array(config)) => match fields::list_shape(resource, parent, field) {
            ListShape::Atomic => Value::Array(config.clone()),
            ListShape::Set => {
                let new = config.iter().filter(|v| !live.contains(v));
                Value::Array(live.iter().chain(new).cloned().collect())
            }
            ListShape::Keyed(keys) => Value::Array(merge_keyed(resource, field, keys, live, config)),
        },
        _ => config.clone(),
    }
}

/// The order of the configuration wins; what only the live list has stays where it is.
fn merge_keyed(resource: Resource, field: &str, keys: &[&str], live: &[Value], config: &[Value]) -> Vec<Value> {
    let step = |item: &Value| fields::item_step(keys, item);
    let in_config = |item: &Value| config.iter().any(|c| step(c) == step(item));
    let mut out = Vec::new();
    let mut rest = live.iter().peekable();
    for item in config {
        while let Some(only_live) = rest.next_if(|l| !in_config(l)) {
            out.push(only_live.clone());
        }
        if rest.peek().is_some_and(|l| in_config(l)) {
            rest.next();
        }
        let old = live.iter().find(|l| step(l) == step(item));
        out.push(merge(resource, "", field, old, item));
    }
    out.extend(rest.filter(|l| !in_config(l)).cloned());
    out
}
