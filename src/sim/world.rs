//! Everything there is in the simulated cluster, and how it moves. Pure: time is given in.

use super::{
    address::Addresses,
    behaviour::{Behaviour, Behaviours},
    controllers::Controllers,
    kubelet::{self, Kubelet},
    random::Random,
    resource::{Key, Resource},
    store::{Manager, Store},
    traffic::Traffic,
};
use jiff::Timestamp;

/// Rounds at one moment; more means that controllers and kubelets fight.
const ROUNDS: usize = 1000;

/// Everything there is in the simulated cluster.
#[derive(Debug)]
pub struct World {
    /// The objects.
    pub store: Store,
    /// The users.
    pub traffic: Traffic,
    behaviours: Behaviours,
    controllers: Controllers,
    kubelet: Kubelet,
    addresses: Addresses,
    random: Random,
    runaway: bool,
    still: bool,
}

impl World {
    /// An empty cluster without nodes.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        Self {
            store: Store::new(start, seed),
            traffic: Traffic::new(start),
            behaviours: Behaviours::default(),
            controllers: Controllers::default(),
            kubelet: Kubelet::default(),
            addresses: Addresses::default(),
            random: Random::new(seed ^ 0x51D_C0DE),
            runaway: false,
            still: false,
        }
    }

    /// From now on neither controllers nor kubelets live here: whoever asks for this writes what they would.
    pub fn stand_still(&mut self) {
        self.still = true;
    }

    /// Adds nodes `node-1`, `node-2`, …; those that are there stay.
    pub fn add_nodes(&mut self, count: usize) {
        let now = self.store.now();
        for number in 1..=count {
            let node = kubelet::node(&format!("node-{number}"), now);
            let _ = self.store.create(Resource::Nodes, "", node, Manager::KUBELET);
        }
    }

    /// Pods get real ports on loopback from now on, for whoever serves them.
    pub fn use_loopback(&mut self) {
        self.addresses = Addresses::loopback();
    }

    /// Where pods' addresses come from.
    pub fn addresses(&mut self) -> &mut Addresses {
        &mut self.addresses
    }

    /// The kubelets.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// Says what an image does from now on, also where it runs already.
    pub fn set_behaviour(&mut self, image: &str, behaviour: Behaviour) {
        self.kubelet.change(image, &behaviour, self.store.now());
        self.behaviours.0.insert(image.to_owned(), behaviour);
    }

    /// Ends the container of a pod at once; whether it ran.
    pub fn kill_container(&mut self, namespace: &str, pod: &str) -> bool {
        let now = self.store.now();
        self.kubelet.kill(&Key::new(Resource::Pods, namespace, pod), now)
    }

    /// So many requests a second come to a Service.
    pub fn set_load(&mut self, namespace: &str, service: &str, per_second: f64) {
        if self.traffic.next().is_none() {
            self.traffic.start(self.store.now());
        }
        self.traffic.set(namespace, service, per_second);
    }

    /// Moves the world to a time: whatever is due until then happens, each at its own moment. Going back is not
    /// possible; it then stays.
    pub fn step(&mut self, now: Timestamp) {
        let now = now.max(self.store.now());
        self.settle();
        while let Some(next) = self.due().into_iter().chain(self.traffic.next()).min().filter(|next| *next <= now) {
            if self.ran_away() {
                break;
            }
            self.store.set_now(next.max(self.store.now()));
            if self.traffic.next().is_some_and(|at| at <= self.store.now()) {
                self.traffic.count(&self.store, &mut self.kubelet, &mut self.random);
            }
            self.settle();
        }
        self.store.set_now(now);
        self.settle();
    }

    /// When something happens next without anybody's doing. Traffic is left out: it is counted when one looks.
    pub fn due(&self) -> Option<Timestamp> {
        if self.still {
            return None;
        }
        self.controllers.next().into_iter().chain(self.kubelet.next()).min()
    }

    /// Whether parts of the world once went round in circles: a defect of the simulation.
    pub fn ran_away(&self) -> bool {
        self.runaway || self.controllers.ran_away()
    }

    /// Lets everybody react to everybody until nothing changes.
    fn settle(&mut self) {
        if self.still {
            return self.store.collect_garbage();
        }
        for _ in 0..ROUNDS {
            let before = self.store.revision();
            self.store.collect_garbage();
            self.controllers.settle(&mut self.store, &mut self.random);
            self.kubelet.sync(&mut self.store, &self.behaviours, &mut self.addresses);
            let now = self.store.now();
            if self.store.revision() == before && self.due().is_none_or(|at| at > now) {
                return;
            }
        }
        self.runaway = true;
    }
}
