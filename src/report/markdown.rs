//! Pure. The incident report in Markdown, with the headings and the order of the runbook's template.
//!
//! Everything comes from the Incident, so every number can be traced to a stored measurement, and what
//! is not known is said to be unknown.

mod sections;
mod timeline;

use super::{
    Context,
    escape::{code, markdown},
    facts::{human, name, outage, status, utc, workload},
};
use crate::record::{Incident, Phase};
use std::fmt::Write;

/// The headings of the template, in its order.
pub const HEADINGS: [&str; 9] = [
    "# Rollback Incident Report",
    "## Issue Description",
    "## Impact",
    "## Timeline",
    "## Root Cause",
    "## Resolution",
    "## Preventive Measures",
    "## Action Items",
    "## Lessons Learned",
];

/// Name of the environment: the Incident's own, else the context's.
pub(super) fn environment<'a>(incident: &'a Incident, context: &'a Context) -> &'a str {
    if incident.spec.environment.is_empty() { &context.environment } else { &incident.spec.environment }
}

/// Renders the report. The same Incident and context always give the same text.
pub fn render(incident: &Incident, context: &Context) -> String {
    let mut out = String::with_capacity(4096);
    head(&mut out, incident, context);
    let [_, issue, impact, time, cause, resolution, measures, actions, lessons] = HEADINGS;
    let mut section = |heading: &str, body: String| {
        let _ = write!(out, "\n{heading}\n{}\n", body.trim_end());
    };
    section(issue, sections::issue(incident));
    section(impact, sections::impact(incident));
    section(time, timeline::render(incident));
    section(cause, sections::root_cause(incident));
    section(resolution, sections::resolution(incident));
    section(measures, sections::preventive(incident));
    section(actions, sections::actions(incident));
    section(lessons, sections::lessons());
    let namespace = incident.metadata.namespace.as_deref().unwrap_or_default();
    let _ = write!(
        out,
        "\n---\nWritten by Lastgood {} from the Incident {}; it can be written again at any time.\n",
        markdown(&context.version),
        code(&format!("{namespace}/{}", name(incident)))
    );
    out
}

fn head(out: &mut String, incident: &Incident, context: &Context) {
    let spec = &incident.spec;
    let mut by = markdown(&spec.trigger.by);
    if spec.trigger.manual {
        by.push_str(" (by hand");
        if let Some(note) = spec.trigger.note.as_deref().filter(|n| !n.trim().is_empty()) {
            let _ = write!(by, ": {}", markdown(note));
        }
        by.push(')');
    } else {
        let _ = write!(by, " (verdict: {})", markdown(&spec.reason));
    }
    let mut place = markdown(environment(incident, context));
    if place.is_empty() {
        place.push_str("unknown");
    }
    if let Some(cluster) = &context.cluster {
        let _ = write!(place, " (cluster {})", markdown(cluster));
    }
    let _ = write!(
        out,
        "{}\n\n**Date:** {}  \n**Environment:** {place}  \n**Triggered By:** {by}  \n**Duration:** {}\n",
        HEADINGS[0],
        utc(spec.decided),
        duration(incident)
    );
}

/// How long it lasted; open ends are said to be open.
fn duration(incident: &Incident) -> String {
    let outage = outage(incident);
    let phase = status(incident).phase;
    match outage.seconds() {
        Some(seconds) => human(seconds),
        None => match phase {
            Phase::Intended | Phase::Applied => "not over yet".into(),
            Phase::Unproven => "unknown (nothing measured the restored revision)".into(),
            Phase::Superseded => "unknown (something newer took over)".into(),
            Phase::Reported | Phase::DidNotHelp | Phase::Failed | Phase::Verified => {
                "unknown (not seen to be over)".into()
            }
        },
    }
}

/// The workload as `namespace/Kind/name`, in code.
fn subject(incident: &Incident) -> String {
    code(&workload(incident).to_string())
}

#[cfg(test)]
mod tests;
