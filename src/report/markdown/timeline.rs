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
    t: Option<Timestamp>,
    text: String,
}

pub(super) fn render(incident: &Incident) -> String {
    let mut entries: Vec<Entry> = milestones(incident).into();
    if let Some(t) = incident.spec.harm_since {
        entries.push(Entry { t: Some(t), text: "first harm, as far as the data tells".into() });
    }
    entries.extend(
        status(incident)
            .journal
            .iter()
            .map(|j| Entry { t: Some(j.t), text: format!("{}: {}", markdown(&j.step), markdown(&j.text)) }),
    );
    // Stable: at one moment the milestone stands before its details. What was not reached stands last.
    entries.sort_by_key(|e| (e.t.is_none(), e.t));
    let mut out = String::new();
    for entry in entries {
        let t = entry.t.map_or_else(|| "not reached".into(), utc);
        let _ = writeln!(out, "- {t} - {}", entry.text);
    }
    out
}

fn milestones(incident: &Incident) -> [Entry; 5] {
    let spec = &incident.spec;
    let status = status(incident);
    let step = |word: &str| status.journal.iter().find(|j| j.step == word).map(|j| j.t);
    let initiated = step("intent").or_else(|| step("patch")).or(status.applied);
    let started = match spec.rollout_began {
        Some(_) => markdown(&revision(&spec.bad)),
        None => "when is unknown".into(),
    };
    let target = spec.target.as_ref().map_or_else(|| "no target".into(), |t| markdown(&revision(t)));
    let detected = if spec.trigger.manual { "asked for by hand".into() } else { markdown(&spec.reason) };
    let restored = match status.phase {
        Phase::Verified => "the restored revision is proved healthy",
        Phase::Unproven => "the restored revision runs, but nothing measured it",
        Phase::DidNotHelp => "the fault is still there",
        Phase::Superseded => "something newer took over",
        Phase::Failed => "the undo failed",
        Phase::Reported => "nothing was undone",
        Phase::Intended | Phase::Applied => "not yet",
    };
    let texts = [
        started,
        detected,
        if initiated.is_some() { format!("to {target}") } else { "no undo was begun".into() },
        if status.applied.is_some() { "the earlier template is in the cluster".into() } else { "no patch is known to be in the cluster".into() },
        restored.into(),
    ];
    let times = [
        spec.rollout_began,
        Some(spec.decided),
        initiated,
        status.applied,
        status.finished.filter(|_| status.phase == Phase::Verified),
    ];
    let mut texts = texts.into_iter();
    let mut times = times.into_iter();
    MILESTONES.map(|label| Entry {
        t: times.next().flatten(),
        text: format!("**{label}**: {}", texts.next().unwrap_or_default()),
    })
}
