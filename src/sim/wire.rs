//! The cluster's network: pods by their address and Services by their name, for whoever asks plain HTTP.

use super::{
    Sim,
    pod_http::{Ask, respond, respond_as_service},
};
use crate::wire::{Lost, Peer, Wire};
use futures::future::BoxFuture;
use http::Response;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The network as one user reaches it.
struct Network {
    sim: Sim,
    who: Arc<str>,
    turn: AtomicU64,
}

impl Sim {
    /// A way to the pods that leaves no process. `who` is the user: one who is dead gets no answer.
    pub fn wire(&self, who: &str) -> Wire {
        Wire::Simulated(Arc::new(Network { sim: self.clone(), who: who.into(), turn: AtomicU64::new(0) }))
    }
}

impl Peer for Network {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, Result<Response<Vec<u8>>, Lost>> {
        let (sim, who, turn) = (self.sim.clone(), self.who.clone(), self.turn.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            sim.alive(&who).await;
            let url = request.url();
            let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
                return Err(Lost::NoName);
            };
            let ask = Ask { method: request.method(), path: url.path() };
            sim.with(|world| match host.parse() {
                Ok(address) => respond(world, std::net::SocketAddr::new(address, port), ask),
                Err(_) => respond_as_service(world, (host, port), turn, ask),
            })
        })
    }
}
