//! Reads a trace: JSON Lines, one observation a line, in order of time (format version 1).
//!
//! Unknown keys are ignored; an unknown kind is a warning and its line is passed over; a malformed line is an
//! error with its number; a line that comes late is counted, one whose time alone is far ahead is passed over. A line
//! or two are in memory at a time, and no line may be longer than [`LONGEST_LINE`].

use crate::domain::{Observation, Observed, Seconds};
use serde::Deserialize;
use std::io::{self, BufRead, Read};

/// The version that this program reads.
pub const VERSION: u32 = 1;
/// Longest line that is read, in bytes: a pod's whole histogram takes far less.
pub const LONGEST_LINE: u64 = 1 << 20;
/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// What a file begins with that `gzip` made.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// A time so far ahead is one line's mistake if the next line goes back.
const LEAP: Seconds = 3600.0;
/// The kinds of version 1.
const KINDS: [&str; 13] = [
    "trace",
    "workload",
    "pod",
    "rollout",
    "condition",
    "counters",
    "memory",
    "callers",
    "probe",
    "issues",
    "source",
    "look",
    "end",
];

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read at all.
    #[error("{file}:{line}: cannot read on: {source}")]
    Read {
        /// Which file.
        file: String,
        /// In which line, from 1.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no observation.
    #[error("{file}:{line}{}: {why}", column.map(|c| format!(":{c}")).unwrap_or_default())]
    Malformed {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: u64,
        /// Where in the line, from 1, if known.
        column: Option<usize>,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// What one line says.
#[derive(Debug)]
pub enum Entry {
    /// An observation, and its line.
    Observed {
        /// Which line, from 1.
        line: u64,
        /// What it says.
        observed: Box<Observed>,
    },
    /// A kind that this version does not know, and its line.
    Unknown {
        /// Which line, from 1.
        line: u64,
        /// The kind.
        kind: String,
    },
}

/// Reads a trace line by line.
pub struct Lines<R> {
    file: String,
    input: R,
    line: u64,
    last: Seconds,
    /// Whether it tells its looks: then its order is that in which a daemon learned what it holds.
    told: bool,
    late: Option<Late>,
    /// Lines of a rollout's past that are still to come, and the rollout's line: their times are earlier.
    past: (usize, u64),
    /// Lines that were passed over: the first, and how many.
    astray: Option<(u64, u64)>,
    /// What was read ahead, to tell whether a time far ahead is one line's alone.
    ahead: Option<Result<Parsed, TraceError>>,
    buffer: Vec<u8>,
    ended: bool,
}

/// Lines that had an earlier time than a line before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// The first of them, from 1, and its time.
    pub line: u64,
    /// Its time, seconds.
    pub t: Seconds,
    /// The time that had been reached, seconds.
    pub after: Seconds,
}

/// A line that was read.
struct Parsed {
    line: u64,
    t: Seconds,
    entry: Entry,
}

/// Enough of a line to tell what it is.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    t: Option<Seconds>,
}

impl<R: BufRead> Lines<R> {
    /// `file` stands in errors.
    pub fn new(file: impl Into<String>, input: R) -> Self {
        Self {
            file: file.into(),
            input,
            line: 0,
            last: f64::NEG_INFINITY,
            told: false,
            late: None,
            past: (0, 0),
            astray: None,
            ahead: None,
            buffer: Vec::new(),
            ended: false,
        }
    }

    fn wrong(&self, column: Option<usize>, why: impl Into<String>) -> TraceError {
        TraceError::Malformed { file: self.file.clone(), line: self.line, column, why: why.into() }
    }

    /// The next line that is not blank; `None` after the last.
    fn read(&mut self) -> Result<bool, TraceError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let line = self.line;
            let read = self.input.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| TraceError::Read { file: self.file.clone(), line, source })?;
            if read == 0 {
                return Ok(false);
            }
            if self.buffer.len() as u64 > LONGEST_LINE {
                return Err(self.wrong(None, format!("the line is longer than {LONGEST_LINE} bytes")));
            }
            if line == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn parse(&self) -> Result<Parsed, TraceError> {
        let text = self.buffer.trim_ascii();
        let said = |e: &serde_json::Error| {
            let text = e.to_string();
            // serde_json counts lines of its own input, which is always one.
            text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
        };
        if text.starts_with(GZIP) {
            return Err(self.wrong(None, "it is compressed; gunzip -c FILE | lastgood replay - reads it"));
        }
        let head: Head = serde_json::from_slice(text)
            .map_err(|e| self.wrong(Some(e.column()), format!("{}; write one JSON object a line", said(&e))))?;
        let Some(kind) = head.kind else {
            return Err(self.wrong(None, "there is no \"kind\""));
        };
        let Some(t) = head.t else {
            return Err(self.wrong(None, "there is no \"t\" (seconds)"));
        };
        let first = self.last == f64::NEG_INFINITY;
        if first && kind != "trace" {
            let why = "a trace begins with {\"t\":0,\"kind\":\"trace\",\"version\":1}".to_owned();
            return Err(self.wrong(None, format!("the first line is of kind \"{kind}\"; {why}")));
        }
        let line = self.line;
        if !KINDS.contains(&kind.as_str()) {
            return Ok(Parsed { line, t, entry: Entry::Unknown { line, kind } });
        }
        let observed: Observed = serde_json::from_slice(text).map_err(|e| {
            let column = (e.column() > 0).then_some(e.column());
            self.wrong(column, format!("{} (in a line of kind \"{kind}\")", said(&e)))
        })?;
        match &observed.what {
            Observation::Trace { version, .. } if *version != VERSION => {
                Err(self.wrong(None, format!("version {version} is not known; this program reads version {VERSION}")))
            }
            Observation::Trace { .. } if !first => Err(self.wrong(None, "a second \"trace\" line")),
            _ => Ok(Parsed { line, t, entry: Entry::Observed { line, observed: Box::new(observed) } }),
        }
    }

    /// The next line, parsed, and nothing noted of it.
    fn ahead(&mut self) -> Option<Result<Parsed, TraceError>> {
        self.ahead.take().or_else(|| match self.read() {
            Ok(true) => Some(self.parse()),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Whether a line's time is one that nothing after it can follow.
    fn leaps(&self, read: &Parsed) -> bool {
        self.last.is_finite() && !self.told && read.t > self.last + LEAP
    }

    /// What a line means for those that follow.
    fn note(&mut self, read: &Parsed) {
        if self.past.0 > 0 {
            self.past.0 -= 1;
        } else if read.t < self.last && !self.told {
            // Taken all the same: what comes late is no reason to lose what came in time.
            let first = Late { count: 0, line: read.line, t: read.t, after: self.last };
            self.late.get_or_insert(first).count += 1;
        }
        if let Entry::Observed { observed, .. } = &read.entry {
            match &observed.what {
                Observation::End {} => self.ended = true,
                Observation::Look { .. } => self.told = true,
                Observation::Rollout { past: Some(lines), .. } => self.past = (*lines, read.line),
                _ => {}
            }
            self.last = self.last.max(read.t);
        }
    }

    /// Lines that had an earlier time than a line before them; none in a recording, which is in another order.
    pub fn late(&self) -> Option<Late> {
        self.late
    }

    /// Lines that were passed over because their time was more than an hour ahead of both the line before and the one
    /// after: the first, and how many.
    pub fn astray(&self) -> Option<(u64, u64)> {
        self.astray
    }

    /// What a rollout said of its past and the trace does not hold: how many lines are missing, and the rollout's line.
    pub fn past_missing(&self) -> Option<(usize, u64)> {
        Some(self.past).filter(|(missing, _)| *missing > 0)
    }

    /// The latest time of any line, if there was one.
    pub fn latest(&self) -> Option<Seconds> {
        self.last.is_finite().then_some(self.last)
    }

    /// Whether the trace said that it ends; one that does not was cut off.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Entry, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        loop {
            let read = match self.ahead()? {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            if self.leaps(&read) {
                self.ahead = self.ahead();
                if let Some(Ok(next)) = &self.ahead
                    && next.t < read.t - LEAP
                    && next.t >= self.last
                {
                    self.astray.get_or_insert((read.line, 0)).1 += 1;
                    continue;
                }
            }
            self.note(&read);
            return Some(Ok(read.entry));
        }
    }
}
