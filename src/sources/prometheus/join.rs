//! Pure. From the series of an answer to observations: whose pod, which family, which signal.
//!
//! Series of pods or workloads that are not under trial are left out; a query that matches too much
//! can so never speak for another workload (safety.md fault 49).

use super::{
    MEMORY_EVERY,
    envelope::Series,
    plan::{Group, Part},
    promql::MARK,
};
use crate::{
    domain::{Counts, Kind, Observation, Observed, PodId, Preset, TrialTarget, WorkloadId},
    sources::{
        families::{CALLERS, Candidates, Family, PODS, add_bucket, is_count, serves},
        totals::{Caller, Totals},
    },
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Milliseconds since the epoch: a time that can be a key.
type Millis = i64;

/// The trials, found by pod and by name.
pub(super) struct Targets<'a> {
    pods: HashMap<(&'a str, &'a str), &'a TrialTarget>,
    names: HashMap<(&'a str, &'a str), Option<&'a TrialTarget>>,
    /// Trials of which pods that are gone are wanted, too.
    gone: Vec<&'a TrialTarget>,
    /// Whether pods are known by their names alone.
    by_name: bool,
}

impl<'a> Targets<'a> {
    pub(super) fn of(trials: &'a [TrialTarget]) -> Self {
        let mut targets = Self { pods: HashMap::new(), names: HashMap::new(), gone: Vec::new(), by_name: false };
        for trial in trials {
            for pod in &trial.pods {
                targets.pods.insert((&pod.pod.namespace, &pod.pod.name), trial);
            }
            if !trial.gone.is_empty() {
                targets.gone.push(trial);
            }
            // Two kinds of one name cannot be told apart by a name: neither is believed.
            let key = (trial.workload.namespace.as_str(), trial.workload.name.as_str());
            targets.names.entry(key).and_modify(|other| *other = None).or_insert(Some(trial));
        }
        targets
    }

    /// Workloads whose pods nobody has listed: a pod is theirs whose name its controller would have made.
    pub(super) fn of_peers(peers: &'a [TrialTarget]) -> Self {
        Self { by_name: true, ..Self::of(peers) }
    }

    fn pod(&self, namespace: &str, pod: &str) -> Option<&'a TrialTarget> {
        if self.by_name {
            let mut found = by_name(pod)
                .filter_map(|(kind, name)| self.named(namespace, name).filter(|target| target.workload.kind == kind));
            return found.next().filter(|_| found.next().is_none());
        }
        let gone = || {
            let of = |t: &&&TrialTarget| t.workload.namespace == namespace && t.revision_of_gone(pod).is_some();
            self.gone.iter().find(of).copied()
        };
        self.pods.get(&(namespace, pod)).copied().or_else(gone)
    }

    fn named(&self, namespace: &str, name: &str) -> Option<&'a TrialTarget> {
        self.names.get(&(namespace, name)).copied().flatten()
    }

    /// Whose series this is, by the labels of a callers' family.
    fn called(&self, family: &Family, series: &Series) -> Option<&'a TrialTarget> {
        let either = |one: &'static str, other: &'static str| match series.label(one) {
            "" => series.label(other),
            value => value,
        };
        let found = match family.preset {
            Preset::Istio => {
                self.named(series.label("destination_workload_namespace"), series.label("destination_workload"))
            }
            Preset::IngressNginx => {
                self.named(either("exported_namespace", "namespace"), either("exported_service", "service"))
            }
            Preset::EnvoyGateway => {
                let mut parts = series.label("envoy_cluster_name").split('/').skip(1);
                self.named(parts.next()?, parts.next()?)
            }
            Preset::Traefik => self.traefik(series.label("service")),
            _ => None,
        };
        found.filter(|trial| trial.rules.metrics.preset == family.preset)
    }

    /// `<namespace>-<service>-<port>@kubernetes[crd]`: where to cut is not written anywhere, so exactly
    /// one cut must name a workload under trial.
    fn traefik(&self, service: &str) -> Option<&'a TrialTarget> {
        let (name, provider) = service.split_once('@')?;
        if !matches!(provider, "kubernetes" | "kubernetescrd") {
            return None;
        }
        let (name, _port) = name.rsplit_once('-')?;
        let mut cuts = name.match_indices('-').filter_map(|(at, _)| self.named(&name[..at], &name[at + 1..]));
        cuts.next().filter(|_| cuts.next().is_none())
    }
}

/// What has been joined so far.
#[derive(Default)]
pub(super) struct Joined {
    pods: BTreeMap<PodId, BTreeMap<Millis, Candidates>>,
    memory: BTreeMap<PodId, BTreeMap<Millis, f64>>,
    callers: BTreeMap<WorkloadId, BTreeMap<Millis, BTreeMap<Caller, Counts>>>,
    /// Pods that are scraped themselves; what a collector says of them is the same requests again.
    direct: HashSet<PodId>,
    /// Values that are no counts, buckets without a bound, marks that nobody set.
    pub(super) malformed: u64,
}

fn millis(t: f64) -> Millis {
    (t * 1e3).round() as Millis
}

/// Sets one signal of the counts; false when the series cannot be that signal.
fn set(counts: &mut Counts, signal: &str, series: &Series, unit: f64, value: f64) -> bool {
    match signal {
        "requests" => *counts.requests.get_or_insert(0.0) += value,
        "errors" => *counts.errors.get_or_insert(0.0) += value,
        "latency" => return add_bucket(counts, series.label("le"), unit, value),
        _ => return false,
    }
    true
}

impl Joined {
    /// Takes in one answer. `at` replaces the times of the points (an instant query's own time).
    pub(super) fn add(&mut self, targets: &Targets<'_>, group: &Group, part: Part, answer: &[Series], at: Option<f64>) {
        for series in answer {
            self.malformed += series.malformed;
            for &(t, value) in &series.points {
                if !is_count(value) || !self.point(targets, group, part, series, millis(at.unwrap_or(t)), value) {
                    self.malformed += 1;
                }
            }
        }
    }

    /// Joins one point; true also when it is simply not about a trial.
    fn point(
        &mut self,
        targets: &Targets<'_>,
        group: &Group,
        part: Part,
        series: &Series,
        t: Millis,
        value: f64,
    ) -> bool {
        let (namespace, pod) = (series.label("namespace"), series.label("pod"));
        match group {
            Group::Pods if part == Part::Memory => {
                if targets.pod(namespace, pod).is_some() {
                    self.memory.entry(PodId::new(namespace, pod)).or_default().insert(t, value);
                }
                true
            }
            Group::Pods | Group::Resource => {
                let Some((name, signal)) = series.label(MARK).split_once('/') else { return false };
                let Some(at) = PODS.iter().position(|f| f.name == name) else { return false };
                let Some(trial) = targets.pod(namespace, pod) else { return true };
                if !serves(&PODS[at], trial.rules.metrics.preset) {
                    return true;
                }
                let id = PodId::new(namespace, pod);
                if *group == Group::Pods {
                    self.direct.insert(id);
                } else if self.direct.contains(&id) {
                    return true;
                }
                let candidates = self.candidates(namespace, pod, t);
                set(candidates.family(at), signal, series, PODS[at].unit, value)
            }
            Group::Callers(at) => {
                let family = &CALLERS[*at];
                let Some((_, signal)) = series.label(MARK).split_once('/') else { return false };
                let Some(trial) = targets.called(family, series) else { return true };
                set(self.caller(trial, series, t), signal, series, family.unit, value)
            }
            Group::Custom(queries) => {
                let ours = |trial: &&TrialTarget| {
                    let metrics = &trial.rules.metrics;
                    metrics.preset == Preset::Custom && metrics.custom.as_ref() == Some(queries)
                };
                if pod.is_empty() {
                    let named = targets.named(namespace, series.label("workload")).filter(ours);
                    let Some(trial) = named else { return true };
                    set(self.caller(trial, series, t), part.name(), series, 1.0, value)
                } else {
                    let Some(_) = targets.pod(namespace, pod).filter(ours) else { return true };
                    // Own queries are the only family of such a pod; any place in the table will do.
                    set(self.candidates(namespace, pod, t).family(0), part.name(), series, 1.0, value)
                }
            }
        }
    }

    fn candidates(&mut self, namespace: &str, pod: &str, t: Millis) -> &mut Candidates {
        self.pods.entry(PodId::new(namespace, pod)).or_default().entry(t).or_default()
    }

    fn caller(&mut self, trial: &TrialTarget, series: &Series, t: Millis) -> &mut Counts {
        let labels = series.labels.iter().filter(|(name, _)| !matches!(name.as_str(), MARK | "le"));
        let caller: Caller = labels.map(|(name, value)| format!("{name}={value:?},")).collect();
        self.callers.entry(trial.workload.clone()).or_default().entry(t).or_default().entry(caller).or_default()
    }

    /// The observations, ordered by time.
    pub(super) fn finish(self, totals: &mut Totals) -> Vec<Observed> {
        let mut all: Vec<(Millis, Observation)> = Vec::new();
        for (pod, times) in self.pods {
            for (t, counts) in of_one_family(times) {
                all.push((t, Observation::Counters { pod: pod.clone(), counts }));
            }
        }
        for (workload, times) in self.callers {
            for (t, callers) in times {
                let counts = totals.add(&workload, t as f64 / 1e3, callers);
                all.push((t, Observation::Callers { workload: workload.clone(), counts }));
            }
        }
        for (pod, times) in self.memory {
            let mut next = Millis::MIN;
            for (t, bytes) in times {
                // A slope needs no more of the past.
                if t >= next {
                    next = t + (MEMORY_EVERY * 1000.0) as Millis;
                    all.push((t, Observation::Memory { pod: pod.clone(), bytes }));
                }
            }
        }
        in_order(all)
    }

    /// The totals of each workload, its pods counted as its callers; only what is newer than was known.
    pub(super) fn totals(mut self, targets: &Targets<'_>, totals: &mut Totals) -> Vec<Observed> {
        for (pod, times) in std::mem::take(&mut self.pods) {
            let Some(target) = targets.pod(&pod.namespace, &pod.name) else { continue };
            for (t, counts) in of_one_family(times) {
                let callers = self.callers.entry(target.workload.clone()).or_default().entry(t).or_default();
                callers.insert(pod.name.clone(), counts);
            }
        }
        let mut all: Vec<(Millis, Observation)> = Vec::new();
        for (workload, times) in self.callers {
            for (t, callers) in times {
                let at = t as f64 / 1e3;
                if totals.counted(&workload).is_none_or(|then| at > then) {
                    let counts = totals.add(&workload, at, callers);
                    all.push((t, Observation::Callers { workload: workload.clone(), counts }));
                }
            }
        }
        in_order(all)
    }
}

/// One family for the whole span: a pod whose counters change family would seem to reset.
fn of_one_family(times: BTreeMap<Millis, Candidates>) -> impl Iterator<Item = (Millis, Counts)> {
    let mut everything = Candidates::default();
    for (at, counts) in times.values().flat_map(|c| &c.0) {
        let known = everything.family(*at);
        known.requests = known.requests.or(counts.requests);
        known.errors = known.errors.or(counts.errors);
    }
    let best = everything.best();
    times.into_iter().filter_map(move |(t, mut candidates)| Some((t, candidates.0.remove(&best?)?)))
}

fn in_order(mut all: Vec<(Millis, Observation)>) -> Vec<Observed> {
    all.sort_by_key(|(t, _)| *t);
    all.into_iter().map(|(t, what)| Observed { t: t as f64 / 1e3, what }).collect()
}

/// Of which workloads a pod may be, by its name. Names made by controllers end in letters that mean nothing.
pub(super) fn by_name(pod: &str) -> impl Iterator<Item = (Kind, &str)> {
    let made = |text: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&text.len()) && text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
    };
    let cut = pod.rsplit_once('-');
    let numbered = cut.filter(|(_, last)| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
    let named = cut.filter(|(_, last)| made(last, 5..=5)).map(|(rest, _)| rest);
    let replica = named.and_then(|rest| rest.rsplit_once('-')).filter(|(_, hash)| made(hash, 1..=10));
    let all = [
        numbered.map(|(name, _)| (Kind::StatefulSet, name)),
        named.map(|name| (Kind::DaemonSet, name)),
        replica.map(|(name, _)| (Kind::Deployment, name)),
    ];
    all.into_iter().flatten()
}
