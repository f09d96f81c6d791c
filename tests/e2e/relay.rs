//! A TCP relay that can stand still, break, and lead elsewhere. TLS goes through it untouched, so a daemon
//! behind one meets its API server as if by a bad network.
use crate::fail::Result;
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What the relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Link {
    /// Hands everything on.
    Open,
    /// Keeps every connection and lets nothing through.
    Frozen,
    /// Closes every connection, old and new.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    link: Link,
    to: SocketAddr,
}

/// A running relay; dropping it closes every connection.
pub(crate) struct Relay {
    pub(crate) listen: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let listen = listener.local_addr()?;
        let (state, seen) = watch::channel(State { link: Link::Open, to });
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(connection(stream, seen.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { listen, state, task })
    }

    pub(crate) fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Leads elsewhere; connections to where it led are closed.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        self.state.send_modify(|state| state.to = to);
    }
}

async fn connection(from: TcpStream, mut state: watch::Receiver<State>) {
    let Some(to) = passable(&mut state, None).await else { return };
    let Ok(there) = TcpStream::connect(to).await else { return };
    let (ours, theirs) = (from.into_split(), there.into_split());
    // When one direction ends, so does the other: HTTP needs no half-closed connections.
    tokio::select! {
        () = pump(ours.0, theirs.1, state.clone(), to) => {}
        () = pump(theirs.0, ours.1, state.clone(), to) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, at: SocketAddr) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = state.changed() => {
                if changed.is_err() || passable(&mut state, Some(at)).await.is_none() { return }
                continue;
            }
        };
        let Ok(n @ 1..) = read else { return };
        if passable(&mut state, Some(at)).await.is_none() || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Waits while the link is frozen; then where it leads, unless it is down or leads elsewhere than before.
async fn passable(state: &mut watch::Receiver<State>, before: Option<SocketAddr>) -> Option<SocketAddr> {
    let elsewhere = |to: SocketAddr| before.is_some_and(|before| before != to);
    let now = *state.wait_for(|s| s.link != Link::Frozen || elsewhere(s.to)).await.ok()?;
    (now.link == Link::Open && !elsewhere(now.to)).then_some(now.to)
}
