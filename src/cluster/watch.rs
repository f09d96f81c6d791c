//! Open watches on the three kinds. An idle workload costs nothing beyond them.
//!
//! Fails: a list or watch that the API server refuses is told (`Seen::Trouble`) and tried again with
//! back-off; a server that cannot stream lists is asked for pages instead. A silent connection is
//! given up after [`WATCH_SECONDS`] + 5 s. Recovers: after any gap the whole state is listed anew, and
//! what is missing from it is gone; rollouts are told by state, so none is missed.

use super::{
    connect::Cluster,
    view::{RawDaemonSet, RawDeployment, RawStatefulSet, WorkloadView},
};
use crate::domain::{Kind, WorkloadId};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, Status},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug};
use tokio::sync::mpsc;

/// How long one watch request lasts before it is renewed.
pub const WATCH_SECONDS: u32 = 45;

/// What the watches tell.
#[derive(Debug)]
pub enum Seen {
    /// A workload as it is now.
    Applied(Box<WorkloadView>),
    /// A workload is gone.
    Removed(WorkloadId),
    /// A complete list of this kind has been read.
    Synced(Kind),
    /// An object that cannot be read was skipped.
    Skipped {
        /// Its kind.
        kind: Kind,
        /// `namespace/name: why`.
        what: String,
    },
    /// The watch of a kind does not work now; it is tried again.
    Trouble {
        /// Its kind.
        kind: Kind,
        /// What the API server said.
        why: String,
        /// Whether a permission is missing.
        forbidden: bool,
    },
}

/// Starts the watches; they end when the receiver is dropped.
pub fn watch_workloads(cluster: &Cluster) -> mpsc::Receiver<Seen> {
    // Deep enough that a list of thousands does not wait for one slow tick.
    let (tx, rx) = mpsc::channel(1024);
    let namespaces = &cluster.namespaces;
    let scopes: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|n| Some(n.as_str())).collect() };
    for scope in scopes {
        spawn::<RawDeployment>(Kind::Deployment, &cluster.reader, scope, tx.clone());
        spawn::<RawStatefulSet>(Kind::StatefulSet, &cluster.reader, scope, tx.clone());
        spawn::<RawDaemonSet>(Kind::DaemonSet, &cluster.reader, scope, tx.clone());
    }
    rx
}

fn spawn<K>(kind: Kind, client: &Client, scope: Option<&str>, tx: mpsc::Sender<Seen>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    WorkloadView: From<K>,
{
    let api: Api<DeserializeGuard<K>> = scoped(client, scope);
    tokio::spawn(async move {
        // The set of names of this scope, to tell after a relist what is gone.
        let mut names: BTreeSet<WorkloadId> = BTreeSet::new();
        let mut listed: BTreeSet<WorkloadId> = BTreeSet::new();
        let mut events = guarded(api);
        while let Some(event) = events.next().await {
            let mut out = Vec::new();
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(guard)) => read(kind, guard, &mut listed, &mut out),
                Ok(Event::InitDone) => {
                    out.extend(names.difference(&listed).cloned().map(Seen::Removed));
                    names = std::mem::take(&mut listed);
                    out.push(Seen::Synced(kind));
                }
                Ok(Event::Apply(guard)) => read(kind, guard, &mut names, &mut out),
                Ok(Event::Delete(guard)) => {
                    let id = WorkloadId::new(guard.namespace().unwrap_or_default(), kind, guard.name_any());
                    names.remove(&id);
                    out.push(Seen::Removed(id));
                }
                Err(error) => out.push(trouble(kind, &error)),
            }
            for seen in out {
                if tx.send(seen).await.is_err() {
                    return;
                }
            }
        }
    });
}

fn scoped<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A watch with streaming list; when the server cannot do that, the same with pages.
pub fn guarded<K>(api: Api<K>) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let pages = move |api| watcher(api, config().page_size(200)).default_backoff().boxed();
    let streaming = watcher(api.clone(), config().streaming_lists()).default_backoff().boxed();
    futures::stream::unfold((streaming, Some(api)), move |(mut stream, mut fallback)| async move {
        let event = stream.next().await?;
        match &event {
            Ok(Event::InitDone) => fallback = None,
            Err(error) if cannot_stream(error) => {
                if let Some(api) = fallback.take() {
                    stream = pages(api);
                }
            }
            _ => {}
        }
        Some((event, (stream, fallback)))
    })
    .boxed()
}

/// Servers without streaming lists answer 400 or 422 to `sendInitialEvents`.
fn cannot_stream(error: &watcher::Error) -> bool {
    status_code(error).is_some_and(|code| code == 400 || code == 422)
}

fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(s))
        | watcher::Error::WatchStartFailed(kube::Error::Api(s))
        | watcher::Error::WatchFailed(kube::Error::Api(s))
        | watcher::Error::WatchError(s) => Some(s),
        _ => None,
    }
}

fn status_code(error: &watcher::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

/// What is wrong with a watch, for people. The error's own text holds the whole `Status` as Rust shows it.
pub(crate) fn watch_said(error: &watcher::Error) -> String {
    match status(error) {
        Some(status) => format!("{} ({})", status.message, status.code),
        None => error.to_string(),
    }
}

/// Whether a right is missing.
pub(super) fn forbidden(error: &watcher::Error) -> bool {
    matches!(status_code(error), Some(401 | 403))
}

fn trouble(kind: Kind, error: &watcher::Error) -> Seen {
    Seen::Trouble { kind, why: watch_said(error), forbidden: forbidden(error) }
}

fn read<K>(kind: Kind, guard: DeserializeGuard<K>, names: &mut BTreeSet<WorkloadId>, out: &mut Vec<Seen>)
where
    K: Resource<DynamicType = ()>,
    WorkloadView: From<K>,
{
    let id = WorkloadId::new(guard.namespace().unwrap_or_default(), kind, guard.name_any());
    match guard.0 {
        Ok(raw) => out.push(Seen::Applied(Box::new(WorkloadView::from(raw)))),
        Err(invalid) => {
            out.push(Seen::Skipped { kind, what: format!("{}/{}: {}", id.namespace, id.name, invalid.error) });
        }
    }
    // A malformed object is still there: it must not look deleted.
    names.insert(id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_watch_is_told_in_words() {
        let status = Status::failure("pods is forbidden: User \"x\" cannot watch", "Forbidden").with_code(403);
        let error = watcher::Error::WatchStartFailed(kube::Error::Api(status.boxed()));
        assert_eq!(watch_said(&error), "pods is forbidden: User \"x\" cannot watch (403)");
        assert!(forbidden(&error));
    }
}
