//! `lastgood replay`: today's decision over a recorded trace, or (`backtest`) over the history of a Prometheus.

use super::{
    Failure,
    backtest::{self, BacktestArgs},
    exit,
};
use crate::{
    config::Thresholds,
    domain::LateWatch,
    replay::{
        Action, INTERVAL, Line, Replay, Summary, VerdictLine,
        trace::{Entry, Lines},
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

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The trace, JSON Lines; `-` for standard input. Without one: --from.
    #[arg(required_unless_present_any = ["from", "prometheus"], conflicts_with = "from")]
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
    let mut lines = Lines::new(if name == "-" { "standard input".into() } else { name.clone() }, input);
    let mut replay = Replay::new(thresholds, args.interval.unwrap_or(INTERVAL));
    let mut unknown = std::collections::BTreeSet::new();
    let say =
        |said: Vec<Line>, out: &mut dyn Write| said.iter().try_for_each(|line| write_line(args.output, line, out));
    for entry in lines.by_ref() {
        match entry? {
            Entry::Observed(observed) => say(replay.observe(&observed), out)?,
            Entry::Unknown { line, kind } => {
                if unknown.insert(kind.clone()) {
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
    say(replay.end(end), out)?;
    if !lines.ended() {
        writeln!(err, "{name}: warning: no \"end\" line; the trace may have been cut off")?;
    }
    if lines.late() > 0 {
        writeln!(err, "{name}: warning: {} lines are earlier than a line before them", lines.late())?;
    }
    if replay.skipped() > 0 {
        writeln!(err, "{name}: warning: {} observations could not be used", replay.skipped())?;
    }
    Ok(exit::OK)
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
            let what = if broken.is_some() { "broke after it had passed" } else { "keeps its limit again" };
            writeln!(out, "{t:>9.1} s  {workload}  {revision}  {what}")?;
            writeln!(out, "             {explanation}")
        }
        (Format::Text, Line::Summary(summary)) => write_summary(summary, out),
    }
}

fn write_verdict(line: &VerdictLine, out: &mut dyn Write) -> io::Result<()> {
    let VerdictLine { t, workload, from, to, verdict, explanation, .. } = line;
    writeln!(out, "{t:>9.1} s  {workload}  {from} → {to}  {verdict}")?;
    writeln!(out, "             {explanation}")?;
    match (line.action, &line.target) {
        (Action::Undo, Some(target)) => writeln!(out, "             UNDO to {target}"),
        _ => line.gate.iter().try_for_each(|gate| writeln!(out, "             not undone: {gate}")),
    }
}

fn write_summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let Summary { workload, from, to, began, verdict, .. } = summary;
    let done = match (summary.action, summary.t, &summary.target) {
        (Action::Undo, Some(t), Some(target)) => format!("would have been undone to {target} at {t:.1} s"),
        (Action::Report, Some(t), _) => format!("would have been reported at {t:.1} s"),
        _ if summary.superseded => "cut short by the next rollout".into(),
        _ => "nothing would have been done".into(),
    };
    writeln!(out, "{began:>9.1} s  {workload}  {from} → {to}  in the end {verdict}: {done}")?;
    match summary.after.as_ref().filter(|after| !after.explanation.is_empty()) {
        Some(after) => writeln!(out, "             after that: {}", after.explanation),
        None => writeln!(out, "             {}", summary.explanation),
    }
}
