//! `lastgood record`: writes down what a live daemon observes, as a trace.
//!
//! It is in the order in which the daemon learned what it holds, which is not always that of time: a rollout comes with
//! its past, and what was read too late for a look behind that look. So a replay never knows more than the daemon did.

use super::{Failure, Global, daemon, exit};
use crate::{config::parse_wait, replay::trace::VERSION};
use clap::Args;
use futures::{AsyncBufRead, AsyncBufReadExt};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

/// A recording that somebody forgot must not fill the disk.
const MOST_BYTES: usize = 1 << 30;

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
    out: &'a mut dyn Write,
    title: &'a str,
    count: u64,
    bytes: usize,
    lost: u64,
    /// The latest time of any line.
    latest: Option<f64>,
}

pub(super) async fn record(global: Global, args: &RecordArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let source = Box::pin(daemon::observations(global)).await?;
    match &args.to {
        Some(path) => {
            let cannot = |e: io::Error| Failure::new(exit::ERROR, format!("cannot write {}: {e}", path.display()));
            let mut file = BufWriter::new(File::create(path).map_err(cannot)?);
            take(source, args, &mut file).await?;
            file.flush().map_err(cannot)?;
        }
        None => take(source, args, out).await?,
    }
    Ok(exit::OK)
}

async fn take(source: impl AsyncBufRead + Unpin, args: &RecordArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut recording = Recording::new(&args.title, out);
    writeln!(io::stderr(), "recording; Ctrl-C ends it. Rollouts that begin from now on are whole")?;
    let last = async {
        match args.lasting {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = recording.read(source) => ended,
        () = last => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // What was recorded is kept, whatever ended it.
    recording.end()?;
    writeln!(io::stderr(), "{} observations", recording.count)?;
    if recording.lost > 0 {
        writeln!(io::stderr(), "warning: {} times observations were lost: this reader was too slow", recording.lost)?;
    }
    ended
}

impl<'a> Recording<'a> {
    fn new(title: &'a str, out: &'a mut dyn Write) -> Self {
        Self { out, title, count: 0, bytes: 0, lost: 0, latest: None }
    }

    async fn read(&mut self, source: impl AsyncBufRead + Unpin) -> Result<(), Failure> {
        let mut lines = source.lines();
        while let Some(line) = futures::StreamExt::next(&mut lines).await {
            let line = line.map_err(|e| Failure::new(exit::ERROR, format!("the daemon's answer broke off: {e}")))?;
            if line.trim().is_empty() {
                continue;
            }
            self.take(&line)?;
            if self.bytes > MOST_BYTES {
                return Err(Failure::new(exit::ERROR, "the recording has reached 1 GiB and ends here; record shorter"));
            }
        }
        Err(Failure::new(exit::ERROR, "the daemon has stopped"))
    }

    fn take(&mut self, line: &str) -> Result<(), Failure> {
        let head: Head = serde_json::from_str(line)
            .map_err(|e| Failure::new(exit::ERROR, format!("the answer is not that of a Lastgood daemon: {e}")))?;
        if head.kind == "lost" {
            self.lost += 1;
            return Ok(());
        }
        self.begin(head.t)?;
        self.latest = Some(self.latest.map_or(head.t, |latest| latest.max(head.t)));
        (self.count, self.bytes) = (self.count + 1, self.bytes + line.len());
        Ok(writeln!(self.out, "{line}")?)
    }

    /// The first line, if it is not there yet.
    fn begin(&mut self, t: f64) -> io::Result<()> {
        if self.latest.is_none() {
            let head = serde_json::json!({"t": t, "kind": "trace", "version": VERSION, "title": self.title});
            writeln!(self.out, "{head}")?;
        }
        Ok(())
    }

    /// The last line.
    fn end(&mut self) -> io::Result<()> {
        self.begin(0.0)?;
        writeln!(self.out, "{}", serde_json::json!({"t": self.latest.unwrap_or(0.0), "kind": "end"}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::{Entry, Lines};

    #[test]
    fn a_trace_is_in_the_order_in_which_it_was_told() {
        let mut text = Vec::new();
        let mut recording = Recording::new("x", &mut text);
        for line in [
            r#"{"t":20.0,"kind":"look"}"#,
            r#"{"t":10.0,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b","past":1}"#,
            r#"{"t":5.5,"kind":"counters","pod":"shop/a-1","requests":3.0}"#,
            r#"{"t":21.0,"kind":"lost","observations":4}"#,
        ] {
            recording.take(line).unwrap_or_else(|e| panic!("{}", e.text));
        }
        assert!(recording.take("<html>").is_err());
        recording.end().unwrap();
        assert_eq!((recording.count, recording.lost), (3, 1));
        let times: Vec<f64> = Lines::new("x", text.as_slice())
            .map(|entry| match entry.unwrap() {
                Entry::Observed(observed) => observed.t,
                Entry::Unknown { kind, .. } => panic!("{kind}"),
            })
            .collect();
        assert_eq!(times, [20.0, 20.0, 10.0, 5.5, 20.0]);
    }
}
