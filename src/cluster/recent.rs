//! Rollouts of StatefulSets and DaemonSets that ended shortly before the daemon started.
//!
//! A Deployment says itself when it last progressed; the other two kinds have no such condition, so their
//! newest ControllerRevision tells. One list of names and times at start; nothing afterwards.

use super::{
    connect::{Cluster, READ_DEADLINE},
    history::{ReadError, within},
};
use crate::{clock::seconds, domain::Seconds};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, api::ListParams};
use std::collections::BTreeMap;

const PAGE: u32 = 500;

/// When the newest revision of each workload (by uid) was made, for revisions made after `since`.
///
/// # Errors
/// When the list cannot be read.
pub async fn recent_revisions(cluster: &Cluster, since: Seconds) -> Result<BTreeMap<String, Seconds>, ReadError> {
    let mut recent: BTreeMap<String, Seconds> = BTreeMap::new();
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
            for object in page.items {
                let Some(created) = object.metadata.creation_timestamp.map(|t| seconds(t.0)) else { continue };
                let owner = object.metadata.owner_references.into_iter().flatten().find(|o| o.controller == Some(true));
                if let Some(owner) = owner.filter(|_| created > since) {
                    let newest = recent.entry(owner.uid).or_insert(created);
                    *newest = newest.max(created);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => break,
            }
        }
    }
    Ok(recent)
}
