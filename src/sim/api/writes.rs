//! Creates, updates, patches and deletes.

use super::{
    reads::Form,
    route::{Query, Route},
};
use crate::sim::{
    Key, Manager, Refusal, Resource, Store, managed, patch,
    selector::Selector,
    store::{Deletion, Part, precondition},
};
use serde_json::{Value, json};

/// One write, read from a request.
pub(super) struct Write<'a> {
    pub(super) route: &'a Route,
    pub(super) query: &'a Query,
    pub(super) manager: &'a str,
    pub(super) body: &'a Value,
    pub(super) form: Form,
}

impl Write<'_> {
    fn dry_run(&self) -> bool {
        self.query.get("dryRun").is_some()
    }

    fn by(&self) -> Manager<'_> {
        Manager(self.manager)
    }

    /// `POST` to a collection.
    pub(super) fn create(&self, store: &mut Store) -> Result<(u16, Value), Refusal> {
        let resource = self.route.resource;
        let namespace = self.place(store)?;
        let (key, mut object) = store.prepare_new(resource, &namespace, self.body.clone())?;
        let nothing = store.nothing(&key);
        managed::after_update(resource, &nothing, &mut object, self.by(), "", store.now());
        Ok((201, self.form.show(&store.write_new(key, object, self.dry_run()))))
    }

    /// The namespace that an object is to be created in.
    fn place(&self, store: &Store) -> Result<String, Refusal> {
        let namespace = self.route.namespace.clone().unwrap_or_default();
        if self.body["metadata"]["namespace"].as_str().is_some_and(|n| !n.is_empty() && n != namespace) {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        self.kind_fits()?;
        if !self.route.resource.namespaced() {
            return Ok(String::new());
        }
        let found = store.get(&Key::new(Resource::Namespaces, "", &namespace));
        let found = found.ok_or_else(|| Refusal::no_such_namespace(&namespace))?;
        if found["metadata"]["deletionTimestamp"].is_string() {
            let name = self.body["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key::new(self.route.resource, &namespace, name);
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let mut refusal = Refusal::forbidden(&key, &why);
            refusal.details["causes"] = json!([{
                "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace",
            }]);
            return Err(refusal);
        }
        Ok(namespace)
    }

    fn kind_fits(&self) -> Result<(), Refusal> {
        let resource = self.route.resource;
        let given = |field: &str| self.body[field].as_str().filter(|t| !t.is_empty());
        if given("kind").is_some_and(|k| k != resource.kind()) {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: no kind match",
                given("kind").unwrap_or_default(),
                resource.version(),
                resource.kind()
            )));
        }
        Ok(())
    }

    /// `PUT` of an object or its status.
    pub(super) fn replace(&self, store: &mut Store) -> Result<(u16, Value), Refusal> {
        let key = self.route.key()?;
        let part = self.part()?;
        self.kind_fits()?;
        self.named(&key, self.body)?;
        if self.body["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) && needs_version(key.resource) {
            let cause =
                ("metadata.resourceVersion".to_owned(), "Invalid value: 0: must be specified for an update".to_owned());
            return Err(Refusal::invalid(&key, &[cause]));
        }
        let old = store.get(&key).ok_or_else(|| Refusal::not_found(&key))?;
        let uid = self.body["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
        precondition(&key, old, uid, None)?;
        let object = store.write(&key, self.body.clone(), self.by(), part, self.dry_run())?;
        Ok((200, self.form.show(&object)))
    }

    fn named(&self, key: &Key, object: &Value) -> Result<(), Refusal> {
        match object["metadata"]["name"].as_str() {
            Some(name) if name == key.name => Ok(()),
            Some(name) if !name.is_empty() => Err(Refusal::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            ))),
            _ => Err(Refusal::bad_request("name must be provided")),
        }
    }

    fn part(&self) -> Result<Part, Refusal> {
        match self.route.subresource.as_deref() {
            None => Ok(Part::Main),
            Some("status") if self.route.resource.has_status() => Ok(Part::Status),
            Some(_) => Err(Refusal::new(404, "NotFound", "the server could not find the requested resource")),
        }
    }

    /// `PATCH`, by its content type.
    pub(super) fn patch(&self, store: &mut Store, content_type: &str) -> Result<(u16, Value), Refusal> {
        let key = self.route.key()?;
        let part = self.part()?;
        if content_type.starts_with("application/apply-patch") {
            return self.apply(store, &key);
        }
        let mut new = store.get(&key).cloned().ok_or_else(|| Refusal::not_found(&key))?;
        match content_type.split(';').next().unwrap_or_default() {
            "application/json-patch+json" => patch::json_patch(&mut new, self.body)?,
            "application/merge-patch+json" => patch::merge_patch(&mut new, self.body),
            "application/strategic-merge-patch+json" if !key.resource.is_custom() => {
                patch::strategic(key.resource, &mut new, self.body);
            }
            other => {
                let message = format!("the body of the request was in an unknown format: {other}");
                return Err(Refusal::new(415, "UnsupportedMediaType", message));
            }
        }
        if !new.is_object() {
            return Err(Refusal::bad_request("the patched object is not an object"));
        }
        self.named(&key, &new)?;
        let object = store.write(&key, new, self.by(), part, self.dry_run())?;
        Ok((200, self.form.show(&object)))
    }

    fn apply(&self, store: &mut Store, key: &Key) -> Result<(u16, Value), Refusal> {
        if self.query.get("fieldManager").is_none() {
            let message =
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(Refusal::new(422, "Invalid", message));
        }
        self.kind_fits()?;
        let mut config = self.body.clone();
        if config["metadata"]["name"].is_null() {
            config["metadata"]["name"] = key.name.clone().into();
        }
        self.named(key, &config)?;
        let (resource, now) = (key.resource, store.now());
        let force = self.query.is("force");
        let Some(live) = store.get(key).cloned() else {
            let namespace = self.place(store)?;
            let (key, complete) = store.prepare_new(resource, &namespace, config.clone())?;
            let nothing = store.nothing(&key);
            // What defaults add belongs to nobody: only what is applied is owned.
            let mut object = managed::apply(resource, &nothing, &config, self.by(), force, now, |_| {})?;
            let managed = object["metadata"]["managedFields"].take();
            object = complete;
            object["metadata"]["managedFields"] = managed;
            return Ok((201, self.form.show(&store.write_new(key, object, self.dry_run()))));
        };
        let version = config["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && version != live["metadata"]["resourceVersion"] {
            return Err(Refusal::stale(key));
        }
        let new = managed::apply(resource, &live, &config, self.by(), force, now, |_| {})?;
        Ok((200, self.form.show(&store.write_applied(key, new, self.dry_run())?)))
    }

    /// `DELETE` of one object.
    pub(super) fn delete(&self, store: &mut Store) -> Result<(u16, Value), Refusal> {
        let key = self.route.key()?;
        let old = store.get(&key).cloned().ok_or_else(|| Refusal::not_found(&key))?;
        let left = store.delete_with(&key, &self.deletion()?)?;
        let whole = matches!(key.resource, Resource::Pods | Resource::Services | Resource::ServiceAccounts);
        match left {
            Some(object) => Ok((200, self.form.show(&object))),
            None if whole => Ok((200, self.form.show(&old))),
            None => Ok((200, deleted(&key, &old))),
        }
    }

    /// `DELETE` of a collection.
    pub(super) fn delete_all(&self, store: &mut Store) -> Result<(u16, Value), Refusal> {
        let selector = Selector::of_request(self.query.get("labelSelector"), self.query.get("fieldSelector"))?;
        let resource = self.route.resource;
        let all = store.list(resource, self.route.namespace.as_deref());
        let chosen: Vec<(Key, Value)> =
            all.filter(|(_, o)| selector.selects(o)).map(|(k, o)| (k.clone(), o.clone())).collect();
        for (key, _) in &chosen {
            store.delete_with(key, &self.deletion()?)?;
        }
        let items: Vec<Value> = chosen.into_iter().map(|(_, object)| object).collect();
        let kind = format!("{}List", resource.kind());
        Ok((200, json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": {}, "items": items})))
    }

    fn deletion(&self) -> Result<Deletion, Refusal> {
        let body = |field: &str| self.body["preconditions"][field].as_str().map(str::to_owned);
        let grace = match self.query.number("gracePeriodSeconds")? {
            Some(seconds) => i64::try_from(seconds).ok(),
            None => self.body["gracePeriodSeconds"].as_i64(),
        };
        let propagation = self.query.get("propagationPolicy").or(self.body["propagationPolicy"].as_str());
        Ok(Deletion {
            uid: body("uid"),
            version: body("resourceVersion"),
            grace,
            orphan: propagation == Some("Orphan"),
            dry_run: self.dry_run() || self.body["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
        })
    }

    /// `POST …/pods/x/eviction`: a deletion that asks the disruption budgets.
    pub(super) fn evict(&self, store: &mut Store) -> Result<(u16, Value), Refusal> {
        let key = self.route.key()?;
        let pod = store.get(&key).cloned().ok_or_else(|| Refusal::not_found(&key))?;
        let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_ready = ready.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let budgets = store.list(Resource::PodDisruptionBudgets, Some(&key.namespace));
        let guard = budgets
            .map(|(_, b)| b)
            .find(|b| Selector::of_object(&b["spec"]["selector"]).selects_labels(&pod["metadata"]["labels"]));
        let pending = matches!(pod["status"]["phase"].as_str(), Some("Pending" | "Succeeded" | "Failed"));
        if let Some(budget) = guard.filter(|_| !pending && pod["metadata"]["deletionTimestamp"].is_null()) {
            let status = &budget["status"];
            let number = |field: &str| status[field].as_i64().unwrap_or(0);
            // A pod that is not Ready counts for nothing while the others suffice.
            let healthy_anyway =
                !is_ready && number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
            let name = budget["metadata"]["name"].as_str().unwrap_or_default();
            if !healthy_anyway && number("disruptionsAllowed") <= 0 {
                let message = "Cannot evict pod as it would violate the pod's disruption budget.";
                let why = format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number("desiredHealthy"),
                    number("currentHealthy")
                );
                let details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
                return Err(Refusal { details, ..Refusal::new(429, "TooManyRequests", message) });
            }
            if is_ready && !self.dry_run() {
                let budget = Key::new(Resource::PodDisruptionBudgets, &key.namespace, name);
                store.update_status(&budget, Manager("kube-apiserver"), |b| {
                    b["status"]["disruptionsAllowed"] =
                        (b["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) - 1).into();
                })?;
            }
        }
        let options = self.body.get("deleteOptions").cloned().unwrap_or(Value::Null);
        store.delete_with(&key, &Write { body: &options, ..*self }.deletion()?)?;
        Ok((201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
    }
}

/// Kinds whose update must name the version that it replaces.
fn needs_version(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Leases | Resource::CustomResourceDefinitions | Resource::Incidents | Resource::PodDisruptionBudgets
    )
}

fn deleted(key: &Key, old: &Value) -> Value {
    let mut details = json!({"name": key.name, "kind": key.resource.plural(), "uid": old["metadata"]["uid"]});
    if !key.resource.group().is_empty() {
        details["group"] = key.resource.group().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
