//! Freezes: a person said "do not act", for a workload, a namespace, or the whole cluster.
//!
//! A workload or namespace carries the annotations [`PAUSE_UNTIL`] and [`PAUSE_REASON`]; the whole
//! cluster is frozen by the ConfigMap `lastgood-pause` (keys `until`, `reason`) in Lastgood's namespace.
//! An unreadable end of a freeze counts as "for ever": a broken word never arms anything.

use super::{
    connect::Cluster,
    watch::{forbidden, guarded, watch_said},
};
use crate::{clock::seconds, domain::Seconds};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// Where pauses are written.
const RESOURCES: [&str; 2] = ["namespaces", "configmaps"];
/// A right that is missing is asked for again this often.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Annotation: until when nothing is done, RFC 3339, or `forever`.
pub const PAUSE_UNTIL: &str = "lastgood.dev/pause-until";
/// Annotation: why, and who said so.
pub const PAUSE_REASON: &str = "lastgood.dev/pause-reason";
/// The ConfigMap that freezes the whole cluster.
pub const PAUSE_CONFIG_MAP: &str = "lastgood-pause";

/// One freeze.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    /// When it ends; `None`: never by itself.
    pub until: Option<Seconds>,
    /// Why.
    pub reason: String,
}

impl Freeze {
    /// Reads a freeze from annotations; `None` when there is none.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self::of(annotations.get(PAUSE_UNTIL)?, annotations.get(PAUSE_REASON)))
    }

    fn of(until: &str, reason: Option<&String>) -> Self {
        let until = until.trim().parse::<jiff::Timestamp>().ok().map(seconds);
        Self { until, reason: reason.cloned().unwrap_or_default() }
    }

    /// Whether it holds at `now`.
    pub fn holds(&self, now: Seconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The freezes of namespaces and of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Freezes {
    /// By namespace.
    pub namespaces: BTreeMap<String, Freeze>,
    /// Of the whole cluster.
    pub cluster: Option<Freeze>,
    /// What has been read; until all is, nothing is known to be free.
    pub read: BTreeSet<&'static str>,
    /// What may not be read: then nothing is known to be free either.
    pub unreadable: BTreeMap<&'static str, String>,
}

impl Freezes {
    /// Why a workload of this namespace, with these annotations, is frozen at `now`, in a few words.
    pub fn why(&self, namespace: &str, annotations: &BTreeMap<String, String>, now: Seconds) -> Option<String> {
        let own = Freeze::read(annotations).filter(|f| f.holds(now)).map(|f| ("workload", f));
        let of_namespace = || self.namespaces.get(namespace).filter(|f| f.holds(now)).map(|f| ("namespace", f.clone()));
        let of_cluster = || self.cluster.as_ref().filter(|f| f.holds(now)).map(|f| ("cluster", f.clone()));
        let Some((what, freeze)) = own.or_else(of_namespace).or_else(of_cluster) else {
            return self.unknown();
        };
        let until = freeze.until.map_or("until resumed".into(), |t| {
            format!("until {}", crate::clock::timestamp(t).strftime("%Y-%m-%d %H:%M:%SZ"))
        });
        let reason = if freeze.reason.is_empty() { String::new() } else { format!(": {}", freeze.reason) };
        Some(format!("{what} paused {until}{reason}"))
    }

    /// Why nobody can tell whether anything is paused; that counts as paused.
    fn unknown(&self) -> Option<String> {
        if let Some((what, why)) = self.unreadable.iter().next() {
            return Some(format!("whether it is paused cannot be read ({what}: {why})"));
        }
        let missing = RESOURCES.iter().find(|resource| !self.read.contains(*resource))?;
        Some(format!("whether it is paused is not known yet: {missing} have not been read"))
    }
}

/// Watches namespaces and the cluster's own freeze. The watch ends with its receivers.
pub fn watch_freezes(cluster: &Cluster, own_namespace: &str) -> watch::Receiver<Arc<Freezes>> {
    let (tx, rx) = watch::channel(Arc::new(Freezes::default()));
    let tx = Arc::new(tx);
    let namespaces: Api<DeserializeGuard<Namespace>> = Api::all(cluster.reader.clone());
    tokio::spawn(follow(namespaces, tx.clone(), "namespaces", |freezes, name, freeze| match freeze {
        Some(freeze) => {
            freezes.namespaces.insert(name, freeze);
        }
        None => {
            freezes.namespaces.remove(&name);
        }
    }));
    let maps: Api<DeserializeGuard<ConfigMap>> = Api::namespaced(cluster.reader.clone(), own_namespace);
    tokio::spawn(follow(maps, tx, "configmaps", |freezes, name, freeze| {
        if name == PAUSE_CONFIG_MAP {
            freezes.cluster = freeze;
        }
    }));
    rx
}

/// Where a freeze is written on an object of this type.
trait Freezable: kube::Resource {
    fn freeze(&self) -> Option<Freeze>;
}

impl Freezable for Namespace {
    fn freeze(&self) -> Option<Freeze> {
        Freeze::read(self.annotations())
    }
}

impl Freezable for ConfigMap {
    fn freeze(&self) -> Option<Freeze> {
        let data = self.data.as_ref()?;
        Some(Freeze::of(data.get("until")?, data.get("reason")))
    }
}

async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    tx: Arc<watch::Sender<Arc<Freezes>>>,
    what: &'static str,
    set: impl Fn(&mut Freezes, String, Option<Freeze>),
) where
    K: Freezable
        + kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let mut events = guarded(api.clone());
    let mut listed: Vec<(String, Option<Freeze>)> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let change = |edit: &dyn Fn(&mut Freezes)| {
        tx.send_if_modified(|freezes| {
            let mut new = (**freezes).clone();
            edit(&mut new);
            let changed = new != **freezes;
            if changed {
                *freezes = Arc::new(new);
            }
            changed
        });
    };
    while let Some(event) = events.next().await {
        if tx.is_closed() {
            return;
        }
        let read = |guard: DeserializeGuard<K>| {
            // An object that cannot be read freezes: nobody can tell what it says.
            let unreadable = || Some(Freeze { until: None, reason: "its pause mark cannot be read".into() });
            (guard.name_any(), guard.0.as_ref().map_or_else(|_| unreadable(), Freezable::freeze))
        };
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(guard)) => listed.push(read(guard)),
            Ok(Event::InitDone) => {
                let before = std::mem::replace(&mut known, listed.iter().map(|(name, _)| name.clone()).collect());
                change(&|freezes| {
                    freezes.unreadable.remove(what);
                    freezes.read.insert(what);
                    before.iter().for_each(|name| set(freezes, name.clone(), None));
                    listed.iter().for_each(|(name, freeze)| set(freezes, name.clone(), freeze.clone()));
                });
            }
            Ok(Event::Apply(guard)) => {
                let (name, freeze) = read(guard);
                known.insert(name.clone());
                change(&|freezes| set(freezes, name.clone(), freeze.clone()));
            }
            Ok(Event::Delete(guard)) => change(&|freezes| set(freezes, guard.name_any(), None)),
            // A broken connection is mended by the watch itself, without any event; a missing right is not,
            // so the list is begun anew.
            Err(error) if forbidden(&error) => {
                change(&|freezes| {
                    freezes.unreadable.insert(what, watch_said(&error));
                });
                tokio::time::sleep(ASK_AGAIN).await;
                events = guarded(api.clone());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_read() -> Freezes {
        Freezes { read: RESOURCES.into_iter().collect(), ..Freezes::default() }
    }

    #[test]
    fn what_is_not_read_is_not_known_to_be_free() {
        let none = BTreeMap::new();
        assert!(Freezes::default().why("shop", &none, 0.0).is_some_and(|w| w.contains("not known yet")));
        let mut forbidden = all_read();
        forbidden.unreadable.insert("namespaces", "forbidden".into());
        assert!(forbidden.why("shop", &none, 0.0).is_some_and(|w| w.contains("cannot be read")));
    }

    fn marks(until: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(PAUSE_UNTIL.into(), until.into()), (PAUSE_REASON.into(), "black friday".into())])
    }

    #[test]
    fn a_freeze_ends_and_a_broken_end_never_does() {
        let freezes = all_read();
        let why = |until: &str, now| freezes.why("shop", &marks(until), now);
        assert!(why("1970-01-01T00:01:00Z", 59.0).is_some_and(|w| w.contains("black friday")));
        assert_eq!(why("1970-01-01T00:01:00Z", 60.0), None);
        assert!(why("tomorrow-ish", 1e12).is_some());
        assert!(why("forever", 1e12).is_some());
        assert_eq!(freezes.why("shop", &BTreeMap::new(), 0.0), None);
    }

    #[test]
    fn a_namespace_and_the_cluster_freeze_their_workloads() {
        let freeze = Freeze { until: None, reason: String::new() };
        let mut freezes = Freezes { namespaces: BTreeMap::from([("shop".into(), freeze.clone())]), ..all_read() };
        assert!(freezes.why("shop", &BTreeMap::new(), 0.0).is_some_and(|w| w.starts_with("namespace paused")));
        assert_eq!(freezes.why("other", &BTreeMap::new(), 0.0), None);
        freezes.cluster = Some(freeze);
        assert!(freezes.why("other", &BTreeMap::new(), 0.0).is_some_and(|w| w.starts_with("cluster paused")));
    }
}
