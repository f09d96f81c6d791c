//! The surroundings of a daemon that lives on a simulated cluster: the same daemon, with nothing real around it.
//!
//! Used by `lastgood demo` and by tests. Nothing here is kinder than a real cluster: the daemon reads and writes
//! through the simulated API server, and reads its pods' own metrics.

use super::{AppError, Surroundings};
use crate::{
    clock::{Clock, seconds},
    cluster::{Cluster, Contact},
    config::{ActiveThresholds, Faults, Reload, Settings, Thresholds},
    record::Incident,
    sim::{Key, Manager, Resource, Sim},
    sources::Sources,
    wire::Wire,
};
use jiff::Timestamp;
use kube::CustomResourceExt;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;

/// A daemon to be, on a simulated cluster.
pub struct Simulated<'a> {
    /// The cluster.
    pub sim: &'a Sim,
    /// The daemon's user, which faults and the audit log name; also the name of this replica.
    pub who: &'a str,
    /// Its settings. A Prometheus in them is asked over the real network.
    pub settings: Settings,
    /// The thresholds in force.
    pub thresholds: watch::Receiver<Arc<ActiveThresholds>>,
    /// What carries scrapes and probes: [`Sim::wire`], or the network where pods listen on loopback.
    pub pods: Wire,
    /// What carries notices.
    pub notices: Wire,
}

impl Simulated<'_> {
    /// The surroundings, whose clock agrees with the cluster's time. Must be called in the runtime that the daemon
    /// will run in.
    ///
    /// # Errors
    /// [`AppError::Source`] when a source cannot be built from the settings.
    pub fn surroundings(self) -> Result<Surroundings, AppError> {
        let Self { sim, who, settings, thresholds, pods, notices } = self;
        let clock = Clock::starting_at(sim.now());
        let sources = Sources::simulated(&settings.sources, clock, &pods)?;
        let cluster = Cluster {
            reader: sim.client(who),
            writer: sim.client(who),
            url: "https://kubernetes.simulated".into(),
            contact: Contact::default(),
            default_namespace: "lastgood".into(),
            namespaces: settings.namespaces.clone(),
        };
        Ok(Surroundings { settings, thresholds, cluster, sources, wire: notices, clock, identity: who.to_owned() })
    }
}

/// Puts into a cluster what `kubectl apply -k deploy/` would, as far as the daemon needs it: its namespace and the
/// Incident type. What is there already stays.
pub fn install(sim: &Sim) {
    let definition = serde_json::to_value(Incident::crd()).unwrap_or_default();
    sim.with(|world| {
        let namespace = json!({"metadata": {"name": "lastgood"}});
        for (resource, object) in [(Resource::Namespaces, namespace), (Resource::CustomResourceDefinitions, definition)]
        {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if world.store.get(&Key::new(resource, "", name)).is_none() {
                let _ = world.store.create(resource, "", object, Manager("kubectl"));
            }
        }
    });
}

/// Thresholds from a text, as they are in force from `now` on.
///
/// # Errors
/// Every fault of the text.
pub fn thresholds(title: &str, text: &str, now: Timestamp) -> Result<ActiveThresholds, Faults> {
    let parsed = Thresholds::parse(title, text)?;
    Ok(Reload::new(title, parsed, Some(text), seconds(now)).active())
}
