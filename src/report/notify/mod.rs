//! Notices to people: a signed webhook and Slack, behind an outbox kept in the Incident.
//!
//! The outbox is `status.notices`. Which notices are due is a pure function of the Incident and the
//! configured channels, so a crash at any point loses nothing: a notice that was not recorded as
//! delivered is sent again under the same key, and receivers drop the repeat (I8).
//!
//! A channel gets one notice per phase, and only of the phase that the incident is in: when a channel was
//! down while the undo was applied and proved, it later gets the one notice that tells the end.
//!
//! URLs and keys are secrets: they are read from their files at each use, and no error text is ever made
//! from a URL or from an error of the HTTP client (I12).

mod plan;
mod slack;
mod transport;
mod webhook;

pub use plan::{MAX_ATTEMPTS, due, key, record};

use super::{Context, ReportError};
use crate::{
    clock::Clock,
    config::{NotifierKind, NotifierSettings, Secret, SecretFile},
    record::{Incident, Notice},
    telemetry,
    wire::Wire,
};
use std::{collections::BTreeSet, fmt, time::Duration};

/// How one try to deliver ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The channel has accepted it.
    Done,
    /// It may work later.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why it failed; never a URL.
        why: String,
    },
    /// It will not work, however often it is tried.
    GiveUp {
        /// Why; never a URL.
        why: String,
    },
}

/// The configured channels.
pub struct Notifiers {
    channels: Vec<NotifierSettings>,
    context: Context,
    clock: Clock,
    /// Absent when there are no channels, so that a machine without CA certificates can do without.
    sender: Option<transport::Sender>,
}

impl fmt::Debug for Notifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.channels.iter().map(|c| &c.name).collect();
        f.debug_struct("Notifiers").field("channels", &names).finish_non_exhaustive()
    }
}

impl Notifiers {
    /// Makes the channels ready. Proxies of the environment are honoured: Slack is often behind one.
    ///
    /// # Errors
    /// Two channels of one name, or no HTTP client can be made (no CA certificates).
    pub fn new(channels: &[NotifierSettings], context: Context, clock: Clock, wire: Wire) -> Result<Self, ReportError> {
        let sender =
            if channels.is_empty() { None } else { Some(transport::Sender { client: transport::client(true)?, wire }) };
        Self::with_sender(channels, context, clock, sender)
    }

    fn with_sender(
        channels: &[NotifierSettings],
        context: Context,
        clock: Clock,
        sender: Option<transport::Sender>,
    ) -> Result<Self, ReportError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = channels.iter().find(|c| !names.insert(c.name.as_str())) {
            return Err(ReportError::SameName(twice.name.clone()));
        }
        Ok(Self { channels: channels.to_vec(), context, clock, sender })
    }

    /// The notices that should be sent now; see [`due`].
    pub fn due(&self, incident: &Incident) -> Vec<Notice> {
        due(incident, &self.channels)
    }

    /// Tries once to deliver a notice, within the channel's deadline. Record the result with [`record`].
    pub async fn deliver(&self, notice: &Notice, incident: &Incident) -> Delivery {
        let Some(channel) = self.channels.iter().find(|c| c.name == notice.channel) else {
            return Delivery::GiveUp { why: "no notifier of this name is configured any more".into() };
        };
        let delivery = match tokio::time::timeout(channel.timeout, self.send(channel, notice, incident)).await {
            Ok(delivery) => delivery,
            Err(_) => transport::later(notice, format!("no answer within {} s", channel.timeout.as_secs_f64())),
        };
        let result = match &delivery {
            Delivery::Done => "done",
            Delivery::Retry { .. } => "retry",
            Delivery::GiveUp { .. } => "gave_up",
        };
        telemetry::metrics::notice(channel.kind, result);
        match &delivery {
            Delivery::Done => tracing::debug!(channel = %channel.name, key = %notice.key, "notice delivered"),
            Delivery::Retry { why, .. } => {
                tracing::warn!(channel = %channel.name, key = %notice.key, why, "notice not delivered; will try again");
            }
            Delivery::GiveUp { why } => {
                tracing::error!(channel = %channel.name, key = %notice.key, why, "notice cannot be delivered");
            }
        }
        delivery
    }

    async fn send(&self, channel: &NotifierSettings, notice: &Notice, incident: &Incident) -> Delivery {
        let Some(sender) = &self.sender else {
            return Delivery::GiveUp { why: "no HTTP client".into() };
        };
        let url = match read(&channel.url_file).await {
            Ok(url) => url,
            Err(why) => return transport::later(notice, why),
        };
        let Some(url) = transport::url(&url) else {
            // The file may be put right; the URL itself is not shown.
            return transport::later(notice, format!("{} holds no http(s) URL", channel.url_file.0.display()));
        };
        match channel.kind {
            NotifierKind::Slack => slack::send(sender, url, notice, incident, &self.context, self.clock).await,
            NotifierKind::Webhook => {
                let secret = match &channel.secret_file {
                    None => None,
                    Some(file) => match read(file).await {
                        Ok(secret) if secret.expose().is_empty() => {
                            return transport::later(notice, format!("{} is empty", file.0.display()));
                        }
                        Ok(secret) => Some(secret),
                        Err(why) => return transport::later(notice, why),
                    },
                };
                webhook::send(sender, url, secret.as_ref(), notice, incident, &self.context, self.clock).await
            }
        }
    }
}

/// Reads a secret where waiting for a disk hurts nobody; the error names the file only.
async fn read(file: &SecretFile) -> Result<Secret, String> {
    let file = file.clone();
    match tokio::task::spawn_blocking(move || file.read()).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("reading a secret file was broken off".into()),
    }
}

#[cfg(test)]
mod tests;
