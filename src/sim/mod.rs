//! A simulated cluster: Kubernetes' API for the kinds that Lastgood uses, its controllers, and pods that answer
//! HTTP. It knows Kubernetes and nothing of Lastgood, so that it cannot be kind to it.
//!
//! The heart is synchronous: [`World`] is plain data, and [`World::step`] moves it to a time. [`Sim`] is the handle
//! that servers and tests share; it maps tokio's time (real or paused) to the world's and wakes who waits for writes.
//! A world outlives the runtime it was used in: the time goes on where it stood.

pub mod address;
mod api;
pub mod audit;
pub mod behaviour;
pub mod controllers;
mod defaults;
pub mod faults;
mod fields;
pub mod kubelet;
mod listeners;
mod managed;
mod object;
mod patch;
pub mod pod_http;
pub mod random;
pub mod refusal;
pub mod resource;
mod schema;
pub mod selector;
#[cfg(test)]
mod stage;
pub mod store;
pub mod traffic;
mod wire;
pub mod world;

pub use audit::{Asked, Audited};
pub use behaviour::Behaviour;
pub use faults::{Fault, Faults, Rule, Stale, When, Written};
pub use patch::merge_patch;
pub use refusal::Refusal;
pub use resource::{Key, Resource};
pub use store::{Manager, Store};
pub use world::World;

use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime, sync::watch, time::Instant};

/// A shared handle of one simulated cluster. Copies are the same cluster.
#[derive(Clone, Debug)]
pub struct Sim(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    audit: Mutex<Vec<Audited>>,
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
    /// The last time that was told: the next runtime goes on from there.
    latest: Timestamp,
}

/// Longest sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    /// A cluster whose time begins at `start`. Equal seeds and equal requests make equal clusters.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        let world = World::new(start, seed);
        let written = watch::Sender::new(world.store.revision());
        Self(Arc::new(Shared {
            world: Mutex::new(world),
            faults: Mutex::new(Faults::new(seed)),
            audit: Mutex::default(),
            anchor: Mutex::default(),
            written,
        }))
    }

    /// The world's time: it moves with tokio's, and stands still between runtimes.
    pub fn now(&self) -> Timestamp {
        let stood = || lock(&self.0.world).store.now();
        let Ok(runtime) = runtime::Handle::try_current().map(|handle| handle.id()) else { return stood() };
        let mut anchor = lock(&self.0.anchor);
        let from = anchor.filter(|a| a.runtime == runtime).unwrap_or_else(|| {
            let world = anchor.map_or(Timestamp::MIN, |a| a.latest).max(stood());
            Anchor { runtime, at: Instant::now(), world, latest: world }
        });
        let gone = SignedDuration::try_from(from.at.elapsed()).unwrap_or(SignedDuration::MAX);
        let now = from.world.checked_add(gone).unwrap_or(Timestamp::MAX);
        *anchor = Some(Anchor { latest: now, ..from });
        now
    }

    /// Lets time pass in one leap. Clocks that were set before do not know of it: leap before anybody lives here.
    pub fn leap(&self, span: SignedDuration) {
        let then = self.now().checked_add(span).unwrap_or(Timestamp::MAX);
        self.with(|world| world.step(then));
        let runtime = runtime::Handle::try_current().map(|handle| handle.id());
        *lock(&self.0.anchor) =
            runtime.ok().map(|runtime| Anchor { runtime, at: Instant::now(), world: then, latest: then });
    }

    /// Does something with the world as it is now, and lets the world react to it. `act` must not use this handle.
    pub fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        let now = self.now();
        let (result, revision) = {
            let mut world = lock(&self.0.world);
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

    /// Sets or asks for faults. `act` must not use this handle.
    pub fn faults<R>(&self, act: impl FnOnce(&mut Faults) -> R) -> R {
        let result = act(&mut lock(&self.0.faults));
        // Open watches look at their faults again.
        self.0.written.send_modify(|_| {});
        result
    }

    /// The same without waking the open watches.
    fn faults_quietly<R>(&self, act: impl FnOnce(&mut Faults) -> R) -> R {
        act(&mut lock(&self.0.faults))
    }

    /// Reads as somebody who may be served by a lagging server. `quorum`: asked for the newest.
    fn read<R>(&self, who: &str, quorum: bool, act: impl FnOnce(&Store) -> R) -> R {
        match self.faults_quietly(|faults| faults.stale(who, quorum)) {
            Some(stale) => act(&stale),
            None => self.with(|world| act(&world.store)),
        }
    }

    /// What the cluster stores now, standing still: for [`Stale`] views and comparisons.
    pub fn snapshot(&self) -> Arc<Store> {
        self.with(|world| Arc::new(world.store.clone()))
    }

    /// The requests so far that `wanted` selects, in order.
    pub fn audit(&self, wanted: impl Fn(&Audited) -> bool) -> Vec<Audited> {
        lock(&self.0.audit).iter().filter(|a| wanted(a)).cloned().collect()
    }

    /// Forgets the audit log.
    pub fn forget_audit(&self) {
        lock(&self.0.audit).clear();
    }

    /// A client of the API server. `who` is the user, for faults and the audit log.
    pub fn client(&self, who: &str) -> kube::Client {
        kube::Client::new(api::Front::new(self.clone(), who), "default")
    }

    /// Counts a write that does not go to the API server among those of `who`, around doing it: so that a crash
    /// can be put before and after it. A crash here never returns.
    pub async fn write_elsewhere<R>(&self, who: &str, write: Written, act: impl Future<Output = R>) -> R {
        self.alive(who).await;
        let number = self.faults_quietly(|faults| faults.note(who, write));
        self.crash_point(who, number, When::BeforeSend).await;
        let result = act.await;
        self.crash_point(who, number, When::BeforeAnswer).await;
        self.crash_point(who, number, When::AfterAnswer).await;
        result
    }

    /// Waits for ever when `who` is dead.
    async fn alive(&self, who: &str) {
        if lock(&self.0.faults).is_dead(who) {
            std::future::pending::<()>().await;
        }
    }

    async fn crash_point(&self, who: &str, write: usize, when: When) {
        // A death, too, has its time.
        self.now();
        let dies = lock(&self.0.faults).dies(who, write, when);
        if let Some(then) = dies {
            then();
            // The answer of the last write still arrives, but nothing after it.
            if when != When::AfterAnswer {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lets time pass: steps the world whenever something is due. Never ends.
    pub async fn drive(&self) {
        let mut written = self.written();
        loop {
            let due = self.with(|world| world.due());
            let wait = due.map(|due| due.duration_since(self.now()).max(SignedDuration::ZERO).unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or(IDLE)) => {}
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
