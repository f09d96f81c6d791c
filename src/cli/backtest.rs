//! `lastgood replay --from …`: today's decision over the history that a Prometheus keeps.
//!
//! The history becomes the same observations that a trace holds, and the same replay judges them; `--to-trace`
//! writes them down. What comes out as JSON is what `replay` says of that trace.

use super::{
    Failure, cannot_write, exit,
    replay::{Format, write_line},
    writable,
};
use crate::{
    clock::{Clock, seconds, timestamp},
    config::{Loaded, PrometheusSettings, Settings, Thresholds, parse_duration},
    domain::{Observation, Observed, Seconds, Verdict, WorkloadId},
    replay::{Action, Line, Replay, Summary, VerdictLine, trace::VERSION},
    sources::history::{History, HistoryError, Past, Question},
};
use clap::Args;
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Where history comes from, and of what.
#[derive(Debug, Args)]
pub(super) struct BacktestArgs {
    /// The history of this Prometheus instead of a trace; credentials come from --config.
    #[arg(long, value_name = "URL", requires = "from", value_parser = http_url)]
    prometheus: Option<String>,
    /// Judge the rollouts that began from here on: RFC 3339, or relative, as -7d.
    #[arg(long, value_name = "TIME", value_parser = When::parse, allow_hyphen_values = true)]
    pub(super) from: Option<When>,
    /// Up to here.
    #[arg(long, value_name = "TIME", value_parser = When::parse, allow_hyphen_values = true, default_value = "now")]
    to: When,
    /// The daemon's settings: its Prometheus with credentials, its interval, its thresholds.
    #[arg(long, value_name = "DIR|FILE", env = "LASTGOOD_CONFIG")]
    config: Option<PathBuf>,
    /// Only this workload; can be given more than once.
    #[arg(long, value_name = "NAMESPACE/KIND/NAME")]
    workload: Vec<WorkloadId>,
    /// A rollout that began then, where none can be found; can be given more than once.
    #[arg(long, value_name = "NAMESPACE/KIND/NAME@TIME", value_parser = named, requires = "from")]
    rollout: Vec<(WorkloadId, When)>,
    /// Write what was observed into this file, as a trace.
    #[arg(long, value_name = "FILE", requires = "from")]
    to_trace: Option<PathBuf>,
}

/// A point in time, as people write it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    /// This long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Ago(Duration::ZERO));
        }
        if let Some(ago) = text.strip_prefix('-') {
            return parse_duration(ago).map(Self::Ago);
        }
        let wrong = || {
            format!("\"{text}\" is no time; write RFC 3339 (2026-01-31T09:30:00Z), how long ago (-90m, -7d), or now")
        };
        text.parse().map(Self::At).map_err(|_| wrong())
    }

    fn seconds(self, now: Seconds) -> Seconds {
        match self {
            Self::Ago(ago) => now - ago.as_secs_f64(),
            Self::At(at) => seconds(at),
        }
    }
}

fn named(text: &str) -> Result<(WorkloadId, When), String> {
    let (workload, when) = text
        .split_once('@')
        .ok_or_else(|| format!("\"{text}\" names no time; write namespace/Kind/name@2026-01-31T09:30:00Z"))?;
    Ok((workload.parse()?, When::parse(when)?))
}

fn http_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(text.to_owned()),
        _ => Err("that is no URL; write http://HOST:PORT".to_owned()),
    }
}

/// What is known once the arguments and the files were read.
struct Prepared {
    prometheus: PrometheusSettings,
    thresholds: Arc<Thresholds>,
    interval: Seconds,
    /// Those that the daemon of `--config` watches.
    namespaces: BTreeSet<String>,
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::new(exit::USAGE, text)
}

impl BacktestArgs {
    /// Whether something is to be told of this workload.
    pub(super) fn wants(&self, workload: &WorkloadId) -> bool {
        self.workload.is_empty() || self.workload.contains(workload)
    }

    /// The workloads that were asked for, to go after what is asked of them.
    pub(super) fn named(&self) -> String {
        let names: Vec<String> = self.workload.iter().map(ToString::to_string).collect();
        if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) }
    }

    fn prepare(
        &self,
        thresholds: Option<Thresholds>,
        interval: Option<f64>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Prepared, Failure> {
        let loaded = match (&self.config, &self.prometheus) {
            // Somebody who names only a Prometheus means that one and the defaults.
            (None, Some(_)) => None,
            (path, _) => Some(Settings::load(path.as_deref(), env)?),
        };
        let configured = loaded.as_ref().and_then(|loaded| loaded.settings.sources.prometheus.clone());
        let prometheus = match (&self.prometheus, configured) {
            (Some(url), Some(configured)) => PrometheusSettings { url: url.clone(), ..configured },
            (Some(url), None) => serde_json::from_value(serde_json::json!({"url": url}))?,
            (None, Some(configured)) => configured,
            (None, None) => {
                return Err(usage(
                    "there is no Prometheus: give --prometheus URL, or --config with sources.prometheus",
                ));
            }
        };
        let thresholds = match (thresholds, &loaded, &self.config) {
            (Some(thresholds), ..) => thresholds,
            (None, Some(loaded), Some(_)) => loaded.load_thresholds()?.0,
            (None, ..) => super::replay::thresholds(None)?,
        };
        let of_daemon = |loaded: &Loaded| loaded.settings.interval;
        let interval = interval.unwrap_or_else(|| {
            loaded.as_ref().map_or_else(|| Settings::default().interval, of_daemon).as_secs_f64().round().max(1.0)
        });
        let namespaces = loaded.map(|loaded| loaded.settings.namespaces.into_iter().collect()).unwrap_or_default();
        Ok(Prepared { prometheus, thresholds: Arc::new(thresholds), interval, namespaces })
    }

    fn question(&self, now: Seconds, prepared: &Prepared) -> Result<Question, Failure> {
        let from = self.from.ok_or_else(|| usage("--from is missing"))?.seconds(now);
        let to = self.to.seconds(now).min(now);
        if from >= to {
            let (from, to) = (timestamp(from), timestamp(to));
            return Err(usage(format!("--from ({from}) must be earlier than --to ({to})")));
        }
        let rollouts: Vec<_> = self.rollout.iter().map(|(id, when)| (id.clone(), when.seconds(now))).collect();
        if let Some((id, t)) = rollouts.iter().find(|(_, t)| *t < from || *t > to) {
            return Err(usage(format!("--rollout {id}@{} is not between --from and --to", timestamp(*t))));
        }
        Ok(Question {
            from,
            to,
            interval: Duration::from_secs_f64(prepared.interval),
            workloads: self.workload.iter().cloned().collect(),
            namespaces: prepared.namespaces.clone(),
            rollouts,
        })
    }
}

pub(super) async fn backtest(
    args: &BacktestArgs,
    (thresholds, interval, format): (Option<Thresholds>, Option<f64>, Format),
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    if interval.is_some_and(|interval| interval.fract() != 0.0) {
        return Err(usage("--interval must be whole seconds: Prometheus is asked on such a grid"));
    }
    let clock = Clock::system();
    let prepared = args.prepare(thresholds, interval, super::config::process_environment())?;
    let question = args.question(clock.now(), &prepared)?;
    let history = History::new(&prepared.prometheus, clock)?;
    let place = history.place();
    args.to_trace.as_deref().map(writable).transpose()?;
    let past = history.find(&question, Arc::clone(&prepared.thresholds)).await.map_err(|error| failure(&error))?;
    for note in &past.notes {
        writeln!(err, "note: {note}")?;
    }
    let (count, windows) = (past.rollouts.len(), past.windows());
    writeln!(
        err,
        "{count} {} found; reading {windows} {} of time",
        plural(count, "rollout"),
        plural(windows, "stretch")
    )?;
    let (from, to) = (timestamp(question.from), timestamp(question.to));
    let title = format!("history of {place} from {from} to {to}");
    let mut trace = args.to_trace.as_deref().map(|path| TraceFile::create(path, &title)).transpose()?;
    let mut told = Told { format, said: Vec::new(), summaries: Vec::new() };
    let mut replay = Replay::new(prepared.thresholds, prepared.interval);
    let end = judge(past, &mut replay, &mut told, trace.as_mut(), out).await?;
    told.take(replay.end(end), out)?;
    if let Some(trace) = trace {
        trace.end(end)?;
    }
    if format == Format::Text {
        told.total(question.to - question.from, count, out)?;
    }
    Ok(exit::OK)
}

fn failure(error: &HistoryError) -> Failure {
    Failure::new(if error.is_blind() { exit::BLIND } else { exit::ERROR }, error.to_string())
}

/// Reads on and judges what was read, a slice at a time; tells when the last observation was made.
async fn judge(
    mut past: Past,
    replay: &mut Replay,
    told: &mut Told,
    mut trace: Option<&mut TraceFile>,
    out: &mut dyn Write,
) -> Result<Seconds, Failure> {
    let mut end = 0.0;
    while let Some(slice) = past.next().await.map_err(|error| failure(&error))? {
        for observed in &slice {
            if let Some(trace) = &mut trace {
                trace.write(observed)?;
            }
            end = observed.t;
            told.take(replay.observe(observed), out)?;
        }
    }
    Ok(end)
}

/// What was said so far.
struct Told {
    format: Format,
    /// Every change of a verdict: a summary tells neither when a rollout passed nor which gate was shut.
    said: Vec<VerdictLine>,
    /// What came of each rollout.
    summaries: Vec<&'static str>,
}

impl Told {
    fn take(&mut self, lines: Vec<Line>, out: &mut dyn Write) -> io::Result<()> {
        for line in lines {
            match (line, self.format) {
                (line, Format::Json) => write_line(Format::Json, &line, out)?,
                (Line::Verdict(line), Format::Text) => self.said.push(*line),
                // The past is read until the watch ends and a little more.
                (Line::Late(_), Format::Text) => {}
                (Line::Summary(summary), Format::Text) => self.row(&summary, out)?,
            }
        }
        Ok(())
    }

    /// One line for one rollout.
    fn row(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        let Summary { workload, from, to, began, verdict, .. } = summary;
        let of = |line: &&VerdictLine| line.workload == *workload && line.to == *to && line.t >= *began;
        let said = self.said.iter().filter(of).find(|line| line.verdict == *verdict && line.action == summary.action);
        let t = summary.t.or(said.map(|line| line.t));
        let after = t.map(|t| format!(" after {}", span(t - began))).unwrap_or_default();
        let gate = said.and_then(|line| line.gate.as_ref()).map(|gate| format!(" ({gate})")).unwrap_or_default();
        let (done, counted) = match (summary.action, &summary.target, verdict) {
            (Action::Undo, Some(target), _) => {
                (format!("would have been undone to {target}{after}"), "would have been undone")
            }
            (Action::Report, ..) => (format!("would have been reported{after}{gate}"), "would have been reported"),
            (_, _, Verdict::Pass) => (format!("passed{after}"), "passed"),
            (_, _, Verdict::Hold(_)) => (format!("would have been held{after}"), "held"),
            _ if summary.superseded => ("cut short by the next rollout".to_owned(), "cut short"),
            (_, _, Verdict::Unknown(_)) => ("cannot be told".to_owned(), "cannot be told"),
            _ => ("undecided when its history ends".to_owned(), "undecided"),
        };
        self.summaries.push(counted);
        let began = timestamp(began.round());
        writeln!(out, "{began}  {workload}  {from} → {to}  {verdict}: {done}. {}", summary.explanation)
    }

    /// `found` counts those that took a bad one back as well: the trace shows them as what followed.
    fn total(&self, range: Seconds, found: usize, out: &mut dyn Write) -> io::Result<()> {
        const ORDER: [&str; 7] = [
            "passed",
            "would have been undone",
            "would have been reported",
            "held",
            "cannot be told",
            "undecided",
            "cut short",
        ];
        let count = |what: &str| self.summaries.iter().filter(|said| **said == what).count();
        let parts = ORDER.iter().map(|what| (count(what), what)).filter(|(n, _)| *n > 0);
        let parts: Vec<String> = parts.map(|(n, what)| format!("{n} {what}")).collect();
        let (n, range) = (self.summaries.len(), span(range));
        write!(out, "{n} {} in {range}: {}", plural(n, "rollout"), parts.join(", "))?;
        match found.saturating_sub(n) {
            0 => writeln!(out),
            back => writeln!(out, "; {back} more took a bad one back"),
        }
    }
}

fn plural(n: usize, word: &str) -> String {
    match word {
        _ if n == 1 => word.to_owned(),
        word if word.ends_with("ch") => format!("{word}es"),
        word => format!("{word}s"),
    }
}

/// A duration for people: `75 s`, `31 min`, `24 h`, `7 d`.
fn span(seconds: Seconds) -> String {
    let units = [(86_400.0, "d", 3.0), (3600.0, "h", 3.0), (60.0, "min", 5.0)];
    let unit = units.into_iter().find(|(length, _, least)| seconds >= length * least);
    let (length, unit, _) = unit.unwrap_or((1.0, "s", 0.0));
    format!("{:.0} {unit}", seconds.max(0.0) / length)
}

/// A trace that is being written.
struct TraceFile {
    path: PathBuf,
    out: BufWriter<File>,
    title: Option<String>,
}

impl TraceFile {
    fn create(path: &Path, title: &str) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|e| cannot_write(path, &e))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(file), title: Some(title.to_owned()) })
    }

    fn write(&mut self, observed: &Observed) -> Result<(), Failure> {
        if let Some(title) = self.title.take() {
            self.line(&Observed { t: observed.t, what: Observation::Trace { version: VERSION, title } })?;
        }
        self.line(observed)
    }

    fn line(&mut self, observed: &Observed) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, observed)?;
        writeln!(self.out).map_err(|e| cannot_write(&self.path, &e))
    }

    fn end(mut self, t: Seconds) -> Result<(), Failure> {
        self.line(&Observed { t, what: Observation::End {} })?;
        self.out.flush().map_err(|e| cannot_write(&self.path, &e))
    }
}

#[cfg(test)]
#[path = "backtest_tests.rs"]
mod tests;
