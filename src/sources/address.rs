//! Which addresses may be asked (safety.md 3.4). A pod's address comes from the API server and a
//! Service's from DNS; both are checked, and the checked address is the one that is connected to.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// Tells forbidden from allowed addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Refuses what no pod or Service can have.
    Strict,
    /// Allows loopback as well, where a simulated cluster or a test serves; never a setting.
    Loopback,
}

/// An address that must not be asked.
#[derive(Debug)]
pub(crate) struct Forbidden(pub(crate) IpAddr);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the address {} is not allowed", self.0)
    }
}

impl std::error::Error for Forbidden {}

/// Metadata and wire servers of clouds that are not link-local already.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

impl Guard {
    /// Lets an address through or names it.
    pub(crate) fn admit(self, address: IpAddr) -> Result<IpAddr, Forbidden> {
        let plain = address.to_canonical();
        let link_local = match plain {
            IpAddr::V4(a) => a.is_link_local() || a.is_broadcast() || a.octets()[0] == 0,
            // The deprecated IPv4-compatible form would be a way around the checks for IPv4.
            IpAddr::V6(a) => a.is_unicast_link_local() || matches!(a.segments(), [0, 0, 0, 0, 0, 0, hi, _] if hi != 0),
        };
        let loopback = plain.is_loopback() && self == Guard::Strict;
        if loopback || link_local || plain.is_unspecified() || plain.is_multicast() || METADATA.contains(&plain) {
            return Err(Forbidden(address));
        }
        Ok(address)
    }
}

/// Resolves a name and gives out only addresses that the guard admits, so that what was checked is
/// what is connected to and a second answer of the name server cannot slip in between.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) guard: Guard,
    /// Names with fixed addresses (a simulated cluster, tests); all others are asked from the system.
    pub(crate) fixed: Arc<BTreeMap<String, Vec<SocketAddr>>>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { guard, fixed } = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = match fixed.get(name.as_str()) {
                Some(addresses) => addresses.clone(),
                // The closing dot keeps search domains out: the name is complete.
                None => {
                    tokio::net::lookup_host((format!("{}.", name.as_str().trim_end_matches('.')), 0)).await?.collect()
                }
            };
            if found.is_empty() {
                return Err("the name has no address".into());
            }
            // One bad address spoils the name: an honest Service never mixes them.
            for address in &found {
                guard.admit(address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_pod_can_have() {
        for bad in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
        ] {
            assert!(Guard::Strict.admit(bad.parse().unwrap()).is_err(), "{bad}");
        }
        for good in ["10.0.0.7", "172.16.3.4", "192.168.1.1", "100.64.0.9", "fd12:3456::7", "2001:db8::1", "8.8.8.8"] {
            assert!(Guard::Strict.admit(good.parse().unwrap()).is_ok(), "{good}");
        }
        assert!(Guard::Loopback.admit("127.0.0.1".parse().unwrap()).is_ok());
        assert!(Guard::Loopback.admit("169.254.169.254".parse().unwrap()).is_err());
    }
}
