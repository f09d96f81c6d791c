//! The users: so many requests a second to a Service, spread over its ready endpoints.
//!
//! Requests are counted, not sent: once a second of virtual time the pods' counters grow by what they would have
//! answered, so that an hour of traffic costs as little as a second of it. The times of the counting are fixed, so
//! that when somebody looks changes nothing.

use super::{
    controllers::SERVICE,
    kubelet::Kubelet,
    object::{after, flag, label, list, text},
    random::Random,
    resource::{Key, Resource},
    store::Store,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Seconds between two countings.
const EVERY: f64 = 1.0;
/// Calls that are followed deep; a circle of services ends here.
const DEPTH: usize = 4;

/// What the users of a Service have seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answered well.
    pub ok: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered: nobody was there.
    pub refused: u64,
}

impl Seen {
    /// All requests.
    pub fn total(self) -> u64 {
        self.ok + self.failed + self.refused
    }
}

#[derive(Debug, Clone, Default)]
struct Load {
    per_second: f64,
    /// The part of a request that is still owed.
    owed: f64,
    seen: Seen,
}

/// All users.
#[derive(Debug, Clone)]
pub struct Traffic {
    loads: BTreeMap<Key, Load>,
    /// Services that a service needs for each of its answers.
    calls: BTreeMap<Key, Vec<Key>>,
    /// Share of all requests that fail because something that every service needs is down.
    outage: f64,
    counted: Timestamp,
}

impl Traffic {
    /// Nobody yet.
    pub fn new(now: Timestamp) -> Self {
        Self { loads: BTreeMap::new(), calls: BTreeMap::new(), outage: 0.0, counted: now }
    }

    /// So many users come to a Service; zero ends it. What was seen stays.
    pub fn set(&mut self, namespace: &str, service: &str, per_second: f64) {
        let key = Key::new(Resource::Services, namespace, service);
        self.loads.entry(key).or_default().per_second = per_second.max(0.0);
    }

    /// A dependency that every service shares fails this share of their requests; zero ends it.
    pub fn set_outage(&mut self, share: f64) {
        self.outage = share.clamp(0.0, 1.0);
    }

    /// A Service needs this other one of its namespace for each of its answers: what fails there fails here.
    pub fn set_call(&mut self, namespace: &str, service: &str, needed: &str) {
        let key = |name| Key::new(Resource::Services, namespace, name);
        self.calls.entry(key(service)).or_default().push(key(needed));
    }

    /// Share of the answers of a Service that fail with what it needs.
    fn failing_below(&self, service: &Key, store: &Store, kubelet: &Kubelet, depth: usize) -> f64 {
        let needed = self.calls.get(service).filter(|_| depth > 0).into_iter().flatten();
        let well = |needed: &Key| {
            let pods = endpoints(store, needed);
            let lives: Vec<_> = pods.iter().filter_map(|pod| kubelet.pod(pod)).filter(|life| life.serves()).collect();
            let failing: f64 = lives.iter().map(|life| life.behaviour.errors_at(life.age(store.now()))).sum();
            let own = if lives.is_empty() { 1.0 } else { failing / lives.len() as f64 };
            (1.0 - own) * (1.0 - self.failing_below(needed, store, kubelet, depth - 1))
        };
        1.0 - needed.map(well).product::<f64>()
    }

    /// What the users of a Service have seen so far.
    pub fn seen(&self, namespace: &str, service: &str) -> Seen {
        let key = Key::new(Resource::Services, namespace, service);
        self.loads.get(&key).map(|load| load.seen).unwrap_or_default()
    }

    /// When is counted next; never when there are no users.
    pub fn next(&self) -> Option<Timestamp> {
        (!self.loads.is_empty()).then(|| after(self.counted, EVERY))
    }

    /// Counts a second of requests.
    pub fn count(&mut self, store: &Store, kubelet: &mut Kubelet, random: &mut Random) {
        let now = store.now();
        self.counted = now;
        let below = |service: &Key| self.failing_below(service, store, kubelet, DEPTH);
        let below: Vec<f64> = self.loads.keys().map(below).collect();
        for ((service, load), below) in self.loads.iter_mut().zip(below) {
            let well = (1.0 - self.outage) * (1.0 - below);
            load.owed += load.per_second * EVERY;
            let mut left = load.owed.floor() as u64;
            load.owed -= left as f64;
            let pods = endpoints(store, service);
            for (at, pod) in pods.iter().enumerate() {
                // Each picks one of the rest by chance, as kube-proxy does.
                let n = random.binomial(left, 1.0 / (pods.len() - at) as f64);
                left -= n;
                let Some(life) = kubelet.pod_mut(pod).filter(|life| life.serves()) else {
                    load.seen.refused += n;
                    continue;
                };
                let own = life.behaviour.errors_at(life.age(now));
                let (ok, failed) = life.serve(n, 1.0 - (1.0 - own) * well, random);
                load.seen.ok += ok;
                load.seen.failed += failed;
            }
            load.seen.refused += left;
        }
    }

    /// Begins to count now: nothing is owed for the time before the first users.
    pub fn start(&mut self, now: Timestamp) {
        self.counted = self.counted.max(now);
    }
}

/// The ready pods behind a Service.
pub fn endpoints(store: &Store, service: &Key) -> Vec<Key> {
    let slices = store.list(Resource::EndpointSlices, Some(&service.namespace));
    slices
        .filter(|(_, slice)| label(slice, SERVICE) == service.name)
        .flat_map(|(_, slice)| list(slice, "/endpoints"))
        .filter(|endpoint| flag(endpoint, "/conditions/ready"))
        .map(|endpoint| Key::new(Resource::Pods, &*service.namespace, text(endpoint, "/targetRef/name")))
        .collect()
}
