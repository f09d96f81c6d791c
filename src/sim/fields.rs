//! Pure. Sets of fields, as `managedFields` writes them: what differs between two objects, what a configuration
//! names, and removing fields from an object.
//!
//! The rules are those of structured-merge-diff with the schema of the kinds known here: which lists are keyed
//! maps, which maps are one value. A path is its steps as `fieldsV1` writes them: `f:spec`, `k:{"name":"app"}`.

use super::resource::Resource;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The steps to a field.
pub(super) type Path = Vec<String>;

/// A set of fields. A path may be a member without the paths below it, and the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet(pub(super) BTreeSet<Path>);

impl FieldSet {
    /// Reads `fieldsV1`.
    pub(super) fn decode(fields: &Value) -> Self {
        fn walk(value: &Value, path: &mut Path, out: &mut BTreeSet<Path>) {
            let Some(map) = value.as_object() else { return };
            if map.is_empty() && !path.is_empty() {
                out.insert(path.clone());
            }
            for (key, value) in map {
                if key == "." {
                    out.insert(path.clone());
                } else {
                    path.push(key.clone());
                    walk(value, path, out);
                    path.pop();
                }
            }
        }
        let mut out = BTreeSet::new();
        walk(fields, &mut Vec::new(), &mut out);
        Self(out)
    }

    /// Writes `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        fn put(map: &mut Map<String, Value>, path: &[String], dotted: bool) {
            let Some((step, rest)) = path.split_first() else {
                if dotted {
                    map.insert(".".into(), Value::Object(Map::new()));
                }
                return;
            };
            if let Value::Object(next) = map.entry(step.clone()).or_insert_with(|| Value::Object(Map::new())) {
                put(next, rest, dotted);
            }
        }
        let mut root = Map::new();
        for path in &self.0 {
            put(&mut root, path, self.has_below(path));
        }
        Value::Object(root)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, path: &[String]) -> bool {
        self.0.contains(path)
    }

    /// Whether a field below this one is a member.
    pub(super) fn has_below(&self, path: &[String]) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut after = self.0.range::<[String], _>((Excluded(path), Unbounded));
        after.next().is_some_and(|next| next.starts_with(path))
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.0.retain(|path| !other.0.contains(path));
    }

    /// Keeps what `wanted` says.
    pub(super) fn retain(&mut self, wanted: impl Fn(&[String]) -> bool) {
        self.0.retain(|path| wanted(path));
    }
}

/// What differs between two objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListShape {
    /// It is one value.
    Atomic,
    /// Its items are their own keys.
    Set,
    /// Its items are told apart by these fields.
    Keyed(&'static [&'static str]),
}

/// How the list in this field is merged. `parent` is the field that holds the object that holds the list.
pub(super) fn list_shape(resource: Resource, parent: &str, field: &str) -> ListShape {
    use ListShape::{Atomic, Keyed, Set};
    match (field, parent) {
        ("finalizers", "metadata") => return Set,
        ("ownerReferences", "metadata") => return Keyed(&["uid"]),
        _ if resource.is_custom() => return Atomic,
        _ => {}
    }
    match field {
        "imagePullSecrets" if resource == Resource::ServiceAccounts => Atomic,
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims"
        | "schedulingGates"
        | "claims"
        | "secrets" => Keyed(&["name"]),
        "ports" if resource == Resource::EndpointSlices => Atomic,
        "ports" if resource == Resource::Services => Keyed(&["port", "protocol"]),
        "ports" => Keyed(&["containerPort", "protocol"]),
        "volumeMounts" => Keyed(&["mountPath"]),
        "volumeDevices" => Keyed(&["devicePath"]),
        "hostAliases" | "podIPs" => Keyed(&["ip"]),
        "topologySpreadConstraints" => Keyed(&["topologyKey", "whenUnsatisfiable"]),
        "conditions" | "addresses" if parent == "status" => Keyed(&["type"]),
        _ => Atomic,
    }
}

/// Whether the map in this field is one value.
pub(super) fn is_atomic_map(resource: Resource, field: &str) -> bool {
    match field {
        // An item of this list is one value.
        "ownerReferences" => true,
        _ if resource.is_custom() => false,
        "data" => resource == Resource::ControllerRevisions,
        "selector"
        | "labelSelector"
        | "nodeSelector"
        | "configMapKeyRef"
        | "secretKeyRef"
        | "fieldRef"
        | "resourceFieldRef"
        | "fileKeyRef"
        | "imagePullSecrets"
        | "secrets"
        | "secretRef"
        | "dataSource"
        | "requiredDuringSchedulingIgnoredDuringExecution" => true,
        _ => false,
    }
}

/// Fields that a typed object of the real server always has, if only empty: they are never "added".
fn always_there(resource: Resource, field: &str) -> bool {
    const FIELDS: [&str; 8] =
        ["metadata", "spec", "status", "template", "strategy", "updateStrategy", "resources", "containers"];
    !resource.is_custom() && FIELDS.contains(&field)
}

/// The step that names an item of a list.
pub(super) fn item_step(keys: &[&str], item: &Value) -> String {
    let mut named = Map::new();
    for key in keys {
        let default = || if *key == "protocol" { Value::from("TCP") } else { Value::Null };
        named.insert((*key).to_owned(), item.get(*key).cloned().unwrap_or_else(default));
    }
    format!("k:{}", Value::Object(named))
}

/// Walks two objects side by side.
struct Walk {
    resource: Resource,
    path: Path,
    out: Difference,
}

/// What differs between two objects of a kind.
pub(super) fn compare(resource: Resource, old: &Value, new: &Value) -> Difference {
    let mut walk = Walk { resource, path: Vec::new(), out: Difference::default() };
    walk.pair("", "", Some(old), Some(new));
    walk.out.added.0.remove(&Vec::new());
    walk.out
}

impl Walk {
    fn pair(&mut self, parent: &str, field: &str, old: Option<&Value>, new: Option<&Value>) {
        if old.is_some() && old == new {
            return;
        }
        let (old_map, new_map) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let (old_list, new_list) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
        let maps = old.is_none_or(Value::is_object) && new.is_none_or(Value::is_object);
        let lists = old.is_none_or(Value::is_array) && new.is_none_or(Value::is_array);
        if maps && !is_atomic_map(self.resource, field) && (filled(old_map) || filled(new_map)) {
            let keys: BTreeSet<&String> = old_map.into_iter().chain(new_map).flat_map(Map::keys).collect();
            for key in keys {
                let side = |map: Option<&Map<String, Value>>| match map?.get(key) {
                    None if always_there(self.resource, key) => {
                        Some(if key == "containers" { Value::Array(Vec::new()) } else { Value::Object(Map::new()) })
                    }
                    found => found.cloned(),
                };
                let borrowed = (old_map.and_then(|m| m.get(key)), new_map.and_then(|m| m.get(key)));
                self.path.push(format!("f:{key}"));
                match borrowed {
                    (Some(_), Some(_)) => self.pair(field, key, borrowed.0, borrowed.1),
                    _ => self.pair(field, key, side(old_map).as_ref(), side(new_map).as_ref()),
                }
                self.path.pop();
            }
        } else if lists && (old_list.is_some_and(|l| !l.is_empty()) || new_list.is_some_and(|l| !l.is_empty())) {
            match list_shape(self.resource, parent, field) {
                ListShape::Atomic => return self.leaf(old, new),
                ListShape::Set => {
                    let all: BTreeSet<String> =
                        old_list.into_iter().chain(new_list).flatten().map(|v| format!("v:{v}")).collect();
                    for step in all {
                        self.path.push(step.clone());
                        self.leaf(primitive(old_list, &step), primitive(new_list, &step));
                        self.path.pop();
                    }
                }
                ListShape::Keyed(keys) => {
                    let steps = |list: Option<&Vec<Value>>| -> Vec<String> {
                        list.into_iter().flatten().map(|item| item_step(keys, item)).collect()
                    };
                    let (old_steps, new_steps) = (steps(old_list), steps(new_list));
                    let all: BTreeSet<&String> = old_steps.iter().chain(&new_steps).collect();
                    for step in all {
                        let find = |list: Option<&'_ Vec<Value>>, steps: &[String]| {
                            steps.iter().position(|s| s == step).and_then(|i| list.and_then(|l| l.get(i)).cloned())
                        };
                        self.path.push(step.clone());
                        self.pair("", field, find(old_list, &old_steps).as_ref(), find(new_list, &new_steps).as_ref());
                        self.path.pop();
                    }
                }
            }
        } else {
            return self.leaf(old, new);
        }
        match (old, new) {
            (None, Some(_)) => self.out.added.0.insert(self.path.clone()),
            (Some(_), None) => self.out.removed.0.insert(self.path.clone()),
            _ => false,
        };
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        let set = match (old, new) {
            (None, Some(_)) => &mut self.out.added,
            (Some(_), None) => &mut self.out.removed,
            (Some(old), Some(new)) if old != new => &mut self.out.modified,
            _ => return,
        };
        set.0.insert(self.path.clone());
    }
}

fn primitive<'a>(list: Option<&'a Vec<Value>>, step: &str) -> Option<&'a Value> {
    list?.iter().find(|v| format!("v:{v}") == step)
}

fn filled(map: Option<&Map<String, Value>>) -> bool {
    map.is_some_and(|m| !m.is_empty())
}

/// The fields that a configuration names.
pub(super) fn named(resource: Resource, config: &Value) -> FieldSet {
    fn walk(resource: Resource, parent: &str, field: &str, value: &Value, path: &mut Path, out: &mut BTreeSet<Path>) {
        match value {
            Value::Object(map) if !map.is_empty() && !is_atomic_map(resource, field) => {
                for (key, value) in map {
                    path.push(format!("f:{key}"));
                    walk(resource, field, key, value, path, out);
                    path.pop();
                }
            }
            Value::Array(list) if !list.is_empty() => match list_shape(resource, parent, field) {
                ListShape::Atomic => {
                    out.insert(path.clone());
                }
                ListShape::Set => out.extend(list.iter().map(|v| [&path[..], &[format!("v:{v}")]].concat())),
                ListShape::Keyed(keys) => {
                    for item in list {
                        path.push(item_step(keys, item));
                        out.insert(path.clone());
                        if !is_atomic_map(resource, field) {
                            walk(resource, "", field, item, path, out);
                        }
                        path.pop();
                    }
                }
            },
            _ => {
                out.insert(path.clone());
            }
        }
    }
    let mut out = BTreeSet::new();
    walk(resource, "", "", config, &mut Vec::new(), &mut out);
    FieldSet(out)
}

/// Removes a field; what holds nothing without it goes too.
pub(super) fn remove(resource: Resource, object: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    if let Some(key) = step.strip_prefix("f:") {
        let Some(map) = object.as_object_mut() else { return };
        let gone = match map.get_mut(key) {
            Some(below) if !rest.is_empty() => {
                remove(resource, below, rest);
                is_hollow(below) && !always_there(resource, key)
            }
            found => found.is_some(),
        };
        if gone {
            map.remove(key);
        }
    } else if let Some(list) = object.as_array_mut() {
        let at = list.iter().position(|item| is_item(step, item));
        match at {
            Some(i) if rest.is_empty() => {
                list.remove(i);
            }
            Some(i) => remove(resource, &mut list[i], rest),
            None => {}
        }
    }
}

fn is_item(step: &str, item: &Value) -> bool {
    if let Some(keys) = step.strip_prefix("k:").and_then(|k| serde_json::from_str::<Map<String, Value>>(k).ok()) {
        let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
        return item_step(&keys, item) == step;
    }
    step.strip_prefix("v:").is_some_and(|v| serde_json::from_str::<Value>(v).is_ok_and(|v| v == *item))
}

fn is_hollow(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// A path as conflicts name it: `.spec.template.spec.containers[name="app"].image`.
pub(super) fn in_words(path: &[String]) -> String {
    let mut out = String::new();
    for step in path {
        if let Some(name) = step.strip_prefix("f:") {
            out = format!("{out}.{name}");
        } else if let Some(keys) = step.strip_prefix("k:") {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            out = format!("{out}[{}]", keys.join(","));
        } else {
            out = format!("{out}[={}]", step.trim_start_matches("v:"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(env: &Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i", "env": env}]}}}})
    }

    fn words(set: &FieldSet) -> Vec<String> {
        set.0.iter().map(|p| in_words(p)).collect()
    }

    #[test]
    fn differences_are_told_field_by_field() {
        let old = deployment(&json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]));
        let new = deployment(&json!([{"name": "C", "value": "1"}, {"name": "A", "value": "2"}]));
        let difference = compare(Resource::Deployments, &old, &new);
        let env = ".spec.template.spec.containers[name=\"c\"].env";
        assert_eq!(words(&difference.modified), [format!("{env}[name=\"A\"].value")]);
        assert_eq!(words(&difference.added), ["", ".name", ".value"].map(|f| format!("{env}[name=\"C\"]{f}")));
        assert_eq!(words(&difference.removed), ["", ".name", ".value"].map(|f| format!("{env}[name=\"B\"]{f}")));
    }

    #[test]
    fn a_new_map_is_itself_added_but_a_struct_is_not() {
        let new = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"replicas": 1}});
        let difference = compare(Resource::Deployments, &json!({}), &new);
        let fields = json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {}}});
        assert_eq!(difference.added.encode(), fields);
        assert_eq!(FieldSet::decode(&fields), difference.added);
    }

    #[test]
    fn a_configuration_names_its_items_and_leaves() {
        let set = named(Resource::Deployments, &deployment(&json!([{"name": "A", "value": "1"}])));
        let item = json!({".": {}, "f:name": {}, "f:image": {},
            "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}});
        let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": item}}}}});
        assert_eq!(set.encode(), fields);
    }

    #[test]
    fn removing_the_last_item_removes_its_list() {
        let mut object = deployment(&json!([{"name": "A", "value": "1"}]));
        let path =
            ["f:spec", "f:template", "f:spec", "f:containers", "k:{\"name\":\"c\"}", "f:env", "k:{\"name\":\"A\"}"];
        remove(Resource::Deployments, &mut object, &path.map(str::to_owned));
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0], json!({"name": "c", "image": "i"}));
    }
}
