use super::*;
use crate::domain::{FailReason, SourceState, ThresholdsState};
use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    sync::Mutex,
};

/// The configuration's hash is one for the process; tests that look at it take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn rendered(act: impl FnOnce()) -> String {
    let (recorder, exporter) = build().unwrap();
    ::metrics::with_local_recorder(&recorder, act);
    exporter.run_upkeep();
    exporter.render()
}

fn everything() {
    verdict(Verdict::Fail(FailReason::Errors));
    undo(Phase::DidNotHelp);
    gate("observe");
    trials(3);
    recoveries(1);
    decision_queue(2);
    source_read("prometheus", true, Duration::from_millis(30), 1.7e9);
    source_read("my-tenant\"} evil", false, Duration::from_secs(9), 1.7e9);
    source_skipped("scrape", 1);
    peers_read(false);
    peers(12, 3);
    late(40);
    late_fault(true);
    watch_staleness("deployments", 4.0);
    watch_restarted("pods");
    object_skipped("deployments");
    detected(42.0);
    issued(f64::NAN);
    issued(-1.0);
    verified(130.0);
    tick(Duration::from_micros(800));
    notice(NotifierKind::Slack, "done");
    report_written(false);
    event_sent(true);
    api_request("patch", 422);
    api_request("get", 0);
    thresholds_rejected(true);
    leader(true);
}

/// What promtool says of some metrics; `None` when it is not installed.
fn promtool(text: &str) -> Option<(bool, String)> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), said.trim().to_owned()))
}

#[test]
fn promtool_accepts_the_metrics() {
    let _turn = ONE_AT_A_TIME.lock();
    config_in_force("0123456789ab");
    let text = rendered(everything);
    let Some(said) = promtool(&text) else {
        eprintln!("SKIPPED: promtool is not installed (Debian package prometheus); the metrics were NOT linted");
        return;
    };
    assert_eq!(said, (true, String::new()), "{text}");
    let bad = promtool("# TYPE lastgood_bad counter\nlastgood_bad 1\n").unwrap();
    assert!(!bad.0 && bad.1.contains("_total"), "promtool must be able to fail: {bad:?}");
}

#[test]
fn a_second_recorder_is_refused() {
    let exporter = install().unwrap();
    assert!(exporter.render().contains("lastgood_build_info{version=\""));
    assert!(install().unwrap_err().to_string().starts_with("cannot set up metrics"));
}

#[test]
fn every_metric_of_the_catalogue_is_shown_with_help_and_the_right_type() {
    let text = rendered(everything);
    let mut names = BTreeSet::new();
    for family in CATALOGUE {
        assert!(names.insert(family.name), "{} stands twice", family.name);
        let kind = match family.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram(buckets) => {
                assert!(buckets.is_sorted() && !buckets.is_empty());
                "histogram"
            }
        };
        assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{} {kind}\n{text}", family.name);
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
    }
    for line in text.lines().filter(|l| l.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(names.contains(name) || name == "lastgood_config_info", "{name} is not in the catalogue");
    }
}

#[test]
fn values_and_labels_are_those_given() {
    let text = rendered(everything);
    for line in [
        "lastgood_verdicts_total{verdict=\"fail\",reason=\"errors\"} 1",
        "lastgood_verdicts_total{verdict=\"watching\",reason=\"none\"} 0",
        "lastgood_undos_total{result=\"did_not_help\"} 1",
        "lastgood_source_up{source=\"prometheus\"} 1",
        "lastgood_source_up{source=\"other\"} 0",
        "lastgood_api_requests_total{verb=\"patch\",code=\"4xx\"} 1",
        "lastgood_issue_seconds_count 1",
        "lastgood_issue_seconds_sum 0",
        "lastgood_detect_seconds_bucket{le=\"45\"} 1",
        "lastgood_detect_seconds_bucket{le=\"30\"} 0",
        "lastgood_reports_total{result=\"failed\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("evil"));
}

#[test]
fn hostile_names_do_not_make_new_series() {
    let few = rendered(everything).lines().count();
    let many = rendered(|| {
        everything();
        for i in 0..500 {
            source_read(&format!("tenant-{i}"), true, Duration::ZERO, 0.0);
            watch_staleness(&format!("watch-{i}"), 1.0);
            object_skipped(&format!("kind-{i}"));
        }
    });
    assert!(many.lines().count() <= few + 4, "{many}");
}

#[test]
fn only_the_configuration_in_force_is_shown() {
    let _turn = ONE_AT_A_TIME.lock();
    let text = rendered(|| {
        for i in 0..50 {
            config_in_force(&format!("{i:012x}"));
        }
    });
    let lines: Vec<_> = text.lines().filter(|l| l.starts_with("lastgood_config_info{")).collect();
    assert_eq!(lines, ["lastgood_config_info{hash=\"000000000031\"} 1"]);
}

#[test]
fn a_snapshot_is_taken_over() {
    let _turn = ONE_AT_A_TIME.lock();
    let mut snapshot = Snapshot { leader: true, ..Snapshot::default() };
    snapshot.watches.insert("deployments".into(), 12.0);
    snapshot.watches.insert("x".into(), 3.0);
    snapshot.watches.insert("y".into(), 7.0);
    snapshot.sources.insert("prometheus".into(), SourceState { ok: true, last_good: Some(5.0), reason: None });
    snapshot.thresholds = ThresholdsState { hash: "abc".into(), loaded: 1.0, rejected: Some("line 3".into()) };
    let text = rendered(|| observe(&snapshot));
    for line in [
        "lastgood_leader 1",
        "lastgood_thresholds_rejected 1",
        "lastgood_watch_staleness_seconds{watch=\"deployments\"} 12",
        "lastgood_watch_staleness_seconds{watch=\"other\"} 7",
        "lastgood_source_last_success_timestamp_seconds{source=\"prometheus\"} 5",
        "lastgood_config_info{hash=\"abc\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}
