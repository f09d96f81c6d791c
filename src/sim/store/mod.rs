//! Pure. What the simulated cluster stores: objects, one counter of versions, and the log that watches read.
//!
//! Every write goes through the rules of the real API server: defaults, validation, generation, managedFields,
//! finalizers, owners. Nothing here waits, and the time is given in. A refused write changes nothing.

mod delete;
mod write;

pub(super) use delete::{Deletion, precondition};
pub(super) use write::Part;

use super::resource::{Key, Resource};
use delete::owners;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
    /// When.
    pub at: Timestamp,
    /// What it did.
    pub change: Change,
    /// To which object.
    pub key: Key,
    /// The object afterwards; the last state of a deleted one.
    pub object: Arc<Value>,
    /// The object before.
    pub before: Option<Arc<Value>>,
}

/// Everything that is stored. A copy is cheap and stands still.
#[derive(Clone, Debug)]
pub struct Store {
    now: Timestamp,
    seed: u64,
    revision: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// Objects by the uid of an owner.
    owned: BTreeMap<String, BTreeSet<Key>>,
    /// Uids of what there is.
    alive: BTreeSet<String>,
    log: Vec<Entry>,
    floor: u64,
}

/// Versions begin here: a watch from an earlier one is told that it is too old.
const FIRST: u64 = 1000;
/// So many writes are remembered at most.
const REMEMBERED: usize = 100_000;

impl Store {
    /// An empty store with the namespaces that every cluster has. Equal seeds make equal uids.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let mut store = Self {
            now,
            seed,
            revision: FIRST,
            objects: BTreeMap::new(),
            owned: BTreeMap::new(),
            alive: BTreeSet::new(),
            log: Vec::new(),
            floor: FIRST,
        };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({"metadata": {"name": name}});
            // Cannot be refused: the store is empty.
            let _ = store.create(Resource::Namespaces, "", namespace, Manager("kube-apiserver"));
        }
        store.forget();
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
        self.shared(resource, namespace).map(|(key, object)| (key, object.as_ref()))
    }

    fn shared<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let first = Key { resource, namespace: namespace.unwrap_or_default().to_owned(), name: String::new() };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.resource == resource && namespace.is_none_or(|n| key.namespace == n))
    }

    /// What an object owns.
    pub fn owned_by(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.owned.get(uid).into_iter().flatten()
    }

    /// The objects of a kind as they were at a version; `None` when that is forgotten.
    pub(super) fn list_at(
        &self,
        revision: u64,
        resource: Resource,
        namespace: Option<&str>,
    ) -> Option<BTreeMap<Key, Arc<Value>>> {
        let mut then: BTreeMap<Key, Arc<Value>> =
            self.shared(resource, namespace).map(|(k, o)| (k.clone(), o.clone())).collect();
        let ours = |e: &&Entry| e.key.resource == resource && namespace.is_none_or(|n| n == e.key.namespace);
        for entry in self.since(revision)?.iter().rev().filter(ours) {
            match &entry.before {
                Some(before) => then.insert(entry.key.clone(), before.clone()),
                None => then.remove(&entry.key),
            };
        }
        Some(then)
    }

    /// Grows with every write.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest version that can still be watched from.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The writes after a version, oldest first; `None` when some of them are forgotten.
    pub fn since(&self, revision: u64) -> Option<&[Entry]> {
        let first = self.log.partition_point(|e| e.revision <= revision);
        (revision >= self.floor).then(|| &self.log[first..])
    }

    /// Forgets all old versions, as etcd does when it compacts.
    pub fn forget(&mut self) {
        self.floor = self.revision;
        self.log.clear();
    }

    fn commit(&mut self, key: Key, change: Change, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(object);
        let before = match change {
            Change::Deleted => self.objects.remove(&key),
            _ => self.objects.insert(key.clone(), object.clone()),
        };
        for uid in before.as_deref().map(owners).unwrap_or_default() {
            if let Some(keys) = self.owned.get_mut(uid) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.owned.remove(uid);
                }
            }
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if change == Change::Deleted {
            self.alive.remove(uid);
        } else {
            self.alive.insert(uid.to_owned());
            for owner in owners(&object) {
                self.owned.entry(owner.to_owned()).or_default().insert(key.clone());
            }
        }
        let stored = Value::clone(&object);
        self.log.push(Entry { revision: self.revision, at: self.now, change, key, object, before });
        if self.log.len() > REMEMBERED {
            self.log.drain(..REMEMBERED / 2);
            self.floor = self.log.first().map_or(self.revision, |e| e.revision - 1);
        }
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

    /// Five letters as the real server adds to a `generateName`.
    fn suffix(&mut self) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut n = self.random();
        let mut letter = || {
            let letter = LETTERS[(n % 27) as usize];
            n /= 27;
            char::from(letter)
        };
        (0..5).map(|_| letter()).collect()
    }

    fn uid(&mut self) -> String {
        let (a, b) = (self.random(), self.random());
        let last = b & 0xffff_ffff_ffff;
        format!("{:08x}-{:04x}-4{:03x}-a{:03x}-{last:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff, b >> 52)
    }
}

/// A time as `metav1.Time` writes it.
pub(super) fn seconds(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
