//! `lastgood demo`: the real daemon on a simulated cluster with three services and their users. A good deploy
//! passes, one with 12 % errors and one that crashes are undone, and an outage of everything during a rollout is
//! held. What it prints is what the daemon wrote into the cluster.

mod narrator;
mod scenery;

use super::{
    Failure, exit,
    style::{Colour, Mark, Style, printable},
};
use crate::{
    app::{
        Daemon,
        simulated::{Simulated, install, thresholds},
    },
    clock::Clock,
    config::Settings,
    sim::{Key, Manager, Resource, Sim},
    wire::Wire,
};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use narrator::{Line, Narrator, image};
use scenery::{HONESTY, KUBECTL, NAMESPACE, SERVICES, THRESHOLDS, set_up};
use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Play in virtual time, over in seconds, and without any socket.
    #[arg(long)]
    pub(super) fast: bool,
    /// Folder for the incident reports; else one in the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER")]
    reports: Option<PathBuf>,
    /// Never use colour (NO_COLOR is heard too).
    #[arg(long)]
    no_color: bool,
}

/// How long the services had been running before the daemon came.
const BEFORE: SignedDuration = SignedDuration::from_mins(20);
/// Columns of a line.
const WIDTH: usize = 118;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const USERS_EVERY: f64 = 10.0;
/// Seconds that all grids of time divide.
const WHOLE: i64 = 300;
/// Chance in the simulated cluster.
const SEED: u64 = 20;

pub(super) async fn demo(args: &DemoArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let style = if args.no_color { Style::of_stdout().without_colour() } else { Style::of_stdout() };
    let reports = args
        .reports
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("lastgood-demo-{}", std::process::id())));
    let (mut play, daemon) = Play::begin(args.fast, reports, style, out)?;
    let result = play.acts().await;
    let (stop, cluster) = daemon;
    let _ = stop.0.send(true);
    // A daemon that does not end in order is told by its own grace; the demo is over.
    let _ = tokio::time::timeout(Duration::from_secs(20), stop.1).await;
    cluster.iter().for_each(JoinHandle::abort);
    result?;
    play.sum_up()
}

/// What was to be shown, and whether it was.
struct Shown {
    what: &'static str,
    /// What is missing, if something is.
    missing: Vec<String>,
}

struct Play<'a> {
    sim: Sim,
    style: Style,
    out: &'a mut dyn Write,
    began: Timestamp,
    users_told: Timestamp,
    narrator: Narrator,
    reports: PathBuf,
    shown: Vec<Shown>,
    snapshot: watch::Receiver<Arc<crate::domain::Snapshot>>,
}

/// Ends the daemon, and the tasks of the cluster.
type Running = ((watch::Sender<bool>, JoinHandle<()>), Vec<JoinHandle<()>>);

impl<'a> Play<'a> {
    fn begin(fast: bool, reports: PathBuf, style: Style, out: &'a mut dyn Write) -> Result<(Self, Running), Failure> {
        let defect = |why: String| Failure::new(exit::ERROR, format!("the simulated cluster cannot be set up: {why}"));
        // Kubernetes keeps whole seconds, what is measured falls into windows of whole minutes, and late looks into
        // five of them: in virtual time every run falls on all of them alike.
        let now = Clock::system().timestamp().as_second();
        let start = Timestamp::from_second(if fast { now - now.rem_euclid(WHOLE) } else { now })?;
        let sim = Sim::new(start.checked_sub(BEFORE)?, SEED);
        install(&sim);
        sim.with(|world| {
            if !fast {
                world.use_loopback();
            }
            set_up(world)
        })
        .map_err(defect)?;
        sim.leap(BEFORE);
        let driven = sim.clone();
        let mut cluster = vec![tokio::spawn(async move { driven.drive().await })];
        let pods = if fast {
            sim.wire("lastgood")
        } else {
            let served = sim.clone();
            cluster.push(tokio::spawn(async move { served.serve_pods().await }));
            Wire::Network
        };
        let mut settings = Settings { environment: "demo".into(), namespace: "lastgood".into(), ..Settings::default() };
        settings.interval = Duration::from_secs(2);
        settings.reports.folder.clone_from(&reports);
        let (_, in_force) = watch::channel(Arc::new(thresholds("the demo's thresholds", THRESHOLDS, sim.now())?));
        let surroundings =
            Simulated { sim: &sim, who: "lastgood", settings, thresholds: in_force, pods, notices: Wire::Network };
        let daemon = Daemon::new(surroundings.surroundings()?)?;
        let snapshot = daemon.snapshot();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Box::pin(daemon.run(stopped)));
        let began = sim.now();
        let narrator = Narrator::default();
        let play = Self { sim, style, out, began, users_told: began, narrator, reports, shown: Vec::new(), snapshot };
        Ok((play, ((stop, running), cluster)))
    }

    async fn acts(&mut self) -> Result<(), Failure> {
        let pace = HONESTY.lines().map(str::to_owned);
        for line in std::iter::once("A simulated cluster, the real daemon.".to_owned()).chain(pace) {
            writeln!(self.out, "{}", self.style.paint(Colour::Dim, &line))?;
        }
        writeln!(self.out)?;
        self.sim.with(|world| self.narrator.begin(world));
        self.say(&Line::new(
            "cluster",
            format!("3 nodes; {} run with 4 pods each, and have users", SERVICES.join(", ")),
        ))?;
        let synced = self.snapshot.clone();
        self.until(30, |_| synced.borrow().synced && synced.borrow().leader).await?;
        self.say(&Line::new("lastgood", "leads, and watches every rollout"))?;
        self.rest(1).await?;
        self.three_deploys().await?;
        self.outage().await
    }

    /// A good deploy, one that fails 12 % of its requests, one that crashes.
    async fn three_deploys(&mut self) -> Result<(), Failure> {
        for service in SERVICES {
            self.deploy(service, "2")?;
        }
        self.until(240, |play| {
            play.heard("web", "RolloutPassed")
                && play.heard("checkout", "UndoVerified")
                && play.heard("mail", "UndoVerified")
        })
        .await?;
        self.rest(2).await?;
        let passed = self.missing([
            (self.narrator.heard("web", "RolloutPassed"), "it did not pass"),
            (self.pinned("web", "shop/web:2"), "it is not pinned as known good"),
            (!self.narrator.heard("web", "UndoStarted"), "it was undone"),
            (self.runs("web") == "shop/web:2", "web does not run it"),
        ]);
        self.shown.push(Shown { what: "a good deploy passes, and is pinned as known good", missing: passed });
        for (service, what) in [
            ("checkout", "a deploy with 12 % errors is undone, and the undo is proved"),
            ("mail", "a crash loop is undone, and the undo is proved"),
        ] {
            let missing = self.missing([
                (self.narrator.heard(service, "RolloutBad"), "it was not found bad"),
                (self.narrator.heard(service, "UndoVerified"), "no undo was verified"),
                (self.runs(service) == format!("shop/{service}:1"), "the earlier version does not run"),
                (self.report_of(service).is_some(), "there is no incident report"),
            ]);
            self.shown.push(Shown { what, missing });
        }
        Ok(())
    }

    /// What every service needs is down while a good version is being rolled out.
    async fn outage(&mut self) -> Result<(), Failure> {
        self.deploy("web", "3")?;
        self.rest(8).await?;
        let text = "the database that all services share goes down: 95 % of all requests fail";
        self.say(&Line { colour: Some(Colour::Yellow), ..Line::new("outage", text) })?;
        self.sim.with(|world| world.traffic.set_outage(0.95));
        self.until(60, |narrator| narrator.heard("web", "RolloutHeld")).await?;
        self.rest(2).await?;
        self.sim.with(|world| world.traffic.set_outage(0.0));
        self.say(&Line::new("outage", "is over"))?;
        self.rest(3).await?;
        let missing = self.missing([
            (self.narrator.heard("web", "RolloutHeld"), "it was not held"),
            (!self.narrator.heard("web", "RolloutBad"), "the rollout was blamed"),
            (!self.narrator.heard("web", "UndoStarted"), "it was undone"),
            (self.runs("web") == "shop/web:3", "web is not being rolled out any more"),
        ]);
        self.shown.push(Shown { what: "an outage of everything during a rollout is held, not undone", missing });
        Ok(())
    }

    fn deploy(&mut self, service: &str, version: &str) -> Result<(), Failure> {
        let to = format!("shop/{service}:{version}");
        let key = Key::new(Resource::Deployments, NAMESPACE, service);
        let changed = self.sim.with(|world| {
            world.store.update(&key, Manager(KUBECTL), |deployment| {
                deployment["spec"]["template"]["spec"]["containers"][0]["image"] = to.clone().into();
            })
        });
        changed.map_err(|refusal| Failure::new(exit::ERROR, refusal.to_string()))?;
        let text = format!("kubectl apply -f {service}.yaml    # image: {to}");
        self.say(&Line { colour: Some(Colour::Bold), ..Line::new("you", text) })
    }

    fn missing<const N: usize>(&self, checks: [(bool, &str); N]) -> Vec<String> {
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what.to_owned()).collect()
    }

    fn runs(&self, service: &str) -> String {
        let key = Key::new(Resource::Deployments, NAMESPACE, service);
        self.sim.with(|world| world.store.get(&key).map(|d| image(d).to_owned())).unwrap_or_default()
    }

    fn pinned(&self, service: &str, wanted: &str) -> bool {
        self.sim.with(|world| {
            let mut pins = world.store.list(Resource::ControllerRevisions, Some(NAMESPACE));
            pins.any(|(_, pin)| {
                pin["metadata"]["labels"]["lastgood.dev/pin"] == "passed"
                    && narrator::text(pin, "/metadata/ownerReferences/0/name") == service
                    && narrator::text(pin, "/data/spec/template/spec/containers/0/image") == wanted
            })
        })
    }

    /// The report of the incident of a service, once it is written.
    fn report_of(&self, service: &str) -> Option<PathBuf> {
        let files = std::fs::read_dir(&self.reports).ok()?.filter_map(|file| Some(file.ok()?.path()));
        let about = |path: &PathBuf| {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("shop/{service}:2")))
        };
        files.filter(|path| path.extension().is_some_and(|end| end == "md")).find(about)
    }

    /// Tells what happens until `holds`, or so many seconds are over.
    async fn until(&mut self, seconds: i64, holds: impl Fn(&Narrator) -> bool) -> Result<(), Failure> {
        let end = self.sim.now().checked_add(SignedDuration::from_secs(seconds))?;
        loop {
            self.listen()?;
            if holds(&self.narrator) || self.sim.now() >= end {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn rest(&mut self, seconds: i64) -> Result<(), Failure> {
        self.until(seconds, |_| false).await
    }

    fn listen(&mut self) -> Result<(), Failure> {
        let now = self.sim.now();
        let mut lines = self.sim.with(|world| self.narrator.news(world));
        if now.duration_since(self.users_told).as_secs_f64() >= USERS_EVERY {
            self.users_told = now;
            lines.push(self.sim.with(|world| self.narrator.users(world)));
        }
        lines.iter().try_for_each(|line| self.say(line))
    }

    fn say(&mut self, line: &Line) -> Result<(), Failure> {
        let at = self.sim.now().duration_since(self.began).as_secs_f64();
        let mut head = format!("{at:>6.1} s  {:<8}  ", line.who);
        for part in wrapped(&printable(&line.text), WIDTH - head.len()) {
            let text = line.colour.map_or(part.as_str().into(), |colour| self.style.paint(colour, &part));
            writeln!(self.out, "{head}{text}")?;
            head = " ".repeat(head.len());
        }
        Ok(self.out.flush()?)
    }

    fn sum_up(&mut self) -> Result<u8, Failure> {
        writeln!(self.out)?;
        for shown in &self.shown {
            let mark = self.style.mark(if shown.missing.is_empty() { Mark::Good } else { Mark::Bad });
            writeln!(self.out, "{mark} {}", shown.what)?;
            for missing in &shown.missing {
                writeln!(self.out, "    {missing}")?;
            }
        }
        writeln!(self.out)?;
        for service in SERVICES {
            if let Some(path) = self.report_of(service) {
                writeln!(self.out, "incident report of {service}: {}", path.display())?;
            }
        }
        let good = self.shown.len() == 4 && self.shown.iter().all(|shown| shown.missing.is_empty());
        Ok(if good { exit::OK } else { exit::ERROR })
    }
}

/// A text in lines of so many characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
