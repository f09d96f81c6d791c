//! Telling people: the incident report, Kubernetes Events, notices.
//!
//! May use `domain`, `record`, `config` and clients; never stands in the way of an undo. Everything
//! that is told is made from the stored Incident alone, so that it can be made again at any time and
//! every number in it can be traced to a stored measurement.
//!
//! How it fails: every fault is a [`ReportError`] or a [`notify::Delivery`]; nothing here is fatal and
//! nothing waits without a deadline. How it recovers: a report that could not be written is rendered
//! again from the Incident, a notice that could not be delivered stays in the Incident's outbox.

pub mod escape;
pub mod events;
mod facts;
mod file;
pub mod markdown;
pub mod notify;
pub mod text;

#[cfg(test)]
mod fixtures;

pub use file::{file_name, write};

use std::{io, path::PathBuf, time::Duration};

/// What the report must know that is not in the Incident.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of the environment; used only for an Incident that names none.
    pub environment: String,
    /// Name of the cluster, if there are several.
    pub cluster: Option<String>,
    /// Version of Lastgood that writes.
    pub version: String,
}

/// Why something could not be told. No variant carries a URL, a body or a secret (I12).
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder for reports could not be made.
    #[error("cannot make the folder for incident reports {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The report could not be written; it can be rendered again from the Incident.
    #[error("cannot write the incident report {}: {source}; the Incident still holds all of it", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The API server did not take an Event.
    #[error("cannot create the Event {reason}: {source}")]
    Event {
        /// Reason of the Event.
        reason: &'static str,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("cannot create the Event {reason}: no answer within {} s", after.as_secs())]
    EventDeadline {
        /// Reason of the Event.
        reason: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// Two notifiers have one name, so their notices could not be told apart.
    #[error("two notifiers are named \"{0}\"; give each its own name")]
    SameName(String),
    /// The HTTP client could not be made.
    #[error("cannot make the HTTP client for notices: {0}")]
    Client(String),
}

impl ReportError {
    /// The kind of fault as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            ReportError::Folder { .. } => "folder",
            ReportError::Write { .. } => "write",
            ReportError::Event { .. } => "event",
            ReportError::EventDeadline { .. } => "event_deadline",
            ReportError::SameName(_) => "settings",
            ReportError::Client(_) => "client",
        }
    }
}
