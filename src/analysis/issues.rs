//! What an error tracker attributes to the new revision. Pure.
//!
//! Never enough alone: trackers sample, group and lag. It makes up for half of the evidence of another signal
//! that points the same way (S49), because an issue that is new in a revision needs no old pods to compare with.

use super::{explain::plural, tuning::*};
use crate::domain::{Revision, Seconds};
use std::collections::BTreeMap;

/// The last word of each tracker on the new revision.
#[derive(Debug, Clone, Default)]
pub(super) struct Issues {
    last: BTreeMap<String, (Seconds, u64, u64)>,
}

impl Issues {
    /// Takes cumulative counts of issues first seen in `revision`.
    pub(super) fn observe(
        &mut self,
        t: Seconds,
        source: &str,
        (revision, to): (&Revision, &Revision),
        counts: (u64, u64),
    ) {
        let late = self.last.get(source).is_some_and(|(then, _, _)| *then > t);
        if revision == to && !late && (self.last.len() < TRACKERS_MAX || self.last.contains_key(source)) {
            self.last.insert(source.to_owned(), (t, counts.0, counts.1));
        }
    }

    /// What a tracker says, when it is more than a stray event: `sentry reports 2 new issues (310 events)`.
    pub(super) fn loud(&self) -> Option<String> {
        let loud = self.last.iter().filter(|(_, (_, issues, events))| *issues > 0 && *events >= ISSUE_EVENTS);
        let (source, (_, issues, events)) = loud.max_by_key(|(_, (_, _, events))| *events)?;
        Some(format!("{source} reports {} ({events} events)", plural(*issues as usize, "new issue")))
    }

    /// For the table: source, new issues, events.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.last.iter().map(|(source, (_, issues, events))| (source.as_str(), *issues, *events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_events_of_the_new_revision_are_loud() {
        let (a, b) = (Revision::from("a"), Revision::from("b"));
        let mut issues = Issues::default();
        issues.observe(10.0, "sentry", (&a, &b), (5, 9000));
        issues.observe(10.0, "sentry", (&b, &b), (1, 3));
        assert_eq!(issues.loud(), None);
        issues.observe(20.0, "sentry", (&b, &b), (2, 310));
        issues.observe(15.0, "sentry", (&b, &b), (0, 0));
        assert_eq!(issues.loud().as_deref(), Some("sentry reports 2 new issues (310 events)"));
    }
}
