//! Child processes: each writes to its own log file, has a deadline to end, and dies with its owner.
use crate::fail::{Context, Result, bail};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// A long-running child.
pub(crate) struct Process {
    name: String,
    child: tokio::process::Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; both outputs are appended to `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log).context(log.display())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context(format!("starting {name}"))?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error with the end of its log when it has ended.
    pub(crate) fn must_live(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its log ends with:\n{}", self.name, tail(&self.log, 15)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal by its name.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context(format!("{} has ended", self.name))?;
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().await?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {pid} ({}): {status}", self.name) }
    }

    /// SIGKILL, at once.
    pub(crate) async fn kill(&mut self) {
        let _ = self.child.start_kill();
        let _ = timeout(Duration::from_secs(10), self.child.wait()).await;
    }

    /// SIGTERM, and SIGKILL if it has not ended by itself within `grace`. Says how it ended.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        if let (Some(pid), None) = (self.pid(), self.ended()) {
            let _ = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await;
        }
        match timeout(grace, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                self.kill().await;
                None
            }
        }
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What a finished command said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output, or an error with what it said when it failed.
    pub(crate) fn ok(self, what: &str) -> Result<String> {
        if self.code != 0 {
            bail!("{what}: exit code {}: {}{}", self.code, self.err, self.out);
        }
        Ok(self.out)
    }
}

/// A command that does not see the variables of the suite itself: lastgood reads `LASTGOOD_…` as settings.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LASTGOOD_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) async fn run<I, S>(program: &Path, args: I, stdin: Option<&str>, within: Duration) -> Result<Said>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut child = command(program)
        .args(args)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(program.display())?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).await?;
    }
    let Ok(output) = timeout(within, child.wait_with_output()).await else {
        bail!("{} did not end within {} s", program.display(), within.as_secs());
    };
    let output = output?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
