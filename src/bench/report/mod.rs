//! What many runs say: one summary per judge, one row per scenario and judge, and the goals. Pure.

mod goals;
mod markdown;
mod plots;
mod svg;
mod text;
mod why;

pub use goals::TROUBLE;
pub use markdown::document;
pub use plots::{delays, recall_against_false_undos};
pub use text::text;

use super::{
    judge::LASTGOOD,
    run::Tallies,
    scenarios::Scenario,
    score::{Tally, quantile, share},
    sweep::Cell,
};
use crate::{analysis::Interval, domain::Seconds};
use serde::Serialize;
use std::ops::Range;

/// A share with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<(f64, Interval)> for Share {
    fn from((value, interval): (f64, Interval)) -> Self {
        Self { value, low: interval.low, high: interval.high }
    }
}

/// One scenario under one judge.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The scenario.
    pub id: &'static str,
    /// What happens in it.
    pub title: &'static str,
    /// Who judged.
    pub judge: &'static str,
    /// Correct undos of all.
    pub precision: Option<Share>,
    /// Undone in time, of all that must be.
    pub recall: Option<Share>,
    /// Median seconds from the first harm to the undo.
    pub median_seconds: Option<f64>,
    /// 95 of 100 were quicker than this.
    pub p95_seconds: Option<f64>,
    /// Median seconds until anyone could know.
    pub bound_seconds: Option<f64>,
    /// Mean of the requests that failed before the undo.
    pub failed_requests: Option<f64>,
    /// The counts behind it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One judge over all scenarios.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Who judged.
    pub judge: &'static str,
    /// Correct undos of all, every scenario with the same weight.
    pub macro_precision: Option<f64>,
    /// Mean of the scenarios' recall.
    pub macro_recall: Option<f64>,
    /// The same over all rollouts, with an interval.
    pub precision: Option<Share>,
    /// The same over all rollouts, with an interval.
    pub recall: Option<Share>,
    /// False undos per 10,000 clean deploys.
    pub false_per_10k: Option<Share>,
    /// On so many clean deploys.
    pub clean_deploys: u64,
    /// Median seconds from the first harm to the undo, over all faults.
    pub median_seconds: Option<f64>,
    /// 95 of 100 were quicker than this.
    pub p95_seconds: Option<f64>,
    /// Mean of the requests that failed before the undo.
    pub failed_requests: Option<f64>,
    /// The right reason was named, of all that must be held.
    pub held_right: Option<Share>,
    /// Undos to a wrong revision.
    pub wrong_targets: u64,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seeds of these runs.
    pub seeds: Range<u64>,
    /// The seeds that the rules were tuned on.
    pub tuning_seeds: Range<u64>,
    /// Seconds between two looks.
    pub interval: Seconds,
    /// Judges over all scenarios.
    pub summaries: Vec<Summary>,
    /// Scenarios under each judge.
    pub rows: Vec<Row>,
    /// Time to undo by size of the fault and traffic.
    pub sweep: Vec<Cell>,
    /// How long it took.
    pub took_seconds: f64,
    /// Further clean deploys.
    pub clean: Option<Further>,
    /// Further runs of cluster-wide trouble, so many of each scenario of [`TROUBLE`].
    pub trouble: Option<Further>,
}

/// Further runs, in which nothing may be undone.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Further {
    /// How many were asked for.
    pub asked: u64,
    /// How many there were.
    pub runs: u64,
    /// Undos.
    pub wrong: u64,
    /// Scenario and seed of runs with an undo, the first few of each scenario.
    pub wrong_runs: Vec<(&'static str, u64)>,
    /// How long they took.
    pub took_seconds: f64,
}

impl Further {
    /// Sums up such runs.
    pub fn new(asked: u64, tallies: &Tallies, took_seconds: f64) -> Self {
        let sum = |of: fn(&Tally) -> u64| tallies.values().map(of).sum();
        let wrong_runs =
            tallies.iter().flat_map(|((id, _), tally)| tally.wrong_seeds.iter().map(|seed| (*id, *seed))).collect();
        Self { asked, runs: sum(|tally| tally.runs), wrong: sum(|tally| tally.wrong), wrong_runs, took_seconds }
    }

    /// The runs with an undo.
    pub(super) fn named(&self) -> String {
        self.wrong_runs.iter().map(|(id, seed)| format!("{id} {seed}")).collect::<Vec<_>>().join(", ")
    }
}

/// Seeds below this are for tuning; a report uses those from here on.
pub const REPORTING: u64 = 1_000_001;

impl Report {
    /// Sums up runs. `clean` are further runs of the clean mix, by which false undos are counted.
    pub fn new(
        scenarios: &[Scenario],
        tallies: &Tallies,
        clean: Option<&Tallies>,
        seeds: Range<u64>,
        interval: Seconds,
    ) -> Self {
        let mut judges: Vec<&'static str> = Vec::new();
        for (_, judge) in tallies.keys() {
            if !judges.contains(judge) {
                judges.push(judge);
            }
        }
        let rank = |judge: &str| {
            super::RIVALS
                .iter()
                .position(|name| *name == judge)
                .map_or(if judge == LASTGOOD { 0 } else { 99 }, |i| i + 1)
        };
        judges.sort_by_key(|judge| (rank(judge), *judge));
        let rows: Vec<Row> = scenarios
            .iter()
            .flat_map(|scenario| {
                judges.iter().filter_map(move |judge| Some((scenario, *judge, tallies.get(&(scenario.id, *judge))?)))
            })
            .map(|(scenario, judge, tally)| Row::new(scenario, judge, tally.clone()))
            .collect();
        let summaries = judges.iter().map(|judge| Summary::new(judge, &rows, scenarios, clean)).collect();
        Self {
            seeds,
            tuning_seeds: 1..REPORTING - 1,
            interval,
            summaries,
            rows,
            sweep: Vec::new(),
            took_seconds: 0.0,
            clean: None,
            trouble: None,
        }
    }

    /// The rows of one judge.
    pub fn of(&self, judge: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.judge == judge)
    }
}

impl Row {
    fn new(scenario: &Scenario, judge: &'static str, tally: Tally) -> Self {
        Self {
            id: scenario.id,
            title: scenario.title,
            judge,
            precision: tally.precision().map(Share::from),
            recall: tally.recall().map(Share::from),
            median_seconds: tally.delay(0.5),
            p95_seconds: tally.delay(0.95),
            bound_seconds: tally.bound(),
            failed_requests: tally.harm(),
            tally,
        }
    }

    /// What is not as it must be, in a few words; `None` when all is well.
    pub fn misses(&self) -> Option<String> {
        let t = &self.tally;
        let mut all = Vec::new();
        if let Some(recall) = self.recall.filter(|recall| recall.value < 0.995) {
            let never = t.must - t.in_time - t.late - t.wrong_target;
            all.push(format!("{:.1} % in time ({} late, {never} never)", recall.value * 100.0, t.late));
            if t.knowable < t.steady {
                all.push(format!(
                    "a test that knows beforehand how many fail, and since when, in time in {} of {}",
                    t.knowable, t.steady
                ));
            }
        }
        if t.wrong > 0 {
            all.push(format!("{} wrong undos in {} runs", t.wrong, t.runs));
        }
        if t.must_hold > 0 && (t.held_right as f64) < 0.98 * t.must_hold as f64 {
            all.push(format!("the right reason named in {} of {}", t.held_right, t.must_hold));
        }
        if let Some(times) = self.over_bound() {
            all.push(format!("the median is {times:.2} times the information bound"));
        }
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl Summary {
    fn new(judge: &'static str, rows: &[Row], scenarios: &[Scenario], clean: Option<&Tallies>) -> Self {
        let mine = || rows.iter().filter(|row| row.judge == judge);
        let mut all = Tally::default();
        mine().for_each(|row| all.merge(row.tally.clone()));
        let per_run = |count: u64, row: &Row| count as f64 / row.tally.runs.max(1) as f64;
        let right: f64 = mine().map(|row| per_run(row.tally.right, row)).sum();
        let undos: f64 = mine().map(|row| per_run(row.tally.right + row.tally.wrong, row)).sum();
        let recalls: Vec<f64> = mine().filter_map(|row| Some(row.recall?.value)).collect();
        let is_clean = |id: &str| scenarios.iter().any(|scenario| scenario.id == id && scenario.clean);
        // Further runs are clean ones, of all scenarios that have any.
        let further: Vec<&Tally> =
            clean.into_iter().flatten().filter(|((_, who), _)| *who == judge).map(|(_, tally)| tally).collect();
        let counted = if further.is_empty() {
            mine().filter(|row| is_clean(row.id)).map(|row| &row.tally).collect()
        } else {
            further
        };
        let (false_undos, deploys) =
            counted.iter().fold((0, 0), |(undos, deploys), t| (undos + t.false_undos, deploys + t.must_not));
        Self {
            judge,
            macro_precision: (undos > 0.0).then(|| right / undos),
            macro_recall: (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64),
            precision: all.precision().map(Share::from),
            recall: all.recall().map(Share::from),
            false_per_10k: share(false_undos, deploys).map(|(value, interval)| Share {
                value: value * 1e4,
                low: interval.low * 1e4,
                high: interval.high * 1e4,
            }),
            clean_deploys: deploys,
            median_seconds: quantile(&all.delays, 0.5),
            p95_seconds: quantile(&all.delays, 0.95),
            failed_requests: all.harm(),
            held_right: share(all.held_right, all.must_hold).map(Share::from),
            wrong_targets: all.wrong_target,
        }
    }
}
