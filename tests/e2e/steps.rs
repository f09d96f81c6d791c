//! What happens in a story: one function per kind of step.
use crate::{
    daemon::{Daemon, Launch, merge},
    fail::{Context, Result, bail},
    kubelet::Behaviour,
    manifest,
    plane::{
        API,
        second::{Second, SecondApi},
    },
    process,
    relay::{Link, Relay},
    runner::Run,
    story::{Behave, Call, Deploy, Start, Step, Way, WriteConfig},
};
use serde_json::{Value, json};
use std::time::Duration;

impl Run<'_> {
    pub(crate) async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Deploy(deploy) => self.deploy(deploy).await,
            Step::Kubectl(call) => {
                self.tell(&format!("kubectl {}", call.args.join(" ")));
                let said = self.call_kubectl(call).await?;
                self.expect_call("kubectl", call, &said)
            }
            Step::Lastgood(call) => self.lastgood(call).await,
            Step::Wait(condition) => self.wait(condition).await,
            Step::Never(condition) => self.never(condition).await,
            Step::Behave(Behave { image, like, new_pods_only }) => {
                self.tell(&format!("from now on, {image} behaves like {like}"));
                let behaviour = Behaviour::parse(like).map_err(crate::fail::Failure::new)?;
                self.stage.world.change(&self.namespace, image, behaviour, *new_pods_only);
                Ok(())
            }
            Step::Prometheus(fault) => {
                self.tell(&format!("Prometheus for this daemon: {fault:?}"));
                self.proxy.set(*fault);
                Ok(())
            }
            Step::Start(start) => self.start_daemon(start).await,
            Step::Kill(name) => {
                self.tell(&format!("SIGKILL to daemon {name}"));
                self.daemon(name)?.kill().await;
                self.daemons.remove(name);
                Ok(())
            }
            Step::Stop(name) => {
                self.tell(&format!("SIGTERM to daemon {name}"));
                self.daemon(name)?.stop().await?;
                self.daemons.remove(name);
                Ok(())
            }
            Step::Pause(name) => {
                self.tell(&format!("SIGSTOP to daemon {name}"));
                self.daemon(name)?.signal("STOP").await
            }
            Step::Resume(name) => {
                self.tell(&format!("SIGCONT to daemon {name}"));
                self.daemon(name)?.signal("CONT").await
            }
            Step::Api(Way { daemon, link, second }) => {
                let where_to = if *second { "the second API server" } else { "the API server" };
                self.tell(&format!("the way of daemon {daemon} to {where_to}: {link:?}"));
                let to = if *second { self.second.as_ref().context("no second API server")?.address } else { API };
                let way = self.ways.get(daemon).context(format!("daemon {daemon} has never run"))?;
                way.lead_to(to);
                way.set(*link);
                Ok(())
            }
            Step::SecondApi(what) => self.second_api(*what).await,
            Step::Plane(how) => {
                if !self.story.alone {
                    bail!("a story that disturbs all others must be alone");
                }
                self.tell(&format!("the control plane: {how:?}"));
                self.stage.plane.disturb(*how).await
            }
            Step::Remember(workload) => {
                let template = self.live(workload).await?["spec"]["template"].clone();
                self.remembered.insert(workload.clone(), template);
                Ok(())
            }
            Step::WriteConfig(WriteConfig { daemon, file, text }) => {
                self.tell(&format!("{file} of daemon {daemon} is overwritten"));
                std::fs::write(self.folder.join(format!("config-{daemon}")).join(file), text).context(file)
            }
        }
    }

    async fn call_kubectl(&self, call: &Call) -> Result<process::Said> {
        let mut args = Vec::new();
        for arg in &call.args {
            args.push(self.filled_in(arg).await?);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let stdin = match &call.stdin {
            Some(text) => Some(self.filled_in(text).await?),
            None => None,
        };
        let Some(account) = &call.account else { return self.kubectl_with(&args, stdin.as_deref()).await };
        let account = account.replace("STORY", &self.namespace);
        let kubeconfig = self.folder.join(format!("kubeconfig-{}", account.replace('/', "-")));
        if !kubeconfig.exists() {
            self.stage.plane.account_kubeconfig(&account, API, &kubeconfig).await?;
        }
        let args: Vec<&str> = ["-n", self.namespace.as_str()].into_iter().chain(args).collect();
        self.stage.plane.kubectl_as(&kubeconfig, &args, stdin.as_deref()).await
    }

    /// `STORY` is the story's namespace, `UID:web` the uid of its workload.
    async fn filled_in(&self, text: &str) -> Result<String> {
        let mut text = text.replace("STORY", &self.namespace);
        for workload in &self.story.workloads {
            let mark = format!("UID:{}", workload.name);
            if text.contains(&mark) {
                let live = self.live(&workload.name).await?;
                text = text.replace(&mark, live["metadata"]["uid"].as_str().context("no uid")?);
            }
        }
        Ok(text)
    }

    async fn second_api(&mut self, what: Second) -> Result<()> {
        self.tell(&format!("the second API server: {what:?}"));
        if matches!(what, Second::Start | Second::StartForgetful) {
            let forgetful = what == Second::StartForgetful;
            let (plane, audit) = (&self.stage.plane, &self.stage.audit);
            self.second = Some(SecondApi::start(plane, audit, &self.folder, forgetful).await?);
            return Ok(());
        }
        let second = self.second.as_ref().context("no second API server")?;
        second.link(if what == Second::FallBehind { Link::Frozen } else { Link::Open });
        Ok(())
    }

    async fn deploy(&mut self, deploy: &Deploy) -> Result<()> {
        let mut object = self.manifests.get(&deploy.workload).context("no such workload")?.clone();
        manifest::change(&mut object, deploy);
        let image = object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or("?").to_owned();
        let how = if deploy.server_side { "apply --server-side" } else { "apply" };
        self.tell(&format!("kubectl {how}: {} with image {image}", deploy.workload));
        self.apply(&object, deploy.server_side).await?;
        self.manifests.insert(deploy.workload.clone(), object);
        Ok(())
    }

    pub(crate) async fn apply(&self, object: &Value, server_side: bool) -> Result<()> {
        let mut args = vec!["apply", "-f", "-"];
        if server_side {
            args.push("--server-side");
        }
        self.kubectl_with(&args, Some(&object.to_string())).await?.ok("kubectl apply").map(drop)
    }

    async fn lastgood(&mut self, call: &Call) -> Result<()> {
        self.tell(&format!("lastgood {}", call.args.join(" ")));
        let mut args = Vec::new();
        // When the story began, and the configuration of its own daemon.
        let began = (jiff::Timestamp::now() - jiff::SignedDuration::try_from(self.began.elapsed())?).to_string();
        let config = self.folder.join("config-main").display().to_string();
        for arg in &call.args {
            args.push(self.filled_in(arg).await?.replace("CONFIG", &config).replace("BEGAN", &began));
        }
        // Judging the past needs no cluster.
        if args[0] != "replay" {
            args.extend(["--kubeconfig".into(), self.stage.plane.kubeconfig.display().to_string()]);
            args.extend(["-n".into(), self.namespace.clone()]);
        }
        // Commands that have no use for the daemon do not know this option.
        let asks_daemon = ["get", "explain", "undo", "status"].contains(&args[0].as_str());
        if let (true, Some(daemon)) = (asks_daemon, self.daemons.get("main")) {
            args.extend(["--server".into(), format!("http://{}", daemon.listen)]);
        }
        let within = Duration::from_secs(300);
        let said = process::run(&self.stage.lastgood, &args, call.stdin.as_deref(), within).await?;
        for line in said.out.lines().chain(said.err.lines()) {
            self.tell(&format!("  | {line}"));
        }
        self.expect_call("lastgood", call, &said)
    }

    fn expect_call(&self, program: &str, call: &Call, said: &process::Said) -> Result<()> {
        let what = format!("{program} {}", call.args.join(" "));
        if said.code != call.exit {
            bail!("{what}: exit code {} instead of {}: {}{}", said.code, call.exit, said.err, said.out);
        }
        for text in &call.says {
            let text = &text.replace("STORY", &self.namespace);
            if !said.out.contains(text) && !said.err.contains(text) {
                bail!("{what}: does not say \"{text}\" but: {}{}", said.out, said.err);
            }
        }
        Ok(())
    }

    pub(crate) async fn start_daemon(&mut self, start: &Start) -> Result<()> {
        let spec = self.story.daemon.as_ref().context("the story has no daemon")?;
        let mut settings = spec.settings.clone();
        if !start.settings.is_null() {
            merge(&mut settings, &start.settings);
        }
        if spec.takes_turns() {
            merge(&mut settings, &json!({"namespace": self.namespace}));
        }
        if let (Some(receiver), Some(notices)) = (&self.receiver, &spec.notices) {
            merge(&mut settings, &json!({"notifiers": receiver.settings(notices, &self.folder)?}));
        }
        let env: Vec<_> = start.env.clone().into_iter().collect();
        let said = if env.is_empty() { String::new() } else { format!(" with {env:?}") };
        self.tell(&format!("lastgood run ({}){said}", start.name));
        let kubeconfig = self.folder.join(format!("kubeconfig-of-{}", start.name));
        if !self.ways.contains_key(&start.name) {
            self.ways.insert(start.name.clone(), Relay::start(API).await?);
        }
        let server = self.ways[&start.name].listen;
        let account = start.account.as_deref().unwrap_or("lastgood/lastgood");
        self.stage.plane.account_kubeconfig(account, server, &kubeconfig).await?;
        let launch = Launch {
            name: &start.name,
            namespace: &self.namespace,
            folder: &self.folder,
            settings: &settings,
            thresholds: &spec.thresholds,
            prometheus: spec.prometheus.then_some(self.proxy.url.as_str()),
            env: &env,
            kubeconfig: &kubeconfig,
        };
        let mut daemon = Daemon::start(&self.stage.lastgood, &launch)?;
        if start.ready {
            daemon.wait_ready(&self.stage.plane.http).await?;
        }
        self.daemons.insert(start.name.clone(), daemon);
        Ok(())
    }
}
