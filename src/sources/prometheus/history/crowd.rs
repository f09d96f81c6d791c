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
            told.push(Observed { t, what: Observation::Workload { workload, replicas, calls: None } });
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
            told.push(Observed { t, what: Observation::from(state.clone()) });
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
                    told.push(Observed { t, what: Observation::from(state) });
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
            ready: true,
            ready_since: Some(t),
            ..PodState::new(pod.clone(), workload.clone(), lineages.revision(&workload, set, t))
        };
        told.push(Observed { t, what: Observation::from(state.clone()) });
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
            memory_limit: None,
            deleted: self.leaving,
            created: self.created,
            ready_since: self.since.filter(|_| ready),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sets::Rollout, *};
    use crate::domain::{Counts, Revision};

    fn series(mark: &str, labels: &[(&str, &str)], points: &[(f64, f64)]) -> Series {
        let all = [(TOLD, mark), ("namespace", "shop")].into_iter().chain(labels.iter().copied());
        let labels = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Series { labels, points: points.to_vec(), malformed: 0 }
    }

    fn info(pod: &str, uid: &str, kind: &str, owner: &str, points: &[(f64, f64)]) -> Series {
        let labels = [("pod", pod), ("uid", uid), ("node", "n"), ("created_by_kind", kind), ("created_by_name", owner)];
        series("info", &labels, points)
    }

    fn db() -> (WorkloadId, Lineages) {
        let db: WorkloadId = "shop/StatefulSet/db".parse().unwrap();
        let rollout = Rollout { t: 100.0, workload: db.clone(), from: "a".into(), to: "b".into() };
        let lineages = Lineages::new(&[rollout], BTreeSet::new()).only([(&db, vec!["db".to_owned()])]);
        (db, lineages)
    }

    /// When, of which revision, whether gone, whether Ready.
    fn states(told: &[Observed]) -> Vec<(f64, &Revision, bool, bool)> {
        let mut all = Vec::new();
        for observed in told {
            if let Observation::Pod(state) = &observed.what {
                all.push((observed.t, &state.revision, state.deleted, state.ready));
            }
        }
        all
    }

    #[test]
    fn a_pod_that_is_made_anew_under_its_name_is_of_the_new_revision() {
        let (_, lineages) = db();
        let (old, new) = ([(90.0, 1.0), (105.0, 1.0)], [(105.0, 1.0), (120.0, 1.0)]);
        let ready = |uid, points: &[(f64, f64)]| series("ready", &[("pod", "db-0"), ("uid", uid)], points);
        let made = |uid, at, points: [(f64, f64); 2]| {
            series("created", &[("pod", "db-0"), ("uid", uid)], &points.map(|(t, _)| (t, at)))
        };
        let answer = [
            info("db-0", "u1", "StatefulSet", "db", &old),
            made("u1", 10.0, old),
            ready("u1", &old),
            // For a moment both are told of.
            info("db-0", "u2", "StatefulSet", "db", &new),
            made("u2", 104.0, new),
            ready("u2", &[(120.0, 1.0)]),
            info("web-7d9f8c6b5-x2x2x", "u3", "ReplicaSet", "web-7d9f8c6b5", &old),
            info("cron-1", "u4", "Job", "cron", &old),
        ];
        let (mut crowd, mut told) = (Crowd::default(), Vec::new());
        let seen = crowd.stood(&answer, &lineages, &mut told);
        assert_eq!(seen, [PodId::new("shop", "db-0")].into(), "nobody else was asked for");
        let (a, b) = (Revision::from("a"), Revision::from("b"));
        let wanted = [(90.0, &a, false, true), (105.0, &b, false, false), (120.0, &b, false, true)];
        assert_eq!(states(&told), wanted);
    }

    #[test]
    fn who_is_not_told_of_is_gone_but_silence_is_not_the_end_of_all() {
        let (_, lineages) = db();
        let both = [
            info("db-0", "u1", "StatefulSet", "db", &[(75.0, 1.0)]),
            info("db-1", "u2", "StatefulSet", "db", &[(75.0, 1.0)]),
        ];
        let (mut crowd, mut told) = (Crowd::default(), Vec::new());
        crowd.stood(&both, &lineages, &mut told);
        told.clear();
        crowd.stood(&[series("replicas", &[("statefulset", "db")], &[(105.0, 2.0)])], &lineages, &mut told);
        assert_eq!(states(&told), [], "kube-state-metrics was away");
        told.clear();
        let of = |mark, value| series(mark, &[("pod", "db-0"), ("uid", "u1")], &[(120.0, value)]);
        let (leaving, made) = (of("leaving", 118.0), of("created", 10.0));
        let going = [info("db-0", "u1", "StatefulSet", "db", &[(120.0, 1.0)]), leaving, made];
        crowd.stood(&going, &lineages, &mut told);
        let a = Revision::from("a");
        assert_eq!(states(&told), [(120.0, &a, true, false), (120.0, &a, true, false)], "one went, one is going");
        told.clear();
        crowd.stood(&[info("db-2", "u3", "StatefulSet", "db", &[(135.0, 1.0)])], &lineages, &mut told);
        assert_eq!(states(&told).len(), 1, "who was going is told once");
    }

    #[test]
    fn a_crash_is_read_with_or_without_its_exit_code() {
        let (_, lineages) = db();
        let pod = [("pod", "db-0"), ("uid", "u1")];
        let at = [(90.0, 1.0)];
        let reason = |mark, reason| series(mark, &[pod[0], pod[1], ("reason", reason)], &at);
        let mut answer = vec![
            info("db-0", "u1", "StatefulSet", "db", &at),
            series("restarts", &pod, &[(90.0, 4.0)]),
            reason("waiting", "CrashLoopBackOff"),
            reason("ended", "Error"),
        ];
        let told = |answer: &[Series]| {
            let mut told = Vec::new();
            Crowd::default().stood(answer, &lineages, &mut told);
            let Some(Observation::Pod(state)) = told.pop().map(|o| o.what) else { panic!() };
            (state.restarts, state.waiting, state.exit_code, state.oom_killed)
        };
        let waiting = Some("CrashLoopBackOff".to_owned());
        assert_eq!(told(&answer), (4, waiting.clone(), Some(1), false));
        answer.push(series("exit", &pod, &[(90.0, 3.0)]));
        assert_eq!(told(&answer), (4, waiting.clone(), Some(3), false));
        answer.truncate(3);
        answer.push(reason("ended", "OOMKilled"));
        assert_eq!(told(&answer), (4, waiting, Some(137), true));
    }

    #[test]
    fn a_pod_that_counts_from_zero_again_was_made_anew() {
        let (_, lineages) = db();
        let counters = |t: f64, requests| {
            let counts = Counts { requests: Some(requests), ..Counts::default() };
            Observed { t, what: Observation::Counters { pod: PodId::new("shop", "db-0"), counts } }
        };
        let all = [counters(75.0, 500.0), counters(105.0, 600.0), counters(120.0, 20.0), counters(135.0, 90.0)];
        let (mut crowd, mut told) = (Crowd::default(), Vec::new());
        crowd.counted(&all, &[75.0, 105.0, 120.0, 135.0], &lineages, &mut told);
        let (a, b) = (Revision::from("a"), Revision::from("b"));
        assert_eq!(states(&told), [(75.0, &a, false, true), (120.0, &b, false, true)]);
    }
}
