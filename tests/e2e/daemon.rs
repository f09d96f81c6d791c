//! The real `lastgood run`: its configuration folder, its log, and how it ends.
use crate::{
    fail::{Context, Result, bail},
    figures::ProcessFigures,
    process::{self, Process, tail},
    wait::{self, Missing},
};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// One daemon of a story.
pub(crate) struct Daemon {
    process: Process,
    config: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) log: PathBuf,
}

/// What a daemon is started with.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// Folder of the story: configuration, logs and reports lie in it.
    pub(crate) folder: &'a Path,
    /// Merged over the defaults of the suite.
    pub(crate) settings: &'a Value,
    pub(crate) thresholds: &'a Value,
    pub(crate) prometheus: Option<&'a str>,
    pub(crate) env: &'a [(String, String)],
    pub(crate) kubeconfig: &'a Path,
}

impl Daemon {
    /// Writes the configuration and starts the daemon; `wait_ready` waits until `/readyz` says so.
    pub(crate) fn start(bin: &Path, launch: &Launch<'_>) -> Result<Self> {
        let listen = free_address()?;
        let config = launch.folder.join(format!("config-{}", launch.name));
        std::fs::create_dir_all(&config)?;
        write_config(launch, listen, &config)?;
        let log = launch.folder.join(format!("{}.log", launch.name));
        let mut command = process::command(bin);
        command
            .args(["run", "--kubeconfig"])
            .arg(launch.kubeconfig)
            .arg("--config")
            .arg(&config)
            .envs(launch.env.iter().map(|(k, v)| (k, v)))
            .current_dir(launch.folder);
        let process = Process::start(&format!("lastgood ({})", launch.name), command, &log)?;
        Ok(Self { process, config, listen, log })
    }

    pub(crate) async fn wait_ready(&mut self, http: &reqwest::Client) -> Result<()> {
        let url = format!("http://{}/readyz", self.listen);
        let (process, log) = (&mut self.process, &self.log);
        wait::until("lastgood is ready", Duration::from_secs(60), async || {
            if let Some(status) = process.ended() {
                return Err(Missing::for_ever(format!("it ended ({status}): {}", tail(log, 5))));
            }
            let answer = http.get(&url).send().await.map_err(|e| e.to_string())?;
            let code = answer.status();
            if code.is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default().into()) }
        })
        .await
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// SIGSTOP, SIGCONT, …
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name).await
    }

    /// What the kernel says of its process.
    pub(crate) fn figures(&self) -> Result<ProcessFigures> {
        ProcessFigures::find(&self.config)
    }

    /// SIGTERM; the daemon has 20 s to end by itself.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.process.stop(Duration::from_secs(20)).await {
            Some(_) => Ok(()),
            None => bail!("lastgood did not end within 20 s of SIGTERM; its log ends with:\n{}", tail(&self.log, 10)),
        }
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// An address of loopback that nobody listens at.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

fn write_config(launch: &Launch<'_>, listen: SocketAddr, config: &Path) -> Result<()> {
    let mut settings = json!({
        "environment": "e2e",
        "listen": listen,
        "interval": "5s",
        "namespace": "lastgood",
        "namespaces": [launch.namespace],
        "leaderElection": false,
        "thresholds": "thresholds.yaml",
        "log": {"format": "json", "level": "info,lastgood=debug"},
        "reports": {"folder": launch.folder.join("reports")},
        "sources": {},
    });
    if let Some(url) = launch.prometheus {
        settings["sources"]["prometheus"] = json!({"url": url, "timeout": "4s"});
    }
    merge(&mut settings, launch.settings);
    let mut thresholds = json!({
        "apiVersion": "lastgood.dev/v1",
        "kind": "Thresholds",
        "defaults": {
            "mode": "act",
            "minRequests": 200,
            "metrics": {"preset": "go"},
            "undo": {"maxPerNamespace": "20/10m", "maxPerCluster": "500/10m", "verifyWithin": "4m"},
        },
    });
    merge(&mut thresholds, launch.thresholds);
    for (name, value) in [("lastgood.yaml", &settings), ("thresholds.yaml", &thresholds)] {
        // JSON is YAML.
        std::fs::write(config.join(name), serde_json::to_string_pretty(value)?).context(name)?;
    }
    Ok(())
}

/// A merge patch; what is not given changes nothing.
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    if !patch.is_null() {
        lastgood::sim::merge_patch(into, patch);
    }
}
