use super::*;
use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: super::super::replay::ReplayArgs,
}

fn parsed(args: &[&str]) -> Result<BacktestArgs, String> {
    let all = [&["replay"], args].concat();
    Command::try_parse_from(all).map(|command| command.args.history).map_err(|e| e.to_string())
}

#[test]
fn times_are_absolute_or_relative() {
    let now = 1_790_000_000.0;
    let of = |text: &str| When::parse(text).map(|when| when.seconds(now) - now);
    assert_eq!((of("now"), of("-7d"), of("-90m")), (Ok(0.0), Ok(-604_800.0), Ok(-5400.0)));
    assert_eq!(of("2026-09-21T13:33:20Z"), Ok(-2400.0));
    for wrong in ["7d", "yesterday", "-7", "2026-09-21"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
    assert!(When::parse("yesterday").unwrap_err().contains("RFC 3339"));
}

#[test]
fn a_trace_and_a_history_exclude_each_other() {
    assert!(parsed(&["--prometheus", "http://p", "--from", "-7d"]).is_ok());
    assert!(parsed(&[]).unwrap_err().contains("TRACE"));
    assert!(parsed(&["--prometheus", "http://p"]).unwrap_err().contains("--from"));
    for of_history in [["--from", "-7d"], ["--to", "-1d"], ["--prometheus", "http://p"], ["--to-trace", "y.jsonl"]] {
        let error = parsed(&["x.jsonl", of_history[0], of_history[1]]).unwrap_err();
        assert!(error.contains("cannot be used with"), "{of_history:?}: {error}");
    }
    let error = parsed(&["--prometheus", "127.0.0.1:9090", "--from", "-7d"]).unwrap_err();
    assert!(error.contains("--prometheus") && error.contains("write http://HOST:PORT"), "{error}");
    let rollout = "shop/Deployment/web@2026-09-21T10:00:00Z";
    let args = parsed(&["--from", "-7d", "--rollout", rollout, "--workload", "shop/sts/db"]).unwrap();
    assert_eq!(
        (args.rollout[0].0.to_string(), args.workload[0].to_string()),
        ("shop/Deployment/web".into(), "shop/StatefulSet/db".into())
    );
    assert!(parsed(&["--from", "-7d", "--rollout", "shop/Deployment/web"]).unwrap_err().contains("names no time"));
}

fn prepared(args: &[&str]) -> Result<Prepared, Failure> {
    parsed(args).unwrap().prepare(None, None, [])
}

#[test]
fn the_settings_of_the_daemon_name_prometheus_thresholds_and_interval() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let settings = "interval: 30s\nsources: {prometheus: {url: 'http://one:9090', headers: {X-Scope-OrgID: team}}}\n";
    write("lastgood.yaml", settings);
    write("thresholds.yaml", "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {watch: 1h}\n");
    let config = folder.path().display().to_string();
    let of = |more: &[&str]| prepared(&[&["--from", "-1h", "--config", &config], more].concat()).unwrap();
    let all = of(&[]);
    assert_eq!((all.prometheus.url.as_str(), all.interval), ("http://one:9090", 30.0));
    assert_eq!(all.thresholds.defaults.watch, Duration::from_secs(3600));
    // The same credentials by another way: a port that is forwarded.
    let forwarded = of(&["--prometheus", "http://localhost:9090"]);
    assert_eq!(forwarded.prometheus.url, "http://localhost:9090");
    assert!(forwarded.prometheus.headers.contains_key("X-Scope-OrgID"));

    let alone = prepared(&["--from", "-1h", "--prometheus", "http://two:9090"]).unwrap();
    assert_eq!((alone.interval, alone.thresholds.defaults.mode.as_str()), (15.0, "act"));
    write("lastgood.yaml", "interval: 30s\n");
    let none = prepared(&["--from", "-1h", "--config", &config]).err().unwrap();
    assert_eq!(none.code, exit::USAGE);
    assert!(none.text.contains("--prometheus URL"), "{}", none.text);
}

#[test]
fn a_range_must_be_one() {
    let question = |args: &[&str]| {
        let args = parsed(&[&["--prometheus", "http://p"], args].concat()).unwrap();
        args.question(1_790_000_000.0, &args.prepare(None, None, [])?)
    };
    let question = |args: &[&str]| question(args).map_err(|failure| failure.text);
    assert!(question(&["--from", "-1h", "--to", "-2h"]).unwrap_err().contains("must be earlier"));
    assert!(question(&["--from", "-1h", "--rollout", "a/Deployment/b@-2h"]).unwrap_err().contains("not between"));
    let future = question(&["--from", "-1h", "--to", "2036-01-01T00:00:00Z"]).unwrap();
    assert_eq!((future.from, future.to), (1_790_000_000.0 - 3600.0, 1_790_000_000.0), "the future has no history");
}

#[test]
fn one_line_for_one_rollout_and_a_total() {
    use crate::domain::{FailReason, HoldReason};
    let mut told = Told { format: Format::Text, said: Vec::new(), summaries: Vec::new() };
    let summary = |verdict, action, t: Option<f64>| Summary {
        kind: "summary",
        workload: "shop/Deployment/web".parse().unwrap(),
        from: "a".into(),
        to: "b".into(),
        began: 1_790_000_000.4,
        verdict,
        action,
        t,
        target: (action == Action::Undo).then(|| "a".into()),
        log_e: 0.0,
        explanation: "8 % failed.".into(),
        after: None,
        superseded: false,
    };
    let all = [
        summary(Verdict::Fail(FailReason::Errors), Action::Undo, Some(1_790_000_075.4)),
        summary(Verdict::Pass, Action::None, None),
        summary(Verdict::Pass, Action::None, None),
        summary(Verdict::Hold(HoldReason::ClusterWide), Action::None, None),
    ];
    let mut out = Vec::new();
    let passed = VerdictLine {
        t: 1_790_001_860.4,
        workload: "shop/Deployment/web".parse().unwrap(),
        from: "a".into(),
        to: "b".into(),
        verdict: Verdict::Pass,
        action: Action::None,
        target: None,
        gate: None,
        log_e: -1.0,
        explanation: String::new(),
    };
    told.take(vec![Line::Verdict(Box::new(passed))], &mut out).unwrap();
    told.take(all.into_iter().map(|s| Line::Summary(Box::new(s))).collect(), &mut out).unwrap();
    told.total(86_400.0, 5, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "2026-09-21T14:13:20Z  shop/Deployment/web  a → b  fail(errors): would have been undone to a after 75 s. 8 % failed."
    );
    assert_eq!(lines[4], "4 rollouts in 24 h: 2 passed, 1 would have been undone, 1 held; 1 more took a bad one back");
}

#[test]
fn spans_are_for_people() {
    let all = [0.0, 75.0, 299.0, 1860.0, 86_400.0, 7.0 * 86_400.0].map(span);
    assert_eq!(all, ["0 s", "75 s", "299 s", "31 min", "24 h", "7 d"]);
}
