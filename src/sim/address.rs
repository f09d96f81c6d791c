//! Addresses of pods: made up, or real ports on loopback where something outside the process shall reach them.
//!
//! Fails: a port that cannot be had now is asked for again with the pod's next try.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Gives pods their addresses.
#[derive(Debug, Default)]
pub struct Addresses {
    given: u32,
    /// Set where pods listen for real.
    loopback: Option<Loopback>,
}

/// Listeners that nobody serves yet.
#[derive(Debug, Default)]
struct Loopback {
    opened: Vec<TcpListener>,
    closed: Vec<SocketAddr>,
}

impl Addresses {
    /// Real ports on 127.0.0.1.
    pub fn loopback() -> Self {
        Self { given: 0, loopback: Some(Loopback::default()) }
    }

    /// An address for a pod that listens at `port`; on loopback a free port takes its place.
    pub fn give(&mut self, port: u16) -> Option<SocketAddr> {
        let Some(loopback) = &mut self.loopback else {
            self.given += 1;
            let [_, high, middle, low] = self.given.to_be_bytes();
            // 10.244.0.0/16 first; a /8 is more than any story needs.
            return Some(SocketAddr::from((Ipv4Addr::new(10, 244_u8.wrapping_add(high), middle, low), port)));
        };
        let opened = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = opened.ok()?;
        loopback.opened.push(listener);
        Some(address)
    }

    /// Takes an address back.
    pub fn release(&mut self, address: Option<SocketAddr>) {
        if let (Some(loopback), Some(address)) = (&mut self.loopback, address) {
            loopback.closed.push(address);
        }
    }

    /// Listeners that were opened, and addresses that were closed, since the last call.
    pub fn news(&mut self) -> (Vec<TcpListener>, Vec<SocketAddr>) {
        self.loopback.as_mut().map_or_else(Default::default, |loopback| {
            (std::mem::take(&mut loopback.opened), std::mem::take(&mut loopback.closed))
        })
    }
}
