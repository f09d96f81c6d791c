//! Pure. The JSON Schemas of both files, and what they say about a key.

use super::{
    Settings,
    fault::nearest,
    raw::{RawRules, RawThresholds},
};
use crate::domain::Rules;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The JSON Schema of `thresholds.yaml`, for editors; shipped as `config/thresholds.schema.json`.
pub fn schema_json() -> String {
    let mut text = format!("{:#}", thresholds_schema());
    text.push('\n');
    text
}

fn thresholds_schema() -> Value {
    let mut schema = schema_of::<RawThresholds>();
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".into(), json!("https://lastgood.dev/thresholds.schema.json"));
    }
    // Helm does not revert an undo, so there is nothing to allow.
    if let Some(owners) = schema.pointer_mut("/$defs/Owner/oneOf").and_then(Value::as_array_mut) {
        owners.retain(|owner| owner["const"] != "helm");
    }
    // A choice with a value describes itself, not its key; editors show the key's.
    for choice in schema.pointer_mut("/$defs/Via/oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        let description = choice["description"].clone();
        for property in
            choice.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
        {
            property["description"] = description.clone();
        }
    }
    schema
}

/// The JSON Schema of `lastgood.yaml`.
pub(crate) fn settings_schema() -> Value {
    schema_of::<Settings>()
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// What a key means.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The key with its parents: `errors.max`.
    pub key: String,
    /// The file it belongs in.
    pub file: &'static str,
    /// What it means.
    pub meaning: String,
    /// What may be written, if that is a choice or has an example.
    pub allowed: Vec<String>,
    /// Its default as YAML would show it; `None` when there is none.
    pub default: Option<String>,
    /// Keys below it, each with its first sentence.
    pub keys: Vec<(String, String)>,
}

/// Explains a key of either file; `errors.max` and `defaults.errors.max` mean the same.
///
/// # Errors
/// A sentence with the nearest key when there is no such key.
pub fn explain(key: &str) -> Result<Explanation, String> {
    let thresholds = thresholds_schema();
    let settings = settings_schema();
    let rules = json!({ "defaults": RawRules::from(&Rules::default()) });
    let settings_defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let steps: Vec<&str> = key.split('.').filter(|s| !s.is_empty()).collect();
    let inside: Vec<&str> = [&["defaults"][..], &steps].concat();
    let tries = [
        (&thresholds, "thresholds.yaml", &inside, &rules),
        (&thresholds, "thresholds.yaml", &steps, &rules),
        (&settings, "lastgood.yaml", &steps, &settings_defaults),
    ];
    if !steps.is_empty() {
        for (schema, file, path, defaults) in tries {
            if let Some(node) = walk(schema, path) {
                return Ok(explanation(schema, node, key, file, value_at(defaults, path)));
            }
        }
    }
    let mut known = Vec::new();
    paths(&thresholds, &thresholds, "", &mut known);
    paths(&settings, &settings, "", &mut known);
    let known: Vec<&str> = known.iter().map(|k| k.strip_prefix("defaults.").unwrap_or(k)).collect();
    let last = steps.last().copied().unwrap_or_default();
    let near = nearest(key, known.iter().copied())
        .or_else(|| known.iter().copied().find(|k| k.rsplit('.').next().is_some_and(|l| l.eq_ignore_ascii_case(last))));
    Err(match near {
        Some(near) => format!("there is no key \"{key}\": did you mean \"{near}\"?"),
        None => format!("there is no key \"{key}\": `lastgood config explain defaults` lists those of thresholds.yaml"),
    })
}

fn explanation(root: &Value, node: &Value, key: &str, file: &'static str, default: Option<&Value>) -> Explanation {
    let target = follow(root, node);
    let meaning = [node, target].into_iter().find_map(|n| n["description"].as_str()).unwrap_or_default();
    let keys = properties(root, node).into_iter().map(|(k, v)| {
        let text = [v, follow(root, v)].into_iter().find_map(|n| n["description"].as_str()).unwrap_or_default();
        (k.clone(), first_sentence(text))
    });
    Explanation {
        key: key.to_owned(),
        file,
        meaning: meaning.replace('\n', " "),
        allowed: allowed(root, target),
        default: default.filter(|v| !v.is_object()).map(shown),
        keys: keys.collect(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) if s.is_empty() => "\"\"".into(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}

/// Words that may stand here, or examples.
fn allowed(root: &Value, node: &Value) -> Vec<String> {
    let node = if node["type"] == "array" { follow(root, &node["items"]) } else { node };
    let mut out: Vec<String> = Vec::new();
    for part in std::iter::once(node).chain(alternatives(node).map(|n| follow(root, n))) {
        out.extend(part["const"].as_str().map(str::to_owned));
        out.extend(part["enum"].as_array().into_iter().flatten().map(shown));
    }
    if out.is_empty() {
        out.extend(node["examples"].as_array().into_iter().flatten().map(|e| format!("for example {}", shown(e))));
    }
    out
}

fn alternatives(node: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().flat_map(|key| node[key].as_array().into_iter().flatten())
}

fn follow<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(node),
        None => node,
    }
}

/// The keys below a node: of its own, of the elements of a list, of what is there when it is not null.
fn properties<'a>(root: &'a Value, node: &'a Value) -> Vec<(&'a String, &'a Value)> {
    let node = follow(root, node);
    let own = node["properties"].as_object().map(Map::iter).into_iter().flatten();
    let mut all: Vec<_> = own.collect();
    if node["items"].is_object() {
        all.extend(properties(root, &node["items"]));
    }
    for part in alternatives(node) {
        all.extend(properties(root, part));
    }
    all
}

fn walk<'a>(root: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(root, |node, step| {
        properties(root, node).into_iter().find(|(key, _)| key == step).map(|(_, value)| value)
    })
}

fn value_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |v, step| v.get(step))
}

/// Every key with its parents.
pub(crate) fn paths(root: &Value, node: &Value, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in properties(root, node) {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        paths(root, value, &path, out);
        out.push(path);
    }
}

/// Whether a key of a schema holds a list.
pub(crate) fn is_list(root: &Value, path: &str) -> bool {
    let steps: Vec<&str> = path.split('.').collect();
    walk(root, &steps).is_some_and(|node| follow(root, node)["type"] == "array")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Thresholds;

    const SHIPPED: &str = include_str!("../../config/thresholds.yaml");

    /// `LASTGOOD_BLESS=1 cargo test shipped_schema` writes it anew.
    #[test]
    fn the_shipped_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/thresholds.schema.json");
        if std::env::var_os("LASTGOOD_BLESS").is_some() {
            std::fs::write(path, schema_json()).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == schema_json(), "run with LASTGOOD_BLESS=1 to write it anew");
    }

    #[test]
    fn keys_are_optional_and_never_null() {
        let schema = thresholds_schema();
        assert_eq!(schema["required"], json!(["apiVersion", "kind"]));
        assert_eq!(schema["$defs"]["Policy"]["required"], json!(["name", "match"]));
        assert_eq!(schema["$defs"]["Rules"]["required"], Value::Null);
        assert_eq!(schema["$defs"]["Probe"]["required"], json!(["name", "port", "path"]));
        assert!(!schema_json().contains("null"), "a key without a value is a fault");
        for (name, def) in schema["$defs"].as_object().unwrap() {
            if def["type"] == "object" {
                assert_eq!(def["additionalProperties"], json!(false), "{name}");
                for (key, property) in def["properties"].as_object().unwrap() {
                    let described =
                        property["description"].is_string() || follow(&schema, property)["description"].is_string();
                    assert!(described, "{name}.{key} has no description");
                }
            }
        }
    }

    #[test]
    fn the_shipped_thresholds_are_the_defaults_and_name_every_key() {
        let shipped = Thresholds::parse("config/thresholds.yaml", SHIPPED).unwrap();
        assert_eq!(*shipped.defaults, Rules::default());
        assert!(shipped.policies.is_empty());
        let schema = thresholds_schema();
        let mut known = Vec::new();
        paths(&schema, &schema, "", &mut known);
        assert!(known.len() > 60, "{}", known.len());
        for path in known {
            let key = path.rsplit('.').next().unwrap();
            assert!(SHIPPED.contains(&format!("{key}:")), "config/thresholds.yaml does not show {path}");
        }
    }

    /// The examples that are commented out must work once somebody takes the comment marks away.
    #[test]
    fn the_commented_examples_work() {
        let mut text = SHIPPED.replace("health: []", "health:").replace("policies: []", "policies:");
        text = text.replace("preset: auto", "preset: custom");
        let is_example = |line: &str| {
            let Some(rest) = line.trim_start().strip_prefix("# ") else { return false };
            let key = rest.trim_start().trim_start_matches("- ").split(':').next().unwrap_or_default();
            rest.contains(':')
                && key.chars().all(char::is_alphanumeric)
                && !key.is_empty()
                && !["observe", "auto"].contains(&key)
        };
        let start = text.lines().position(|l| l == "defaults:").unwrap();
        let lines: Vec<String> = text
            .lines()
            .skip(start)
            .map(|l| if is_example(l) { l.replacen("# ", "", 1) } else { l.to_owned() })
            .collect();
        let text = format!("apiVersion: lastgood.dev/v1\nkind: Thresholds\n{}", lines.join("\n"));
        let t = Thresholds::parse("examples", &text).unwrap_or_else(|f| panic!("{f}\n{text}"));
        let r = &t.defaults;
        assert!(r.metrics.custom.as_ref().is_some_and(|c| c.errors.is_some() && c.latency.is_some()));
        assert_eq!((r.metrics.port, r.metrics.path.as_deref(), r.health.len()), (Some(8080), Some("/metrics"), 1));
        assert_eq!((t.policies.len(), t.policies[0].rules.mode), (1, crate::domain::Mode::Act));
        assert!((t.policies[0].rules.errors.max - 0.02).abs() < 1e-12);
    }

    #[test]
    fn every_key_can_be_explained() {
        for schema in [thresholds_schema(), settings_schema()] {
            let mut known = Vec::new();
            paths(&schema, &schema, "", &mut known);
            for path in known {
                assert!(!explain(&path).unwrap().meaning.is_empty(), "{path}");
            }
        }
        let e = explain("errors.max").unwrap();
        assert_eq!((e.file, e.default.as_deref()), ("thresholds.yaml", Some("5%")));
        assert_eq!(e.meaning, "Share of requests that may fail: `5%` or `0.05`.");
        assert_eq!(explain("mode").unwrap().allowed, ["observe", "act", "off"]);
        assert_eq!(explain("undo.allowOwners").unwrap().allowed.len(), 6);
        assert_eq!(explain("interval").unwrap().default.as_deref(), Some("15s"));
        assert_eq!(explain("latency").unwrap().keys.len(), 3);
        assert_eq!(explain("eror.max").unwrap_err(), "there is no key \"eror.max\": did you mean \"errors.max\"?");
        assert_eq!(
            explain("evictStuckPods").unwrap_err(),
            "there is no key \"evictStuckPods\": did you mean \"undo.evictStuckPods\"?"
        );
        assert!(explain("").is_err());
    }
}
