//! Reads the stretches around rollouts, a slice at a time: what comes out is a trace, in order of time.

use super::{
    super::{
        Prometheus, Series,
        plan::{Part, Plan},
        promql::Scope,
        sanity::STALE,
    },
    HistoryError, MOMENT, Rollout, TRIES,
    asks::{self, Witness, on_grid, parts},
    crowd::Crowd,
    lineage::Lineages,
    schedule::Schedule,
    too_much,
};
use crate::{
    config::{Facts, Thresholds},
    domain::{
        Kind, Observation, Observed, PodId, PodTarget, RolloutCondition, Rules, Seconds, TrialTarget, WorkloadId,
    },
    sources::{error::SourceError, totals::Totals},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Readings of pods that one slice may have: about 20 MiB with histograms.
const READINGS: usize = 20_000;
/// Points that one slice has at least and at most.
const POINTS: (usize, usize) = (20, 240);
/// Workloads that one query is about: the pattern of their names stays short.
const BATCH: usize = 10;
/// Workloads without a rollout that are read beside those with one (gate 2).
const PEERS: usize = 50;
/// Who serves beside is asked this often.
const PEERS_EVERY: Seconds = 3600.0;

/// The rules of a workload, of which only the name is known.
pub(super) fn rules(thresholds: &Thresholds, id: &WorkloadId) -> Arc<Rules> {
    let none = BTreeMap::new();
    let facts = Facts { namespace: &id.namespace, kind: id.kind, name: &id.name, labels: &none, annotations: &none };
    thresholds.rules_for(&facts).rules
}

/// Workloads, with the beginnings of the names of their pods.
type Sets = BTreeMap<WorkloadId, BTreeSet<String>>;

/// Whom it asks.
pub(super) struct Reader {
    prometheus: Prometheus,
    witness: Witness,
    step: u64,
    thresholds: Arc<Thresholds>,
    totals: Totals,
    /// Where peers are looked for; everywhere, when there is none.
    namespaces: BTreeSet<String>,
    crowd: Crowd,
}

/// The past around the rollouts that were found.
pub struct Past {
    reader: Reader,
    /// The rollouts, in order of time.
    pub rollouts: Vec<Rollout>,
    /// What people should know of this past.
    pub notes: Vec<String>,
    schedule: Schedule,
    lineages: Lineages,
    sets: Sets,
    windows: VecDeque<(Seconds, Seconds)>,
    /// Up to when the window was read; `None` before its first slice.
    read: Option<Seconds>,
    told: usize,
    peers: Sets,
    peers_asked: Seconds,
}

impl Past {
    pub(super) fn new(
        reader: Reader,
        rollouts: Vec<Rollout>,
        notes: Vec<String>,
        schedule: Schedule,
        lineages: Lineages,
        hashes: &BTreeMap<WorkloadId, BTreeSet<String>>,
    ) -> Self {
        // Pods of the other kinds begin with the name of their workload.
        let named = |id: &WorkloadId| match (id.kind, hashes.get(id)) {
            (Kind::Deployment, Some(hashes)) => hashes.iter().map(|hash| format!("{}-{hash}", id.name)).collect(),
            _ => BTreeSet::from([id.name.clone()]),
        };
        let sets = rollouts.iter().map(|rollout| (rollout.workload.clone(), named(&rollout.workload))).collect();
        let windows = schedule.windows.iter().copied().collect();
        Self {
            reader,
            rollouts,
            notes,
            schedule,
            lineages,
            sets,
            windows,
            read: None,
            told: 0,
            peers: Sets::new(),
            peers_asked: f64::MIN,
        }
    }

    /// How many stretches are still to be read.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The next observations, in order of time; `None` after the last.
    ///
    /// # Errors
    /// When the server does not answer; there is nothing after that.
    pub async fn next(&mut self) -> Result<Option<Vec<Observed>>, HistoryError> {
        let Some(&window) = self.windows.front() else { return Ok(None) };
        match self.slice(window).await {
            Ok(observed) => Ok(Some(observed)),
            Err(source) => {
                self.windows.clear();
                let place = self.reader.prometheus.connection.place();
                Err(HistoryError::Source { what: "the counters around the rollouts".into(), place, source })
            }
        }
    }

    async fn slice(&mut self, window: (Seconds, Seconds)) -> Result<Vec<Observed>, SourceError> {
        let (grid, step) = (self.reader.step, self.reader.step as f64);
        let begin = self.read.map_or_else(|| on_grid(window.0, grid), |read| read + step);
        let before = self.read.unwrap_or(window.0 - step);
        let points = (READINGS / self.reader.crowd.len().max(1)).clamp(POINTS.0, POINTS.1);
        let end = (begin + (points - 1) as f64 * step).min(on_grid(window.1, grid));
        let last = end + step > window.1;
        let until = if last { window.1 } else { end };
        let mut observed = Vec::new();
        while let Some(Rollout { t, workload, from, to }) = self.rollouts.get(self.told).filter(|r| r.t <= until) {
            self.reader.crowd.begins(workload);
            let (workload, from, to) = (workload.clone(), from.clone(), to.clone());
            observed.push(Observed { t: *t, what: Observation::Rollout { workload, from, to, past: None } });
            self.told += 1;
        }
        if begin <= end {
            let active: BTreeSet<WorkloadId> = self.schedule.active((begin, end)).into_iter().cloned().collect();
            if begin - self.peers_asked >= PEERS_EVERY {
                self.peers = self.reader.peers(&active, begin, self.rollout_after(begin)).await?;
                self.peers_asked = begin;
            }
            let watched = active.iter().map(|id| (id.clone(), self.sets.get(id).cloned().unwrap_or_default()));
            let beside = self.peers.iter().filter(|(id, _)| !active.contains(*id));
            let all: Vec<_> = watched.chain(beside.map(|(id, sets)| (id.clone(), sets.clone()))).collect();
            self.reader.monitored((begin, end), &mut observed).await?;
            for batch in all.chunks(BATCH) {
                self.reader.read(&self.lineages, batch, (begin, end), &mut observed).await?;
            }
        }
        for (t, workload) in self.schedule.endings((before, until)) {
            let (workload, condition) = (workload.clone(), RolloutCondition::WatchEnded);
            observed.push(Observed { t, what: Observation::Condition { workload, condition } });
        }
        self.read = Some(end.max(begin));
        if last {
            self.windows.pop_front();
            self.read = None;
        }
        // A pod is introduced before it is counted, and judged before nobody looks any more.
        observed.sort_by(|a, b| a.t.total_cmp(&b.t).then(rank(&a.what).cmp(&rank(&b.what))));
        Ok(observed)
    }

    /// When the next rollout begins: who serves beside is asked right before.
    fn rollout_after(&self, t: Seconds) -> Seconds {
        let after = self.rollouts.iter().map(|rollout| rollout.t).find(|at| *at >= t);
        on_grid(after.filter(|at| at - t < PEERS_EVERY).unwrap_or(t), self.reader.step)
    }
}

fn rank(what: &Observation) -> u8 {
    match what {
        Observation::Workload { .. } => 0,
        Observation::Rollout { .. } => 1,
        Observation::Pod(_) => 2,
        Observation::Counters { .. } | Observation::Callers { .. } => 3,
        Observation::Source { .. } => 4,
        _ => 5,
    }
}

impl Reader {
    pub fn new(
        prometheus: Prometheus,
        witness: Witness,
        step: u64,
        thresholds: Arc<Thresholds>,
        namespaces: BTreeSet<String>,
    ) -> Self {
        Self { prometheus, witness, step, thresholds, namespaces, totals: Totals::default(), crowd: Crowd::default() }
    }

    fn step(&self) -> Seconds {
        self.step as f64
    }

    /// Workloads that serve at `at` and are not on trial: those of the same namespaces first.
    async fn peers(&self, active: &BTreeSet<WorkloadId>, begin: Seconds, at: Seconds) -> Result<Sets, SourceError> {
        let at = at.max(begin);
        let near: BTreeSet<String> = active.iter().map(|id| id.namespace.clone()).collect();
        let ask = async |namespaces| self.prometheus.patiently(&asks::serving(namespaces), (at, at), self.step()).await;
        let watched = Some(&self.namespaces).filter(|namespaces| !namespaces.is_empty());
        let serving = match ask(watched).await {
            Err(error) if too_much(&error) => ask(Some(&near)).await?,
            answer => answer?,
        };
        let mut found = Sets::new();
        for series in &serving {
            let (namespace, set) = (series.label("namespace"), series.label("set"));
            // Without a hash in its name it is of another kind; which one, only its owner tells.
            let kinds: &[Kind] =
                if parts(set).is_some() { &[Kind::Deployment] } else { &[Kind::StatefulSet, Kind::DaemonSet] };
            let cluster = self.witness == Witness::Cluster;
            for kind in kinds.iter().take(if cluster { 2 } else { 1 }).filter(|_| !set.is_empty()) {
                let name = parts(set).map_or(set, |(name, _)| name);
                found.entry(WorkloadId::new(namespace, *kind, name)).or_default().insert(set.to_owned());
            }
        }
        let mut all: Vec<_> = found.into_iter().filter(|(id, _)| !active.contains(id)).collect();
        all.sort_by_key(|(id, _)| !near.contains(&id.namespace));
        Ok(all.into_iter().take(PEERS).collect())
    }

    /// Whether Prometheus itself was there: what the daemon asks at every tick.
    async fn monitored(&self, (from, to): (Seconds, Seconds), observed: &mut Vec<Observed>) -> Result<(), SourceError> {
        let answer = self.prometheus.patiently(asks::age(), (from, to), self.step()).await?;
        let ages: BTreeMap<i64, f64> =
            answer.iter().flat_map(|s| &s.points).map(|(t, age)| (*t as i64, *age)).collect();
        let (mut t, mut said) = (from, None);
        while t <= to {
            let reason = match ages.get(&(t as i64)) {
                Some(age) if *age > STALE => Some(format!("monitoring: the newest scrape is {age:.0} s old")),
                Some(_) => None,
                None => Some("monitoring: nothing was scraped".into()),
            };
            if said != Some(reason.is_none()) {
                said = Some(reason.is_none());
                let what = Observation::Source { source: "prometheus".into(), ok: reason.is_none(), reason };
                observed.push(Observed { t, what });
            }
            t += self.step();
        }
        Ok(())
    }

    /// Pods and counters of some workloads in one slice; in parts, when the server finds it too much.
    async fn read(
        &mut self,
        lineages: &Lineages,
        batch: &[(WorkloadId, BTreeSet<String>)],
        slice: (Seconds, Seconds),
        observed: &mut Vec<Observed>,
    ) -> Result<(), SourceError> {
        let only = lineages.only(batch.iter().map(|(id, sets)| (id, sets.iter().cloned().collect())));
        let (mut todo, mut tries) = (vec![slice], 0);
        while let Some((from, to)) = todo.pop() {
            match self.part(&only, batch, (from, to), observed).await {
                Err(SourceError::RateLimited { wait }) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(wait + MOMENT).await;
                    todo.push((from, to));
                }
                Err(error) if too_much(&error) && to - from >= self.step() => {
                    let middle = on_grid((from + to) / 2.0, self.step);
                    todo.extend([(middle + self.step(), to), (from, middle)]);
                }
                done => done?,
            }
        }
        Ok(())
    }

    async fn part(
        &mut self,
        only: &Lineages,
        batch: &[(WorkloadId, BTreeSet<String>)],
        (from, to): (Seconds, Seconds),
        observed: &mut Vec<Observed>,
    ) -> Result<(), SourceError> {
        let states = match self.witness {
            Witness::Names => Vec::new(),
            Witness::Cluster => {
                let scope = Scope::around(batch.iter().map(|(id, _)| id));
                self.prometheus.patiently(&asks::states(&scope), (from, to), self.step()).await?
            }
        };
        let mut targets: Vec<TrialTarget> = batch.iter().map(|(id, sets)| self.target(id, sets)).collect();
        let pods = pods_of(&states);
        for target in &mut targets {
            let ours = pods.iter().filter(|(owner, _)| *owner == target.workload);
            target.pods = ours.map(|(_, pod)| pod_target(pod, only, &target.workload)).collect();
        }
        let step = Duration::from_secs(self.step);
        // What a pod might hold is not known of the past, so what it held tells nothing.
        let plan = Plan::of(&targets).without(Part::Memory);
        let counters = self.prometheus.past(&targets, &plan, (from, to), step, &mut self.totals).await?;
        // Nothing is told before everything was read: a part that is asked again is told once.
        if self.witness == Witness::Cluster {
            self.crowd.stood(&states, only, observed);
        } else {
            let times: Vec<Seconds> =
                (0..).map(|n| from + f64::from(n) * self.step()).take_while(|t| *t <= to).collect();
            self.crowd.counted(&counters, &times, only, observed);
        }
        observed.extend(counters);
        Ok(())
    }

    fn target(&self, id: &WorkloadId, sets: &BTreeSet<String>) -> TrialTarget {
        // Where the owners of pods are known, their names say nothing new.
        let gone = match self.witness {
            Witness::Cluster => Vec::new(),
            Witness::Names => sets.iter().map(|set| (set.clone(), set.as_str().into())).collect(),
        };
        TrialTarget { workload: id.clone(), rules: rules(&self.thresholds, id), pods: Vec::new(), gone }
    }
}

fn pod_target(pod: &PodId, only: &Lineages, workload: &WorkloadId) -> PodTarget {
    PodTarget {
        pod: pod.clone(),
        revision: only.revision(workload, "", 0.0),
        address: None,
        ready: true,
        scrape: BTreeMap::new(),
        port: None,
    }
}

/// The pods that kube-state-metrics knows, with their workloads.
fn pods_of(states: &[Series]) -> BTreeSet<(WorkloadId, PodId)> {
    let of = |series: &Series| {
        let (namespace, owner) = (series.label("namespace"), series.label("created_by_name"));
        let (kind, name) = match series.label("created_by_kind") {
            "ReplicaSet" => (Kind::Deployment, parts(owner)?.0),
            kind => (kind.parse().ok()?, owner),
        };
        Some((WorkloadId::new(namespace, kind, name), PodId::new(namespace, series.label("pod"))))
    };
    states.iter().filter(|series| series.label(asks::TOLD) == "info").filter_map(of).collect()
}
