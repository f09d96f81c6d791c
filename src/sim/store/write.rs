//! Pure. Creating and changing objects by the rules of the real API server.

use super::{Change, Manager, Store, delete::has_finalizers, seconds};
use crate::sim::{
    controllers::count_template,
    defaults, managed,
    refusal::Refusal,
    resource::{Key, Resource},
    schema,
};
use serde_json::{Value, json};

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Part {
    /// All but the status, where that is written by itself.
    Main,
    Status,
}

impl Store {
    /// Creates an object.
    ///
    /// # Errors
    /// When the name is taken or the object is wrong.
    pub fn create(
        &mut self,
        resource: Resource,
        namespace: &str,
        object: Value,
        by: Manager<'_>,
    ) -> Result<Value, Refusal> {
        let (key, object) = self.prepare_new(resource, namespace, object)?;
        let mut complete = object;
        managed::after_update(resource, &self.nothing(&key), &mut complete, by, "", self.now);
        Ok(self.commit(key, Change::Added, complete))
    }

    /// A complete new object that could be stored under its key; its managedFields are the caller's.
    pub(in crate::sim) fn prepare_new(
        &mut self,
        resource: Resource,
        namespace: &str,
        mut object: Value,
    ) -> Result<(Key, Value), Refusal> {
        if !object.is_object() || !(object["metadata"].is_object() || object["metadata"].is_null()) {
            return Err(Refusal::bad_request("the object provided is unrecognized"));
        }
        let text = |v: &Value| v.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let name = match (text(&object["metadata"]["name"]), text(&object["metadata"]["generateName"])) {
            (Some(name), _) => name,
            (None, Some(prefix)) => format!("{prefix}{}", self.suffix()),
            (None, None) => {
                let cause = ("metadata.name".to_owned(), "Required value: name or generateName is required".to_owned());
                return Err(Refusal::invalid(&Key::new(resource, namespace, ""), &[cause]));
            }
        };
        let key = Key::new(resource, namespace, name);
        if self.objects.contains_key(&key) {
            return Err(Refusal::exists(&key));
        }
        if !text(&object["metadata"]["resourceVersion"]).unwrap_or_default().trim_start_matches('0').is_empty() {
            return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
        }
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind().into();
        let uid = self.uid();
        let now = seconds(self.now);
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.clone().into();
        metadata["uid"] = uid.into();
        metadata["creationTimestamp"] = now.into();
        if resource.namespaced() {
            metadata["namespace"] = namespace.into();
        }
        if resource.has_generation() {
            metadata["generation"] = 1.into();
        }
        if let Some(metadata) = metadata.as_object_mut() {
            for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        // A kubelet registers its node with status and all.
        if resource.has_status() && resource != Resource::Nodes {
            put_status(&mut object, &defaults::first_status(resource).map_or(Value::Null, |s| json!({"status": s})));
        }
        defaults::complete(resource, &mut object);
        if resource == Resource::DaemonSets {
            count_template(None, &mut object);
        }
        if resource == Resource::Services && object["spec"]["clusterIP"].is_null() {
            let n = self.random() % 60_000 + 256;
            let address = format!("10.96.{}.{}", n / 256, n % 254 + 1);
            object["spec"]["clusterIP"] = address.clone().into();
            object["spec"]["clusterIPs"] = json!([address]);
        }
        self.fit_schema(&key, &mut object)?;
        defaults::validate(&key, None, &object)?;
        Ok((key, object))
    }

    /// Holds an object of a custom kind to its schema.
    fn fit_schema(&self, key: &Key, object: &mut Value) -> Result<(), Refusal> {
        let crd = Key::new(Resource::CustomResourceDefinitions, "", key.resource.qualified());
        let Some(crd) = self.get(&crd).filter(|_| key.resource.is_custom()) else { return Ok(()) };
        let versions = crd["spec"]["versions"].as_array();
        let Some(version) = versions.into_iter().flatten().find(|v| v["name"] == key.resource.version()) else {
            return Ok(());
        };
        let causes = schema::fit(&version["schema"]["openAPIV3Schema"], object);
        if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(key, &causes)) }
    }

    /// What a new object is compared with.
    pub(in crate::sim) fn nothing(&self, key: &Key) -> Value {
        json!({"apiVersion": key.resource.api_version(), "kind": key.resource.kind(), "metadata": {}})
    }

    /// Changes an object (not its status). A change to what it is already writes nothing.
    ///
    /// # Errors
    /// When there is none or the changed object is wrong.
    pub fn update(&mut self, key: &Key, by: Manager<'_>, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        let mut new = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        change(&mut new);
        self.write(key, new, by, Part::Main, false)
    }

    /// Changes the status of an object.
    ///
    /// # Errors
    /// When there is none.
    pub fn update_status(
        &mut self,
        key: &Key,
        by: Manager<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let mut new = self.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        change(&mut new);
        self.write(key, new, by, Part::Status, false)
    }

    /// Replaces a part of an object.
    pub(in crate::sim) fn write(
        &mut self,
        key: &Key,
        mut new: Value,
        by: Manager<'_>,
        part: Part,
        dry_run: bool,
    ) -> Result<Value, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        self.complete_update(key, &old, &mut new, part)?;
        let subresource = if part == Part::Status && key.resource.has_status() { "status" } else { "" };
        managed::after_update(key.resource, &old, &mut new, by, subresource, self.now);
        self.finish(key, &old, new, dry_run)
    }

    /// Stores a result of server-side apply, whose managedFields are right already.
    pub(in crate::sim) fn write_applied(&mut self, key: &Key, mut new: Value, dry_run: bool) -> Result<Value, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        self.complete_update(key, &old, &mut new, Part::Main)?;
        self.finish(key, &old, new, dry_run)
    }

    /// Stores a new object that [`Store::prepare_new`] made.
    pub(in crate::sim) fn write_new(&mut self, key: Key, object: Value, dry_run: bool) -> Value {
        if dry_run { object } else { self.commit(key, Change::Added, object) }
    }

    /// Puts back what a writer may not change, fills in defaults, counts the generation.
    fn complete_update(&self, key: &Key, old: &Value, new: &mut Value, part: Part) -> Result<(), Refusal> {
        let version = new["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && version != old["metadata"]["resourceVersion"] {
            return Err(Refusal::stale(key));
        }
        let uid = &new["metadata"]["uid"];
        if uid.as_str().is_some_and(|uid| !uid.is_empty()) && *uid != old["metadata"]["uid"] {
            let cause = ("metadata.uid".to_owned(), format!("Invalid value: {uid}: field is immutable"));
            return Err(Refusal::invalid(key, &[cause]));
        }
        if part == Part::Status && key.resource.has_status() {
            let status = new.get("status").cloned();
            let managed = old["metadata"].get("managedFields").cloned();
            let annotations = new["metadata"].get("annotations").cloned();
            *new = old.clone();
            put_status(new, &status.map_or(Value::Null, |s| json!({"status": s})));
            put(&mut new["metadata"], "managedFields", managed);
            put(&mut new["metadata"], "annotations", annotations);
            return Ok(());
        }
        new["apiVersion"] = key.resource.api_version().into();
        new["kind"] = key.resource.kind().into();
        for field in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            put(&mut new["metadata"], field, old["metadata"].get(field).cloned());
        }
        if key.resource.has_status() {
            put_status(new, old);
        }
        if key.resource == Resource::Services {
            for field in ["clusterIP", "clusterIPs"] {
                if new["spec"].get(field).is_none() {
                    put(&mut new["spec"], field, old["spec"].get(field).cloned());
                }
            }
        }
        defaults::complete(key.resource, new);
        if key.resource == Resource::DaemonSets {
            count_template(Some(old), new);
        }
        self.fit_schema(key, new)?;
        defaults::validate(key, Some(old), new)?;
        if key.resource.has_generation() && wants_another(key.resource, old, new) {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
        }
        Ok(())
    }

    fn finish(&mut self, key: &Key, old: &Value, new: Value, dry_run: bool) -> Result<Value, Refusal> {
        if new == *old || dry_run {
            return Ok(new);
        }
        let finalized = new["metadata"]["deletionTimestamp"].is_string()
            && has_finalizers(old)
            && !has_finalizers(&new)
            && key.resource != Resource::Pods;
        let new = self.commit(key.clone(), Change::Modified, new);
        if finalized {
            return self.remove(key);
        }
        Ok(new)
    }
}

/// Whether an update wants something else than before, so that the generation grows.
fn wants_another(resource: Resource, old: &Value, new: &Value) -> bool {
    if resource.is_custom() {
        let wanted = |object: &Value| {
            let mut object = object.as_object().cloned().unwrap_or_default();
            object.remove("metadata");
            object
        };
        return wanted(old) != wanted(new);
    }
    // Annotations of a Deployment are copied to its ReplicaSets, so they count as wanted.
    let annotated =
        resource == Resource::Deployments && new["metadata"].get("annotations") != old["metadata"].get("annotations");
    let whole = resource == Resource::EndpointSlices
        && ["endpoints", "ports"].iter().any(|field| new.get(*field) != old.get(*field));
    old.get("spec") != new.get("spec") || annotated || whole
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    match (value, object.as_object_mut()) {
        (Some(value), Some(map)) => {
            map.insert(field.to_owned(), value);
        }
        (None, Some(map)) => {
            map.remove(field);
        }
        _ => {}
    }
}

fn put_status(into: &mut Value, from: &Value) {
    put(into, "status", from.get("status").cloned());
}
