//! `lastgood record`: writes down what a live daemon observes, as a trace.
//!
//! The past of a rollout is read when it begins, so lines come out of order; they are sorted at the end.

use super::{Failure, Global, daemon, exit};
use crate::{config::parse_wait, replay::trace::VERSION};
use clap::Args;
use futures::{AsyncBufRead, AsyncBufReadExt};
use serde::Deserialize;
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// Most that is kept until the end.
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

/// The lines so far.
#[derive(Default)]
struct Recording {
    lines: Vec<(f64, String)>,
    bytes: usize,
    lost: u64,
}

pub(super) async fn record(global: Global, args: &RecordArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let mut recording = Recording::default();
    let source = Box::pin(daemon::observations(global)).await?;
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
    let count = recording.lines.len();
    match &args.to {
        Some(path) => {
            let file = std::fs::File::create(path)
                .map_err(|e| Failure::new(exit::ERROR, format!("cannot write {}: {e}", path.display())))?;
            let mut file = io::BufWriter::new(file);
            recording.write(&args.title, &mut file)?;
            file.flush()?;
        }
        None => recording.write(&args.title, out)?,
    }
    writeln!(io::stderr(), "{count} observations")?;
    if recording.lost > 0 {
        writeln!(io::stderr(), "warning: {} observations were lost: this reader was too slow", recording.lost)?;
    }
    ended.map(|()| exit::OK)
}

impl Recording {
    async fn read(&mut self, source: impl AsyncBufRead + Unpin) -> Result<(), Failure> {
        let mut lines = source.lines();
        while let Some(line) = futures::StreamExt::next(&mut lines).await {
            let line = line.map_err(|e| Failure::new(exit::ERROR, format!("the daemon's answer broke off: {e}")))?;
            if line.trim().is_empty() {
                continue;
            }
            self.take(line)?;
            if self.bytes > MOST_BYTES {
                return Err(Failure::new(exit::ERROR, "the recording has reached 1 GiB and ends here; record shorter"));
            }
        }
        Err(Failure::new(exit::ERROR, "the daemon has stopped"))
    }

    fn take(&mut self, line: String) -> Result<(), Failure> {
        let head: Head = serde_json::from_str(&line)
            .map_err(|e| Failure::new(exit::ERROR, format!("the answer is not that of a Lastgood daemon: {e}")))?;
        if head.kind == "lost" {
            self.lost += 1;
        } else {
            self.bytes += line.len();
            self.lines.push((head.t, line));
        }
        Ok(())
    }

    fn write(&mut self, title: &str, out: &mut dyn Write) -> io::Result<()> {
        // Stable: what was told first at one time stays first.
        self.lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (first, last) = match (self.lines.first(), self.lines.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (0.0, 0.0),
        };
        let title = serde_json::json!({"t": first, "kind": "trace", "version": VERSION, "title": title});
        writeln!(out, "{title}")?;
        for (_, line) in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "{}", serde_json::json!({"t": last, "kind": "end"}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::{Entry, Lines};

    #[test]
    fn what_came_out_of_order_becomes_a_trace() {
        let mut recording = Recording::default();
        for line in [
            r#"{"t":20.0,"kind":"source","source":"scrape","ok":true}"#,
            r#"{"t":10.0,"kind":"rollout","workload":"shop/Deployment/web","from":"a","to":"b"}"#,
            r#"{"t":5.5,"kind":"counters","pod":"shop/a-1","requests":3.0}"#,
            r#"{"t":21.0,"kind":"lost","observations":4}"#,
        ] {
            recording.take(line.to_owned()).unwrap_or_else(|e| panic!("{}", e.text));
        }
        let mut text = Vec::new();
        recording.write("x", &mut text).unwrap();
        let mut lines = Lines::new("x", text.as_slice());
        let times: Vec<f64> = lines
            .by_ref()
            .map(|entry| match entry.unwrap() {
                Entry::Observed(observed) => observed.t,
                Entry::Unknown { kind, .. } => panic!("{kind}"),
            })
            .collect();
        assert_eq!((times, lines.late(), recording.lost), (vec![5.5, 5.5, 10.0, 20.0, 20.0], 0, 1));
        assert!(recording.take("<html>".into()).is_err());
    }
}
