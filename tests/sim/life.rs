//! One life of a daemon: made in the simulated cluster, on a runtime of its own in paused time. Dropping the runtime
//! is its death.

use crate::{invariants::Told, team::merge};
use futures::future::BoxFuture;
use lastgood::{
    app::{Daemon, Surroundings},
    clock::{Clock, seconds},
    cluster::{Cluster, Contact},
    config::{ActiveThresholds, Reload, Reloaded, Settings, Thresholds},
    domain::Observed,
    sim::{Sim, Written, pod_http},
    sources::Sources,
    wire::{Lost, Peer, Wire},
};
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    task::JoinHandle,
};

/// Receivers of notices, outside the cluster.
#[derive(Clone, Default)]
pub struct Receivers {
    pub told: Arc<Mutex<Vec<Told>>>,
    /// Answers with this status instead.
    pub down: Arc<Mutex<Option<u16>>>,
    /// What the daemon's analysis is told, when somebody wants to know.
    pub tape: Option<Arc<Mutex<Vec<Observed>>>>,
}

/// What carries the daemon's requests: to receivers outside, or to pods.
struct Outside {
    sim: Sim,
    who: String,
    receivers: Receivers,
}

impl Peer for Outside {
    fn answer(&self, request: reqwest::Request) -> BoxFuture<'static, Result<http::Response<Vec<u8>>, Lost>> {
        if request.url().host_str() != Some("receivers.test") {
            let address = request.url().host_str().and_then(|host| host.parse::<IpAddr>().ok());
            let (Some(address), Some(port)) = (address, request.url().port_or_known_default()) else {
                return Box::pin(std::future::ready(Err(Lost::NoName)));
            };
            let ask = pod_http::Ask { method: request.method(), path: request.url().path() };
            let answer = self.sim.with(|world| pod_http::respond(world, (address, port).into(), ask));
            return Box::pin(std::future::ready(answer));
        }
        let channel = request.url().path().trim_start_matches('/').to_owned();
        let key = request.headers().get("x-lastgood-id").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let body = request.body().and_then(|b| b.as_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let (sim, who, receivers) = (self.sim.clone(), self.who.clone(), self.receivers.clone());
        Box::pin(async move {
            let what = format!("POST {channel} {key}");
            let told = Told { channel, key, body };
            let receive = async {
                let status = receivers.down.lock().unwrap().unwrap_or(204);
                if status == 204 {
                    receivers.told.lock().unwrap().push(told);
                }
                http::Response::builder().status(status).body(Vec::new()).map_err(|_| Lost::Broken)
            };
            sim.write_elsewhere(&who, Written { what, body: Value::Null }, receive).await
        })
    }
}

/// What a daemon is started with.
#[derive(Clone)]
pub struct Config {
    pub settings: Value,
    /// The text of the thresholds file.
    pub thresholds: String,
}

/// A daemon that runs.
pub struct Life {
    thresholds: watch::Sender<Arc<ActiveThresholds>>,
    reload: Reload,
    stop: watch::Sender<bool>,
    clock: Clock,
    task: JoinHandle<()>,
}

/// A daemon that is asked to stop has long been killed by now.
const STOPS_WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

impl Life {
    /// Starts a daemon under the name `who`, whose files lie in `folder`. `off`: how far its clock is off, seconds.
    pub fn start(sim: &Sim, who: &str, config: &Config, folder: &Path, receivers: &Receivers, off: i64) -> Self {
        let now = sim.now().checked_add(jiff::SignedDuration::from_secs(off)).unwrap();
        let clock = Clock::starting_at(now);
        let settings = settings(&config.settings, folder);
        let thresholds = Thresholds::parse("thresholds.yaml", &config.thresholds).unwrap();
        let reload = Reload::new("thresholds.yaml", thresholds, Some(&config.thresholds), clock.now());
        let (tx, rx) = watch::channel(Arc::new(reload.active()));
        let outside = Outside { sim: sim.clone(), who: who.into(), receivers: receivers.clone() };
        let wire = Wire::Simulated(Arc::new(outside));
        let cluster = Cluster {
            reader: sim.client(who),
            writer: sim.client(who),
            url: "simulated".into(),
            contact: Contact::default(),
            default_namespace: "lastgood".into(),
            namespaces: settings.namespaces.clone(),
        };
        let surroundings = Surroundings {
            sources: Sources::simulated(&settings.sources, clock, &wire).unwrap(),
            settings,
            thresholds: rx,
            cluster,
            wire,
            clock,
            // A new process has a new name, as a new pod has.
            identity: format!("{who}-{}", seconds(sim.now())),
        };
        let daemon = Daemon::new(surroundings).unwrap();
        if let Some(recorded) = receivers.tape.clone() {
            let mut tape = daemon.tape().subscribe();
            tokio::spawn(async move {
                loop {
                    match tape.recv().await {
                        Ok(observed) => recorded.lock().unwrap().extend_from_slice(&observed),
                        Err(RecvError::Closed) => return,
                        Err(lost) => panic!("{lost}"),
                    }
                }
            });
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(daemon.run(stopped));
        Self { thresholds: tx, reload, stop, clock, task }
    }

    /// The thresholds file has another text now; whether it is in force.
    pub fn reload(&mut self, text: &str) -> bool {
        let now = self.clock.now();
        self.reload.offer(Ok(text), now);
        let done = self.reload.offer(Ok(text), now);
        self.thresholds.send_replace(Arc::new(self.reload.active()));
        done == Reloaded::Active
    }

    /// SIGTERM; returns when it has ended.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(STOPS_WITHIN, self.task).await.expect("the daemon does not stop").unwrap();
    }
}

fn settings(own: &Value, folder: &Path) -> Settings {
    let url = |channel: &str| {
        let file = folder.join(format!("{channel}.url"));
        std::fs::write(&file, format!("http://receivers.test/{channel}")).unwrap();
        file
    };
    let mut settings = json!({
        "environment": "sim",
        "interval": "5s",
        "namespace": "lastgood",
        "reports": {"folder": folder.join("reports")},
        "sources": {"scrape": {"enabled": "on"}},
        "notifiers": CHANNELS.map(|channel| json!({"name": channel, "type": "webhook", "urlFile": url(channel)})),
    });
    merge(&mut settings, own);
    // JSON is YAML.
    Settings::parse("lastgood.yaml", &settings.to_string(), []).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Names of the notifiers.
pub const CHANNELS: [&str; 2] = ["hook", "pager"];

/// The text of a thresholds file: the suite's, with `own` merged over it.
pub fn thresholds(own: &Value) -> String {
    let mut thresholds = json!({
        "apiVersion": "lastgood.dev/v1",
        "kind": "Thresholds",
        "defaults": {
            "mode": "act",
            "watch": "3m",
            "minRequests": 200,
            "metrics": {"preset": "go"},
            "undo": {"maxPerWorkload": "10/1h", "maxPerNamespace": "20/10m", "maxPerCluster": "50/10m", "verifyWithin": "4m"},
        },
    });
    merge(&mut thresholds, own);
    thresholds.to_string()
}
