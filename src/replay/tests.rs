use super::{
    trace::{Entry, Lines, TraceError},
    *,
};
use crate::domain::FailReason;
use std::fmt::Write;

const HEAD: &str = "{\"t\":0,\"kind\":\"trace\",\"version\":1,\"title\":\"test\"}\n";

fn armed() -> Arc<Thresholds> {
    let text = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mode: act}\n";
    Arc::new(Thresholds::parse("t", text).unwrap())
}

/// Four pods of `a` serve 600 s, then two of `b` replace two of them; `share` of the requests to `b` fails.
fn trace(share: f64, until: u32) -> String {
    let mut text = HEAD.to_owned();
    let id = "shop/Deployment/web";
    writeln!(text, "{{\"t\":0,\"kind\":\"workload\",\"workload\":\"{id}\",\"replicas\":4}}").unwrap();
    let pod = |text: &mut String, t: u32, name: &str, revision: &str, deleted: bool| {
        writeln!(
            text,
            "{{\"t\":{t},\"kind\":\"pod\",\"pod\":\"shop/{name}\",\"workload\":\"{id}\",\"revision\":\"{revision}\",\"node\":\"n\",\"ready\":{},\"restarts\":0,\"deleted\":{deleted}}}",
            !deleted
        )
        .unwrap();
    };
    for i in 0..4 {
        pod(&mut text, 0, &format!("a-{i}"), "a", false);
    }
    for t in (15..=until).step_by(15) {
        if t == 600 {
            writeln!(text, "{{\"t\":600,\"kind\":\"rollout\",\"workload\":\"{id}\",\"from\":\"a\",\"to\":\"b\"}}")
                .unwrap();
        }
        if t == 615 {
            for i in 0..2 {
                pod(&mut text, 615, &format!("a-{i}"), "a", true);
                pod(&mut text, 615, &format!("b-{i}"), "b", false);
            }
        }
        for i in 0..4 {
            let (name, begun) = if t >= 615 && i < 2 { (format!("b-{i}"), 615) } else { (format!("a-{i}"), 0) };
            let requests = f64::from(t - begun) * 20.0;
            let errors = if begun == 615 { (requests * share).round() } else { 0.0 };
            writeln!(
                text,
                "{{\"t\":{t},\"kind\":\"counters\",\"pod\":\"shop/{name}\",\"requests\":{requests},\"errors\":{errors}}}"
            )
            .unwrap();
        }
    }
    writeln!(text, "{{\"t\":{until},\"kind\":\"end\"}}").unwrap();
    text
}

fn judged(text: &str) -> Vec<Line> {
    let mut replay = Replay::new(armed(), 15.0);
    let mut out = Vec::new();
    let mut lines = Lines::new("t", text.as_bytes());
    for entry in lines.by_ref() {
        if let Entry::Observed { observed, .. } = entry.unwrap() {
            out.extend(replay.observe(&observed));
        }
    }
    assert!(lines.ended());
    out.extend(replay.end(lines.latest().unwrap()));
    out
}

fn summary(lines: &[Line]) -> &Summary {
    let all: Vec<&Summary> =
        lines.iter().filter_map(|l| if let Line::Summary(s) = l { Some(&**s) } else { None }).collect();
    assert_eq!(all.len(), 1);
    all[0]
}

#[test]
fn a_bad_revision_would_have_been_undone_and_the_lines_say_so() {
    let lines = judged(&trace(0.3, 1200));
    let Line::Verdict(first) = &lines[0] else { panic!("no verdict first: {lines:?}") };
    assert_eq!((first.action, first.target.as_ref().map(|r| r.0.as_str())), (Action::Undo, Some("a")));
    assert!(first.t > 630.0 && first.t <= 720.0, "{}", first.t);
    let json = serde_json::to_value(&lines[0]).unwrap();
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["reason"], "errors");
    assert_eq!(json["action"], "undo");
    assert_eq!(json["workload"], "shop/Deployment/web");
    assert!(json["logE"].as_f64().unwrap() >= 9.2 && json["explanation"].as_str().unwrap().contains("30 %"));
    let end = summary(&lines);
    assert_eq!((end.action, end.t), (Action::Undo, Some(first.t)));
    assert_eq!(end.after.as_ref().and_then(|a| a.verdict).map(Verdict::word), Some("fail"));
    assert_eq!(serde_json::to_value(lines.last().unwrap()).unwrap()["kind"], "summary");
}

#[test]
fn where_nobody_looks_any_more_the_trial_ends_as_it_stands() {
    let ended = "{\"t\":626,\"kind\":\"condition\",\"workload\":\"shop/Deployment/web\",\"type\":\"WatchEnded\"}\n";
    let text = trace(0.3, 1200);
    let at = text.find("{\"t\":630").unwrap();
    let lines = judged(&format!("{}{ended}{}", &text[..at], &text[at..]));
    let end = summary(&lines);
    assert_eq!((lines.len(), end.verdict, end.action), (1, Verdict::Watching, Action::None), "{lines:?}");
}

#[test]
fn a_good_revision_passes_after_its_watch_and_nothing_is_done() {
    let lines = judged(&trace(0.0, 2700));
    let end = summary(&lines);
    assert_eq!((end.verdict, end.action), (Verdict::Pass, Action::None));
}

#[test]
fn the_time_between_looks_changes_no_verdict() {
    let text = trace(0.12, 1500);
    let undone = |interval: f64| {
        let mut replay = Replay::new(armed(), interval);
        let lines = Lines::new("t", text.as_bytes());
        let observed = lines.filter_map(|entry| match entry.unwrap() {
            Entry::Observed { observed, .. } => Some(*observed),
            Entry::Unknown { .. } => None,
        });
        let said: Vec<Line> = observed.flat_map(|o| replay.observe(&o)).collect();
        said.iter().filter_map(|l| if let Line::Verdict(v) = l { Some(v.t) } else { None }).next().unwrap()
    };
    let times: Vec<f64> = [1.0, 5.0, 15.0].into_iter().map(undone).collect();
    assert!(times.iter().all(|t| (t - times[0]).abs() <= 30.0), "{times:?}");
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let first = |text: &str| Lines::new("f.jsonl", text.as_bytes()).find_map(Result::err).map(|e| e.to_string());
    assert!(first("{}\n").unwrap().starts_with("f.jsonl:1: there is no \"kind\""));
    assert!(first("{\"t\":1,\"kind\":\"end\"}\n").unwrap().contains("the first line is of kind \"end\""));
    let bad = |line: &str| first(&format!("{HEAD}\n{line}\n")).unwrap();
    assert!(bad("{\"t\":1,\"kind\":").starts_with("f.jsonl:3:14: EOF"), "{}", bad("{\"t\":1,\"kind\":"));
    assert!(bad("{\"t\":1,\"kind\":\"pod\"}").contains("missing field `pod`"));
    assert!(bad("{\"t\":1,\"kind\":\"counters\",\"pod\":\"nonamespace\"}").contains("does not name a pod"));
    assert!(bad("{\"t\":\"x\",\"kind\":\"end\"}").starts_with("f.jsonl:3:"));
    let packed = Lines::new("f", &[0x1f, 0x8b, 8][..]).find_map(Result::err).unwrap().to_string();
    assert!(packed.contains("gunzip -c FILE | lastgood replay -"), "{packed}");
    assert!(first("{\"t\":0,\"kind\":\"trace\",\"version\":2}").unwrap().contains("version 2 is not known"));
    let long = format!("{HEAD}{}", "x".repeat(trace::LONGEST_LINE as usize + 2));
    assert!(matches!(Lines::new("f", long.as_bytes()).nth(1), Some(Err(TraceError::Malformed { line: 2, .. }))));
}

#[test]
fn unknown_kinds_and_keys_are_passed_over_and_late_lines_are_counted() {
    let text = format!(
        "{HEAD}{{\"t\":1,\"kind\":\"weather\",\"rain\":true}}\n{{\"t\":5,\"kind\":\"source\",\"source\":\"x\",\"ok\":true,\"new\":1}}\n{{\"t\":4,\"kind\":\"end\"}}\nnot read\n"
    );
    let mut lines = Lines::new("f", text.as_bytes());
    let all: Vec<Entry> = lines.by_ref().map(Result::unwrap).collect();
    assert!(matches!(&all[1], Entry::Unknown { line: 2, kind } if kind == "weather"));
    assert_eq!((all.len(), lines.latest(), lines.ended()), (4, Some(5.0), true));
    assert_eq!(lines.late(), Some(trace::Late { count: 1, line: 4, t: 4.0, after: 5.0 }));
}

#[test]
fn a_line_whose_time_alone_is_far_ahead_is_passed_over_and_a_silence_is_not() {
    let source = |t: f64| format!("{{\"t\":{t},\"kind\":\"source\",\"source\":\"x\",\"ok\":true}}\n");
    let read = |times: &[f64]| {
        let text: String = times.iter().map(|t| source(*t)).collect();
        let text = format!("\u{feff}{HEAD}{text}{{\"t\":{},\"kind\":\"end\"}}\n", times[times.len() - 1]);
        let mut lines = Lines::new("f", text.as_bytes());
        let count = lines.by_ref().map(Result::unwrap).count();
        (count, lines.astray(), lines.late(), lines.latest())
    };
    assert_eq!(read(&[10.0, 1e7, 25.0, 40.0]), (5, Some((3, 1)), None, Some(40.0)));
    assert_eq!(read(&[10.0, 1e7, 1e7 + 15.0]), (5, None, None, Some(1e7 + 15.0)));
    assert_eq!(read(&[10.0, 3000.0, 25.0]).2.unwrap().line, 4, "not far: late is what comes after");
}

#[test]
fn what_a_rollout_says_of_its_past_is_neither_late_nor_missed_silently() {
    let text = |past: usize| {
        let rollout = r#"{"t":100,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b","past":"#;
        let source = r#"{"t":5,"kind":"source","source":"x","ok":true}"#;
        format!("{HEAD}{rollout}{past}}}\n{source}\n{source}\n{{\"t\":200,\"kind\":\"end\"}}\n")
    };
    let read = |past: usize| {
        let text = text(past);
        let mut lines = Lines::new("f", text.as_bytes());
        lines.by_ref().for_each(|entry| assert!(entry.is_ok()));
        (lines.late().map(|late| late.count), lines.past_missing())
    };
    assert_eq!([read(2), read(1), read(7)], [(None, None), (Some(1), None), (None, Some((4, 2)))]);
}

#[test]
fn a_missing_scrape_is_no_data_and_not_zero() {
    let whole = trace(0.0, 2700);
    let gappy: String = whole
        .lines()
        .filter(|line| !(line.contains("counters") && (line.contains("\"t\":9") || line.contains("b-1"))))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(summary(&judged(&gappy)).action, Action::None);
}

#[test]
fn the_brake_stops_the_fourth_undo_of_a_namespace() {
    let mut replay = Replay::new(armed(), 15.0);
    let mut all: Vec<Observed> = Vec::new();
    for i in 0..5 {
        let text = trace(1.0, 900).replace("shop/Deployment/web", &format!("shop/Deployment/web{i}"));
        let text = text.replace("shop/a-", &format!("shop/w{i}-a-")).replace("shop/b-", &format!("shop/w{i}-b-"));
        all.extend(Lines::new("t", text.as_bytes()).filter_map(|entry| match entry.unwrap() {
            Entry::Observed { observed, .. } => Some(*observed),
            Entry::Unknown { .. } => None,
        }));
    }
    all.sort_by(|a, b| a.t.total_cmp(&b.t));
    let lines: Vec<Line> = all.iter().flat_map(|o| replay.observe(o)).collect();
    let count = |action| lines.iter().filter(|l| matches!(l, Line::Verdict(v) if v.action == action)).count();
    assert!(count(Action::Undo) <= 3, "{lines:?}");
}

#[test]
fn a_trace_that_tells_its_looks_is_looked_at_then_and_at_no_other_time() {
    let mut replay = Replay::new(armed(), 5.0);
    let mut take = |t: f64, what: Observation| {
        replay.observe(&Observed { t, what });
        replay.next
    };
    assert_eq!(take(100.0, Observation::Look { unheard: false }), Some(120.0));
    assert_eq!(take(105.2, Observation::Look { unheard: false }), Some(125.2));
    // The looks fail to come: its own clock goes on.
    let source = Observation::Source { source: "x".into(), ok: true, reason: None };
    assert_eq!(take(140.0, source), Some(140.2));
}

#[test]
fn a_replay_convicts_at_the_looks_that_convicted_and_at_no_others() {
    let text = HEAD.to_owned()
        + r#"{"t":0,"kind":"pod","pod":"shop/web-a-1","workload":"shop/Deployment/web","revision":"a","ready":true,"restarts":0}
{"t":99,"kind":"look"}
{"t":100,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b"}
{"t":101,"kind":"pod","pod":"shop/web-b-1","workload":"shop/Deployment/web","revision":"b","ready":false,"restarts":0}
{"t":104,"kind":"look"}
{"t":160,"kind":"pod","pod":"shop/web-b-1","workload":"shop/Deployment/web","revision":"b","ready":false,"restarts":3,"exitCode":1}
{"t":161,"kind":"look","unheard":true}
{"t":162,"kind":"rollout","workload":"shop/Deployment/cart","from":"a","to":"b"}
{"t":163,"kind":"look"}
{"t":170,"kind":"end"}
"#;
    let lines = judged(&text);
    assert!(matches!(&lines[0], Line::Verdict(line) if (line.t, line.action) == (163.0, Action::Undo)), "{lines:?}");
}

#[test]
fn a_rollout_that_brings_its_past_is_judged_by_that_past_alone() {
    let pod = |t: u32, name: &str, revision: &str| {
        format!(
            r#"{{"t":{t},"kind":"pod","pod":"shop/{name}","workload":"shop/Deployment/web","revision":"{revision}","ready":true,"restarts":0}}"#
        )
    };
    let counters = |t: u32, name: &str, requests: u32, errors: u32| {
        format!(r#"{{"t":{t},"kind":"counters","pod":"shop/{name}","requests":{requests},"errors":{errors}}}"#)
    };
    let rollout = r#"{"t":600,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b","past":4}"#;
    let mut text = HEAD.to_owned();
    let mut line = |said: String| text.push_str(&(said + "\n"));
    // What was told before is not what the daemon read of the past: half of it failed.
    line(pod(1, "web-a-1", "a"));
    (1..39).for_each(|i| line(counters(15 * i, "web-a-1", 100 * i, 50 * i)));
    line(r#"{"t":601,"kind":"look"}"#.into());
    line(rollout.into());
    line(pod(500, "web-a-1", "a"));
    line(counters(580, "web-a-1", 9000, 0));
    line(counters(595, "web-a-1", 9100, 0));
    line(pod(602, "web-b-1", "b"));
    for i in 0..20 {
        line(counters(605 + 15 * i, "web-b-1", 1000 * (i + 1), 200 * (i + 1)));
        line(format!(r#"{{"t":{},"kind":"look"}}"#, 606 + 15 * i));
    }
    line(r#"{"t":1000,"kind":"end"}"#.into());
    let lines = judged(&text);
    let summary = summary(&lines);
    assert_eq!(summary.verdict, Verdict::Fail(FailReason::Errors), "{}", summary.explanation);
    assert!(summary.explanation.contains("(limit 5 %, before 0 %"), "{}", summary.explanation);
}
