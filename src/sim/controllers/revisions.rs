//! The history of StatefulSets and DaemonSets: one ControllerRevision for each template.

use super::{
    super::{
        object::{annotate, name, number, owned_by, put_label, uid},
        resource::{Key, Resource},
        store::{Manager, Store},
    },
    owned,
    template::{hash, same},
};
use serde_json::{Value, json};

/// Label by which the controller names the hash of a revision.
const HASH: &str = "controller.kubernetes.io/hash";

/// The revisions of one workload, oldest number first.
pub fn of(store: &Store, key: &Key, owner: &Value) -> Vec<Value> {
    let all = owned(store, Resource::ControllerRevisions, &key.namespace, uid(owner));
    let mut all: Vec<Value> = all.into_iter().map(|(_, revision)| revision).collect();
    all.sort_by_key(|revision| number(revision, "/revision"));
    all
}

/// The revision of the live template: made, or moved to the end when it is an earlier one again.
/// `label` carries the hash on the revision, beside what the controller itself writes.
pub fn live(store: &mut Store, key: &Key, owner: &Value, label: Option<&str>) -> Option<Value> {
    let template = owner.pointer("/spec/template")?;
    let all = of(store, key, owner);
    let last = all.last().and_then(|revision| number(revision, "/revision")).unwrap_or(0);
    // Of equal ones the newest counts.
    if let Some(found) =
        all.iter().rev().find(|revision| same(&revision["data"]["spec"]["template"], &marked(template)))
    {
        if number(found, "/revision") == Some(last) {
            return Some(found.clone());
        }
        let found = Key::new(Resource::ControllerRevisions, &*key.namespace, name(found));
        return store.update(&found, Manager::CONTROLLERS, |revision| revision["revision"] = (last + 1).into()).ok();
    }
    let collisions = number(owner, "/status/collisionCount").unwrap_or(0);
    let hash = hash(template, collisions);
    let mut revision = json!({
        "metadata": {
            "name": format!("{}-{hash}", name(owner)),
            "labels": template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({})),
            "ownerReferences": owned_by(owner, "apps/v1", key.resource.kind()),
        },
        "data": {"spec": {"template": marked(template)}},
        "revision": last + 1,
    });
    put_label(&mut revision, HASH, hash.clone());
    if let Some(label) = label {
        put_label(&mut revision, label, hash);
    }
    let annotations = owner.pointer("/metadata/annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        annotate(&mut revision, key, value.clone());
    }
    match store.create(Resource::ControllerRevisions, &key.namespace, revision, Manager::CONTROLLERS) {
        Ok(revision) => Some(revision),
        Err(refusal) if refusal.code == 409 => {
            let more = |owner: &mut Value| owner["status"]["collisionCount"] = (collisions + 1).into();
            let _ = store.update_status(key, Manager::CONTROLLERS, more);
            None
        }
        Err(_) => None,
    }
}

/// The template as a revision keeps it: a patch that puts it back whole.
fn marked(template: &Value) -> Value {
    let mut template = template.clone();
    super::super::object::set(&mut template, &[], "$patch", "replace");
    template
}

/// Deletes the oldest revisions beyond the limit that no pod and no status names.
pub fn clean_up(store: &mut Store, key: &Key, owner: &Value, in_use: impl Fn(&Value) -> bool) {
    let limit = number(owner, "/spec/revisionHistoryLimit").unwrap_or(10).max(0) as usize;
    let old: Vec<Value> = of(store, key, owner).into_iter().filter(|revision| !in_use(revision)).collect();
    let excess = old.len().saturating_sub(limit);
    for revision in old.iter().take(excess) {
        let _ = store.delete(&Key::new(Resource::ControllerRevisions, &*key.namespace, name(revision)));
    }
}

/// The hash that a revision is named after.
pub fn hash_of(revision: &Value) -> &str {
    super::super::object::label(revision, HASH)
}
