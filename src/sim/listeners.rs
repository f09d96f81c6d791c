//! Real listeners on loopback for pods that got real ports, so that whatever is outside the process can ask them.
//!
//! Fails: a connection to a pod that does not serve now is closed at once. Recovers: with the container.

use super::{
    Sim,
    pod_http::{Ask, respond},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    serve::Listener,
};
use http::StatusCode;
use std::{collections::BTreeMap, io, net::SocketAddr};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

impl Sim {
    /// Serves every pod that has a real port, as they come and go. Never ends; when it is dropped, so are the
    /// listeners.
    pub async fn serve_pods(&self) {
        let mut written = self.written();
        let mut served = Servers::default();
        loop {
            let (opened, closed) = self.with(|world| world.addresses().news());
            for listener in opened {
                // A listener that cannot be used refuses, as a broken pod does.
                let _ = served.open(self, listener);
            }
            closed.iter().for_each(|address| served.close(address));
            // The cluster is this future's own: it cannot be gone.
            let _ = written.changed().await;
        }
    }
}

#[derive(Default)]
struct Servers(BTreeMap<SocketAddr, AbortHandle>);

impl Servers {
    fn open(&mut self, sim: &Sim, listener: std::net::TcpListener) -> io::Result<()> {
        let inner = TcpListener::from_std(listener)?;
        let address = inner.local_addr()?;
        let door = Door { inner, address, sim: sim.clone() };
        let router = Router::new().fallback(answer).with_state((sim.clone(), address));
        let task = tokio::spawn(async move { drop(axum::serve(door, router).await) });
        self.0.insert(address, task.abort_handle());
        Ok(())
    }

    fn close(&mut self, address: &SocketAddr) {
        if let Some(task) = self.0.remove(address) {
            task.abort();
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

async fn answer(State((sim, address)): State<(Sim, SocketAddr)>, request: Request) -> Response {
    let ask = Ask { method: request.method(), path: request.uri().path() };
    match sim.with(|world| respond(world, address, ask)) {
        Ok(response) => response.map(Body::from),
        // It went between the connection and the request.
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    }
}

/// Lets nobody in while the container does not run.
struct Door {
    inner: TcpListener,
    address: SocketAddr,
    sim: Sim,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.inner).await;
            if self.sim.with(|world| world.kubelet().at(self.address).is_some()) {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
