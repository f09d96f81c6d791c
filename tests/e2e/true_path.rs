//! `tests/e2e/run --true-path`: the benchmark's second leg (docs/decision-benchmark.md). Scenarios of the benchmark in
//! real time and all at once: exporters on loopback that a real Prometheus scrapes, and for each run a cluster of its
//! own with the real daemon. What it decides of each rollout is held against what the fast path decides of the same
//! run, request by request the same chance.
//!
//! The clusters are puppets: a simulated API server without controllers, whose objects follow the run's script. As in
//! the fast path, nothing reacts to an undo.
mod exporter;
mod puppet;
mod table;

use crate::{
    fail::{Context, Result, bail},
    plane::prometheus,
};
use lastgood::{
    bench::{Feed, SCRAPE, T0, Tape, World, find},
    config::Thresholds,
    domain::{Observation, Seconds, Verdict},
    replay::{Action, Line, Replay},
};
use std::{path::Path, sync::Arc, time::Duration};
use table::{Decided, Pair};
use tokio::time::Instant;

/// What is played unless scenarios are named: all that need neither probes, an error tracker, the callers' side, a
/// StatefulSet nor a monitoring that lies.
const SCENARIOS: &[&str] = &[
    "S01", "S02", "S03", "S04", "S05", "S06", "S08", "S09", "S13", "S14", "S15", "S16", "S17", "S18", "S21", "S24",
    "S25", "S26", "S27", "S28", "S29", "S30", "S31", "S32", "S33", "S34", "S39", "S40", "S41", "S43", "S44", "A01",
    "A02", "A05", "A06", "A10", "A11", "A12", "A13", "A14", "A15", "A16", "A17", "A19", "A20",
];
/// The first seed: those from here on are for reports, the ones before for tuning.
const FIRST: u64 = 1_000_001;
/// A run is played from here on …
pub(super) const BEGIN: Seconds = T0 - 210.0;
/// … to here.
const END: Seconds = T0 + 720.0;
/// A fault that begins later cannot be judged in time; such a seed is left out.
const LATEST_HARM: Seconds = T0 + 390.0;
/// The runs begin one after the other within so many seconds: one Prometheus has to answer for as many clusters.
const SPREAD: Seconds = 90.0;
/// The defaults with a watch that ends within the run.
const ARMED: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mode: act, watch: 9m}\n";

/// Which runs `--true-path` plays.
#[derive(Debug, Clone, Default)]
pub(crate) struct TruePath {
    /// All of the list when empty.
    pub(crate) scenarios: Vec<String>,
    /// Runs of each.
    pub(crate) seeds: Option<usize>,
}

/// One run of one scenario, and what the fast path made of it.
pub(super) struct Play {
    pub(super) scenario: &'static str,
    pub(super) seed: u64,
    pub(super) world: World,
    pub(super) tape: Tape,
    pub(super) thresholds: String,
    /// What was decided of each rollout.
    fast: Vec<Decided>,
}

impl Play {
    /// No two runs share a namespace: Prometheus is the only thing that they share.
    pub(super) fn namespace(&self, of: &str) -> String {
        format!("{}-{}-{of}", self.scenario.to_lowercase(), self.seed)
    }

    /// Plays the fast path; `None` when there is too little to see before the end.
    fn fast(id: &str, seed: u64) -> Result<Option<Self>> {
        let scenario = find(id).context(format!("no scenario is called {id}"))?;
        let (mut world, random) = scenario.world(seed);
        world.end = END;
        let thresholds = world.thresholds.unwrap_or(ARMED).to_owned();
        let parsed =
            Thresholds::parse("scenario", &thresholds).map_err(|e| crate::fail::Failure::new(e.to_string()))?;
        let mut replay = Replay::new(Arc::new(parsed), SCRAPE);
        let mut lines: Vec<Line> = Vec::new();
        let (world, ledger, tape) = Feed::new(world, random).run_taped(&mut |observed| {
            // Prometheus will have nothing from before the beginning either.
            let counted = matches!(observed.what, Observation::Counters { .. } | Observation::Callers { .. });
            if !(counted && observed.t < BEGIN) {
                lines.extend(replay.observe(observed));
            }
        });
        lines.extend(replay.end(END));
        let mut fast = vec![Decided::default(); world.deploys.len()];
        for line in &lines {
            let Line::Verdict(line) = line else { continue };
            let fits = |d: &lastgood::bench::Deploy| world.services[d.service].id == line.workload && line.to.0 == d.to;
            let Some(which) = world.deploys.iter().position(|d| fits(d) && d.at <= line.t + 1.0) else { continue };
            let (t, why) = (line.t - world.deploys[which].at, line.explanation.as_str());
            match (line.action, line.verdict) {
                (Action::Undo, _) => fast[which].is("undo", t, why),
                (_, Verdict::Fail(_)) => fast[which].is("report", t, why),
                (_, Verdict::Hold(_)) => fast[which].is("hold", t, why),
                _ => fast[which].is("none", t, why),
            }
        }
        let too_late = ledger.harm.iter().any(|harm| harm.is_finite() && *harm > LATEST_HARM);
        Ok((!too_late).then_some(Self { scenario: scenario.id, seed, world, tape, thresholds, fast }))
    }
}

/// Plays all runs; says how many rollouts are missing to an agreement of 99 %.
pub(crate) async fn run(wanted: &TruePath, folder: &Path, out: &Path) -> Result<usize> {
    let began = Instant::now();
    // What the daemons say, all in one file: the workload's namespace tells the run.
    let log = std::fs::File::create(out.join("true-path.log")).context("true-path.log")?;
    let say = tracing_subscriber::fmt().with_env_filter("lastgood=info").with_ansi(false);
    say.with_writer(std::sync::Mutex::new(log)).init();
    let named: Vec<&str> = wanted.scenarios.iter().map(String::as_str).collect();
    let scenarios = if named.is_empty() { SCENARIOS } else { &named };
    let mut plays = Vec::new();
    for id in scenarios {
        let (mut seed, before) = (FIRST, plays.len());
        while plays.len() - before < wanted.seeds.unwrap_or(3) {
            if seed > FIRST + 1_000 {
                bail!("{id} has too few runs that can be judged within {:.0} s", END - T0);
            }
            plays.extend(Play::fast(id, seed)?.map(Arc::new));
            seed += 1;
        }
    }
    let rollouts: usize = plays.iter().map(|play| play.world.deploys.len()).sum();
    println!(
        "{} runs of {} scenarios, {rollouts} rollouts; the fast path took {:.0} s, the true one takes {:.0} min",
        plays.len(),
        scenarios.len(),
        began.elapsed().as_secs_f64(),
        (END - BEGIN + SPREAD) / 60.0
    );
    let scraper = prometheus::start(folder, ("15s", "10s")).await?;
    let (start, each) = (Instant::now(), SPREAD / plays.len() as f64);
    let later = |which: usize| start + Duration::from_secs_f64(each * which as f64);
    let plays: Vec<(Instant, Arc<Play>)> = plays.into_iter().enumerate().map(|(i, play)| (later(i), play)).collect();
    let exporting = exporter::start(plays.clone(), folder).await?;
    let mut running = Vec::new();
    for (start, play) in &plays {
        running.push(tokio::spawn(puppet::play(Arc::clone(play), *start, folder.join("reports"))));
    }
    let mut pairs = Vec::new();
    for ((_, play), played) in plays.iter().zip(running) {
        for (which, slow) in played.await??.into_iter().enumerate() {
            let workload = play.world.services[play.world.deploys[which].service].id.name.clone();
            pairs.push(Pair {
                scenario: play.scenario,
                seed: play.seed,
                workload,
                fast: play.fast[which].clone(),
                slow,
            });
        }
    }
    drop(exporting);
    drop(scraper);
    table::tell(&pairs, began.elapsed(), out)
}

/// Sleeps until this moment of the run that began then.
pub(super) async fn until(start: Instant, t: Seconds) {
    tokio::time::sleep_until(start + Duration::from_secs_f64((t - BEGIN).max(0.0))).await;
}

/// The moment of the run that begins then; `None` before that.
pub(super) fn now(start: Instant) -> Option<Seconds> {
    Instant::now().checked_duration_since(start).map(|since| BEGIN + since.as_secs_f64())
}

/// When the runs end.
pub(super) const fn end() -> Seconds {
    END
}
