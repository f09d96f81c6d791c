//! Pure. The sections of the report, one function each.

use super::{duration, subject};
use crate::{
    clock::timestamp,
    domain::{Finding, FindingCounts},
    record::{Incident, Phase},
    report::{
        escape::{code, markdown},
        facts::{image_changes, outage, revision, sentence, status, utc},
    },
};
use std::fmt::Write;

pub(super) fn issue(incident: &Incident) -> String {
    let spec = &incident.spec;
    let bad = code(&revision(&spec.bad));
    let mut out = if spec.trigger.manual {
        format!("An undo of {bad} on {} was asked for by hand. As stored: ", subject(incident))
    } else {
        format!("The rollout of {bad} on {} was judged bad ({}). ", subject(incident), markdown(&spec.reason))
    };
    let _ = writeln!(out, "{}", markdown(&sentence(&spec.explanation)));
    if spec.findings.is_empty() {
        out.push_str("\nNo measurements are stored with this incident.\n");
        return out;
    }
    out.push_str(
        "\n| Signal | Measured by | New revision | Old pods, same minutes | Before | Limit | Bad/all requests | \
         Evidence (ln e) | Since | Says |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for finding in &spec.findings {
        row(&mut out, finding);
    }
    out
}

fn row(out: &mut String, f: &Finding) {
    let optional = |text: &Option<String>| text.as_deref().map_or_else(|| "–".into(), markdown);
    let _ = writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        markdown(&f.signal),
        markdown(&f.stream),
        markdown(&f.new),
        optional(&f.old),
        optional(&f.before),
        optional(&f.limit),
        f.counts.as_ref().map_or_else(|| "–".into(), counts),
        f.log_e.map_or_else(|| "–".into(), |e| format!("{e:.2}")),
        f.since.filter(|s| s.is_finite()).map_or_else(|| "–".into(), |s| utc(timestamp(s))),
        markdown(&f.says),
    );
}

fn counts(c: &FindingCounts) -> String {
    let pair =
        |word: &str, bad: f64, total: f64| (total > 0.0).then(|| format!("{word} {}/{}", count(bad), count(total)));
    let parts: Vec<String> = [
        pair("new", c.new_bad, c.new_total),
        pair("old", c.old_bad, c.old_total),
        pair("before", c.before_bad, c.before_total),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "–".into() } else { parts.join(", ") }
}

/// A count as stored; fractions (after interpolation) to the hundredth.
fn count(n: f64) -> String {
    let text = format!("{n:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn impact(incident: &Incident) -> String {
    let outage = outage(incident);
    let mut out = String::from("- Users affected: unknown (nothing that counts users is read)\n");
    let _ = writeln!(out, "- Services impacted: {}", subject(incident));
    for f in incident.spec.findings.iter().filter(|f| f.signal == "errors") {
        let Some(c) = f.counts.filter(|c| c.new_total > 0.0) else { continue };
        let _ = writeln!(
            out,
            "- Requests failed: {} of {} at the time of the verdict (measured by {})",
            count(c.new_bad),
            count(c.new_total),
            markdown(&f.stream)
        );
    }
    let start = match (outage.from_harm, incident.spec.trigger.manual) {
        (true, _) => "first harm",
        (false, true) => "asked for by hand; when the harm began is unknown",
        (false, false) => "the verdict; when the harm began is unknown",
    };
    let _ = write!(out, "- Duration: {}; from {}, {start}", duration(incident), utc(outage.from));
    if let Some(to) = outage.to {
        let _ = write!(out, ", to {}, proved healthy", utc(to));
    }
    out.push_str("\n- Revenue impact: unknown\n");
    out
}

pub(super) fn root_cause(incident: &Incident) -> String {
    let spec = &incident.spec;
    let mut out = String::from("Suspects, filled in from the two revisions:\n");
    match &spec.target {
        None => out.push_str("- No earlier revision is known to compare with.\n"),
        Some(target) => {
            let changes = image_changes(&target.images, &spec.bad.images);
            for (old, new) in &changes {
                let name = |image: &Option<String>| image.as_deref().map_or_else(|| "(none)".into(), code);
                let _ = writeln!(out, "- Image: {} → {}", name(old), name(new));
            }
            if changes.is_empty() {
                out.push_str(
                    "- The images are the same; the fault lies in another field of the template or outside it.\n",
                );
            }
            let _ = writeln!(
                out,
                "- Template: {} → {}",
                code(&place(&target.hash.0, target.object.as_deref())),
                code(&place(&spec.bad.hash.0, spec.bad.object.as_deref()))
            );
        }
    }
    let _ = write!(
        out,
        "- Where to look first: {}\n\n_To be written by a person: what in this change caused it, and why was it not caught before?_\n",
        first_look(&spec.reason)
    );
    out
}

fn place(hash: &str, object: Option<&str>) -> String {
    object.map_or_else(|| hash.to_owned(), |o| format!("{hash} ({o})"))
}

fn first_look(reason: &str) -> &'static str {
    match reason {
        "crash_loop" => {
            "the last output of a crashed container (`kubectl logs --previous`), exit code and memory limit."
        }
        "image_pull" => "the image's name and tag, the registry and its pull secret.",
        "config_error" => "the ConfigMaps, Secrets and keys that the template names.",
        "progress_deadline" => "why new pods do not become Ready: scheduling, readiness probe, quota.",
        "health" => "what the failing probe answers on a new pod.",
        "errors" => "error logs of the new pods since the first harm, and the calls they make.",
        "latency" => "what the slow requests wait for since the first harm.",
        _ => "the difference between the two templates (`kubectl rollout history --revision`).",
    }
}

pub(super) fn resolution(incident: &Incident) -> String {
    let status = status(incident);
    let target = incident.spec.target.as_ref().map_or_else(|| "no known revision".into(), |t| code(&revision(t)));
    let mut out = match status.phase {
        Phase::Reported => "Nothing was undone; this is a report only.".to_owned(),
        Phase::Intended => format!("An undo to {target} is intended; whether it was sent is not known yet."),
        Phase::Applied => format!("The workload was put back to {target}; whether this helped is not known yet."),
        Phase::Verified => format!("The workload was put back to {target}, and this was proved to help."),
        Phase::Unproven => {
            format!("The workload was put back to {target}; nothing measured it, so it is not proved that this helped.")
        }
        Phase::DidNotHelp => format!(
            "The workload was put back to {target}, and this did **not** help. There is no second try; a person is needed."
        ),
        Phase::Superseded if status.applied.is_some() => {
            format!(
                "The workload was put back to {target}; then something newer took over before this could be proved."
            )
        }
        Phase::Superseded => "Nothing was undone: something newer took over first.".to_owned(),
        Phase::Failed if incident.spec.target.is_none() => {
            "The undo **failed**: no target is stored. A person is needed.".to_owned()
        }
        Phase::Failed => format!("The undo to {target} **failed**. A person is needed."),
    };
    if !status.message.trim().is_empty() {
        let _ = write!(out, " As stored: {}", markdown(&sentence(&status.message)));
    }
    out.push('\n');
    let done: Vec<_> = status.journal.iter().filter(|j| j.step != "decided").collect();
    if !done.is_empty() {
        out.push_str("\nWhat was done and seen:\n");
        for (i, j) in done.iter().enumerate() {
            let _ = writeln!(out, "{}. {}: {}", i + 1, markdown(&j.step), markdown(&sentence(&j.text)));
        }
    }
    if !status.leftovers.is_empty() {
        out.push_str("\nFields of the restored template that the next deploy could leave in place:\n");
        for field in &status.leftovers {
            let _ = writeln!(out, "- {}", code(field));
        }
    }
    out
}

pub(super) fn preventive(incident: &Incident) -> String {
    let caught = if incident.spec.trigger.manual {
        "a person found this; which check should have?".to_owned()
    } else {
        format!("this was caught by: {}", markdown(&incident.spec.reason))
    };
    format!(
        "- [ ] Add test coverage (a test that fails on the bad revision)\n\
         - [ ] Update monitoring ({caught})\n\
         - [ ] Improve deployment process (could it have been caught before this environment?)\n\
         - [ ] Update documentation\n"
    )
}

pub(super) fn actions(incident: &Incident) -> String {
    let status = status(incident);
    let mut items: Vec<String> = match status.phase {
        Phase::DidNotHelp => vec!["Find the real cause: the undo did not help".into()],
        Phase::Failed => vec!["Check the workload by hand: the undo failed".into()],
        Phase::Unproven => vec!["Check that the restored revision is healthy: nothing measured it".into()],
        Phase::Reported => vec!["Decide whether to undo by hand: nothing was undone".into()],
        Phase::Intended | Phase::Applied | Phase::Verified | Phase::Superseded => Vec::new(),
    };
    items.push(format!("Fix {} before it is deployed again", code(&revision(&incident.spec.bad))));
    if !status.leftovers.is_empty() {
        items.push("Check the fields named under Resolution after the next deploy".into());
    }
    items.extend(["Add a test that catches it".to_owned(), "Update the runbook".to_owned()]);
    items.iter().fold(String::new(), |mut out, item| {
        let _ = writeln!(out, "- [ ] {item} (assigned to: nobody yet)");
        out
    })
}

pub(super) fn lessons() -> String {
    "_To be written by a person:_\n\
     - What went well?\n\
     - What went badly, and where were we lucky?\n\
     - What would have prevented this, or found it sooner?\n"
        .into()
}
