//! The one way out for plain HTTP: the network, or a simulated one, so that whole stories run in one process
//! and in paused time.
//!
//! Who asks builds the request, with its own client and deadlines; only the sending is exchanged.

use futures::future::BoxFuture;
use std::{fmt, sync::Arc};

/// Carries requests.
#[derive(Clone, Default)]
pub enum Wire {
    /// Sockets.
    #[default]
    Network,
    /// Somebody in this process answers; nothing leaves it.
    Simulated(Arc<dyn Peer>),
}

/// Answers requests in place of the network. A peer that does not answer stays pending: deadlines are the asker's.
pub trait Peer: Send + Sync {
    /// The answer to one request.
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, Result<http::Response<Vec<u8>>, Lost>>;
}

/// Why a simulated request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// No such name.
    NoName,
    /// Nobody listens there.
    Refused,
    /// The connection broke before the answer.
    Broken,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// What the client says. Its text can hold the URL: never show it.
    Network(reqwest::Error),
    /// What the simulation says.
    Simulated(Lost),
}

impl Wire {
    /// Sends a request.
    ///
    /// # Errors
    /// When no answer came; a status of 4xx or 5xx is an answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Unanswered> {
        match self {
            Self::Network => request.send().await.map_err(Unanswered::Network),
            Self::Simulated(peer) => {
                let request = request.build().map_err(Unanswered::Network)?;
                peer.answer(request).await.map(Into::into).map_err(Unanswered::Simulated)
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Simulated(_) => "Simulated",
        })
    }
}
