use super::{timeline::MILESTONES, *};
use crate::report::fixtures::{context, ended, hostile, judged, observed, verified};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

/// Compares with a file of `testdata`; `LASTGOOD_BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path = format!("{}/src/report/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LASTGOOD_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; LASTGOOD_BLESS=1 writes it anew");
}

/// A small reader of Markdown: the headings outside of code, in order.
fn headings(text: &str) -> Vec<&str> {
    text.lines().filter(|l| l.starts_with('#')).collect()
}

/// The text without its code spans, by CommonMark's rule: a run of backticks ends at a run of the same length.
fn without_code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        out.push_str(&rest[..start]);
        if out.ends_with('\\') {
            rest = &rest[start + 1..];
            continue;
        }
        let run = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let after = &rest[start + run..];
        let mut end = 0;
        loop {
            end += after[end..].find('`').expect("a code span is not closed");
            let length = after[end..].len() - after[end..].trim_start_matches('`').len();
            if length == run {
                break;
            }
            end += length;
        }
        rest = &after[end + run..];
    }
    out + rest
}

fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap() + heading.len() + 2;
    let rest = &text[start..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

fn times(text: &str) -> Vec<String> {
    section(text, "## Timeline")
        .lines()
        .filter(|l| l.starts_with("- 2"))
        .map(|l| l[2..].split(" - ").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn headings_are_those_of_the_runbook_template() {
    let template = include_str!("../testdata/template.md");
    assert_eq!(headings(template), HEADINGS);
    assert_eq!(headings(&render(&verified(), &context())), HEADINGS);
    let labels = |text: &str| {
        text.lines().filter_map(|l| Some(l.strip_prefix("**")?.split(":**").next()?.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(labels(&render(&verified(), &context())), labels(template));
}

#[test]
fn golden_verified() {
    golden("verified.md", &render(&verified(), &context()));
}

#[test]
fn golden_observed() {
    golden("observed.md", &render(&observed(), &context()));
}

#[test]
fn golden_did_not_help() {
    let incident = ended(Phase::DidNotHelp, "errors are still at 8.4 % of 900");
    golden("did-not-help.md", &render(&incident, &context()));
}

#[test]
fn golden_superseded_before_the_patch() {
    let mut incident = judged(Phase::Superseded, "jarvis-api:1.9.1 was deployed before the patch was sent");
    incident.spec.harm_since = None;
    golden("superseded.md", &render(&incident, &context()));
}

#[test]
fn golden_by_hand_without_data() {
    let mut incident = judged(Phase::Failed, "the API server refused the patch: 403");
    incident.spec.trigger =
        crate::record::Trigger { by: "Jane Doe".into(), manual: true, note: Some("customers call".into()) };
    incident.spec.reason = "manual".into();
    incident.spec.explanation = "asked for by Jane Doe".into();
    incident.spec.findings.clear();
    incident.spec.target = None;
    incident.spec.rollout_began = None;
    incident.spec.harm_since = None;
    golden("by-hand.md", &render(&incident, &context()));
}

#[test]
fn an_incident_without_status_is_a_report_only() {
    let mut incident = verified();
    incident.status = None;
    let text = render(&incident, &context());
    assert!(section(&text, "## Resolution").starts_with("Nothing was undone"));
    assert_eq!(headings(&text), HEADINGS);
}

#[test]
fn the_rollback_is_completed_when_all_pods_run_the_restored_revision() {
    let mut incident = verified();
    let journal = &mut incident.status.as_mut().unwrap().journal;
    journal.iter_mut().find(|j| j.step == "verify").unwrap().step = "complete".into();
    let text = render(&incident, &context());
    assert!(
        text.contains("- 2026-11-23 14:37:20 UTC - **Rollback completed**: all pods run the earlier template\n"),
        "{text}"
    );
}

#[test]
fn every_stored_count_is_in_the_report() {
    let text = render(&verified(), &context());
    assert!(text.contains("new 609/7512, old 5/1702, before 180.5/90211"), "{text}");
    assert!(text.contains("Requests failed: 609 of 7512 at the time of the verdict"));
    assert!(text.contains("| 11.44 |"));
}

#[test]
fn untrusted_text_cannot_add_headings_html_links_or_table_cells() {
    let text = render(&hostile(), &context());
    assert_eq!(headings(&text), HEADINGS);
    let prose = without_code(&text);
    assert!(!prose.contains(['<', '>', '\u{202e}']), "{prose}");
    assert!(!prose.contains("[a]"), "{prose}");
    assert!(without_code(&render(&verified(), &context())).contains("convicts"), "code is taken out, not all");
    let tables: Vec<_> = text.lines().filter(|l| l.starts_with('|')).collect();
    assert_eq!(tables.len(), 4);
    for line in tables {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 11, "{line}");
    }
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (1_700_000_000i64..1_800_000_000).prop_map(|s| Timestamp::from_second(s).unwrap())
}

proptest! {
    #[test]
    fn the_timeline_is_monotone_and_has_the_five(
        began in proptest::option::of(moment()),
        harm in proptest::option::of(moment()),
        decided in moment(),
        applied in proptest::option::of(moment()),
        finished in proptest::option::of(moment()),
        jitter in proptest::collection::vec(-4000i64..4000, 7),
        phase in proptest::sample::select(vec![
            Phase::Reported, Phase::Intended, Phase::Applied, Phase::Verified,
            Phase::Unproven, Phase::DidNotHelp, Phase::Superseded, Phase::Failed,
        ]),
    ) {
        let mut incident = verified();
        incident.spec.rollout_began = began;
        incident.spec.harm_since = harm;
        incident.spec.decided = decided;
        let status = incident.status.as_mut().unwrap();
        status.phase = phase;
        status.applied = applied;
        status.finished = finished;
        for (line, by) in status.journal.iter_mut().zip(jitter) {
            line.t += SignedDuration::from_secs(by);
        }
        let text = render(&incident, &context());
        prop_assert_eq!(headings(&text), HEADINGS);
        let times = times(&text);
        prop_assert!(times.is_sorted(), "{times:?}");
        let timeline = section(&text, "## Timeline");
        for label in MILESTONES {
            prop_assert_eq!(timeline.matches(&format!("**{label}**")).count(), 1);
        }
        let lines = timeline.trim().lines().count();
        prop_assert_eq!(lines, 5 + 7 + usize::from(harm.is_some()));
    }
}
