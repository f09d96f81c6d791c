//! `lastgood record`: writes down what a live daemon observes, as a trace.
//!
//! It is in the order in which the daemon learned what it holds, which is not always that of time: a rollout comes with
//! its past, and what was read too late for a look behind that look. So a replay never knows more than the daemon did.

use super::{Failure, Global, cannot_write, daemon, exit, writable};
use crate::{config::parse_wait, replay::trace::VERSION};
use clap::Args;
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, LineWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// A recording that somebody forgot must not fill the disk.
const MOST_BYTES: usize = 1 << 30;
/// The daemon says something every 20 s, a blank line if nothing else.
const SILENCE: Duration = Duration::from_secs(90);

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// The file to write; else standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Stop after this time; else at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_wait)]
    lasting: Option<Duration>,
    /// What the trace shows.
    #[arg(long, default_value = "recorded from a live daemon")]
    title: String,
}

#[derive(Deserialize)]
struct Head {
    t: f64,
    kind: String,
}

/// The trace as it is written.
struct Recording<'a> {
    to: Destination<'a>,
    title: &'a str,
    count: u64,
    bytes: usize,
    lost: u64,
    malformed: u64,
    /// The latest time of any line.
    latest: Option<f64>,
}

/// Where the trace goes. Each line is written at once: whatever ends the program, what was recorded is there.
enum Destination<'a> {
    /// A file that still holds what it held before: that is gone only when there is something to write.
    Untouched(&'a Path, File),
    File(&'a Path, LineWriter<File>),
    Stream(&'a mut dyn Write),
}

/// How a recording ends.
#[derive(Debug, PartialEq)]
enum Ended {
    /// As it was asked to: nothing is missing until here.
    Whole,
    /// There may have been more.
    Cut(String),
}

pub(super) async fn record(global: Global, args: &RecordArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut recording = Recording::new(args, out)?;
    let last = async {
        match args.lasting {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let recorded = async {
        let source = Box::pin(daemon::observations(global)).await?;
        writeln!(io::stderr(), "recording; Ctrl-C ends it. Rollouts that begin from now on are whole")?;
        recording.read(source).await
    };
    let ended = tokio::select! {
        ended = recorded => ended?,
        () = last => Ended::Whole,
        _ = terminate.recv() => Ended::Whole,
        _ = interrupt.recv() => Ended::Whole,
    };
    recording.end(ended)
}

impl<'a> Recording<'a> {
    fn new(args: &'a RecordArgs, out: &'a mut dyn Write) -> Result<Self, Failure> {
        let to = match args.to.as_deref() {
            None => Destination::Stream(out),
            Some(path) => Destination::Untouched(path, writable(path)?),
        };
        Ok(Self { to, title: &args.title, count: 0, bytes: 0, lost: 0, malformed: 0, latest: None })
    }

    async fn read(&mut self, source: impl AsyncBufRead + Unpin) -> Result<Ended, Failure> {
        let mut lines = source.lines();
        loop {
            let line = match tokio::time::timeout(SILENCE, lines.next()).await {
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(e))) => return Ok(Ended::Cut(format!("the daemon's answer broke off: {e}"))),
                Ok(None) => {
                    return Ok(Ended::Cut(
                        "the answer has ended: the daemon has stopped, or the connection to it".into(),
                    ));
                }
                Err(_) => {
                    let seconds = SILENCE.as_secs();
                    return Ok(Ended::Cut(format!("nothing has come for {seconds} s: the connection is dead")));
                }
            };
            if !line.trim().is_empty() {
                self.take(&line)?;
            }
            if self.bytes > MOST_BYTES {
                writeln!(io::stderr(), "the recording has reached 1 GiB and ends here; record shorter")?;
                return Ok(Ended::Whole);
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<(), Failure> {
        let head: Head = match serde_json::from_str(line) {
            Ok(head) => head,
            Err(e) if self.latest.is_none() => {
                let text = format!("the answer is not that of a Lastgood daemon: {e}. Nothing was written");
                return Err(Failure::new(exit::ERROR, text));
            }
            Err(_) => {
                self.malformed += 1;
                return Ok(());
            }
        };
        if head.kind == "lost" {
            self.lost += 1;
            return Ok(());
        }
        self.begin(head.t)?;
        self.latest = Some(self.latest.map_or(head.t, |latest| latest.max(head.t)));
        (self.count, self.bytes) = (self.count + 1, self.bytes + line.len());
        self.to.write(line)
    }

    /// The first line, if it is not there yet.
    fn begin(&mut self, t: f64) -> Result<(), Failure> {
        match self.latest {
            Some(_) => Ok(()),
            None => self.to.write(
                &serde_json::json!({"t": t, "kind": "trace", "version": VERSION, "title": self.title}).to_string(),
            ),
        }
    }

    /// The last line, if nothing is missing; and what is to be said of it.
    fn end(mut self, ended: Ended) -> Result<u8, Failure> {
        let mut err = io::stderr();
        match (self.latest, &ended) {
            // A trace of nothing is of no use, and would take the place of one that was there.
            (None, Ended::Whole) => {
                writeln!(err, "nothing was observed and nothing written")?;
                return Ok(exit::BLIND);
            }
            (Some(t), Ended::Whole) => self.to.write(&serde_json::json!({"t": t, "kind": "end"}).to_string())?,
            (_, Ended::Cut(_)) => {}
        }
        writeln!(err, "{} observations", self.count)?;
        if self.lost > 0 {
            writeln!(err, "warning: {} times observations were lost: this reader was too slow", self.lost)?;
        }
        if self.malformed > 0 {
            writeln!(err, "warning: {} lines were no observations and were left out", self.malformed)?;
        }
        match ended {
            Ended::Whole => Ok(exit::OK),
            Ended::Cut(why) => Err(Failure::new(
                exit::ERROR,
                format!("{why}. What was recorded until then is kept, without an \"end\""),
            )),
        }
    }
}

impl Destination<'_> {
    fn write(&mut self, line: &str) -> Result<(), Failure> {
        if let Self::Untouched(path, file) = self {
            let file = file.try_clone().map_err(|e| cannot_write(path, &e))?;
            // A pipe holds nothing that could be in the way.
            let _ = file.set_len(0);
            *self = Self::File(path, LineWriter::new(file));
        }
        match self {
            Self::File(path, file) => writeln!(file, "{line}").map_err(|e| cannot_write(path, &e)),
            Self::Untouched(..) => Ok(()),
            Self::Stream(out) => Ok(writeln!(out, "{line}")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::{Entry, Lines};
    use futures::TryStreamExt;

    fn args_of(to: Option<PathBuf>) -> RecordArgs {
        RecordArgs { to, lasting: None, title: "x".into() }
    }

    #[test]
    fn a_trace_is_in_the_order_in_which_it_was_told() {
        let (mut text, args) = (Vec::new(), args_of(None));
        let mut recording = Recording::new(&args, &mut text).unwrap();
        for line in [
            r#"{"t":20.0,"kind":"look"}"#,
            r#"{"t":10.0,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b","past":1}"#,
            "<html>",
            r#"{"t":5.5,"kind":"counters","pod":"shop/a-1","requests":3.0}"#,
            r#"{"t":21.0,"kind":"lost","observations":4}"#,
        ] {
            recording.take(line).unwrap_or_else(|e| panic!("{}", e.text));
        }
        assert_eq!((recording.count, recording.lost, recording.malformed), (3, 1, 1));
        assert_eq!(recording.end(Ended::Whole).unwrap(), exit::OK);
        let times: Vec<f64> = Lines::new("x", text.as_slice())
            .map(|entry| match entry.unwrap() {
                Entry::Observed { observed, .. } => observed.t,
                Entry::Unknown { kind, .. } => panic!("{kind}"),
            })
            .collect();
        assert_eq!(times, [20.0, 20.0, 10.0, 5.5, 20.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_off_has_no_end_and_what_is_no_daemon_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        std::fs::write(&path, "precious").unwrap();
        let args = args_of(Some(path.clone()));
        let mut nothing = Vec::new();
        let nowhere = args_of(Some("/dev/null/x".into()));
        let refused = Recording::new(&nowhere, &mut nothing).err().unwrap();
        assert!(refused.text.starts_with("cannot write /dev/null/x: "), "{}", refused.text);
        let mut recording = Recording::new(&args, &mut nothing).unwrap();
        let refused = recording.read(&b"{\"version\":\"1\"}\n"[..]).await.unwrap_err();
        assert!(refused.text.contains("not that of a Lastgood daemon"), "{}", refused.text);
        assert_eq!(recording.end(Ended::Whole).unwrap(), exit::BLIND, "Ctrl-C before anything has come");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        let mut recording = Recording::new(&args, &mut nothing).unwrap();
        let ended = recording.read(&b"{\"t\":20.0,\"kind\":\"look\"}\n\n"[..]).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("{\"t\":20.0,\"kind\":\"look\"}\n"), "written at once: {text}");
        let cut = recording.end(ended).unwrap_err();
        assert!(cut.text.contains("the daemon has stopped, or the connection"), "{}", cut.text);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "no end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_connection_is_noticed() {
        let (mut text, args) = (Vec::new(), args_of(None));
        let mut recording = Recording::new(&args, &mut text).unwrap();
        let silent = futures::stream::pending::<io::Result<Vec<u8>>>().into_async_read();
        assert!(matches!(recording.read(silent).await.unwrap(), Ended::Cut(why) if why.contains("90 s")));
    }
}
