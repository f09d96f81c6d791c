use super::http::Fault;
use std::time::Duration;

/// Why a source could not be read. No variant carries a credential, a full URL or an answer's body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The settings cannot work.
    #[error("{0}")]
    Settings(String),
    /// No answer came, for the named reason.
    #[error("cannot reach {host}: {fault}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What went wrong.
        fault: Fault,
    },
    /// The deadline went by.
    #[error("no complete answer within {0:?}")]
    Deadline(Duration),
    /// An HTTP status that says that the query did not run.
    #[error("HTTP {status}: {hint}")]
    Status {
        /// The status.
        status: u16,
        /// What it usually means.
        hint: &'static str,
    },
    /// Asked to wait.
    #[error("rate limited (HTTP 429); not asking again for {} s", wait.as_secs())]
    RateLimited {
        /// How long.
        wait: Duration,
    },
    /// Something answers that does not speak the Prometheus API.
    #[error("not a Prometheus: {0}")]
    NotPrometheus(String),
    /// The server understood and refused the query.
    #[error("the query failed ({kind}): {message}")]
    Query {
        /// `errorType` of the answer: `bad_data`, `execution`, `timeout`, …
        kind: String,
        /// What the server says, shortened.
        message: String,
    },
    /// The answer says itself that it is not complete.
    #[error("partial answer: {0}")]
    Partial(String),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer has more series than allowed.
    #[error("the answer has more than {0} series")]
    TooManySeries(usize),
    /// The answer is about another time than was asked, or the server's clock is off.
    #[error("wrong time: {0}")]
    WrongTime(String),
    /// The monitoring itself is not sane (decision.md 2.5, gate 6).
    #[error("monitoring: {0}")]
    Monitoring(String),
    /// There is no tokio runtime to run in.
    #[error("sources need a running tokio runtime")]
    NoRuntime,
}

impl SourceError {
    /// The metric label: one word of a closed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Unreachable { .. } => "unreachable",
            Self::Deadline(_) => "deadline",
            Self::Status { .. } => "status",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotPrometheus(_) => "not_prometheus",
            Self::Query { .. } => "query",
            Self::Partial(_) => "partial",
            Self::TooLarge(_) => "too_large",
            Self::TooManySeries(_) => "too_many_series",
            Self::WrongTime(_) => "wrong_time",
            Self::Monitoring(_) => "monitoring",
            Self::NoRuntime => "no_runtime",
        }
    }

    /// Whether nothing of the whole read can be trusted, whichever query it was that failed so.
    pub(crate) fn taints_the_read(&self) -> bool {
        matches!(self, Self::Partial(_) | Self::WrongTime(_) | Self::Monitoring(_))
    }
}

/// A server's text, made fit for one line of a report: no control characters, at most 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(201).collect();
    match clean.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}
