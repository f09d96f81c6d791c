//! Plays one story from its first apply to its last expectation.
use crate::{
    audit::Audit,
    daemon::Daemon,
    fail::{Context, Result, bail},
    faults::FaultProxy,
    kubelet::World,
    load::Load,
    manifest,
    narrate::{Narrator, Subject},
    plane::{Plane, second::SecondApi, state_metrics::StateMetrics},
    process,
    receiver::Receiver,
    relay::{Link, Relay},
    replayed::Recording,
    story::{DaemonSpec, Start, Story},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// No story may take longer.
const LONGEST: Duration = Duration::from_secs(12 * 60);

/// What all stories share.
pub(crate) struct Stage {
    pub(crate) plane: Arc<Plane>,
    pub(crate) world: Arc<World>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) lastgood: PathBuf,
    /// `target/e2e`.
    pub(crate) out: PathBuf,
    /// Tell what happens while it happens.
    pub(crate) show: bool,
}

/// One story on the stage.
pub(crate) struct Run<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) story: &'a Story,
    pub(crate) namespace: String,
    pub(crate) folder: PathBuf,
    pub(crate) daemons: BTreeMap<String, Daemon>,
    pub(crate) loads: BTreeMap<String, Load>,
    pub(crate) remembered: BTreeMap<String, Value>,
    pub(crate) proxy: FaultProxy,
    pub(crate) receiver: Option<Receiver>,
    /// The way to the API server, by daemon.
    pub(crate) ways: BTreeMap<String, Relay>,
    pub(crate) second: Option<SecondApi>,
    state_metrics: Option<StateMetrics>,
    narrator: Option<Narrator>,
    pub(crate) recording: Option<Recording>,
    pub(crate) manifests: BTreeMap<String, Value>,
    pub(crate) began: Instant,
    told: String,
}

/// How a story ended.
pub(crate) struct Outcome {
    pub(crate) story: Story,
    pub(crate) seconds: f64,
    pub(crate) failure: Option<String>,
    /// Seconds from first harm to the patch.
    pub(crate) harm_to_patch: Option<f64>,
    /// Seconds from the third restart to the patch.
    pub(crate) third_restart_to_patch: Option<f64>,
    /// Seconds from the patch to the incident's last phase.
    pub(crate) patch_to_finished: Option<f64>,
    pub(crate) queries: u64,
}

impl<'a> Run<'a> {
    /// Plays the story; whatever happens, its daemons and load are stopped unless `keep`.
    pub(crate) async fn play(stage: &'a Stage, story: &'a Story, keep: bool) -> Result<(Outcome, Option<Run<'a>>)> {
        let mut run = Run::begin(stage, story).await?;
        let mut failure = match timeout(LONGEST, run.play_all()).await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.to_string()),
            Err(_) => Some(format!("the story took longer than {} min", LONGEST.as_secs() / 60)),
        };
        run.narrator = None;
        run.tell_reports();
        let mut outcome = run.outcome().await;
        // However a story went: what must never be written was not written.
        let forbidden = run.check_writes();
        if !forbidden.is_empty() {
            let text = failure.get_or_insert_with(|| "forbidden writes or reads".into());
            let _ = write!(text, "\n  {}", forbidden.join("\n  "));
        }
        if failure.is_some() {
            run.keep_evidence().await;
        }
        if !keep && let Err(error) = run.clean_up().await {
            failure.get_or_insert(error.to_string());
        }
        if let Some(text) = &failure {
            run.tell(&format!("FAILED: {text}"));
        }
        let _ = std::fs::write(run.folder.join("story.log"), &run.told);
        outcome.failure = failure;
        Ok((outcome, keep.then_some(run)))
    }

    /// An empty stage for a story.
    pub(crate) async fn begin(stage: &'a Stage, story: &'a Story) -> Result<Run<'a>> {
        let folder = stage.out.join("stories").join(&story.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).context(folder.display())?;
        Ok(Run {
            stage,
            story,
            namespace: format!("e2e-{}", story.name),
            folder,
            daemons: BTreeMap::new(),
            loads: BTreeMap::new(),
            remembered: BTreeMap::new(),
            proxy: FaultProxy::start(stage.plane.http.clone()).await?,
            receiver: match story.daemon.as_ref().and_then(|d| d.notices.as_ref()) {
                Some(spec) => Some(Receiver::start(spec).await?),
                None => None,
            },
            ways: BTreeMap::new(),
            second: None,
            state_metrics: None,
            narrator: None,
            recording: None,
            manifests: BTreeMap::new(),
            began: Instant::now(),
            told: String::new(),
        })
    }

    async fn play_all(&mut self) -> Result<()> {
        self.set_up().await.context("setting up")?;
        let story = self.story;
        for (n, step) in story.steps.iter().enumerate() {
            self.step(step).await.context(format!("step {}", n + 1))?;
        }
        self.check_all().await.context("at the end")?;
        self.check_replay().await
    }

    /// Remembers a line, and says it when somebody listens.
    pub(crate) fn tell(&mut self, text: &str) {
        let line = format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64());
        if self.stage.show {
            println!("{line}");
        }
        let _ = writeln!(self.told, "{line}");
    }

    fn tell_reports(&mut self) {
        let folder = std::fs::read_dir(self.folder.join("reports")).into_iter().flatten();
        let reports: Vec<_> = folder.filter_map(|e| Some(e.ok()?.path())).collect();
        for report in reports {
            self.tell(&format!("incident report: {}", report.display()));
        }
    }

    pub(crate) async fn set_up(&mut self) -> Result<()> {
        self.tell(&format!("{}: {}", self.story.name, self.story.description));
        let namespace = self.namespace.clone();
        self.stage.plane.kubectl(&["create", "namespace", &namespace], None).await?.ok("creating the namespace")?;
        let account = ["wait", "--for=create", "serviceaccount/default", "--timeout=30s"];
        self.kubectl(&account).await?.ok("the namespace has its ServiceAccount")?;
        let story = self.story;
        if story.state_metrics {
            if !story.alone {
                bail!("a backtest of another story would take its rollouts from there: the story must be alone");
            }
            self.state_metrics = Some(StateMetrics::start(&self.stage.plane, &namespace).await?);
        }
        self.wait_for_trust(false).await;
        if story.daemon.as_ref().is_some_and(DaemonSpec::takes_turns) {
            self.own_lease().await?;
        }
        for workload in &story.workloads {
            let object = manifest::workload(workload);
            self.tell(&format!("kubectl apply: {} {} with image {}", workload.kind, workload.name, workload.image));
            self.apply(&manifest::service(workload), false).await?;
            self.apply(&object, workload.server_side).await?;
            self.manifests.insert(workload.name.clone(), object);
        }
        for workload in &story.workloads {
            if let Some(rate) = workload.load {
                self.start_load(&workload.name, rate).await?;
            }
        }
        if self.stage.show {
            self.narrator = Some(Narrator::start(Subject {
                plane: self.stage.plane.clone(),
                namespace: self.namespace.clone(),
                log: self.folder.join("main.log"),
                users: self.loads.iter().map(|(name, load)| (name.clone(), load.seen.clone())).collect(),
                began: self.began,
            }));
        }
        if story.daemon.as_ref().is_some_and(|d| d.running) {
            self.start_daemon(&Start::main()).await?;
            if story.daemon.as_ref().is_some_and(|d| d.replayed) {
                self.recording = Some(Recording::start(self, self.daemons.get("main").context("no daemon")?).await?);
            }
        }
        self.wait_for_trust(true).await;
        Ok(())
    }

    /// A daemon that a step starts must find a young rollout, so its story waits before it deploys anything;
    /// one that runs from the beginning does so meanwhile.
    async fn wait_for_trust(&mut self, running: bool) {
        if !self.story.daemon.as_ref().is_some_and(|d| d.prometheus && d.running == running) {
            return;
        }
        if self.stage.plane.still_distrusted() {
            self.tell("Prometheus has just started; Lastgood believes it after a minute");
        }
        self.stage.plane.wait_for_trust().await;
    }

    /// A Lease in the story's own namespace, so that no other story takes turns with this one.
    async fn own_lease(&self) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lastgood"},
            "rules": [
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]},
            ],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "lastgood"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lastgood"},
            "subjects": [{"kind": "ServiceAccount", "name": "lastgood", "namespace": "lastgood"}],
        });
        self.apply(&role, false).await?;
        self.apply(&binding, false).await
    }

    async fn start_load(&mut self, workload: &str, rate: u32) -> Result<()> {
        let service = self.get(&["service", workload]).await?;
        let address = service["spec"]["clusterIP"].as_str().context("the Service has no address")?;
        let to: SocketAddr = format!("{address}:80").parse()?;
        self.tell(&format!("load: {rate} requests a second to Service {workload}"));
        self.loads.insert(workload.into(), Load::start(to, rate));
        Ok(())
    }

    pub(crate) fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(name).context(format!("no daemon \"{name}\" runs"))
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<process::Said> {
        self.kubectl_with(args, None).await
    }

    pub(crate) async fn kubectl_with(&self, args: &[&str], stdin: Option<&str>) -> Result<process::Said> {
        let args: Vec<&str> = ["-n", self.namespace.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.stage.plane.kubectl(&args, stdin).await
    }

    pub(crate) async fn get(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = args.iter().copied().chain(["-n", self.namespace.as_str()]).collect();
        self.stage.plane.get(&args).await
    }

    /// The live object of a workload.
    pub(crate) async fn live(&self, workload: &str) -> Result<Value> {
        let kind = self.kind(workload)?;
        self.get(&[kind, workload]).await
    }

    pub(crate) fn kind(&self, workload: &str) -> Result<&str> {
        let found = self.story.workloads.iter().find(|w| w.name == workload);
        Ok(found.context(format!("the story has no workload \"{workload}\""))?.kind.as_str())
    }

    /// Incidents of a workload, oldest first.
    pub(crate) async fn incidents(&self, workload: &str) -> Result<Vec<Value>> {
        let list = self.get(&["incidents.lastgood.dev", "--sort-by=.metadata.creationTimestamp"]).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().filter(|i| i["spec"]["workload"]["name"] == workload).collect())
    }

    async fn outcome(&self) -> Outcome {
        let harm = self.stage.world.harm(&self.namespace);
        let names: Vec<&str> = self.story.workloads.iter().map(|w| w.name.as_str()).collect();
        let undos = names.iter().flat_map(|name| self.stage.audit.undos(&self.namespace, name));
        let patch = undos.map(|r| r.at).min();
        let seconds =
            |from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>| Some(to?.duration_since(from?).as_secs_f64());
        let incidents = self.get(&["incidents.lastgood.dev"]).await.unwrap_or(json!({"items": []}));
        let finished = incidents["items"].as_array().into_iter().flatten();
        let finished = finished.filter_map(|i| i["status"]["finished"].as_str()?.parse().ok()).max();
        Outcome {
            story: self.story.clone(),
            seconds: self.began.elapsed().as_secs_f64(),
            failure: None,
            harm_to_patch: seconds(harm.first, patch),
            third_restart_to_patch: seconds(harm.third_restart, patch),
            patch_to_finished: seconds(patch, finished),
            queries: self.proxy.queries.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// Writes what a person needs to understand a failure.
    pub(crate) async fn keep_evidence(&mut self) {
        let mut text = String::new();
        for args in [
            vec!["get", "deployments,statefulsets,daemonsets,replicasets,controllerrevisions,pods", "-o", "wide"],
            vec!["get", "incidents.lastgood.dev", "-o", "yaml"],
            vec!["get", "events", "--sort-by=.metadata.creationTimestamp"],
        ] {
            let said = self.kubectl(&args).await;
            let said = said.map_or_else(|e| e.to_string(), |s| s.out + &s.err);
            let _ = writeln!(text, "$ kubectl {}\n{said}", args.join(" "));
        }
        let _ = writeln!(text, "what the daemon asked the API server for, writes only:");
        for request in self.stage.audit.by_daemon(&self.namespace, crate::audit::Request::is_write) {
            let _ = writeln!(
                text,
                "{} {} {}/{} -> {}{}\n    {}",
                request.at,
                request.verb,
                request.resource,
                request.name,
                request.code,
                if request.dry_run { " (dry run)" } else { "" },
                request.body,
            );
        }
        for (name, load) in &self.loads {
            let _ = writeln!(text, "users of {name}: {}", load.seen.text());
        }
        let _ = std::fs::write(self.folder.join("cluster.txt"), text);
    }

    /// Writes down what was told, and cleans up.
    pub(crate) async fn end(&mut self) -> Result<()> {
        let _ = std::fs::write(self.folder.join("story.log"), &self.told);
        self.clean_up().await
    }

    pub(crate) async fn clean_up(&mut self) -> Result<()> {
        self.loads.clear();
        self.state_metrics = None;
        let mut first = Ok(());
        self.ways.values().for_each(|way| way.set(Link::Open));
        for daemon in self.daemons.values_mut() {
            if daemon.ended().is_none() {
                daemon.signal("CONT").await?;
                let stopped = daemon.stop().await;
                first = first.and(stopped);
            }
        }
        self.daemons.clear();
        if let Some(mut second) = self.second.take() {
            second.stop().await;
        }
        let namespace = self.namespace.clone();
        let gone = ["delete", "namespace", namespace.as_str(), "--wait=false"];
        self.stage.plane.kubectl(&gone, None).await?.ok("removing the namespace")?;
        first
    }
}

/// Where the story's files lie, for messages.
pub(crate) fn evidence(out: &Path, story: &str) -> String {
    out.join("stories").join(story).display().to_string()
}
