//! What the daemon shows over HTTP, read-only: `/metrics`, `/livez`, `/readyz`, `/api/v1/…`.
//!
//! Nothing here changes anything, and nothing secret is in what is shown: a snapshot names images,
//! hashes and sentences, never templates. Every request has a deadline, and so has a client that sends
//! its request slowly, so that strangers cannot take the place of the kubelet's probe.

mod api;
mod health;
mod heartbeat;
mod listener;
mod tape;

pub use heartbeat::Heartbeat;

use crate::{
    clock::Clock,
    domain::{Observed, Snapshot, WorkloadStatus},
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use listener::Patient;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
};

/// Longest that one answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for open requests at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// What the answers are made of.
#[derive(Clone)]
pub struct Served {
    /// What the daemon knows now, but for the workloads.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Asks what it knows of each workload: made when it is asked for.
    pub workloads: mpsc::Sender<oneshot::Sender<Vec<WorkloadStatus>>>,
    /// Everything that the analysis is told.
    pub tape: broadcast::Sender<Arc<[Observed]>>,
    /// Loops that must beat; a stale one fails `/livez`.
    pub heartbeats: Vec<Heartbeat>,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Tells how old the snapshot is.
    pub clock: Clock,
}

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process has the address.
    #[error(
        "cannot listen on {address}: it is in use; stop the other process or set `listen` (LASTGOOD_LISTEN) to a free address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error(
        "cannot listen on {address}: {source}; set `listen` (LASTGOOD_LISTEN) to an address of this machine and a port above 1023"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server broke.
    #[error("the HTTP server on {address} stopped: {source}")]
    Stopped {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// All routes.
pub fn router(served: Served) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/api/v1/snapshot", get(api::snapshot))
        .route("/api/v1/observations", get(tape::observations))
        .route("/api/v1/workloads/{namespace}/{kind}/{name}", get(api::workload))
        .fallback(api::no_such_page)
        .layer(middleware::from_fn(guard))
        .with_state(served)
}

async fn metrics(State(served): State<Served>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (served.metrics)()).into_response()
}

/// A deadline for every answer, and the headers that every answer has.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

/// A server that has its address but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the address, so that a taken port is told before anything else begins.
///
/// # Errors
/// The address is in use or not ours to take.
pub async fn bind(address: SocketAddr) -> Result<Server, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address },
        _ => ServeError::Listen { address, source },
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok(Server { listener, address })
}

impl Server {
    /// Where it listens; tells the port when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` becomes true (or its sender is gone), then lets open requests end, for at
    /// most five seconds.
    ///
    /// # Errors
    /// The listening socket broke.
    pub async fn run(self, served: Served, mut shutdown: watch::Receiver<bool>) -> Result<(), ServeError> {
        let address = self.address;
        let mut over = shutdown.clone();
        let asked = async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        let serving = axum::serve(Patient::new(self.listener), router(served)).with_graceful_shutdown(asked);
        let drained = async move {
            let _ = over.wait_for(|stop| *stop).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            result = serving => result.map_err(|source| ServeError::Stopped { address, source }),
            () = drained => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
