//! The Incidents that something may be left to do for, kept by one watch per scope: those that are open, and
//! those of the last two days, whose telling may not have succeeded yet.
//!
//! They are trimmed: whoever acts on one reads it afresh. Fails: a watch that does not work is told once and
//! tried again; what was known stays known.

use super::Incident;
use crate::{
    clock::{Clock, seconds},
    cluster::{Cluster, guarded, watch_said},
    domain::Seconds,
};
use futures::StreamExt;
use kube::{Api, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;

/// Older incidents are told no more.
pub const TOLD_FOR: Seconds = 2.0 * 86_400.0;

/// What the watches have shown so far.
#[derive(Clone)]
pub struct RecentIncidents(watch::Receiver<Known>);

#[derive(Default)]
struct Known {
    /// Scopes whose list is not complete yet.
    unread: BTreeSet<Option<String>>,
    incidents: BTreeMap<(String, String), Arc<Incident>>,
}

impl RecentIncidents {
    /// Watches the Incidents of the watched namespaces, until all clones are dropped.
    pub fn watch(cluster: &Cluster, clock: Clock) -> Self {
        let scopes: BTreeSet<Option<String>> = if cluster.namespaces.is_empty() {
            BTreeSet::from([None])
        } else {
            cluster.namespaces.iter().cloned().map(Some).collect()
        };
        let (tx, rx) = watch::channel(Known { unread: scopes.clone(), incidents: BTreeMap::new() });
        let tx = Arc::new(tx);
        for scope in scopes {
            let client = cluster.reader.clone();
            let api = scope.as_ref().map_or_else(|| Api::all(client.clone()), |n| Api::namespaced(client.clone(), n));
            tokio::spawn(follow(api, scope, clock, tx.clone()));
        }
        Self(rx)
    }

    /// Waits until all lists are complete.
    pub async fn listed(&mut self) {
        if self.0.wait_for(|known| known.unread.is_empty()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Those that are open or recent, trimmed.
    pub fn all(&self) -> Vec<Arc<Incident>> {
        self.0.borrow().incidents.values().cloned().collect()
    }

    /// Those that are not at their end, trimmed.
    pub fn open(&self) -> Vec<Arc<Incident>> {
        self.0.borrow().incidents.values().filter(|i| is_open(i)).cloned().collect()
    }
}

async fn follow(
    api: Api<DeserializeGuard<Incident>>,
    scope: Option<String>,
    clock: Clock,
    tx: Arc<watch::Sender<Known>>,
) {
    let mut events = guarded(api);
    let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
    let mut trouble: Option<String> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tx.closed() => return,
        };
        match event {
            Some(Ok(event)) => {
                trouble = None;
                let now = clock.now();
                tx.send_modify(|known| known.take(event, scope.as_ref(), &mut listed, now));
            }
            Some(Err(error)) => {
                let why = watch_said(&error);
                if trouble.as_ref() != Some(&why) {
                    tracing::warn!(why, "incidents cannot be watched; trying again");
                    trouble = Some(why);
                }
            }
            None => return,
        }
    }
}

impl Known {
    fn take(
        &mut self,
        event: Event<DeserializeGuard<Incident>>,
        scope: Option<&String>,
        listed: &mut BTreeSet<(String, String)>,
        now: Seconds,
    ) {
        let key = |guard: &DeserializeGuard<Incident>| (guard.namespace().unwrap_or_default(), guard.name_any());
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(guard) => {
                listed.insert(key(&guard));
                self.keep(key(&guard), guard, now);
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                let elsewhere = |namespace: &String| scope.is_some_and(|scope| scope != namespace);
                self.incidents.retain(|key, _| elsewhere(&key.0) || listed.contains(key));
                self.unread.remove(&scope.cloned());
            }
            Event::Apply(guard) => {
                self.keep(key(&guard), guard, now);
                self.incidents.retain(|_, incident| matters(incident, now));
            }
            Event::Delete(guard) => {
                self.incidents.remove(&key(&guard));
            }
        }
    }

    fn keep(&mut self, key: (String, String), guard: DeserializeGuard<Incident>, now: Seconds) {
        match guard.0 {
            Ok(incident) if matters(&incident, now) => {
                self.incidents.insert(key, Arc::new(trimmed(incident)));
            }
            Ok(_) => {
                self.incidents.remove(&key);
            }
            Err(invalid) => {
                tracing::warn!(incident = key.1, why = invalid.error, "an incident cannot be read and is left out");
            }
        }
    }
}

fn is_open(incident: &Incident) -> bool {
    incident.status.as_ref().is_some_and(|status| !status.phase.is_final())
}

fn matters(incident: &Incident, now: Seconds) -> bool {
    is_open(incident) || now - seconds(incident.spec.decided) < TOLD_FOR
}

/// What is long is only read again by whoever needs it.
fn trimmed(mut incident: Incident) -> Incident {
    incident.metadata.managed_fields = None;
    incident.spec.findings = Vec::new();
    if let Some(status) = &mut incident.status {
        status.journal = Vec::new();
        status.leftovers = Vec::new();
    }
    incident
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Seconds = 1_790_000_000.0;

    fn incident(namespace: &str, name: &str, phase: &str, decided: Seconds) -> DeserializeGuard<Incident> {
        serde_json::from_value(json!({
            "apiVersion": "lastgood.dev/v1", "kind": "Incident",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "workload": {"kind": "Deployment", "name": "web", "uid": "u"}, "environment": "test",
                "bad": {"hash": "b"}, "trigger": {"by": "Lastgood", "manual": false}, "reason": "errors",
                "explanation": "x", "decided": crate::clock::timestamp(decided),
                "findings": [{"signal": "errors", "stream": "new pods", "new": "1", "says": "convicts"}],
            },
            "status": {"phase": phase, "journal": [{"t": "2026-01-01T00:00:00Z", "step": "intent", "text": "x"}]},
        }))
        .expect("an incident")
    }

    fn names(known: &Known) -> Vec<String> {
        known.incidents.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    #[test]
    fn only_open_and_recent_incidents_are_kept_and_they_are_trimmed() {
        let (mut known, mut listed) = (Known::default(), BTreeSet::new());
        known.unread.insert(None);
        let old = NOW - TOLD_FOR - 1.0;
        for (name, phase, decided) in [
            ("old-and-open", "Applied", old),
            ("old-and-done", "Verified", old),
            ("new-and-done", "Verified", NOW - 60.0),
        ] {
            known.take(Event::InitApply(incident("shop", name, phase, decided)), None, &mut listed, NOW);
        }
        known.take(Event::InitDone, None, &mut listed, NOW);
        assert_eq!(names(&known), ["shop/new-and-done", "shop/old-and-open"]);
        assert!(known.unread.is_empty());
        for incident in known.incidents.values() {
            assert!(
                incident.spec.findings.is_empty() && incident.status.as_ref().is_some_and(|s| s.journal.is_empty())
            );
        }
        // Its end, long after: nothing is left to do.
        known.take(Event::Apply(incident("shop", "old-and-open", "Verified", old)), None, &mut listed, NOW);
        assert_eq!(names(&known), ["shop/new-and-done"]);
        known.take(Event::Delete(incident("shop", "new-and-done", "Verified", NOW)), None, &mut listed, NOW);
        assert!(known.incidents.is_empty());
    }

    #[test]
    fn a_new_list_of_one_namespace_says_nothing_of_another() {
        let mut known = Known::default();
        let (shop, back) = ("shop".to_owned(), "back".to_owned());
        let mut listed = BTreeSet::new();
        known.take(Event::Apply(incident("shop", "a", "Applied", NOW)), Some(&shop), &mut listed, NOW);
        known.take(Event::Apply(incident("back", "b", "Applied", NOW)), Some(&back), &mut listed, NOW);
        known.take(Event::Init, Some(&shop), &mut listed, NOW);
        known.take(Event::InitDone, Some(&shop), &mut listed, NOW);
        assert_eq!(names(&known), ["back/b"]);
    }
}
