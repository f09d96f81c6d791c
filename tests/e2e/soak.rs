//! `tests/e2e/run --soak`: random deploys and random faults, for a bounded time and from one seed, and then
//! the invariants: from the audit log, the Incidents, and what the kernel says of the daemon.
mod chance;
mod flat;
mod verdict;

use crate::{
    fail::Result,
    options::Soak,
    plane::Disturbance,
    runner::{Run, Stage},
    story::{Deploy, Start, Step, Story},
    wait,
};
use chance::Chance;
use flat::Figures;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

/// The stage: all three kinds, one daemon that acts, a watch short enough for a good deploy to pass.
const STAGE: &str = r#"
description: random deploys and faults
alone: true
daemon:
  settings: {interval: 3s}
  thresholds:
    defaults:
      watch: 20s
      minRequests: 60
      undo: {maxPerWorkload: 400/1h, maxPerNamespace: 400/10m, verifyWithin: 2m, evictStuckPods: true}
workloads:
- {name: web, image: "shop/web:ok-v0", load: 20}
- {name: api, image: "shop/api:ok-v0", load: 20}
- {name: db, kind: StatefulSet, replicas: 2, image: "shop/db:ok-v0", load: 10}
- {name: agent, kind: DaemonSet, image: "shop/agent:ok-v0", load: 10}
steps: []
"#;
/// After the last fault, everything must have come to its end within this time.
const SETTLES: Duration = Duration::from_secs(300);
/// So long a rollout is held until people see to it.
const MENDED_AFTER: Duration = Duration::from_secs(60);
/// From one quiet point, at which the daemon is measured, to the next.
const QUIET_EVERY: Duration = Duration::from_secs(40);
/// In the last part the daemon is not killed any more, so that one life is long enough to be measured.
const KILLS_UNTIL: f64 = 0.4;

/// Soaks; the answer is what is wrong.
pub(crate) async fn run(stage: &Stage, soak: &Soak) -> Result<Vec<String>> {
    let mut story: Story = serde_saphyr::from_str(STAGE)?;
    story.name = "soak".into();
    println!("soaking for {} min with --seed {}", soak.minutes, soak.seed);
    let mut run = Run::begin(stage, &story).await?;
    run.set_up().await?;
    let mut soaking = Soaking {
        chance: Chance::new(soak.seed),
        versions: 0,
        deployed: BTreeMap::new(),
        rests: BTreeMap::new(),
        figures: Figures::default(),
        turns: BTreeMap::new(),
    };
    let turned = soaking.turn(&mut run, Duration::from_secs(soak.minutes * 60)).await;
    let mut faults = match turned {
        Ok(()) => verdict::faults(&run, &soaking.deployed).await?,
        Err(error) => vec![error.to_string()],
    };
    faults.extend(run.check_writes());
    faults.extend(soaking.figures.faults());
    println!("what was done: {:?}", soaking.turns);
    println!("{}", soaking.figures);
    if !faults.is_empty() {
        run.keep_evidence().await;
    }
    run.end().await?;
    Ok(faults)
}

struct Soaking {
    chance: Chance,
    versions: u32,
    /// What was deployed last, by workload.
    deployed: BTreeMap<String, String>,
    figures: Figures,
    /// Until when nothing new is deployed, by workload.
    rests: BTreeMap<String, Instant>,
    /// How often each kind of turn was taken.
    turns: BTreeMap<&'static str, u32>,
}

impl Soaking {
    async fn turn(&mut self, run: &mut Run<'_>, length: Duration) -> Result<()> {
        let began = Instant::now();
        self.quiet(run).await?;
        let mut next_quiet = Instant::now() + QUIET_EVERY;
        while began.elapsed() < length {
            let share = began.elapsed().as_secs_f64() / length.as_secs_f64();
            self.one(run, share < KILLS_UNTIL).await?;
            run.stage.plane.must_live().await?;
            sleep(self.chance.between(1500, 5000)).await;
            if Instant::now() >= next_quiet {
                self.quiet(run).await?;
                next_quiet = Instant::now() + QUIET_EVERY;
            }
        }
        self.quiet(run).await
    }

    /// One thing happens.
    async fn one(&mut self, run: &mut Run<'_>, may_kill: bool) -> Result<()> {
        let name = match self.chance.of(20) {
            0..=2 if may_kill => {
                run.step(&Step::Kill("main".into())).await?;
                sleep(self.chance.between(100, 4000)).await;
                run.step(&Step::Start(Start::main())).await?;
                "kills"
            }
            3..=5 => {
                run.step(&Step::Pause("main".into())).await?;
                sleep(self.chance.between(500, 5000)).await;
                run.step(&Step::Resume("main".into())).await?;
                "short stops of the daemon"
            }
            6..=7 => {
                run.step(&Step::Plane(Disturbance::ApiStops)).await?;
                sleep(self.chance.between(500, 5000)).await;
                run.step(&Step::Plane(Disturbance::ApiContinues)).await?;
                "short stops of the API server"
            }
            n => {
                let bad = ["errors-100", "errors-40", "crash", "pull-error"];
                let tag = if n % 2 == 0 { "ok" } else { bad[self.chance.of(4)] };
                self.deploy(run, tag).await?;
                if tag == "ok" { "good deploys" } else { "bad deploys" }
            }
        };
        *self.turns.entry(name).or_default() += 1;
        Ok(())
    }

    async fn deploy(&mut self, run: &mut Run<'_>, tag: &str) -> Result<()> {
        let now = Instant::now();
        let rested = |name: &String| self.rests.get(name).is_none_or(|until| *until <= now);
        let free: Vec<String> = run.story.workloads.iter().map(|w| w.name.clone()).filter(rested).collect();
        if free.is_empty() {
            return Ok(());
        }
        let workload = free[self.chance.of(free.len())].clone();
        self.deploy_to(run, workload, tag).await
    }

    async fn deploy_to(&mut self, run: &mut Run<'_>, workload: String, tag: &str) -> Result<()> {
        let now = Instant::now();
        // Some deploys are overtaken by the next one, and some are left alone until they are judged.
        let rest = self.chance.between(0, if tag == "ok" { 15_000 } else { 45_000 });
        self.rests.insert(workload.clone(), now + rest);
        self.versions += 1;
        let image = format!("shop/{workload}:{tag}-v{}", self.versions);
        self.deployed.insert(workload.clone(), image.clone());
        let deploy =
            Deploy { workload, image: Some(image), env: None, set: Value::Null, server_side: self.chance.of(4) == 0 };
        run.step(&Step::Deploy(deploy)).await
    }

    /// Waits until nothing is going on, and measures the daemon.
    async fn quiet(&mut self, run: &mut Run<'_>) -> Result<()> {
        // Two images that do not exist at once look like a registry that is down: that is held, and told, and people
        // mend it.
        while let Some(held) = self.end_or_hold(run).await? {
            println!("a person mends {held}, whose rollout is held");
            self.deploy_to(run, held, "ok").await?;
        }
        let figures = run.daemon("main")?.figures()?;
        self.figures.add(&figures)
    }

    /// Waits until nothing is going on; or else for a workload whose rollout has been held for a minute.
    async fn end_or_hold(&mut self, run: &mut Run<'_>) -> Result<Option<String>> {
        let daemon = run.daemon("main")?;
        let listen = daemon.listen;
        let http = run.stage.plane.http.clone();
        let deployed = self.deployed.clone();
        let seen = &*run;
        let mut held: BTreeMap<String, Instant> = BTreeMap::new();
        wait::until("everything has come to its end", SETTLES, async || {
            let ask = async |path: &str| http.get(format!("http://{listen}{path}")).send().await?.text().await;
            let text = ask("/metrics").await.map_err(|e| e.to_string())?;
            if !text.lines().any(|line| line == "lastgood_trials 0") {
                verdict::clear_the_way(seen).await.map_err(|e| e.to_string())?;
                let snapshot = ask("/api/v1/snapshot").await.map_err(|e| e.to_string())?;
                let now = verdict::held(&snapshot);
                held.retain(|name, _| now.contains(name));
                now.into_iter().for_each(|name| _ = held.entry(name).or_insert_with(Instant::now));
                let long = held.iter().find(|(_, since)| since.elapsed() > MENDED_AFTER);
                return long.map(|(name, _)| Some(name.clone())).ok_or("a rollout is under watch".into());
            }
            match verdict::unfinished(seen, &deployed).await.map_err(|e| e.to_string())?.first() {
                Some(first) => Err(first.clone().into()),
                None => Ok(None),
            }
        })
        .await
    }
}
