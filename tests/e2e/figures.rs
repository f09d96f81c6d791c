//! What the kernel says of a process: memory, processor, files.
use crate::fail::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A process' own figures.
pub(crate) struct ProcessFigures(PathBuf);

impl ProcessFigures {
    /// The process that was started with this configuration folder. `/proc` may be of another process
    /// namespace than ours, so a child's number says nothing.
    pub(crate) fn find(config: &Path) -> Result<Self> {
        let config = config.display().to_string();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if line.split(|byte| *byte == 0).any(|word| word == config.as_bytes()) {
                return Ok(Self(entry.path()));
            }
        }
        bail!("no process was started with --config {config}")
    }

    /// A line of `/proc/…/status`, in kB.
    pub(crate) fn status(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(self.0.join("status")).context("the daemon has ended")?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        value.context(format!("no {name} in status"))
    }

    pub(crate) fn memory(&self) -> Result<String> {
        let kb = |name| self.status(name);
        let (rss, anon, file, peak) = (kb("VmRSS")?, kb("RssAnon")?, kb("RssFile")?, kb("VmHWM")?);
        Ok(format!(
            "RSS {rss} kB = {:.1} MiB (own {anon} kB, of files {file} kB), peak {peak} kB = {:.1} MiB",
            rss as f64 / 1024.0,
            peak as f64 / 1024.0
        ))
    }

    /// Seconds on the processor, of all threads, in user and kernel.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(self.0.join("task")).context("the daemon has ended")?.flatten() {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(nanos as f64 / 1e9)
    }

    /// A name that no later process has in the same run.
    pub(crate) fn name(&self) -> String {
        self.0.display().to_string()
    }

    /// `R` running, `S` sleeping, `T` stopped, …
    pub(crate) fn state(&self) -> Option<char> {
        let text = std::fs::read_to_string(self.0.join("status")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("State:"))?.trim().chars().next()
    }

    /// Open files, sockets included.
    pub(crate) fn open_files(&self) -> Result<u64> {
        Ok(std::fs::read_dir(self.0.join("fd")).context("the daemon has ended")?.count() as u64)
    }
}
