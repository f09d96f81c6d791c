//! Pure. What was asked of the simulated API server, by whom, and what came of it: the oracle of tests.

use super::resource::{Key, Resource};
use jiff::Timestamp;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The user.
    pub who: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The kind; `None` for a place that is not known, and for reviews.
    pub resource: Option<Resource>,
    /// `status`, `eviction`, …; empty for the object itself.
    pub subresource: String,
    /// Empty for all namespaces and for kinds without.
    pub namespace: String,
    /// Empty for a collection; a created object's name as far as it is known.
    pub name: String,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// Path and parameters.
    pub url: String,
}

impl Asked {
    /// Whether it would change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.dry_run
            && self.resource.is_some()
    }

    /// Whether it would change a workload (not its status).
    pub fn writes_workload(&self) -> bool {
        let workloads = [Resource::Deployments, Resource::StatefulSets, Resource::DaemonSets];
        self.is_write() && self.resource.is_some_and(|r| workloads.contains(&r)) && self.subresource != "status"
    }

    /// The object, when one is named.
    pub fn key(&self) -> Option<Key> {
        let resource = self.resource.filter(|_| !self.name.is_empty())?;
        Some(Key::new(resource, self.namespace.clone(), self.name.clone()))
    }
}

/// One request that was dealt with, whether or not the answer arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Audited {
    /// When.
    pub at: Timestamp,
    /// What.
    pub asked: Asked,
    /// HTTP status.
    pub code: u16,
    /// The body of a write.
    pub body: Value,
    /// What a write was answered.
    pub answer: Value,
}

impl Audited {
    /// Whether it was done.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}
