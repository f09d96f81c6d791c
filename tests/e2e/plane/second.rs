//! A second API server on the same etcd, behind a relay that can stand still: then its caches fall behind.
use super::{Plane, api_server};
use crate::{
    audit::Audit,
    fail::Result,
    process::Process,
    relay::{Link, Relay},
    wait::{self, Missing},
};
use serde::Deserialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinHandle,
};

/// What a story does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Second {
    Start,
    /// Every read comes from etcd, and etcd forgets what is older than a few seconds: watches that were away
    /// are answered with 410.
    StartForgetful,
    /// What it knows grows old.
    FallBehind,
    CatchUp,
}

/// Each takes the processor for seconds when it starts; more at once would slow down what other stories time.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A running one; dropping it kills it.
pub(crate) struct SecondApi {
    pub(crate) address: SocketAddr,
    etcd: Relay,
    process: Process,
    follower: JoinHandle<()>,
    _turn: SemaphorePermit<'static>,
}

impl Drop for SecondApi {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl SecondApi {
    /// `folder` gets its logs.
    pub(crate) async fn start(plane: &Plane, audit: &Arc<Audit>, folder: &Path, forgetful: bool) -> Result<Self> {
        let turn = TURNS.acquire().await?;
        let etcd = Relay::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 2379))).await?;
        let address = crate::daemon::free_address()?;
        let audit_log = folder.join("second-audit.log");
        let mut command = api_server(&plane.bin, &plane.run, &plane.authority, &format!("api-{}", address.port()))?;
        command
            .arg(format!("--audit-log-path={}", audit_log.display()))
            .arg(format!("--etcd-servers=http://{}", etcd.listen))
            .arg(format!("--secure-port={}", address.port()))
            // A request may stand in its queue for a quarter of this.
            .arg("--request-timeout=16s");
        if forgetful {
            command.args(["--watch-cache=false", "--etcd-compaction-interval=5s"]);
        }
        let mut process = Process::start("the second kube-apiserver", command, &folder.join("second-api.log"))?;
        let ready = format!("https://{address}/readyz");
        let ca = reqwest::Certificate::from_pem(&std::fs::read(plane.authority.ca())?)?;
        let http = reqwest::Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(5)).build()?;
        wait::until("the second API server is ready", Duration::from_secs(90), async || {
            process.must_live().map_err(Missing::for_ever)?;
            let answer = http.get(&ready).send().await.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string().into()) }
        })
        .await?;
        let follower = audit.follow(&audit_log).await?;
        Ok(Self { address, etcd, process, follower, _turn: turn })
    }

    pub(crate) fn link(&self, link: Link) {
        self.etcd.set(link);
    }

    pub(crate) async fn stop(&mut self) {
        // Its caches need not be saved.
        self.process.kill().await;
    }
}
