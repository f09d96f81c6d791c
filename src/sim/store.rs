//! Pure. What the simulated cluster stores: objects, one counter of versions, and the log that watches read.
//!
//! Nothing here waits, and the time is given in. A refused write changes nothing.

use super::{
    refusal::Refusal,
    resource::{Key, Resource},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Who writes, as `managedFields` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager<'a>(pub &'a str);

impl Manager<'static> {
    /// The built-in controllers.
    pub const CONTROLLERS: Self = Manager("kube-controller-manager");
    /// The kubelet.
    pub const KUBELET: Self = Manager("kubelet");
    /// The scheduler.
    pub const SCHEDULER: Self = Manager("kube-scheduler");
}

/// What a write did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is different.
    Modified,
    /// It is gone.
    Deleted,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The version that it made.
    pub revision: u64,
    /// What it did.
    pub change: Change,
    /// To which object.
    pub key: Key,
    /// The object afterwards; the last state of a deleted one.
    pub object: Arc<Value>,
    /// The object before.
    pub before: Option<Arc<Value>>,
}

/// Everything that is stored.
#[derive(Clone, Debug)]
pub struct Store {
    now: Timestamp,
    seed: u64,
    revision: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: Vec<Entry>,
    floor: u64,
}

/// Versions begin here: a watch from an earlier one is told that it is too old.
const FIRST: u64 = 1000;

impl Store {
    /// An empty store with the namespaces that every cluster has. Equal seeds make equal uids.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let mut store = Self { now, seed, revision: FIRST, objects: BTreeMap::new(), log: Vec::new(), floor: FIRST };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            // Cannot be refused: the store is empty.
            let _ =
                store.create(Resource::Namespaces, "", json!({"metadata": {"name": name}}), Manager("kube-apiserver"));
        }
        store.floor = store.revision;
        store
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Sets the time.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(AsRef::as_ref)
    }

    /// The objects of a kind, by namespace and name.
    pub fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        let first = Key { resource, namespace: namespace.unwrap_or_default().to_owned(), name: String::new() };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.resource == resource && namespace.is_none_or(|n| key.namespace == n))
            .map(|(key, object)| (key, object.as_ref()))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// When the name is taken or the object is wrong.
    pub fn create(
        &mut self,
        resource: Resource,
        namespace: &str,
        mut object: Value,
        _by: Manager<'_>,
    ) -> Result<Value, Refusal> {
        let name = match (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str()) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(prefix)) => format!("{prefix}{:05x}", self.random() & 0xf_ffff),
            _ => return Err(Refusal::new(422, "Invalid", "name or generateName is required")),
        };
        let key = Key::new(resource, namespace, name);
        if self.objects.contains_key(&key) {
            return Err(Refusal::exists(&key));
        }
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind().into();
        let uid = self.uid();
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.clone().into();
        if resource.namespaced() {
            metadata["namespace"] = namespace.into();
        }
        metadata["uid"] = uid.into();
        metadata["creationTimestamp"] = seconds(self.now).into();
        if resource.has_generation() {
            metadata["generation"] = 1.into();
        }
        Ok(self.commit(key, Change::Added, object))
    }

    /// Changes an object (not its status). A change to what it is already writes nothing.
    ///
    /// # Errors
    /// When there is none or the changed object is wrong.
    pub fn update(&mut self, key: &Key, _by: Manager<'_>, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        let mut new = Value::clone(&old);
        change(&mut new);
        if key.resource.has_status() {
            put_status(&mut new, &old);
        }
        if new == *old {
            return Ok(new);
        }
        let wanted = |object: &Value| object.get("spec").cloned();
        let annotated = key.resource == Resource::Deployments
            && new["metadata"].get("annotations") != old["metadata"].get("annotations");
        if key.resource.has_generation() && (wanted(&new) != wanted(&old) || annotated) {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
        }
        Ok(self.commit(key.clone(), Change::Modified, new))
    }

    /// Changes the status of an object.
    ///
    /// # Errors
    /// When there is none.
    pub fn update_status(
        &mut self,
        key: &Key,
        _by: Manager<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        let mut changed = Value::clone(&old);
        change(&mut changed);
        let mut new = Value::clone(&old);
        put_status(&mut new, &changed);
        if new == *old {
            return Ok(new);
        }
        Ok(self.commit(key.clone(), Change::Modified, new))
    }

    /// Deletes an object. A pod that is on a node is only marked: its kubelet removes it.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&mut self, key: &Key) -> Result<Option<Value>, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key))?;
        if key.resource == Resource::Pods && old["spec"]["nodeName"].is_string() {
            if old["metadata"]["deletionTimestamp"].is_string() {
                return Ok(Some(Value::clone(&old)));
            }
            let grace = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            let mut new = Value::clone(&old);
            let until = self.now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(self.now);
            new["metadata"]["deletionTimestamp"] = seconds(until).into();
            new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            return Ok(Some(self.commit(key.clone(), Change::Modified, new)));
        }
        self.remove(key)?;
        Ok(None)
    }

    /// Removes an object at once, as a kubelet does with a pod that has ended; what it owns goes too.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&mut self, key: &Key) -> Result<Value, Refusal> {
        let old = self.objects.remove(key).ok_or_else(|| Refusal::not_found(key))?;
        let gone = self.commit(key.clone(), Change::Deleted, Value::clone(&old));
        let uid = &gone["metadata"]["uid"];
        let owned = |object: &Value| {
            object["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|owners| owners.iter().any(|o| o["uid"] == *uid))
        };
        let orphans: Vec<Key> = self.objects.iter().filter(|(_, o)| owned(o)).map(|(k, _)| k.clone()).collect();
        for key in orphans {
            // Gone already when two ways lead to it.
            let _ = self.delete(&key);
        }
        Ok(gone)
    }

    /// Grows with every write.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The writes after a version, oldest first; `None` when some of them are forgotten.
    pub fn since(&self, revision: u64) -> Option<&[Entry]> {
        let first = self.log.partition_point(|e| e.revision <= revision);
        (revision >= self.floor).then(|| &self.log[first..])
    }

    fn commit(&mut self, key: Key, change: Change, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(object);
        let before = match change {
            Change::Deleted => None,
            _ => self.objects.insert(key.clone(), object.clone()),
        };
        let stored = Value::clone(&object);
        self.log.push(Entry { revision: self.revision, change, key, object, before });
        stored
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uid(&mut self) -> String {
        let (a, b) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}

fn put_status(into: &mut Value, from: &Value) {
    match (from.get("status"), into.as_object_mut()) {
        (Some(status), Some(object)) => {
            object.insert("status".into(), status.clone());
        }
        (None, Some(object)) => {
            object.remove("status");
        }
        _ => {}
    }
}

/// A time as `metav1.Time` writes it.
pub(super) fn seconds(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
