//! Pure. Objects of custom kinds are held to the schema of their CustomResourceDefinition: unknown fields are
//! dropped, defaults filled in, and what does not fit is refused.

use serde_json::{Map, Value};

/// What is wrong with an object: the field and why.
pub(super) type Causes = Vec<(String, String)>;

/// Makes an object fit its schema, as far as it can be.
pub(super) fn fit(schema: &Value, object: &mut Value) -> Causes {
    let mut causes = Vec::new();
    let Some(map) = object.as_object_mut() else { return causes };
    let known =
        |key: &str| matches!(key, "apiVersion" | "kind" | "metadata") || schema["properties"].get(key).is_some();
    map.retain(|key, _| known(key));
    fields(schema, map, "", &mut causes);
    causes
}

fn fields(schema: &Value, map: &mut Map<String, Value>, path: &str, causes: &mut Causes) {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let is_null = map.get(key).is_some_and(Value::is_null);
        let nullable = schema["nullable"] == true;
        if let Some(default) = schema.get("default").filter(|_| (is_null && !nullable) || !map.contains_key(key)) {
            map.insert(key.clone(), default.clone());
        }
        if let Some(value) = map.get_mut(key).filter(|v| !(v.is_null() && nullable)) {
            one(schema, value, &at(key), causes);
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            causes.push((at(key), "Required value".into()));
        }
    }
}

fn one(schema: &Value, value: &mut Value, path: &str, causes: &mut Causes) {
    let wanted = schema["type"].as_str();
    let fits = match wanted {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !fits {
        let (found, wanted) = (type_of(value), wanted.unwrap_or_default());
        causes.push((
            path.to_owned(),
            format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}"),
        ));
        return;
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        causes.push((path.to_owned(), format!("Unsupported value: {value}")));
    }
    match value {
        Value::Object(map) => {
            if let Some(schema) = schema.get("additionalProperties").filter(|s| s.is_object()) {
                map.iter_mut().for_each(|(key, value)| one(schema, value, &format!("{path}.{key}"), causes));
            } else {
                let known = |key: &str| schema["properties"].get(key).is_some();
                map.retain(|key, _| schema["x-kubernetes-preserve-unknown-fields"] == true || known(key));
                fields(schema, map, path, causes);
            }
        }
        Value::Array(list) => {
            for (i, item) in list.iter_mut().enumerate() {
                one(&schema["items"], item, &format!("{path}[{i}]"), causes);
            }
        }
        _ => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_pruned_completed_and_checked() {
        let schema = json!({"properties": {"spec": {"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string"}, "b": {"type": "array", "default": [], "items": {"type": "integer"}},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}, "d": {"type": "string", "nullable": true}}}}});
        let mut object = json!({"metadata": {"x": 1}, "spec": {"a": "x", "odd": 1, "c": {"any": {"thing": 1}}, "d": null}, "odd": 1});
        assert_eq!(fit(&schema, &mut object), []);
        let expected =
            json!({"metadata": {"x": 1}, "spec": {"a": "x", "b": [], "c": {"any": {"thing": 1}}, "d": null}});
        assert_eq!(object, expected);
        let causes = fit(&schema, &mut json!({"spec": {"b": ["x"]}}));
        let fields: Vec<&str> = causes.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["spec.b[0]", "spec.a"]);
    }
}
