//! What sources say of themselves: whether what is measured can be believed (gate 6), and whether peers can be read. Pure.

use crate::domain::{PEERS, Seconds};
use std::collections::BTreeMap;

/// Why nothing that is measured now can be believed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outage {
    pub(super) source: String,
    pub(super) reason: String,
    /// Monitoring itself says that it is not sane.
    pub(super) monitoring: bool,
}

/// The newest word of each source.
#[derive(Debug, Clone, Default)]
pub(super) struct Monitoring {
    sources: BTreeMap<String, (Seconds, Option<Outage>)>,
    /// Since when peers cannot be read, and why.
    unread: Option<(Seconds, String)>,
}

impl Monitoring {
    /// A source says how it is; what is older than its newest word changes nothing.
    pub(super) fn told(&mut self, t: Seconds, source: &str, ok: bool, reason: Option<&str>) {
        let reason = reason.unwrap_or_default();
        if source == PEERS {
            // Nobody's outage: who is on trial is measured all the same.
            let since = self.unread.take().map_or(t, |(since, _)| since);
            self.unread = (!ok).then(|| (since, reason.to_owned()));
            return;
        }
        if self.sources.get(source).is_some_and(|(then, _)| *then > t) {
            return;
        }
        let told = reason.strip_prefix("monitoring:").map(str::trim);
        let outage = (!ok).then(|| Outage {
            source: source.to_owned(),
            reason: told.unwrap_or(reason).to_owned(),
            monitoring: told.is_some(),
        });
        self.sources.insert(source.to_owned(), (t, outage));
    }

    /// What stands against all that is measured at `t`.
    pub(super) fn outage(&self, t: Seconds) -> Option<&Outage> {
        let outages =
            || self.sources.values().filter(|(since, _)| *since <= t).filter_map(|(_, outage)| outage.as_ref());
        // Monitoring that doubts itself outweighs a source that merely failed.
        outages().find(|outage| outage.monitoring).or_else(|| outages().next())
    }

    /// Since when peers cannot be read, and why.
    pub(super) fn unread(&self) -> Option<&(Seconds, String)> {
        self.unread.as_ref()
    }
}
