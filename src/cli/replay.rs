//! `lastgood replay`: today's decision over a recorded trace, or (`backtest`) over the history of a Prometheus.

use super::{
    Failure,
    backtest::{self, BacktestArgs},
    exit,
    style::printable,
};
use crate::{
    clock::timestamp,
    config::Thresholds,
    domain::{LateWatch, Seconds},
    replay::{
        Action, INTERVAL, Line, Replay, Summary, VerdictLine,
        trace::{Entry, Late, Lines},
    },
};
use clap::{Args, ValueEnum};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What holds without a thresholds file: the defaults, armed.
const ARMED: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mode: act}\n";

/// Seconds since 1970 are more than these (2001), and those since a trace began are less.
const EPOCH: f64 = 1e9;
/// No clock shows so many seconds; one of milliseconds does.
const MILLISECONDS: f64 = 1e11;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The trace, JSON Lines; `-` for standard input. Without one: --from.
    #[arg(
        required_unless_present_any = ["from", "prometheus"],
        conflicts_with_all = ["from", "to", "prometheus", "rollout", "to_trace"]
    )]
    trace: Option<PathBuf>,
    /// The thresholds to judge by; else those of --config, else the defaults with `mode: act`.
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,
    /// Time between two looks, on the trace's clock [default: 5; with --from the daemon's, 15].
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
    /// How to write the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    #[command(flatten)]
    pub(super) history: BacktestArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) async fn replay(args: &ReplayArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    if args.interval.is_some_and(|interval| !(interval > 0.0 && interval <= 3600.0)) {
        return Err(Failure::new(exit::USAGE, "--interval must be more than 0 and at most 3600 seconds"));
    }
    match &args.trace {
        Some(trace) => of_trace(args, trace, out, err),
        None => {
            let given = args.thresholds.as_ref().map(|file| thresholds(Some(file))).transpose()?;
            backtest::backtest(&args.history, (given, args.interval, args.output), out, err).await
        }
    }
}

fn of_trace(args: &ReplayArgs, trace: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    let thresholds = Arc::new(thresholds(args.thresholds.as_ref())?);
    let name = trace.display().to_string();
    let input: Box<dyn BufRead> = if name == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(trace).map_err(|e| {
            Failure::new(exit::ERROR, format!("cannot open the trace {name}: {e}; give a file in JSON Lines, or -"))
        })?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let name = if name == "-" { "standard input".to_owned() } else { name };
    let mut lines = Lines::new(name.clone(), input);
    let mut replay = Replay::new(thresholds, args.interval.unwrap_or(INTERVAL));
    let mut unknown = std::collections::BTreeSet::new();
    let mut unusable = None;
    let wanted = |line: &&Line| args.history.wants(line.workload());
    let mut judged = false;
    let mut say = |said: Vec<Line>, out: &mut dyn Write| {
        said.iter().filter(wanted).try_for_each(|line| {
            judged = true;
            write_line(args.output, line, out)
        })
    };
    for entry in lines.by_ref() {
        match entry? {
            Entry::Observed { line, observed } => {
                let before = replay.skipped();
                say(replay.observe(&observed), out)?;
                if replay.skipped() > before {
                    unusable.get_or_insert(line);
                }
            }
            Entry::Unknown { line, kind } => {
                if unknown.insert(kind.clone()) {
                    let kind = printable(&kind);
                    writeln!(err, "{name}:{line}: warning: kind \"{kind}\" is not known and passed over")?;
                }
            }
        }
    }
    let Some(end) = lines.latest() else {
        return Err(Failure::new(
            exit::ERROR,
            format!("{name} is empty; a trace begins with {{\"t\":0,\"kind\":\"trace\",\"version\":1}}"),
        ));
    };
    let strangers = replay.strangers();
    say(replay.end(end), out)?;
    for (line, odd) in oddities(&lines, (replay.skipped(), unusable), strangers) {
        let line = line.map_or(String::new(), |line| format!(":{line}"));
        writeln!(err, "{name}{line}: warning: {odd}")?;
    }
    if !judged {
        writeln!(err, "{name}: no rollout{}: there is nothing to judge", args.history.named())?;
        return Ok(exit::BLIND);
    }
    Ok(exit::OK)
}

/// What is odd in a trace that was read to its end, and the first line that shows it. Of what could not be used: how
/// much, and the first line.
fn oddities<R: BufRead>(
    lines: &Lines<R>,
    (skipped, unusable): (u64, Option<u64>),
    strangers: usize,
) -> Vec<(Option<u64>, String)> {
    let mut odd = Vec::new();
    if !lines.ended() {
        odd.push((None, "no \"end\" line; the trace may have been cut off".to_owned()));
    }
    if let Some((first, count)) = lines.astray() {
        let told = "passed over, as the lines before and after it are more than an hour earlier";
        odd.push((Some(first), format!("{told}; such lines: {count}")));
    }
    if let Some(Late { count, line, t, after }) = lines.late() {
        odd.push((Some(line), format!("its time is {t} s, after a line of {after} s; such lines: {count}")));
    }
    if let Some((missing, line)) = lines.past_missing() {
        odd.push((
            Some(line),
            format!("the trace ends {missing} lines before what it says of the rollout's past does"),
        ));
    }
    if skipped > 0 {
        let told = "counters that shrink, are no numbers or belong to no pod that was told, or more than is remembered";
        odd.push((unusable, format!("observations that could not be used: {skipped} ({told})")));
    }
    if strangers > 0 {
        odd.push((None, format!("pods that are counted and that no line of kind \"pod\" tells of: {strangers}")));
    }
    if let Some(end) = lines.latest().filter(|end| *end > MILLISECONDS) {
        odd.push((None, format!("{end} is no time in seconds; are these milliseconds?")));
    }
    odd
}

pub(super) fn thresholds(file: Option<&PathBuf>) -> Result<Thresholds, Failure> {
    let (name, text) = match file {
        None => ("(defaults, armed)".into(), ARMED.to_owned()),
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|e| Failure::new(exit::ERROR, format!("cannot read the thresholds {name}: {e}")))?;
            (name, text)
        }
    };
    Thresholds::parse(&name, &text).map_err(|faults| Failure::new(exit::ERROR, faults.to_string()))
}

pub(super) fn write_line(format: Format, line: &Line, out: &mut dyn Write) -> io::Result<()> {
    match (format, line) {
        (Format::Json, line) => {
            serde_json::to_writer(&mut *out, line)?;
            writeln!(out)
        }
        (Format::Text, Line::Verdict(line)) => write_verdict(line, out),
        (Format::Text, Line::Late(line)) => {
            let LateWatch { t, workload, revision, broken, explanation, .. } = &line.seen;
            let (revision, explanation) = (printable(&revision.0), printable(explanation));
            let what = if broken.is_some() { "broke after it had passed" } else { "keeps its limit again" };
            writeln!(out, "{}  {workload}  {revision}  {what}", moment(*t))?;
            writeln!(out, "             {explanation}")
        }
        (Format::Text, Line::Summary(summary)) => write_summary(summary, out),
    }
}

/// A time of a trace for people: as a date, if it is one.
fn moment(t: Seconds) -> String {
    if (EPOCH..MILLISECONDS).contains(&t) { format!("{:.0}", timestamp(t)) } else { format!("{t:>9.1} s") }
}

fn write_verdict(line: &VerdictLine, out: &mut dyn Write) -> io::Result<()> {
    let VerdictLine { t, workload, from, to, verdict, explanation, .. } = line;
    let (from, to, explanation) = (printable(&from.0), printable(&to.0), printable(explanation));
    writeln!(out, "{}  {workload}  {from} → {to}  {verdict}", moment(*t))?;
    writeln!(out, "             {explanation}")?;
    match (line.action, &line.target) {
        (Action::Undo, Some(target)) => writeln!(out, "             UNDO to {}", printable(&target.0)),
        _ => line.gate.iter().try_for_each(|gate| writeln!(out, "             not undone: {}", printable(gate))),
    }
}

fn write_summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let Summary { workload, from, to, began, verdict, .. } = summary;
    let (from, to) = (printable(&from.0), printable(&to.0));
    let done = match (summary.action, summary.t, &summary.target) {
        (Action::Undo, Some(t), Some(target)) => {
            format!("would have been undone to {} at {}", printable(&target.0), moment(t).trim_start())
        }
        (Action::Report, Some(t), _) => format!("would have been reported at {}", moment(t).trim_start()),
        _ if summary.superseded => "cut short by the next rollout".into(),
        _ => "nothing would have been done".into(),
    };
    writeln!(out, "{}  {workload}  {from} → {to}  in the end {verdict}: {done}", moment(*began))?;
    match summary.after.as_ref().filter(|after| !after.explanation.is_empty()) {
        Some(after) => writeln!(out, "             after that: {}", printable(&after.explanation)),
        None => writeln!(out, "             {}", printable(&summary.explanation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ReplayArgs,
    }

    const HEAD: &str = r#"{"t":0,"kind":"trace","version":1}"#;

    /// Judges these lines: the code, what was said, and what was warned of without the file's name.
    async fn replayed(lines: &[String], args: &[&str]) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.jsonl");
        let end = r#"{"t":900,"kind":"end"}"#.to_owned();
        std::fs::write(&file, [&[HEAD.to_owned()], lines, &[end]].concat().join("\n")).unwrap();
        let name = file.display().to_string();
        let args = Command::try_parse_from([&["replay", name.as_str()], args].concat()).unwrap().args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = replay(&args, &mut out, &mut err).await.map_err(|failure| failure.text).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err).replace(&name, "T"))
    }

    fn rollout(workload: &str, to: &str) -> String {
        serde_json::json!({"t": 300, "kind": "rollout", "workload": workload, "from": "a", "to": to}).to_string()
    }

    fn counters(t: f64, pod: &str) -> String {
        serde_json::json!({"t": t, "kind": "counters", "pod": pod, "requests": 10.0 * t, "errors": 0}).to_string()
    }

    #[tokio::test]
    async fn a_trace_without_a_rollout_is_not_silently_fine() {
        let (code, out, err) = replayed(&[], &[]).await;
        assert_eq!((code, out.as_str()), (exit::BLIND, ""));
        assert_eq!(err, "T: no rollout: there is nothing to judge\n");
        let of = ["--workload", "shop/Deployment/db"];
        let (code, out, err) = replayed(&[rollout("shop/Deployment/web", "b")], &of).await;
        assert_eq!((code, out.as_str()), (exit::BLIND, ""), "only what was asked for");
        assert_eq!(err, "T: no rollout of shop/Deployment/db: there is nothing to judge\n");
    }

    #[tokio::test]
    async fn what_is_odd_in_a_trace_is_said_with_its_line() {
        let pod = |name: &str| {
            let workload = "shop/Deployment/web";
            serde_json::json!({"t": 1, "kind": "pod", "pod": name, "workload": workload, "revision": "a"}).to_string()
        };
        let lines = [
            pod("shop/a-1"),
            counters(10.0, "shop/a-1"),
            counters(1e12, "shop/a-1"),
            counters(20.0, "shop/a-1"),
            counters(15.0, "shop/a-1"),
            r#"{"t":30,"kind":"counters","pod":"shop/a-1","requests":-5}"#.to_owned(),
            rollout("shop/Deployment/web", "b"),
            counters(600.0, "shop/stranger"),
        ];
        let (code, _, err) = replayed(&lines, &[]).await;
        assert_eq!(code, exit::OK);
        for said in [
            "T:4: warning: passed over, as the lines before and after it are more than an hour earlier; such lines: 1\n",
            "T:6: warning: its time is 15 s, after a line of 20 s; such lines: 1\n",
            "T:7: warning: observations that could not be used: 1 (",
            "T: warning: pods that are counted and that no line of kind \"pod\" tells of: 1\n",
        ] {
            assert!(err.contains(said), "{said}: {err}");
        }
        let (_, _, err) = replayed(&[counters(1.7e12, "shop/a-1"), counters(1.71e12, "shop/a-1")], &[]).await;
        assert!(err.contains("are these milliseconds?"), "{err}");
    }

    #[test]
    fn times_are_dates_where_they_are() {
        assert_eq!(moment(1890.04), "   1890.0 s");
        assert_eq!(moment(1_764_251_890.4), "2025-11-27T13:58:10Z");
    }

    #[tokio::test]
    async fn names_in_a_trace_cannot_write_to_the_terminal() {
        let (_, out, _) = replayed(&[rollout("shop/Deployment/web", "b\u{1b}[2J\nUNDO")], &[]).await;
        assert!(out.contains("a → b [2J UNDO"), "{out}");
    }
}
