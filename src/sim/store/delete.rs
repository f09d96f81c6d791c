//! Pure. Deletion: grace, finalizers, owners and namespaces.

use super::{Change, Manager, Store, seconds};
use crate::sim::{
    refusal::Refusal,
    resource::{Key, Resource},
};
use jiff::SignedDuration;
use serde_json::Value;
use std::collections::BTreeSet;

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Deletion {
    pub(in crate::sim) uid: Option<String>,
    pub(in crate::sim) version: Option<String>,
    pub(in crate::sim) grace: Option<i64>,
    /// What the object owns stays.
    pub(in crate::sim) orphan: bool,
    pub(in crate::sim) dry_run: bool,
}

impl Store {
    /// Deletes an object. A pod that is on a node is only marked: its kubelet removes it. So is an object with
    /// finalizers. The marked object is returned; `None` when it is gone.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&mut self, key: &Key) -> Result<Option<Value>, Refusal> {
        self.delete_with(key, &Deletion::default())
    }

    pub(in crate::sim) fn delete_with(&mut self, key: &Key, how: &Deletion) -> Result<Option<Value>, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        precondition(key, &old, how.uid.as_deref(), how.version.as_deref())?;
        if how.dry_run {
            return Ok(Some(Value::clone(&old)));
        }
        let grace = self.grace(key, &old, how);
        if grace == 0 && !has_finalizers(&old) && key.resource != Resource::Namespaces {
            if how.orphan {
                self.orphan(&old);
            }
            self.remove(key)?;
            return Ok(None);
        }
        let running = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(i64::MAX);
        let marked = if old["metadata"]["deletionTimestamp"].is_string() && grace >= running {
            Value::clone(&old)
        } else {
            let mut new = Value::clone(&old);
            let until = self.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(self.now);
            new["metadata"]["deletionTimestamp"] = seconds(until).into();
            new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            if key.resource == Resource::Namespaces {
                new["status"]["phase"] = "Terminating".into();
            } else if key.resource.has_generation() {
                new["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
            }
            self.commit(key.clone(), Change::Modified, new)
        };
        if key.resource == Resource::Namespaces {
            return Ok(self.empty_namespace(&key.name).then_some(marked));
        }
        Ok(Some(marked))
    }

    /// How long the object may take to end.
    fn grace(&self, key: &Key, object: &Value, how: &Deletion) -> i64 {
        let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if key.resource != Resource::Pods || !object["spec"]["nodeName"].is_string() || ended {
            return 0;
        }
        how.grace.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30)
    }

    /// Deletes what is in a namespace, and the namespace when nothing is left. Whether something is left.
    fn empty_namespace(&mut self, name: &str) -> bool {
        let inside: Vec<Key> = self.objects.keys().filter(|k| k.namespace == name).cloned().collect();
        for key in &inside {
            // Gone already when its owner was deleted before it.
            let _ = self.delete(key);
        }
        let left = self.objects.keys().any(|k| k.namespace == name);
        if !left {
            let _ = self.remove(&Key::new(Resource::Namespaces, "", name));
        }
        left
    }

    /// Removes an object at once, as a kubelet does with a pod that has ended; what it owns is deleted.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&mut self, key: &Key) -> Result<Value, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        let gone = self.commit(key.clone(), Change::Deleted, Value::clone(&old));
        let uid = old["metadata"]["uid"].as_str().unwrap_or_default();
        for owned in self.owned.get(uid).cloned().unwrap_or_default() {
            if self.is_garbage(&owned) {
                let _ = self.delete(&owned);
            }
        }
        let namespace = Key::new(Resource::Namespaces, "", &key.namespace);
        let terminating = |o: &Value| o["metadata"]["deletionTimestamp"].is_string();
        if key.resource.namespaced() && self.get(&namespace).is_some_and(terminating) {
            self.empty_namespace(&key.namespace);
        }
        Ok(gone)
    }

    /// Whether every owner of an object is gone.
    fn is_garbage(&self, key: &Key) -> bool {
        let owners = self.get(key).map(owners).unwrap_or_default();
        !owners.is_empty() && !owners.iter().any(|uid| self.alive.contains(*uid))
    }

    /// Deletes what came to be after its owner had gone.
    pub fn collect_garbage(&mut self) {
        let dead = self.owned.iter().filter(|(uid, _)| !self.alive.contains(*uid));
        let suspects: BTreeSet<Key> = dead.flat_map(|(_, keys)| keys).cloned().collect();
        for key in suspects {
            let marked = self.get(&key).is_some_and(|o| o["metadata"]["deletionTimestamp"].is_string());
            if !marked && self.is_garbage(&key) {
                let _ = self.delete(&key);
            }
        }
    }

    /// Takes an owner away from what it owns.
    fn orphan(&mut self, owner: &Value) {
        let uid = owner["metadata"]["uid"].as_str().unwrap_or_default();
        for key in self.owned.get(uid).cloned().unwrap_or_default() {
            let _ = self.update(&key, Manager::CONTROLLERS, |object| {
                let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() else { return };
                owners.retain(|o| o["uid"] != uid);
            });
        }
    }
}

pub(in crate::sim) fn owners(object: &Value) -> Vec<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.filter_map(|o| o["uid"].as_str()).collect()
}

pub(in crate::sim) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// Refuses unless the object is the one that is meant.
pub(in crate::sim) fn precondition(
    key: &Key,
    object: &Value,
    uid: Option<&str>,
    version: Option<&str>,
) -> Result<(), Refusal> {
    for (wanted, field, word) in [(uid, "uid", "UID"), (version, "resourceVersion", "ResourceVersion")] {
        let found = object["metadata"][field].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.filter(|w| *w != found) {
            let why = format!("Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}");
            return Err(Refusal::conflict(key, &why));
        }
    }
    Ok(())
}
