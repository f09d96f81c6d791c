//! Pod templates: when two are the same, and how a revision is named after one.

use super::super::{object::unset, random::safe_name};
use serde_json::Value;

/// Label that the Deployment controller adds to a ReplicaSet's copy of a template.
pub const HASH: &str = "pod-template-hash";

/// Whether two templates are the same but for the label that the controller adds.
pub fn same(a: &Value, b: &Value) -> bool {
    bare(a) == bare(b)
}

/// A name for a template; `collisions` makes another one where the first is taken.
pub fn hash(template: &Value, collisions: i64) -> String {
    let mut text = String::new();
    canonical(&bare(template), &mut text);
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    safe_name(fnv(text.as_bytes()))
}

/// The template without the controller's label, and without what says nothing (nulls, empty maps).
fn bare(template: &Value) -> Value {
    let mut template = template.clone();
    unset(&mut template, "/metadata/labels", HASH);
    prune(&mut template);
    template
}

fn prune(value: &mut Value) {
    let Value::Object(object) = value else { return };
    object.values_mut().for_each(prune);
    let nothing = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    // `emptyDir: {}` says something: only metadata is thinned out of empty maps.
    object.retain(|key, value| !(value.is_null() || (nothing(value) && matches!(&**key, "annotations" | "labels"))));
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                out.push_str(key);
                out.push('{');
                canonical(value, out);
                out.push('}');
            }
        }
        Value::Array(items) => {
            for item in items {
                canonical(item, out);
                out.push(',');
            }
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// FNV-1a, as Kubernetes uses it for these names.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
