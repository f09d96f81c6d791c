//! Pure. The pods of the past: from what kube-state-metrics said of them, or from their counters alone, to the same
//! states that the daemon sees. Only what changed is told.

use super::{
    super::envelope::Series,
    asks::{TOLD, parts},
    lineage::Lineages,
};
use crate::domain::{Kind, Observation, Observed, PodId, PodState, RolloutCondition, Seconds, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// A pod whose counters are missing for this long is gone, where nothing else tells.
const GONE: Seconds = 60.0;

/// What is known of one pod.
#[derive(Debug)]
struct Member {
    state: PodState,
    last: Seconds,
    requests: f64,
}

/// All pods that are known, by workload.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: BTreeMap<WorkloadId, BTreeMap<PodId, Member>>,
    replicas: BTreeMap<WorkloadId, u32>,
    stuck: BTreeSet<WorkloadId>,
}

/// One pod at one time, while the series are put together.
#[derive(Debug, Default, Clone)]
struct Draft {
    owner: Option<(Kind, String)>,
    node: String,
    created: Option<Seconds>,
    ready: bool,
    since: Option<Seconds>,
    restarts: u32,
    waiting: Option<String>,
    ended: Option<String>,
    exit: Option<i32>,
    leaving: bool,
}

type Millis = i64;
type Drafts = BTreeMap<Millis, BTreeMap<(PodId, String), Draft>>;

impl Crowd {
    /// How many pods are known.
    pub fn len(&self) -> usize {
        self.members.values().map(BTreeMap::len).sum()
    }

    /// Takes in one answer of kube-state-metrics about some workloads; tells what changed, and which pods there were.
    pub fn stood(&mut self, answer: &[Series], lineages: &Lineages, told: &mut Vec<Observed>) -> BTreeSet<PodId> {
        let mut drafts = Drafts::new();
        for series in answer {
            let pod = PodId::new(series.label("namespace"), series.label("pod"));
            for &(t, value) in &series.points {
                match series.label(TOLD) {
                    "replicas" => self.sized(t, series, value, lineages, told),
                    "stuck" => self.stuck(t, series, lineages, told),
                    what => {
                        let pods = drafts.entry((t * 1e3).round() as Millis).or_default();
                        let draft = pods.entry((pod.clone(), series.label("uid").to_owned())).or_default();
                        draft.take(what, series, value);
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (t, pods) in drafts {
            let t = t as f64 / 1e3;
            let mut here: BTreeMap<PodId, (Seconds, PodState)> = BTreeMap::new();
            // Where nobody is told of, nobody told; that is not the end of all pods.
            let anybody = pods.values().any(|draft| draft.owner.is_some());
            for ((pod, _), draft) in pods {
                let Some(state) = draft.state(&pod, lineages, t) else { continue };
                let born = state.created.unwrap_or(0.0);
                if here.get(&pod).is_none_or(|(other, _)| *other <= born) {
                    here.insert(pod, (born, state));
                }
            }
            seen.extend(here.keys().cloned());
            if anybody {
                self.absent(t, lineages, told, |pod, _| !here.contains_key(pod));
            }
            for (pod, (_, state)) in here {
                self.tell(t, pod, state, told);
            }
        }
        seen
    }

    fn sized(&mut self, t: Seconds, series: &Series, value: f64, lineages: &Lineages, told: &mut Vec<Observed>) {
        let of = |(kind, label): &(Kind, &str)| {
            let name = series.label(label);
            (!name.is_empty()).then(|| WorkloadId::new(series.label("namespace"), *kind, name))
        };
        let kinds =
            [(Kind::Deployment, "deployment"), (Kind::StatefulSet, "statefulset"), (Kind::DaemonSet, "daemonset")];
        let Some(workload) = kinds.iter().find_map(of).filter(|id| lineages.wants(id)) else { return };
        let replicas = value.max(0.0) as u32;
        if self.replicas.insert(workload.clone(), replicas) != Some(replicas) {
            told.push(Observed { t, what: Observation::Workload { workload, replicas, calls: Vec::new() } });
        }
    }

    fn stuck(&mut self, t: Seconds, series: &Series, lineages: &Lineages, told: &mut Vec<Observed>) {
        let workload = WorkloadId::new(series.label("namespace"), Kind::Deployment, series.label("deployment"));
        if lineages.wants(&workload) && self.stuck.insert(workload.clone()) {
            let condition = RolloutCondition::ProgressDeadlineExceeded;
            told.push(Observed { t, what: Observation::Condition { workload, condition } });
        }
    }

    /// A rollout of the workload begins: it may exceed its deadline anew.
    pub fn begins(&mut self, workload: &WorkloadId) {
        self.stuck.remove(workload);
    }

    fn tell(&mut self, t: Seconds, pod: PodId, state: PodState, told: &mut Vec<Observed>) {
        let members = self.members.entry(state.workload.clone()).or_default();
        let gone = state.deleted;
        let changed = members.get(&pod).map_or(!gone, |known| known.state != state);
        if changed {
            told.push(Observed { t, what: Observation::Pod(state.clone()) });
        }
        members.insert(pod, Member { state, last: t, requests: 0.0 });
    }

    fn absent(
        &mut self,
        t: Seconds,
        lineages: &Lineages,
        told: &mut Vec<Observed>,
        gone: impl Fn(&PodId, &Member) -> bool,
    ) {
        for (_, members) in self.members.iter_mut().filter(|(id, _)| lineages.wants(id)) {
            members.retain(|pod, member| {
                let gone = gone(pod, member);
                if gone && !member.state.deleted {
                    let state = PodState { deleted: true, ready: false, ready_since: None, ..member.state.clone() };
                    told.push(Observed { t, what: Observation::Pod(state) });
                }
                !gone
            });
        }
    }

    /// Takes in counters, in order of time, of pods of which nothing else is known; tells who came and went. `times`
    /// are those at which was asked.
    pub fn counted(&mut self, counters: &[Observed], times: &[Seconds], lineages: &Lineages, told: &mut Vec<Observed>) {
        let mut counters = counters.iter().peekable();
        for time in times {
            let mut anybody = false;
            while let Some(observed) = counters.next_if(|observed| observed.t <= time + 0.5) {
                let Observation::Counters { pod, counts } = &observed.what else { continue };
                anybody = true;
                self.counts(observed.t, pod, counts.requests.unwrap_or(0.0), lineages, told);
            }
            if anybody {
                self.absent(*time, lineages, told, |_, member| time - member.last > GONE);
            }
        }
    }

    fn counts(&mut self, t: Seconds, pod: &PodId, requests: f64, lineages: &Lineages, told: &mut Vec<Observed>) {
        let Some(workload) = lineages.of_pod(pod) else { return };
        let members = self.members.entry(workload.clone()).or_default();
        // A pod that keeps its name when it is made anew counts from zero.
        let known = members.get_mut(pod).filter(|known| requests >= known.requests || parts_of(pod).is_some());
        if let Some(known) = known {
            (known.last, known.requests) = (t, requests);
            return;
        }
        let set = pod.name.rsplit_once('-').map_or("", |(set, _)| set);
        let state = PodState {
            pod: pod.clone(),
            revision: lineages.revision(&workload, set, t),
            workload: workload.clone(),
            node: None,
            ready: true,
            restarts: 0,
            waiting: None,
            exit_code: None,
            oom_killed: false,
            deleted: false,
            created: None,
            ready_since: Some(t),
        };
        told.push(Observed { t, what: Observation::Pod(state.clone()) });
        members.insert(pod.clone(), Member { state, last: t, requests });
    }
}

/// Name and hash of the pod of a ReplicaSet.
fn parts_of(pod: &PodId) -> Option<(&str, &str)> {
    parts(pod.name.rsplit_once('-')?.0)
}

impl Draft {
    fn take(&mut self, what: &str, series: &Series, value: f64) {
        match what {
            "info" => {
                let name = series.label("created_by_name").to_owned();
                let kind = match series.label("created_by_kind") {
                    "ReplicaSet" => Some(Kind::Deployment),
                    kind => kind.parse().ok().filter(|kind| *kind != Kind::Deployment),
                };
                self.owner = self.owner.take().or(kind.map(|kind| (kind, name)));
                // A pod that was just bound has two of these for a moment.
                if self.node.is_empty() {
                    series.label("node").clone_into(&mut self.node);
                }
            }
            "created" => self.created = Some(value),
            "ready" => self.ready = value > 0.5,
            "since" => self.since = Some(value),
            "restarts" => self.restarts = value.max(0.0) as u32,
            "waiting" => self.waiting = Some(series.label("reason").to_owned()),
            "ended" => self.ended = Some(series.label("reason").to_owned()),
            "exit" => self.exit = Some(value as i32),
            "leaving" => self.leaving = true,
            _ => {}
        }
    }

    fn state(self, pod: &PodId, lineages: &Lineages, t: Seconds) -> Option<PodState> {
        let (kind, owner) = self.owner?;
        let name = if kind == Kind::Deployment { parts(&owner)?.0 } else { &owner };
        let workload = WorkloadId::new(&pod.namespace, kind, name);
        if !lineages.wants(&workload) {
            return None;
        }
        // Older versions of kube-state-metrics tell the reason only.
        let code = |reason: &String| match reason.as_str() {
            "Completed" => 0,
            "OOMKilled" => 137,
            _ => 1,
        };
        let ready = self.ready && !self.leaving;
        Some(PodState {
            pod: pod.clone(),
            revision: lineages.revision(&workload, &owner, self.created.unwrap_or(t)),
            workload,
            node: (!self.node.is_empty()).then_some(self.node),
            ready,
            restarts: self.restarts,
            waiting: self.waiting,
            exit_code: self.exit.or(self.ended.as_ref().map(code)),
            oom_killed: self.ended.as_deref() == Some("OOMKilled"),
            deleted: self.leaving,
            created: self.created,
            ready_since: self.since.filter(|_| ready),
        })
    }
}
