//! Pure. The same story in one paragraph: for notices, Events and the terminal.

use super::escape::one_line;
use super::facts::{human, name, outage, revision, sentence, status, workload};
use crate::record::{Incident, Phase};

/// What is told, part by part. Plain text: whoever shows it escapes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// What was done to what, and whether it is healthy now.
    pub headline: String,
    /// Why: the verdict's sentence with numbers.
    pub why: String,
    /// From → to: the bad revision and the one it goes (or would go) back to.
    pub change: String,
    /// How long the harm lasted or has lasted; absent when it is not known.
    pub duration: Option<String>,
    /// What came of it: the stored message.
    pub outcome: Option<String>,
    /// The command that shows the rest.
    pub command: String,
}

/// Tells an incident.
pub fn story(incident: &Incident) -> Story {
    let spec = &incident.spec;
    let status = status(incident);
    let outage = outage(incident);
    let duration = outage.seconds().map(|s| {
        let from = match (outage.from_harm, spec.trigger.manual) {
            (true, _) => "first harm",
            (false, true) => "the request",
            (false, false) => "the verdict",
        };
        format!("{} from {from} to proved healthy", human(s))
    });
    let mut why = sentence(&spec.explanation);
    if spec.trigger.manual {
        why = format!("Asked for by {}. {why}", one_line(&spec.trigger.by));
        if let Some(note) = spec.trigger.note.as_deref().filter(|n| !n.trim().is_empty()) {
            why = format!("{why} Reason given: {}", sentence(note));
        }
    }
    let target = spec.target.as_ref().map_or_else(|| "no safe revision is known".into(), revision);
    Story {
        headline: headline(incident),
        why,
        change: one_line(&format!("{} → {target}", revision(&spec.bad))),
        duration,
        outcome: Some(sentence(&status.message)).filter(|m| !m.is_empty()),
        command: format!(
            "lastgood incident show {} -n {}",
            name(incident),
            incident.metadata.namespace.as_deref().unwrap_or("default")
        ),
    }
}

/// The whole story as one paragraph.
pub fn paragraph(incident: &Incident) -> String {
    let story = story(incident);
    let mut text = format!("{}. {} {}.", story.headline, story.why, story.change);
    if let Some(outcome) = story.outcome {
        text = format!("{text} {outcome}");
    }
    if let Some(duration) = story.duration {
        text = format!("{text} It lasted {duration}.");
    }
    format!("{text} More: {}", story.command)
}

/// The first line: what was done to what, and whether it is healthy now.
pub fn headline(incident: &Incident) -> String {
    let w = workload(incident);
    let status = status(incident);
    let restored = incident.spec.target.as_ref().map_or_else(|| "an earlier revision".into(), revision);
    let bad = revision(&incident.spec.bad);
    one_line(&match status.phase {
        Phase::Reported if incident.spec.trigger.manual => {
            format!("NOT UNDONE: {w}; an undo of {bad} was asked for by hand")
        }
        Phase::Reported => format!("NOT UNDONE: {w} got {bad}, which was judged bad ({})", incident.spec.reason),
        Phase::Intended => format!("UNDO INTENDED: {w} is to go back to {restored}; not healthy yet"),
        Phase::Applied => format!("UNDO SENT: {w} goes back to {restored}; not proved healthy yet"),
        Phase::Verified => format!("UNDONE: {w} is back on {restored} and HEALTHY again"),
        Phase::Unproven => format!("UNDONE, NOT PROVED: {w} is back on {restored}, but nothing measured its health"),
        Phase::DidNotHelp => {
            format!("UNDO DID NOT HELP: {w} is back on {restored} and STILL UNHEALTHY; a person is needed")
        }
        Phase::Superseded if status.applied.is_some() => {
            format!(
                "UNDO SUPERSEDED: {w} was put back to {restored}, then something newer took over; its health is not known here"
            )
        }
        Phase::Superseded => format!("NO UNDO NEEDED: {w} got something newer than {bad} before anything was undone"),
        Phase::Failed => format!("UNDO FAILED: {w} could not be put back to {restored}; a person is needed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::{ended, hostile, judged, observed, verified};

    #[test]
    fn a_verified_undo_is_told_in_one_paragraph() {
        assert_eq!(
            paragraph(&verified()),
            "UNDONE: production/Deployment/jarvis-api is back on registry.example:5000/jarvis-api:1.8.3, envoy:1.33 \
             (revision 41) and HEALTHY again. 8.1 % of 7512 requests to the new pods failed in 5 minutes; the limit is \
             5 %, the old pods failed 0.3 % of 1702 in the same minutes. registry.example:5000/jarvis-api:1.9.0, \
             envoy:1.33 (revision 42) → registry.example:5000/jarvis-api:1.8.3, envoy:1.33 (revision 41). \
             registry.example:5000/jarvis-api:1.8.3 runs on all 7 pods and keeps its limits. It lasted 10 minutes 12 \
             seconds from first harm to proved healthy. More: lastgood incident show jarvis-api-4f2a9c -n production"
        );
    }

    #[test]
    fn only_a_verified_undo_is_called_healthy() {
        for phase in [
            Phase::Reported,
            Phase::Intended,
            Phase::Applied,
            Phase::Unproven,
            Phase::DidNotHelp,
            Phase::Superseded,
            Phase::Failed,
        ] {
            let incident = ended(phase, "x");
            assert!(!headline(&incident).contains("HEALTHY again"), "{phase:?}");
            assert_eq!(story(&incident).duration, None, "{phase:?}");
        }
    }

    #[test]
    fn reported_and_superseded_say_that_nothing_was_undone() {
        assert!(headline(&observed()).starts_with("NOT UNDONE: production/Deployment/jarvis-api got "));
        assert!(paragraph(&observed()).contains("observe mode: it would have gone back"));
        assert!(headline(&judged(Phase::Superseded, "")).starts_with("NO UNDO NEEDED"));
        assert!(headline(&ended(Phase::Superseded, "")).starts_with("UNDO SUPERSEDED"));
    }

    #[test]
    fn hostile_text_stays_on_one_line() {
        assert!(!paragraph(&hostile()).contains(['\n', '\u{202e}']));
    }
}
