//! Many runs, on all processors; the result does not depend on how many there are.

use super::{
    feed::{Feed, Ledger},
    judge::{Judge, Lastgood, Said, What},
    rivals::Rivals,
    scenarios::Scenario,
    score::Tally,
    world::{Truth, World},
};
use crate::{
    config::Thresholds,
    domain::{Revision, Seconds},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Runs that a worker takes at once.
const CHUNK: u64 = 16;

/// Makes the judges of one run.
pub type Judges<'a> = &'a (dyn Fn(&Shared, &World) -> Vec<Box<dyn Judge>> + Sync);

/// What all runs share.
#[derive(Debug)]
pub struct Shared {
    armed: Arc<Thresholds>,
    /// Seconds between two looks.
    pub interval: Seconds,
}

/// The defaults, allowed to act.
const ARMED: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mode: act}\n";

impl Shared {
    /// With a look every so many seconds.
    pub fn new(interval: Seconds) -> Self {
        Self { armed: Arc::new(Thresholds::parse("defaults", ARMED).unwrap_or_default()), interval }
    }

    /// The thresholds of a world.
    pub fn thresholds(&self, world: &World) -> Arc<Thresholds> {
        match world.thresholds {
            None => Arc::clone(&self.armed),
            Some(text) => Arc::new(Thresholds::parse("scenario", text).unwrap_or_default()),
        }
    }
}

/// Lastgood alone.
pub fn lastgood(shared: &Shared, world: &World) -> Vec<Box<dyn Judge>> {
    vec![Box::new(Lastgood::new(shared.thresholds(world), shared.interval))]
}

/// Lastgood and all rivals.
pub fn everyone(shared: &Shared, world: &World) -> Vec<Box<dyn Judge>> {
    let mut all = lastgood(shared, world);
    all.push(Box::<Rivals>::default());
    all
}

/// Who never undoes anything, and who knows: the two ends of the scale.
pub const NEVER: &str = "never";
/// See [`NEVER`].
pub const ORACLE: &str = "oracle";

/// The sums of each scenario and judge.
pub type Tallies = BTreeMap<(&'static str, &'static str), Tally>;

/// Runs every scenario with every seed under all judges.
pub fn run(scenarios: &[Scenario], seeds: &Range<u64>, shared: &Shared, judges: Judges<'_>, workers: usize) -> Tallies {
    let per_scenario = (seeds.end.saturating_sub(seeds.start)).div_ceil(CHUNK) as usize;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tallies = Tallies::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(job / per_scenario.max(1)).filter(|_| per_scenario > 0) else {
                return tallies;
            };
            let from = seeds.start + (job % per_scenario) as u64 * CHUNK;
            for seed in from..(from + CHUNK).min(seeds.end) {
                one(scenario, seed, shared, judges, &mut tallies);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(work)).collect();
        let mut all = Tallies::new();
        for tallies in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            for (key, tally) in tallies {
                all.entry(key).or_default().merge(tally);
            }
        }
        all
    })
}

/// What was decided, for each name of a judge.
type Lists = Vec<Vec<Said>>;

/// One run under all judges; all see the same observations.
fn one(scenario: &Scenario, seed: u64, shared: &Shared, judges: Judges<'_>, tallies: &mut Tallies) {
    let (world, random) = scenario.world(seed);
    let mut judges: Vec<(Box<dyn Judge>, Lists)> = judges(shared, &world)
        .into_iter()
        .map(|judge| {
            let lists: Lists = vec![Vec::new(); judge.names().len()];
            (judge, lists)
        })
        .collect();
    let rollouts = world.deploys.len();
    let (world, ledger) = Feed::new(world, random).run(&mut |observed| {
        for (judge, said) in &mut judges {
            // Nothing that is said after the last rollout was undone counts; to go on would only take time.
            if said.iter().any(|said| undos(said) < rollouts) {
                judge.observe(observed, said);
            }
        }
    });
    let mut add = |name, said: &[Said]| {
        tallies.entry((scenario.id, name)).or_default().add(seed, &world, &ledger, said);
    };
    let compared = judges.len() > 1;
    for (mut judge, mut said) in judges {
        judge.end(world.end, &mut said);
        judge.names().iter().zip(&said).for_each(|(name, said)| add(name, said));
    }
    if compared {
        add(NEVER, &[]);
        add(ORACLE, &oracle(&world, &ledger));
    }
}

fn undos(said: &[Said]) -> usize {
    said.iter().filter(|said| matches!(said.what, What::Undo(_))).count()
}

/// Undoes what must be undone at the moment of the first harm.
fn oracle(world: &World, ledger: &Ledger) -> Vec<Said> {
    let must = world.deploys.iter().zip(&ledger.harm).filter_map(|(deploy, harm)| match deploy.truth {
        Truth::Undo { targets, .. } => Some((deploy, *harm, targets.first()?)),
        _ => None,
    });
    must.map(|(deploy, t, target)| Said {
        t,
        workload: world.services[deploy.service].id.clone(),
        to: Revision::from(deploy.to),
        what: What::Undo(Some(Revision::from(*target))),
    })
    .collect()
}
