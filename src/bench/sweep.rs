//! Time to undo by the size of a fault and by traffic: the table of decision.md 2.9, with a whole cluster around.

use super::{
    feed::Feed,
    judge::{Judge, What},
    run::{Shared, lastgood},
    scenarios::step,
    score::{bound, quantile},
};
use serde::Serialize;
use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Shares of failed requests.
pub const SHARES: [f64; 6] = [0.06, 0.08, 0.10, 0.20, 0.50, 1.0];
/// Requests a second on the new pods.
pub const RATES: [f64; 5] = [1.0 / 60.0, 1.0 / 6.0, 1.0, 10.0, 100.0];

/// One size of a fault at one traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// Share of requests that fail.
    pub share: f64,
    /// Requests a second.
    pub rps: f64,
    /// Runs that were undone, of all.
    pub undone: f64,
    /// Median seconds to the undo.
    pub median: Option<f64>,
    /// 95 of 100 were quicker.
    pub p95: Option<f64>,
    /// Median seconds until anyone could know.
    pub bound: Option<f64>,
}

/// Measures all cells.
pub fn sweep(seeds: &Range<u64>, shared: &Shared, workers: usize) -> Vec<Cell> {
    let cells: Vec<(f64, f64)> = RATES.iter().flat_map(|rps| SHARES.iter().map(|share| (*share, *rps))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((share, rps)) = cells.get(index) else { return done };
            done.push((index, measure(*share, *rps, seeds, shared)));
        }
    };
    let mut all: Vec<(usize, Cell)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, cell)| cell).collect()
}

fn measure(share: f64, rps: f64, seeds: &Range<u64>, shared: &Shared) -> Cell {
    let (mut delays, mut bounds, mut runs) = (Vec::new(), Vec::new(), 0.0);
    for seed in seeds.clone() {
        let (world, random) = step(seed, share, rps);
        let mut judges = lastgood(shared, &world);
        let mut said = vec![Vec::new()];
        let (world, ledger) = Feed::new(world, random).run(&mut |observed| {
            judges.iter_mut().for_each(|judge: &mut Box<dyn Judge>| judge.observe(observed, &mut said));
        });
        judges.iter_mut().for_each(|judge| judge.end(world.end, &mut said));
        runs += 1.0;
        bounds.extend(bound(&ledger, 0, Some(share)));
        let undo = said.iter().flatten().find(|said| matches!(said.what, What::Undo(_)) && said.t >= ledger.harm[0]);
        delays.extend(undo.map(|said| said.t - ledger.harm[0]));
    }
    Cell {
        share,
        rps,
        undone: delays.len() as f64 / f64::max(runs, 1.0),
        median: quantile(&delays, 0.5),
        p95: quantile(&delays, 0.95),
        bound: quantile(&bounds, 0.5),
    }
}
