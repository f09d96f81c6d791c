//! What both channels share: the client, faults in closed words, when to try again.

use super::Delivery;
use crate::{
    clock::Clock,
    config::Secret,
    record::Notice,
    report::ReportError,
    wire::{Lost, Unanswered, Wire},
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header, redirect};
use std::{error::Error, io, time::Duration};

/// Longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(600);
/// Longest wait that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// What posts notices.
pub(super) struct Sender {
    pub client: Client,
    pub wire: Wire,
}

impl Sender {
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Unanswered> {
        self.wire.send(request).await
    }
}

/// A client that follows no redirect: a moved receiver could be anybody.
pub(super) fn client(proxies: bool) -> Result<Client, ReportError> {
    // reqwest panics without a process-wide provider; a provider that is there already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("lastgood/", env!("CARGO_PKG_VERSION")));
    let builder = if proxies { builder } else { builder.no_proxy() };
    builder.build().map_err(|e| ReportError::Client(e.without_url().to_string()))
}

/// The URL in a secret, if it is one of http or https.
pub(super) fn url(secret: &Secret) -> Option<Url> {
    let url = Url::parse(secret.expose().trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// A retry after a wait that doubles: 5 s to 10 min, spread by a quarter so that channels do not march in step.
pub(super) fn later(notice: &Notice, why: String) -> Delivery {
    let base = Duration::from_secs(5).saturating_mul(1 << notice.attempts.min(10)).min(LONGEST);
    let seed =
        notice.key.bytes().fold(u64::from(notice.attempts), |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let spread = 0.75 + (seed % 1000) as f64 / 2000.0;
    Delivery::Retry { after: base.mul_f64(spread), why }
}

/// A fault of the connection in words of ours. The client's own text could hold the URL.
pub(super) fn fault(error: &Unanswered) -> String {
    let error = match error {
        Unanswered::Network(error) => error,
        Unanswered::Simulated(Lost::NoName) => return "the receiver's host name cannot be resolved".into(),
        Unanswered::Simulated(Lost::Refused) => return "cannot connect to the receiver".into(),
        Unanswered::Simulated(Lost::Broken) => return "the connection broke".into(),
    };
    if error.is_timeout() {
        return "no answer in time".into();
    }
    if error.is_dns() {
        return "the receiver's host name cannot be resolved".into();
    }
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    let mut kind = None;
    while let Some(e) = cause {
        if e.is::<rustls::Error>() {
            return "TLS with the receiver failed".into();
        }
        let io = e.downcast_ref::<io::Error>();
        kind = io.map(io::Error::kind).filter(|k| *k != io::ErrorKind::Other).or(kind);
        // An io error shows the source of what it wraps, not the wrapped error itself.
        cause = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => e.source(),
        };
    }
    match kind {
        Some(kind) => format!("the connection failed: {kind}"),
        None if error.is_connect() => "cannot connect to the receiver".into(),
        None => "the connection broke".into(),
    }
}

/// What a status means: `None` for success. Only 429, 408 and 5xx are tried again.
pub(super) fn refused(response: &Response, notice: &Notice, clock: Clock, what: &str) -> Option<Delivery> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let mut why = format!("the receiver answered {}", status.as_u16());
    if !what.is_empty() {
        why = format!("{why}: {what}");
    }
    if status.is_redirection() {
        return Some(Delivery::GiveUp {
            why: format!("{why}; redirects are not followed, put the new URL into the file"),
        });
    }
    let again = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if !again {
        return Some(Delivery::GiveUp { why });
    }
    let later = later(notice, why);
    Some(match (asked_wait(response, clock), later) {
        (Some(asked), Delivery::Retry { after, why }) => Delivery::Retry { after: after.max(asked), why },
        (_, later) => later,
    })
}

/// `Retry-After`, in seconds or as a date.
fn asked_wait(response: &Response, clock: Clock) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(at.duration_since(clock.timestamp())).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_ASKED))
}

/// The first bytes of an answer; the rest is not read.
pub(super) async fn beginning(response: &mut Response, max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < max {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(max - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    bytes
}
