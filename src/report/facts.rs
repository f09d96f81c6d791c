//! Pure. What every kind of telling reads out of an Incident.

use super::escape::one_line;
use crate::{
    domain::WorkloadId,
    record::{Incident, IncidentStatus, Phase, RevisionRef},
};
use jiff::Timestamp;
use std::borrow::Cow;

/// The status; one that was never written is that of an incident only reported.
pub(super) fn status(incident: &Incident) -> Cow<'_, IncidentStatus> {
    incident.status.as_ref().map_or_else(|| Cow::Owned(IncidentStatus::default()), Cow::Borrowed)
}

/// The workload; the namespace is the incident's own.
pub(super) fn workload(incident: &Incident) -> WorkloadId {
    let w = &incident.spec.workload;
    WorkloadId::new(incident.metadata.namespace.clone().unwrap_or_default(), w.kind, w.name.clone())
}

/// The incident's name.
pub(super) fn name(incident: &Incident) -> &str {
    incident.metadata.name.as_deref().unwrap_or("unnamed")
}

/// A revision for people: its images, else its number, else its hash. Not escaped.
pub(super) fn revision(r: &RevisionRef) -> String {
    match (&r.images[..], r.number) {
        ([], Some(n)) => format!("revision {n} ({})", r.hash),
        ([], None) => format!("template {}", r.hash),
        (images, Some(n)) => format!("{} (revision {n})", images.join(", ")),
        (images, None) => images.join(", "),
    }
}

/// When and whether the trouble was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage {
    /// First harm where the data tells it, else the verdict.
    pub from: Timestamp,
    /// Whether `from` is the first harm.
    pub from_harm: bool,
    /// When the restored revision was proved healthy.
    pub to: Option<Timestamp>,
}

impl Outage {
    /// Whole seconds from start to end, once there is an end.
    pub(super) fn seconds(&self) -> Option<i64> {
        self.to.map(|to| (to.as_second() - self.from.as_second()).max(0))
    }
}

pub(super) fn outage(incident: &Incident) -> Outage {
    let status = status(incident);
    Outage {
        from: incident.spec.harm_since.unwrap_or(incident.spec.decided),
        from_harm: incident.spec.harm_since.is_some(),
        to: status.finished.filter(|_| status.phase == Phase::Verified),
    }
}

/// A time for people and for sorting: `2026-11-23 14:36:02 UTC`.
pub(super) fn utc(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time for people: `45 seconds`, `15 minutes`, `2 hours 5 minutes`.
pub(super) fn human(seconds: i64) -> String {
    let unit = |n: i64, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (days, hours, minutes, rest) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (first, second) = if days > 0 {
        (unit(days, "day"), (hours, "hour"))
    } else if hours > 0 {
        (unit(hours, "hour"), (minutes, "minute"))
    } else if minutes > 0 {
        (unit(minutes, "minute"), (rest, "second"))
    } else {
        return unit(rest.max(0), "second");
    };
    if second.0 == 0 { first } else { format!("{first} {}", unit(second.0, second.1)) }
}

/// A text as a sentence: one line that ends with a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut line = one_line(text);
    if !line.is_empty() && !line.ends_with(['.', '!', '?', '…']) {
        line.push('.');
    }
    line
}

/// The images that an undo changes: pairs of (restored, bad) by position-free matching on the repository.
pub(super) fn image_changes(old: &[String], new: &[String]) -> Vec<(Option<String>, Option<String>)> {
    let mut left: Vec<&String> = old.iter().collect();
    let mut unmatched = Vec::new();
    let mut changes = Vec::new();
    for image in new {
        if let Some(i) = left.iter().position(|o| *o == image) {
            left.remove(i);
        } else {
            unmatched.push(image);
        }
    }
    for image in unmatched {
        let same = left.iter().position(|o| repository(o) == repository(image));
        changes.push((same.map(|i| left.remove(i).clone()), Some(image.clone())));
    }
    changes.extend(left.into_iter().map(|o| (Some(o.clone()), None)));
    changes
}

/// An image without its tag and digest; the colon of a registry's port stays.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rfind(':') {
        Some(colon) if !image[colon..].contains('/') => &image[..colon],
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_well() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (903, "15 minutes 3 seconds"),
            (3600, "1 hour"),
            (7500, "2 hours 5 minutes"),
            (90000, "1 day 1 hour"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn images_are_paired_by_repository_and_equal_ones_left_out() {
        let list = |s: &[&str]| s.iter().map(ToString::to_string).collect::<Vec<_>>();
        let changes = image_changes(
            &list(&["r:5000/api:1.8", "envoy:3", "gone:1"]),
            &list(&["envoy:3", "r:5000/api@sha256:aa", "extra:1"]),
        );
        assert_eq!(
            changes,
            [
                (Some("r:5000/api:1.8".into()), Some("r:5000/api@sha256:aa".into())),
                (None, Some("extra:1".into())),
                (Some("gone:1".into()), None)
            ]
        );
    }
}
