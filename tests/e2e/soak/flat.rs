//! Whether the daemon's memory, open files and threads stay where they are, over quiet points of one life.
use crate::{fail::Result, figures::ProcessFigures};
use std::fmt;

/// What was measured at the quiet points since the daemon was last started.
#[derive(Default)]
pub(super) struct Figures {
    process: Option<String>,
    /// RSS in kB, open files, threads.
    points: Vec<[u64; 3]>,
}

const NAMES: [&str; 3] = ["RSS (kB)", "open files", "threads"];
/// What each may grow beside a share of itself.
const SLACK: [u64; 3] = [6 * 1024, 6, 6];

impl Figures {
    pub(super) fn add(&mut self, figures: &ProcessFigures) -> Result<()> {
        let point = [figures.status("VmRSS")?, figures.open_files()?, figures.status("Threads")?];
        let process = figures.name();
        if self.process.as_ref() != Some(&process) {
            self.points.clear();
        }
        self.process = Some(process);
        self.points.push(point);
        Ok(())
    }

    /// What grew. Few points are compared generously: the first rollouts of a life fill its pools.
    pub(super) fn faults(&self) -> Vec<String> {
        let n = self.points.len();
        let Some(third) = (n >= 2).then(|| (n / 3).max(1)) else { return Vec::new() };
        let percent = if n >= 6 { 10 } else { 40 };
        (0..3)
            .filter_map(|i| {
                let (from, to) = (middle(&self.points[..third], i), middle(&self.points[n - third..], i));
                let most = from + from * percent / 100 + SLACK[i];
                (to > most).then(|| format!("{} grew from {from} to {to} over {n} quiet points", NAMES[i]))
            })
            .collect()
    }
}

/// The median of one figure.
fn middle(points: &[[u64; 3]], i: usize) -> u64 {
    let mut values: Vec<u64> = points.iter().map(|p| p[i]).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "quiet points of the daemon's last life: {}", self.points.len())?;
        for (i, name) in NAMES.iter().enumerate() {
            let values: Vec<String> = self.points.iter().map(|p| p[i].to_string()).collect();
            writeln!(f, "  {name}: {}", values.join(" "))?;
        }
        Ok(())
    }
}
