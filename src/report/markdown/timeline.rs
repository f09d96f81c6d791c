//! Pure. The timeline: the template's five milestones and the journal between them.

use crate::{
    record::{Incident, Phase},
    report::{
        escape::markdown,
        facts::{revision, status, utc},
    },
};
use jiff::Timestamp;
use std::fmt::Write;

/// The five entries that every timeline has.
pub(crate) const MILESTONES: [&str; 5] =
    ["Deployment started", "Error detected", "Rollback initiated", "Rollback completed", "Service restored"];

struct Entry {
    t: When,
    text: String,
}

/// When an entry happened. The order is the order of the timeline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// It happened, but nothing tells when.
    Unknown,
    At(Timestamp),
    NotReached,
}

impl When {
    fn reached(t: Option<Timestamp>) -> Self {
        t.map_or(When::NotReached, When::At)
    }

    fn text(self) -> String {
        match self {
            When::Unknown => "time unknown".into(),
            When::At(t) => utc(t),
            When::NotReached => "not reached".into(),
        }
    }
}

pub(super) fn render(incident: &Incident) -> String {
    let mut entries: Vec<Entry> = milestones(incident).into();
    if let Some(t) = incident.spec.harm_since {
        entries.push(Entry { t: When::At(t), text: "first harm, as far as the data tells".into() });
    }
    entries.extend(
        status(incident)
            .journal
            .iter()
            .map(|j| Entry { t: When::At(j.t), text: format!("{}: {}", markdown(&j.step), markdown(&j.text)) }),
    );
    // Stable: at one moment the milestone stands before its details.
    entries.sort_by_key(|e| e.t);
    let mut out = String::new();
    for entry in entries {
        let _ = writeln!(out, "- {} - {}", entry.t.text(), entry.text);
    }
    out
}

/// The five, from the Incident's own times. The rollback counts as completed when a journal line `complete`
/// says that all pods run the restored revision; without one, when the patch was in the cluster.
fn milestones(incident: &Incident) -> [Entry; 5] {
    let spec = &incident.spec;
    let status = status(incident);
    let step = |word: &str| status.journal.iter().find(|j| j.step == word).map(|j| j.t);
    let initiated = step("intent").or_else(|| step("patch")).or(status.applied);
    let complete = step("complete");
    let target = spec.target.as_ref().map_or_else(|| "no known revision".into(), |t| markdown(&revision(t)));
    let restored = match status.phase {
        Phase::Verified => "the restored revision is proved healthy",
        Phase::Unproven => "the restored revision runs, but nothing measured it",
        Phase::DidNotHelp => "the fault is still there",
        Phase::Superseded => "something newer took over",
        Phase::Failed => "the undo failed",
        Phase::Reported => "nothing was undone",
        Phase::Intended | Phase::Applied => "not yet",
    };
    let times = [
        spec.rollout_began.map_or(When::Unknown, When::At),
        When::At(spec.decided),
        When::reached(initiated),
        When::reached(complete.or(status.applied)),
        When::reached(status.finished.filter(|_| status.phase == Phase::Verified)),
    ];
    let texts = [
        markdown(&revision(&spec.bad)),
        if spec.trigger.manual { "an undo was asked for by hand".into() } else { markdown(&spec.reason) },
        if initiated.is_some() { format!("to {target}") } else { "no undo was begun".into() },
        match (complete, status.applied) {
            (Some(_), _) => "all pods run the earlier template".into(),
            (None, Some(_)) => "the earlier template is in the cluster".into(),
            (None, None) => "no patch is known to be in the cluster".into(),
        },
        restored.into(),
    ];
    let mut texts = MILESTONES.into_iter().zip(texts);
    times.map(|t| {
        let (label, text) = texts.next().unwrap_or_default();
        Entry { t, text: format!("**{label}**: {text}") }
    })
}
