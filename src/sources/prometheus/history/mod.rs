//! The past of a whole cluster, for backtests: finds its rollouts, and tells what the daemon would have observed.
//!
//! One backtest, top to bottom: `asks` is the PromQL; `sets` finds rollouts in what came and went; `schedule` says
//! which stretches are read, `read` reads them a slice at a time, so that memory depends on the size of a slice
//! and not of the range; `lineage` and `crowd` make pods of the answers. Counters come by the daemon's own
//! presets, connection and join. Fails: with what was asked, why it was not answered, and what to do next; a
//! stretch that cannot be read whole is an error, never a past with holes.

pub(super) mod asks;
mod crowd;
mod lineage;
mod read;
mod schedule;
mod sets;

pub use read::Past;
pub use sets::Rollout;

use super::Prometheus;
use crate::{
    clock::{Clock, timestamp},
    config::{PrometheusSettings, Thresholds},
    domain::{Revision, Seconds, WorkloadId},
    sources::error::SourceError,
};
use asks::{Filter, Witness, on_grid};
use lineage::Lineages;
use read::Reader;
use schedule::Schedule;
use sets::Courses;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What came and went is asked for this long at once; less, when that is too much for the server.
const CHUNK: Seconds = 6.0 * 3600.0;
/// Points by which the range is looked over first.
const OVERVIEW: Seconds = 500.0;
/// So long after the first sample of all, everything has been scraped, even once a minute.
const SETTLED: Seconds = 75.0;
/// A rollout that a person names is the one that was found this close to it.
const SAME: Seconds = 300.0;
/// A query over history may take longer than one of a tick.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a server that asks for a pause is waited for.
const TRIES: u32 = 3;
/// Clocks are not that exact: asked at the very end of a pause one may still be too early.
const MOMENT: Duration = Duration::from_millis(10);

/// Why there is no backtest.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A question was not answered.
    #[error("cannot read {what} from {place}: {source}{}", hint(source))]
    Source {
        /// What was asked.
        what: String,
        /// Whom.
        place: String,
        /// Why it was not answered.
        source: SourceError,
    },
    /// There is nothing in the range.
    #[error(
        "{place} has no sample between {from} and {to}: nothing was scraped then, it is another tenant's, or it keeps \
         less (Prometheus: --storage.tsdb.retention.time, 15 days unless set); choose a later --from"
    )]
    NoData {
        /// Where.
        place: String,
        /// Begin of the range.
        from: String,
        /// End of the range.
        to: String,
    },
    /// There are samples, but no rollout was found.
    #[error(
        "no rollout was found between {from} and {to}{of}: looked for {looked}; choose an earlier --from, or name one \
         with --rollout namespace/Kind/name@TIME"
    )]
    NoRollouts {
        /// Begin of the range.
        from: String,
        /// End of the range.
        to: String,
        /// Of which workloads, if not of all.
        of: String,
        /// Where it was looked.
        looked: &'static str,
    },
}

impl HistoryError {
    /// Whether Prometheus answered, but has nothing to judge.
    pub fn is_blind(&self) -> bool {
        matches!(self, Self::NoData { .. } | Self::NoRollouts { .. })
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub struct Question {
    /// Rollouts that began from here on.
    pub from: Seconds,
    /// Up to here.
    pub to: Seconds,
    /// Time between two readings.
    pub interval: Duration,
    /// Only these workloads; all, when there is none.
    pub workloads: BTreeSet<WorkloadId>,
    /// Only what lies in these namespaces is looked at, peers as well: those that a daemon watches; all, when there
    /// is none.
    pub namespaces: BTreeSet<String>,
    /// Rollouts that a person names, because they cannot be found.
    pub rollouts: Vec<(WorkloadId, Seconds)>,
}

/// A Prometheus with a past.
pub struct History {
    prometheus: Prometheus,
}

impl History {
    /// # Errors
    /// When the settings cannot work.
    pub fn new(settings: &PrometheusSettings, clock: Clock) -> Result<Self, SourceError> {
        let settings = PrometheusSettings { timeout: settings.timeout.max(PATIENCE), ..settings.clone() };
        Ok(Self { prometheus: Prometheus::new(&settings, clock)? })
    }

    /// `host:port/path`, for people.
    pub fn place(&self) -> String {
        self.prometheus.connection.place()
    }

    /// Finds the rollouts of a range; what is then read is judged by the presets of `thresholds`.
    ///
    /// # Errors
    /// When the server does not answer, has no sample in the range, or shows no rollout.
    pub async fn find(self, question: &Question, thresholds: Arc<Thresholds>) -> Result<Past, HistoryError> {
        let step = (question.interval.as_secs_f64().round() as u64).max(1);
        // What came and went is looked for on a grid that no change of pods is finer than.
        let grid = step.clamp(15, 60);
        let mut notes = Vec::new();
        let (witness, begin) = self.look_over(question, grid, &mut notes).await?;
        let named = question.rollouts.iter().map(|(id, _)| id.clone());
        let only = question.workloads.iter().cloned().chain(named);
        // Who names a rollout and nothing else means that one only.
        let filter = Filter(only.collect());
        let courses = self.courses(witness, &filter, (begin, question.to), grid).await?;
        let (found, sets) = courses.end();
        let wanted = |rollout: &Rollout| {
            let namespace = &rollout.workload.namespace;
            let watched = question.namespaces.is_empty() || question.namespaces.contains(namespace);
            watched && filter.wants(&rollout.workload) && rollout.t >= question.from && rollout.t <= question.to
        };
        let found: Vec<Rollout> = found.into_iter().filter(wanted).collect();
        let (rollouts, by_time) = with_named(found, &question.rollouts);
        if rollouts.is_empty() {
            let all: Vec<String> = filter.0.iter().map(WorkloadId::to_string).collect();
            return Err(HistoryError::NoRollouts {
                from: shown(question.from),
                to: shown(question.to),
                of: if all.is_empty() { String::new() } else { format!(" of {}", all.join(", ")) },
                looked: match witness {
                    Witness::Cluster => {
                        "ReplicaSets of Deployments that grow, and for new revisions of StatefulSets and generations of \
                         DaemonSets, in kube-state-metrics"
                    }
                    Witness::Names => {
                        "new template hashes in the names of pods that count requests (labels namespace and pod), as there \
                         is no kube-state-metrics"
                    }
                },
            });
        }
        let watch = |id: &WorkloadId| read::rules(&thresholds, id).watch.as_secs_f64();
        let end = question.to.min(self.prometheus.clock.now());
        let schedule = Schedule::new(&rollouts, end, watch);
        let lineages = Lineages::new(&rollouts, by_time);
        let reader = Reader::new(self.prometheus, witness, step, thresholds, question.namespaces.clone());
        Ok(Past::new(reader, rollouts, notes, schedule, lineages, &sets))
    }

    /// Who can tell of rollouts, and since when there are samples.
    async fn look_over(
        &self,
        question: &Question,
        grid: u64,
        notes: &mut Vec<String>,
    ) -> Result<(Witness, Seconds), HistoryError> {
        let (from, to) = (question.from, question.to);
        let coarse = ((to - from) / OVERVIEW).ceil().max(grid as f64);
        let asked = self.ask(&asks::overview(), (from, to), coarse, "which samples there are").await?;
        let times: BTreeSet<i64> = asked.iter().flat_map(|s| &s.points).map(|(t, _)| *t as i64).collect();
        let Some(first) = times.first().map(|first| *first as f64) else {
            return Err(HistoryError::NoData { place: self.place(), from: shown(from), to: shown(to) });
        };
        let pods = asked.iter().filter(|s| s.label(asks::TOLD) == "pods").map(|s| s.points.len()).sum::<usize>();
        let witness = if pods * 2 >= times.len() { Witness::Cluster } else { Witness::Names };
        if witness == Witness::Names {
            let what = "rollouts come from the names of pods that count requests, and crash loops, image pulls and \
                        readiness are not seen";
            notes.push(format!("no kube-state-metrics for most of the range: {what}"));
        }
        if first <= from + coarse + grid as f64 {
            return Ok((witness, from));
        }
        let finer = (coarse / OVERVIEW).ceil().max(grid as f64);
        let asked = self.ask(&asks::overview(), (first - coarse, first), finer, "since when there are samples").await?;
        let first = asked.iter().filter_map(|s| s.points.first()).map(|p| p.0).fold(first, f64::min);
        let why = "what lies before is older than its retention, or was not scraped";
        notes.push(format!("{} has samples only since {}: {why}; it is not judged", self.place(), shown(first)));
        // Where the samples begin, everything seems to come at once.
        Ok((witness, first + SETTLED))
    }

    /// What came and went, chunk by chunk.
    async fn courses(
        &self,
        witness: Witness,
        filter: &Filter,
        (from, to): (Seconds, Seconds),
        grid: u64,
    ) -> Result<Courses, HistoryError> {
        let what = "which revisions came and went";
        let step = grid as f64;
        let (mut at, end) = (on_grid(from, grid), on_grid(to, grid));
        let mut courses = Courses::new(witness, grid);
        courses.standing(&self.ask(&asks::standing(witness, filter), (at, at), step, what).await?);
        let expression = asks::changes(witness, filter, grid);
        let mut chunk = CHUNK;
        while at + step <= end {
            let until = on_grid((at + chunk).min(end), grid);
            match self.prometheus.patiently(&expression, (at + step, until), step).await {
                Ok(answer) => {
                    courses.changed(&answer);
                    at = until;
                }
                Err(error) if too_much(&error) && chunk > 40.0 * step => chunk /= 2.0,
                Err(source) => return Err(HistoryError::Source { what: what.into(), place: self.place(), source }),
            }
        }
        Ok(courses)
    }

    async fn ask(
        &self,
        expression: &str,
        stretch: (Seconds, Seconds),
        step: Seconds,
        what: &str,
    ) -> Result<Vec<super::Series>, HistoryError> {
        let failed = |source| HistoryError::Source { what: what.into(), place: self.place(), source };
        self.prometheus.patiently(expression, stretch, step).await.map_err(failed)
    }
}

impl Prometheus {
    /// A range query of someone who has time: a server that asks for a pause gets it.
    async fn patiently(
        &self,
        expression: &str,
        (from, to): (Seconds, Seconds),
        step: Seconds,
    ) -> Result<Vec<super::Series>, SourceError> {
        let mut tries = 0;
        loop {
            match self.connection.range(expression, from, to, Duration::from_secs_f64(step.max(1.0))).await {
                Err(SourceError::RateLimited { wait }) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(wait + MOMENT).await;
                }
                answer => return answer,
            }
        }
    }
}

/// What to do about it, where the error itself does not say.
fn hint(error: &SourceError) -> &'static str {
    match error {
        SourceError::Unreachable { .. } => "; is the URL right, and can it be reached from here?",
        error if too_much(error) => "; ask for less: a shorter range, or some workloads by --workload",
        _ => "",
    }
}

/// A time for people: no parts of a second.
fn shown(t: Seconds) -> String {
    timestamp(t.round()).to_string()
}

/// Whether the same question about less may be answered.
fn too_much(error: &SourceError) -> bool {
    match error {
        SourceError::Deadline(_) | SourceError::TooLarge(_) | SourceError::TooManySeries(_) => true,
        SourceError::Query { kind, .. } => {
            matches!(kind.as_str(), "execution" | "timeout" | "too_many_samples" | "422")
        }
        SourceError::Status { status, .. } => matches!(status, 413 | 422 | 503 | 504),
        _ => false,
    }
}

/// Adds what a person named to what was found, and tells which workloads then have no hashes to go by.
fn with_named(mut found: Vec<Rollout>, named: &[(WorkloadId, Seconds)]) -> (Vec<Rollout>, BTreeSet<WorkloadId>) {
    let mut by_time = BTreeSet::new();
    for (workload, t) in named {
        if found.iter().any(|rollout| rollout.workload == *workload && (rollout.t - t).abs() <= SAME) {
            continue;
        }
        by_time.insert(workload.clone());
        let to = Revision(format!("at-{}", timestamp(*t)));
        found.push(Rollout { t: *t, workload: workload.clone(), from: Revision::from("before"), to });
    }
    found.sort_by(|a, b| a.t.total_cmp(&b.t));
    let mut last: BTreeMap<WorkloadId, Revision> = BTreeMap::new();
    for rollout in found.iter_mut().filter(|rollout| by_time.contains(&rollout.workload)) {
        if let Some(before) = last.insert(rollout.workload.clone(), rollout.to.clone()) {
            rollout.from = before;
        }
    }
    (found, by_time)
}

#[cfg(test)]
mod tests;
