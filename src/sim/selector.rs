//! Pure. Label and field selectors of requests, and the `selector` of objects.

use super::refusal::Refusal;
use serde_json::{Map, Value};

/// A parsed selector: every requirement must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(Vec<String>, String, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Reads the parameters `labelSelector` and `fieldSelector` of a request.
    ///
    /// # Errors
    /// When one of them is not written as it must be.
    pub fn of_request(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Refusal> {
        let bad = |text: &str| Refusal::bad_request(format!("unable to parse requirement: {text:?}"));
        let mut selector = Self::default();
        for part in split(labels.unwrap_or_default()) {
            selector.labels.push(requirement(part).ok_or_else(|| bad(part))?);
        }
        for part in fields.unwrap_or_default().split(',').filter(|p| !p.is_empty()) {
            let (path, value, equal) = match (part.split_once("!="), part.split_once('=')) {
                (Some((path, value)), _) => (path, value, false),
                (None, Some((path, value))) => (path, value.trim_start_matches('='), true),
                (None, None) => return Err(bad(part)),
            };
            selector.fields.push((path.split('.').map(str::to_owned).collect(), value.to_owned(), equal));
        }
        Ok(selector)
    }

    /// Reads the `selector` of a workload (`matchLabels`, `matchExpressions`) or of a Service (a plain map).
    pub fn of_object(selector: &Value) -> Self {
        let is_plain = selector.get("matchLabels").or(selector.get("matchExpressions")).is_none();
        let plain = if is_plain { selector } else { &selector["matchLabels"] };
        let mut labels: Vec<Requirement> = plain
            .as_object()
            .into_iter()
            .flat_map(Map::iter)
            .map(|(key, value)| Requirement { key: key.clone(), test: Test::In(vec![text(value)]) })
            .collect();
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = || expression["values"].as_array().into_iter().flatten().map(text).collect();
            let test = match expression["operator"].as_str() {
                Some("In") => Test::In(values()),
                Some("NotIn") => Test::NotIn(values()),
                Some("Exists") => Test::Exists,
                _ => Test::Absent,
            };
            labels.push(Requirement { key: text(&expression["key"]), test });
        }
        Self { labels, fields: Vec::new() }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects an object.
    pub fn selects(&self, object: &Value) -> bool {
        self.selects_labels(&object["metadata"]["labels"])
            && self.fields.iter().all(|(path, wanted, equal)| {
                let found = path.iter().fold(object, |here, step| &here[step.as_str()]);
                (text(found) == *wanted) == *equal
            })
    }

    /// Whether it selects these labels.
    pub fn selects_labels(&self, labels: &Value) -> bool {
        self.labels.iter().all(|requirement| {
            let value = labels[requirement.key.as_str()].as_str();
            match &requirement.test {
                Test::In(values) => value.is_some_and(|v| values.iter().any(|wanted| wanted == v)),
                Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|wanted| wanted != v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, test: Test| {
        let key = key.trim();
        (!key.is_empty() && !key.contains([' ', '(', ')', '=', '!'])).then(|| Requirement { key: key.to_owned(), test })
    };
    let values = |list: &str| -> Option<Vec<String>> {
        let inside = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.split(',').map(|v| v.trim().to_owned()).collect())
    };
    if let Some((key, list)) = part.split_once(" notin ") {
        return of(key, Test::NotIn(values(list)?));
    }
    if let Some((key, list)) = part.split_once(" in ") {
        return of(key, Test::In(values(list)?));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, Test::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = part.split_once('=') {
        return of(key, Test::In(vec![value.trim_start_matches('=').trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(key) => of(key, Test::Absent),
        None => of(part, Test::Exists),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_select_by_labels_and_fields() {
        let object = json!({"metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}}, "status": {"phase": "Running"}});
        let selects = |labels: &str, fields: &str| {
            Selector::of_request(Some(labels), Some(fields)).map(|s| s.selects(&object)).map_err(|r| r.code)
        };
        for yes in ["", "app=web", "app==web,tier", "tier in (front, back)", "other notin (x)", "!other", "tier!=back"]
        {
            assert_eq!(selects(yes, ""), Ok(true), "{yes}");
        }
        for no in ["app=api", "tier notin (front)", "!tier", "other"] {
            assert_eq!(selects(no, ""), Ok(false), "{no}");
        }
        assert_eq!(selects("", "metadata.name=web,status.phase!=Failed"), Ok(true));
        assert_eq!(selects("", "metadata.name=api"), Ok(false));
        assert_eq!(selects("a b c", ""), Err(400));
    }

    #[test]
    fn objects_select_by_labels_and_expressions() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "NotIn", "values": ["x"]}]});
        assert!(Selector::of_object(&selector).selects_labels(&json!({"app": "web"})));
        assert!(!Selector::of_object(&selector).selects_labels(&json!({"app": "web", "t": "x"})));
        assert!(Selector::of_object(&json!({"app": "web"})).selects_labels(&json!({"app": "web"})));
    }
}
