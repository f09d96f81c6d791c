//! Pure. Pod templates as raw JSON: what names them, and what an undo leaves out of them.

use crate::domain::Revision;
use ring::digest;
use serde_json::Value;

/// Label that the Deployment controller adds to a ReplicaSet's copy of a template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotations that only ask for a restart: `kubectl rollout restart`, kube's own, and Rancher's.
const RESTART_ANNOTATIONS: [&str; 3] =
    ["kubectl.kubernetes.io/restartedAt", "kube.kubernetes.io/restartedAt", "cattle.io/timestamp"];

/// What is remembered of a template once it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateMark {
    /// Its name.
    pub revision: Revision,
    /// Its name with restart annotations left out: equal for a revision and its restart.
    pub but_restart: Revision,
    /// Images of its containers, in order.
    pub images: Vec<String>,
}

impl TemplateMark {
    /// Reads a template; `pod-template-hash` and nulls do not count.
    pub fn of(template: &Value) -> Self {
        let revision = Revision(hash(template, false));
        let but_restart = Revision(hash(template, true));
        Self { revision, but_restart, images: images(template) }
    }
}

/// The template as an undo writes it: everything that was stored, also fields that this build does
/// not know, but for the controller's own `pod-template-hash` and the `$patch` directive that
/// ControllerRevisions carry (I6).
pub fn restorable(stored: &Value) -> Value {
    let mut template = stored.clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// Images of the containers of a template, init containers left out.
pub fn images(template: &Value) -> Vec<String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(|c| c.get("image").and_then(Value::as_str).map(str::to_owned)).collect()
}

fn hash(template: &Value, but_restart: bool) -> String {
    let mut template = restorable(template);
    if let Some(annotations) = template.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        if but_restart {
            RESTART_ANNOTATIONS.iter().for_each(|key| {
                annotations.remove(*key);
            });
        }
        if annotations.is_empty()
            && let Some(metadata) = template.pointer_mut("/metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    let mut text = String::new();
    canonical(&template, &mut text);
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..6].iter().map(|b| format!("{b:02x}")).collect()
}

/// JSON with sorted keys and without nulls: the API server writes `creationTimestamp: null` in some
/// copies of a template and not in others.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            keys.sort_by_key(|(k, _)| *k);
            out.push('{');
            for (key, value) in keys {
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    #[test]
    fn the_controllers_own_label_order_and_nulls_do_not_name_a_template() {
        let plain = TemplateMark::of(&template("x:1"));
        let stored = json!({
            "$patch": "replace",
            "spec": {"containers": [{"image": "x:1", "name": "c"}]},
            "metadata": {"creationTimestamp": null, "labels": {"pod-template-hash": "9d7", "app": "a"}},
        });
        assert_eq!(plain, TemplateMark::of(&stored));
        assert_eq!(plain.images, ["x:1"]);
        assert_ne!(plain.revision, TemplateMark::of(&template("x:1.10")).revision);
    }

    #[test]
    fn a_restart_is_a_new_revision_with_the_same_content() {
        let mut restarted = template("x:1");
        restarted["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
        let (old, new) = (TemplateMark::of(&template("x:1")), TemplateMark::of(&restarted));
        assert_ne!(old.revision, new.revision);
        assert_eq!(old.but_restart, new.but_restart);
    }

    #[test]
    fn fault_33_unknown_fields_survive_and_count() {
        let mut stored = template("x:1");
        stored["spec"]["fieldOfTheYear2040"] = json!({"deep": [1, {"b": null}]});
        stored["metadata"]["labels"]["pod-template-hash"] = json!("abc");
        let restored = restorable(&stored);
        assert_eq!(restored["spec"], stored["spec"]);
        assert_eq!(restored["metadata"]["labels"], json!({"app": "a"}));
        assert_ne!(TemplateMark::of(&stored).revision, TemplateMark::of(&template("x:1")).revision);
    }

    #[test]
    fn templates_of_any_shape_are_named_without_panic() {
        for odd in [json!(null), json!([]), json!("x"), json!({"metadata": 3, "spec": {"containers": {"a": 1}}})] {
            assert!(TemplateMark::of(&odd).images.is_empty());
        }
    }
}
