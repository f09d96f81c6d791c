//! What every HTTP edge shares: a client that follows nothing and obeys no proxy, bodies with a cap,
//! and a closed vocabulary of faults that cannot leak a URL.

use crate::wire::{Lost, Unanswered};
use std::{error::Error, fmt, io, net::IpAddr, time::Duration};

/// Installs the process-wide crypto provider unless one is there. Building a client without one panics.
pub(crate) fn ensure_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race means that another thread has just installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A client builder without redirects, proxies and referers, with connect and total deadlines.
pub(crate) fn builder(connect: Duration, total: Duration) -> reqwest::ClientBuilder {
    ensure_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect.min(total))
        .timeout(total)
        .user_agent(concat!("lastgood/", env!("CARGO_PKG_VERSION")))
}

/// What went wrong below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The name did not resolve.
    Dns,
    /// An address that must not be asked (loopback, link-local, metadata, multicast, unspecified).
    Forbidden(IpAddr),
    /// The connection was refused.
    Refused,
    /// The connection did not come about, for another reason.
    Connect,
    /// The connection did not come about in time.
    ConnectTimeout,
    /// The answer did not come in time.
    Timeout,
    /// TLS: certificate or handshake.
    Tls,
    /// The connection broke while the answer was on its way.
    Broken,
    /// The answer is larger than allowed.
    TooLarge,
    /// No client could be made, e.g. there are no CA certificates.
    Client,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "the name does not resolve",
            Self::Forbidden(address) => return write!(f, "the address {address} is not allowed"),
            Self::Refused => "connection refused",
            Self::Connect => "cannot connect",
            Self::ConnectTimeout => "connect timeout",
            Self::Timeout => "timeout",
            Self::Tls => "TLS failed",
            Self::Broken => "the connection broke",
            Self::TooLarge => "the answer is too large",
            Self::Client => "no TLS client could be made (are there CA certificates?)",
        })
    }
}

impl From<&reqwest::Error> for Fault {
    fn from(error: &reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(e) = cause {
            if let Some(fault) = known(e) {
                return fault;
            }
            cause = e.source();
        }
        match () {
            () if error.is_builder() => Self::Client,
            () if error.is_timeout() && error.is_connect() => Self::ConnectTimeout,
            () if error.is_timeout() => Self::Timeout,
            () if error.is_dns() => Self::Dns,
            () if error.is_connect() => Self::Connect,
            () => Self::Broken,
        }
    }
}

impl From<&Unanswered> for Fault {
    fn from(error: &Unanswered) -> Self {
        match error {
            Unanswered::Network(error) => error.into(),
            Unanswered::Simulated(Lost::NoName) => Self::Dns,
            Unanswered::Simulated(Lost::Refused) => Self::Refused,
            Unanswered::Simulated(Lost::Broken) => Self::Broken,
        }
    }
}

/// What one link of an error chain tells by itself.
fn known(error: &(dyn Error + 'static)) -> Option<Fault> {
    if let Some(forbidden) = error.downcast_ref::<super::address::Forbidden>() {
        return Some(Fault::Forbidden(forbidden.0));
    }
    if error.is::<rustls::Error>() {
        return Some(Fault::Tls);
    }
    let io = error.downcast_ref::<io::Error>()?;
    if io.kind() == io::ErrorKind::ConnectionRefused {
        return Some(Fault::Refused);
    }
    // An io::Error hides what it wraps from `source()`, and TLS errors come wrapped twice.
    io.get_ref().and_then(|inner| known(inner))
}

/// Reads a body up to `max` bytes (counted after decompression).
///
/// # Errors
/// [`Fault::TooLarge`] as soon as it grows beyond; whatever broke the stream otherwise.
pub(crate) async fn read_capped(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| Fault::from(&e))? {
        if body.len().saturating_add(chunk.len()) > max {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The media type of an answer, in lower case and without parameters.
pub(crate) fn media_type(response: &reqwest::Response) -> String {
    let header = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    header.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Whether a media type is JSON or JSON with a suffix.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}
