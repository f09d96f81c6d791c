//! Rollouts that ended shortly before the daemon started.
//!
//! A Deployment says itself when it last progressed; the other two kinds have no such condition, so their
//! newest ControllerRevision tells. Our own pins, which are such objects too, tell which of them a daemon before this
//! one saw begin, and what has passed. One list of names, labels and times at start; nothing afterwards.

use super::{
    connect::{Cluster, READ_DEADLINE},
    history::{ReadError, within},
};
use crate::{
    clock::seconds,
    domain::{PIN_LABEL, REVISION_LABEL, Revision, Seconds, UID_LABEL},
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use std::collections::BTreeMap;

const PAGE: u32 = 500;

/// What the cluster remembers of recent rollouts; each by the workload's uid.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    /// When the newest revision of a StatefulSet or DaemonSet was made.
    pub newest: BTreeMap<String, Seconds>,
    /// The revision that passed last, and when.
    pub passed: BTreeMap<String, (Revision, Seconds)>,
    /// When a rollout was last seen to begin.
    pub begun: BTreeMap<String, Seconds>,
}

impl Recent {
    fn take(&mut self, object: &PartialObjectMeta<ControllerRevision>, since: Seconds) {
        let created = object.creation_timestamp().map(|t| seconds(t.0)).filter(|created| *created > since);
        let Some(created) = created else { return };
        let latest = |of: &mut BTreeMap<String, Seconds>, uid: &str| {
            let newest = of.entry(uid.to_owned()).or_insert(created);
            *newest = newest.max(created);
        };
        let label = |label: &str| object.labels().get(label);
        match (label(PIN_LABEL).map(String::as_str), label(UID_LABEL), label(REVISION_LABEL)) {
            (Some("passed"), Some(uid), Some(revision)) => {
                let known = self.passed.get(uid).is_some_and(|(_, at)| *at > created);
                if !known {
                    self.passed.insert(uid.clone(), (Revision::from(revision.as_str()), created));
                }
            }
            (Some("presumed"), Some(uid), _) => latest(&mut self.begun, uid),
            (Some(_), ..) => {}
            (None, ..) => {
                if let Some(owner) = object.owner_references().iter().find(|o| o.controller == Some(true)) {
                    latest(&mut self.newest, &owner.uid);
                }
            }
        }
    }
}

/// What was made after `since`.
///
/// # Errors
/// When the list cannot be read.
pub async fn recent_revisions(cluster: &Cluster, since: Seconds) -> Result<Recent, ReadError> {
    let mut recent = Recent::default();
    let scopes: Vec<Option<&String>> =
        if cluster.namespaces.is_empty() { vec![None] } else { cluster.namespaces.iter().map(Some).collect() };
    for scope in scopes {
        let client = cluster.reader.clone();
        let api: Api<ControllerRevision> =
            scope.map_or_else(|| Api::all(client.clone()), |n| Api::namespaced(client.clone(), n));
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let doing = format!("listing controllerrevisions at {}", cluster.url);
            let page = within(READ_DEADLINE, doing, api.list_metadata(&params)).await?;
            page.items.iter().for_each(|object| recent.take(object, since));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => break,
            }
        }
    }
    Ok(recent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pins_tell_what_passed_and_what_began_and_revisions_what_is_new() {
        let mut recent = Recent::default();
        let pin = |state: &str, revision: &str| {
            json!({
                PIN_LABEL: state, UID_LABEL: "u1", REVISION_LABEL: revision
            })
        };
        let mut take = |minute: u32, labels: serde_json::Value, owner: serde_json::Value| {
            let object = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {
                "name": "x", "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z"), "labels": labels,
                "ownerReferences": [owner],
            }});
            recent.take(&serde_json::from_value(object).expect("an object"), 1_767_225_600.0 + 60.0);
        };
        let owned = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u1"});
        let controlled =
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "a", "uid": "u2", "controller": true});
        take(0, pin("passed", "old"), owned.clone());
        take(20, pin("passed", "b"), owned.clone());
        take(10, pin("passed", "a"), owned.clone());
        take(15, pin("presumed", "a"), owned.clone());
        take(30, pin("doubted", "c"), owned);
        take(40, json!({}), controlled);
        let at = |minute: f64| 1_767_225_600.0 + 60.0 * minute;
        assert_eq!(recent.passed, [("u1".to_owned(), (Revision::from("b"), at(20.0)))].into());
        assert_eq!(recent.begun, [("u1".to_owned(), at(15.0))].into());
        assert_eq!(recent.newest, [("u2".to_owned(), at(40.0))].into());
    }
}
