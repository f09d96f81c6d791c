//! Incidents that the tests of this module share.

use super::Context;
use crate::{
    domain::{Finding, FindingCounts, Kind, Revision},
    record::{Incident, IncidentSpec, IncidentStatus, IncidentWorkload, JournalEntry, Phase, RevisionRef, Trigger},
};
use jiff::Timestamp;

pub(crate) fn at(text: &str) -> Timestamp {
    format!("2026-11-23T{text}Z").parse().unwrap()
}

fn entry(t: &str, step: &str, text: &str) -> JournalEntry {
    JournalEntry { t: at(t), step: step.into(), text: text.into() }
}

pub(crate) fn context() -> Context {
    Context { environment: "fallback".into(), cluster: Some("eu-1".into()), version: "0.1.0".into() }
}

fn revision(hash: &str, number: i64, image: &str) -> RevisionRef {
    RevisionRef {
        hash: Revision(hash.into()),
        number: Some(number),
        images: vec![image.into(), "envoy:1.33".into()],
        object: Some(format!("ReplicaSet/jarvis-api-{hash}")),
    }
}

/// A bad rollout found by its errors; nothing done yet.
pub(crate) fn judged(phase: Phase, message: &str) -> Incident {
    let mut incident = Incident::new(
        "jarvis-api-4f2a9c",
        IncidentSpec {
            workload: IncidentWorkload {
                kind: Kind::Deployment,
                name: "jarvis-api".into(),
                uid: "5f0c8a52-11d4-4b36-a8de-f7c3ed8f2a10".into(),
            },
            environment: "production".into(),
            bad: revision("9f3c1a00bb42", 42, "registry.example:5000/jarvis-api:1.9.0"),
            target: Some(revision("77d0e1c2aa41", 41, "registry.example:5000/jarvis-api:1.8.3")),
            trigger: Trigger { by: "Lastgood".into(), manual: false, note: None },
            reason: "errors".into(),
            explanation: "8.1 % of 7512 requests to the new pods failed in 5 minutes; the limit is 5 %, \
                          the old pods failed 0.3 % of 1702 in the same minutes"
                .into(),
            findings: vec![
                Finding {
                    signal: "errors".into(),
                    stream: "new pods".into(),
                    new: "8.1 % of 7512".into(),
                    old: Some("0.3 % of 1702".into()),
                    before: Some("0.2 % of 90211".into()),
                    limit: Some("5 %".into()),
                    log_e: Some(11.4372),
                    since: Some(crate::clock::seconds(at("14:31:00"))),
                    counts: Some(FindingCounts {
                        new_bad: 609.0,
                        new_total: 7512.0,
                        old_bad: 5.0,
                        old_total: 1702.0,
                        before_bad: 180.5,
                        before_total: 90211.0,
                    }),
                    would_pass_if: None,
                    says: "convicts".into(),
                },
                Finding {
                    signal: "health".into(),
                    stream: "probe ready|z".into(),
                    new: "12 of 12 passed".into(),
                    old: None,
                    before: None,
                    limit: None,
                    log_e: None,
                    since: None,
                    counts: None,
                    would_pass_if: None,
                    says: "clean".into(),
                },
            ],
            log_e: Some(11.4372),
            limits: Default::default(),
            rollout_began: Some(at("14:30:10")),
            harm_since: Some(at("14:31:00")),
            decided: at("14:36:02"),
            epoch: Some("1b2c/3".into()),
        },
    );
    incident.metadata.namespace = Some("production".into());
    incident.metadata.uid = Some("0d5d9b7e-2b0a-4c19-9e9e-5b7b54f0c0de".into());
    incident.status = Some(IncidentStatus {
        phase,
        message: message.into(),
        journal: vec![entry("14:36:02", "decided", "fail(errors): 8.1 % of 7512 requests failed")],
        ..IncidentStatus::default()
    });
    incident
}

/// The whole way: judged, undone, proved.
pub(crate) fn verified() -> Incident {
    let mut incident =
        judged(Phase::Verified, "registry.example:5000/jarvis-api:1.8.3 runs on all 7 pods and keeps its limits");
    if let Some(status) = &mut incident.status {
        status.undo_id = Some("u-4f2a9c".into());
        status.applied = Some(at("14:36:05"));
        status.finished = Some(at("14:41:12"));
        status.journal.extend([
            entry("14:36:03", "dry-run", "the API server accepts the undo; only the template changes"),
            entry("14:36:04", "intent", "stored the intent to go back to revision 41"),
            entry("14:36:05", "patch", "restored the template of revision 41"),
            entry("14:37:20", "verify", "7 of 7 pods run the restored revision and are available"),
            entry("14:37:21", "hand-back", "gave the template's fields back to kubectl-client-side-apply"),
            entry("14:41:12", "outcome", "errors are back at 0.3 % of 2210"),
        ]);
        status.leftovers = vec!["spec.template.spec.containers[api].env[FEATURE_B]".into()];
    }
    incident
}

/// The same undo, ended otherwise.
pub(crate) fn ended(phase: Phase, message: &str) -> Incident {
    let mut incident = verified();
    if let Some(status) = &mut incident.status {
        status.phase = phase;
        status.message = message.into();
        status.journal.pop();
        status.leftovers.clear();
    }
    incident
}

/// Bad, but in observe mode.
pub(crate) fn observed() -> Incident {
    let mut incident = judged(Phase::Reported, "observe mode: it would have gone back to revision 41");
    if let Some(status) = &mut incident.status {
        status.journal.push(entry("14:36:02", "gate", "observe mode"));
        status.finished = Some(at("14:36:02"));
    }
    incident
}

/// Every text field hostile.
pub(crate) fn hostile() -> Incident {
    const EVIL: &str = "x\n# Owned\n<script>alert(1)</script> [a](javascript:x) <!channel> a|b `c` \u{202e}";
    let mut incident = verified();
    incident.spec.environment = EVIL.into();
    incident.spec.explanation = EVIL.into();
    incident.spec.reason = EVIL.into();
    incident.spec.trigger = Trigger { by: EVIL.into(), manual: true, note: Some(EVIL.into()) };
    incident.spec.bad.images = vec![EVIL.into()];
    for finding in &mut incident.spec.findings {
        finding.signal = EVIL.into();
        finding.stream = EVIL.into();
        finding.new = EVIL.into();
        finding.says = EVIL.into();
        finding.old = Some(EVIL.into());
    }
    if let Some(status) = &mut incident.status {
        status.message = EVIL.into();
        status.leftovers = vec![EVIL.into()];
        for line in &mut status.journal {
            line.step = EVIL.into();
            line.text = EVIL.into();
        }
    }
    incident
}
