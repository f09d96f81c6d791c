//! A simulated cluster: Kubernetes' API for the kinds that Lastgood uses, its controllers, and pods that answer
//! HTTP. It knows Kubernetes and nothing of Lastgood, so that it cannot be kind to it.
//!
//! The heart is synchronous: [`World`] is plain data, and [`World::step`] moves it to a time. [`Sim`] is the handle
//! that servers and tests share; it maps tokio's time (real or paused) to the world's and wakes who waits for writes.
//! A world outlives the runtime it was used in: the time goes on where it stood.

pub mod address;
mod api;
pub mod behaviour;
pub mod controllers;
pub mod kubelet;
mod object;
pub mod pod_http;
pub mod random;
pub mod refusal;
pub mod resource;
#[cfg(test)]
mod stage;
pub mod store;
pub mod traffic;
pub mod world;

pub use behaviour::Behaviour;
pub use refusal::Refusal;
pub use resource::{Key, Resource};
pub use store::{Manager, Store};
pub use world::World;

use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{runtime, sync::watch, time::Instant};

/// A shared handle of one simulated cluster. Copies are the same cluster.
#[derive(Clone, Debug)]
pub struct Sim(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    anchor: Mutex<Option<Anchor>>,
    /// The store's revision, for those who wait for writes.
    written: watch::Sender<u64>,
}

/// Where the world's time stood when a runtime first asked for it.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    runtime: runtime::Id,
    at: Instant,
    world: Timestamp,
}

impl Sim {
    /// A cluster whose time begins at `start`. Equal seeds and equal requests make equal clusters.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        let world = World::new(start, seed);
        let written = watch::Sender::new(world.store.revision());
        Self(Arc::new(Shared { world: Mutex::new(world), anchor: Mutex::default(), written }))
    }

    /// The world's time: it moves with tokio's, and stands still between runtimes.
    pub fn now(&self) -> Timestamp {
        let stood = || self.0.world.lock().unwrap_or_else(PoisonError::into_inner).store.now();
        let Ok(runtime) = runtime::Handle::try_current().map(|handle| handle.id()) else { return stood() };
        let mut anchor = self.0.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let known = anchor.filter(|a| a.runtime == runtime);
        let from = known.unwrap_or_else(|| Anchor { runtime, at: Instant::now(), world: stood() });
        *anchor = Some(from);
        let gone = SignedDuration::try_from(from.at.elapsed()).unwrap_or(SignedDuration::MAX);
        from.world.checked_add(gone).unwrap_or(Timestamp::MAX)
    }

    /// Does something with the world as it is now, and lets the world react to it.
    pub fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        let now = self.now();
        let (result, revision) = {
            let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
            world.step(now);
            let before = world.store.revision();
            let result = act(&mut world);
            if world.store.revision() != before {
                world.step(now);
            }
            (result, world.store.revision())
        };
        self.0.written.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        result
    }

    /// A client of the API server. `who` is the user, for faults and the audit log.
    pub fn client(&self, who: &str) -> kube::Client {
        kube::Client::new(api::Front::new(self.clone(), who), "default")
    }

    /// Lets time pass: steps the world whenever something is due. Never ends.
    pub async fn drive(&self) {
        let mut written = self.written();
        loop {
            let due = self.with(|world| world.due());
            let wait = due.map(|due| due.duration_since(self.now()).max(SignedDuration::ZERO).unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or(std::time::Duration::from_secs(3600))) => {}
                // A write may have made something due earlier.
                _ = written.changed() => {}
            }
        }
    }

    /// Tells whenever something was written.
    fn written(&self) -> watch::Receiver<u64> {
        self.0.written.subscribe()
    }
}
