//! What must be read before a rollout can be judged: its revisions, then the past of its signals.

use super::live::Inherited;
use crate::{
    analysis,
    clock::Clock,
    cluster::{Cluster, Members, PodSeen, READ_DEADLINE, RevisionEntry, WorkloadView, before, revisions, within},
    domain::{Observation, Observed, PodId, PodState, PodTarget, Revision, Rules, Seconds, TrialTarget, WorkloadId},
    sources::{SourceError, Sources},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout_at},
};

/// How far back the baseline goes.
const BASELINE: Seconds = 1800.0;
/// A crash loop must not wait longer than this for a slow Prometheus.
const PAST_DEADLINE: Duration = Duration::from_secs(6);
/// What an earlier day was like is needed less finely than the last half hour.
const SEASON_STEP: Duration = Duration::from_secs(60);
/// How long after the watch its past is still read closely: pods may have come late.
const AFTER_WATCH: Seconds = 600.0;
/// This often the new revision's object is looked for, ever less frequently.
const TRIES: u32 = 12;
/// A controller makes that object before it says that it has seen the template; without that word it is
/// looked for only this often.
const UNSEEN: Duration = Duration::from_secs(15);
/// Openings that read the cluster at once, and that read the past at once: a burst of rollouts must not open
/// hundreds of connections.
const AT_ONCE: usize = 8;

/// Everything an opening needs.
pub(super) struct Opening {
    pub cluster: Cluster,
    pub sources: Arc<Sources>,
    pub clock: Clock,
    pub step: Duration,
    pub view: Arc<WorkloadView>,
    pub rules: Arc<Rules>,
    /// Revision that was live before, if it was seen.
    pub from: Option<Revision>,
    /// When the rollout began, if that was seen.
    pub began: Option<Seconds>,
    /// What it takes over from a trial that was cut short.
    pub inherited: Inherited,
    /// Whether the controller has seen the live template.
    pub observed: watch::Receiver<bool>,
    /// Shared by all openings.
    pub turns: Arc<Turns>,
}

/// Who may read now.
pub(super) struct Turns {
    cluster: Semaphore,
    past: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self { cluster: Semaphore::new(AT_ONCE), past: Semaphore::new(AT_ONCE) }
    }
}

/// What an opening found.
pub(super) enum Opened {
    /// The revisions: the trial begins.
    Revisions {
        view: Arc<WorkloadView>,
        from: Revision,
        to: Revision,
        began: Seconds,
        /// Its pods.
        members: Members,
    },
    /// The past of its signals, in order of time; empty when nothing could be read.
    Past {
        workload: WorkloadId,
        to: Revision,
        observed: Vec<Observed>,
        /// Where its pods can be reached.
        pods: Vec<PodTarget>,
    },
    /// It cannot be judged.
    Failed { workload: WorkloadId, to: Revision, why: String },
}

impl Opened {
    pub fn workload(&self) -> &WorkloadId {
        match self {
            Opened::Revisions { view, .. } => &view.id,
            Opened::Past { workload, .. } | Opened::Failed { workload, .. } => workload,
        }
    }

    pub fn to(&self) -> &Revision {
        match self {
            Opened::Revisions { to, .. } | Opened::Past { to, .. } | Opened::Failed { to, .. } => to,
        }
    }
}

impl Opening {
    pub async fn run(self, tx: mpsc::Sender<Opened>) {
        let (workload, to) = (self.view.id.clone(), self.view.template.revision.clone());
        let entries = match self.entries(&to).await {
            Ok(entries) => entries,
            Err(why) => {
                let _ = tx.send(Opened::Failed { workload, to, why }).await;
                return;
            }
        };
        let before = before(&entries, &to).map(|e| e.mark.revision.clone());
        // A first deploy has nothing before it: it is judged, but can never be undone.
        let from = self.from.clone().or(before).unwrap_or_else(|| Revision::from("none"));
        let created = entries.iter().find(|e| e.mark.revision == to).map(|e| e.created);
        let restarted = self.inherited.restarted.clone();
        let named = |revision: Revision| if restarted.as_ref() == Some(&revision) { to.clone() } else { revision };
        // Pods of a ReplicaSet carry its name: so the past of pods that are gone is known to be of a revision.
        let sets = |e: &RevisionEntry| {
            Some((e.object.strip_prefix("ReplicaSet/")?.to_owned(), named(e.mark.revision.clone())))
        };
        let gone: Vec<(String, Revision)> = entries.iter().filter_map(sets).collect();
        let members = Members::new(&workload, &self.view.uid, &entries, |revision| named(revision.clone()));
        drop(entries);
        let pods = self.pods(&members).await;
        // A revision that was live before has an old object; its rollout began with its oldest pod, then.
        let oldest = pods.iter().filter(|p| p.state.revision == to && !p.state.deleted).filter_map(|p| p.state.created);
        let began = self.began.or(match (created, oldest.reduce(f64::min)) {
            (Some(made), Some(pod)) => Some(made.max(pod)),
            (made, pod) => made.or(pod),
        });
        let began = began.unwrap_or_else(|| self.clock.now());
        let revisions = Opened::Revisions { view: self.view.clone(), from, to: to.clone(), began, members };
        if tx.send(revisions).await.is_err() {
            return;
        }
        let (mut observed, pods) = self.past(pods, gone, began).await;
        observed.sort_by(|a, b| a.t.total_cmp(&b.t));
        let _ = tx.send(Opened::Past { workload, to, observed, pods }).await;
    }

    /// The revisions, once the live one is among them.
    async fn entries(&self, to: &Revision) -> Result<Vec<RevisionEntry>, String> {
        let mut why = String::from("no revision object holds the live template");
        let mut observed = self.observed.clone();
        for attempt in 0..TRIES {
            let _ = tokio::time::timeout(UNSEEN, observed.wait_for(|seen| *seen)).await;
            let turn = self.turns.cluster.acquire().await;
            let found = revisions(&self.cluster.reader, &self.view.id, &self.view.uid, &self.view.selector).await;
            drop(turn);
            match found {
                Ok(entries) if entries.iter().any(|e| e.mark.revision == *to) => return Ok(entries),
                Ok(_) => {}
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(250 << attempt.min(4))).await;
        }
        Err(why)
    }

    /// The pods of its known revisions; none when they cannot be listed.
    async fn pods(&self, members: &Members) -> Vec<PodSeen> {
        let api: Api<Pod> = Api::namespaced(self.cluster.reader.clone(), &self.view.id.namespace);
        let params = ListParams::default().labels(&self.view.selector);
        let _turn = self.turns.cluster.acquire().await;
        match within(READ_DEADLINE, "listing pods", api.list(&params)).await {
            Ok(pods) => pods.items.iter().filter_map(|p| members.seen(p)).collect(),
            Err(error) => {
                tracing::warn!(workload = %self.view.id, %error, "no baseline: the pods cannot be listed");
                Vec::new()
            }
        }
    }

    /// Counters from before the rollout until now, by range query; nothing when no source has a past.
    async fn past(
        &self,
        seen: Vec<PodSeen>,
        gone: Vec<(String, Revision)>,
        began: Seconds,
    ) -> (Vec<Observed>, Vec<PodTarget>) {
        // Pods first, so that their counters are known to be theirs.
        let mut observed: Vec<Observed> = seen
            .iter()
            .map(|p| Observed { t: p.state.created.unwrap_or(began), what: Observation::from(p.state.clone()) })
            .collect();
        let target = TrialTarget {
            workload: self.view.id.clone(),
            rules: self.rules.clone(),
            pods: seen.into_iter().map(|p| p.target).collect(),
            gone,
        };
        let step = self.step.max(Duration::from_secs(5));
        let (from, now) = (self.inherited.proven.unwrap_or(began) - BASELINE, self.clock.now());
        // Of the hours after its watch as much is read as would have been read while it was looked at seldom.
        let closely = (began + self.rules.watch.as_secs_f64() + AFTER_WATCH).min(now);
        let history = async {
            let mut past = self.sources.history(&target, from, closely, step).await?;
            if closely < now {
                let step = Duration::from_secs_f64(analysis::LATE_EVERY);
                past.extend(self.sources.history(&target, closely, now, step).await?);
            }
            Ok::<_, SourceError>(past)
        };
        // Waiting for a turn counts: behind a Prometheus that hangs nobody waits longer than this.
        let end = Instant::now() + PAST_DEADLINE;
        let past = async {
            let _turn = self.turns.past.acquire().await;
            history.await
        };
        let mut answered = false;
        match timeout_at(end, past).await {
            Ok(Ok(past)) => {
                observed.extend(introduced(&target, &past));
                observed.extend(past);
                answered = true;
            }
            Ok(Err(error)) => tracing::warn!(workload = %self.view.id, %error, "no baseline: the past cannot be read"),
            Err(_) => tracing::warn!(workload = %self.view.id, "no baseline: the past was not answered in time"),
        }
        if answered {
            observed.extend(timeout_at(end, self.seasons(&target, began)).await.unwrap_or_default());
        }
        (observed, target.pods)
    }

    /// The same time of day, a day and a week before: a day that begins slowly every day is no bad rollout.
    /// Nothing is lost but that comparison where it cannot be read.
    async fn seasons(&self, target: &TrialTarget, began: Seconds) -> Vec<Observed> {
        let windows = analysis::seasons(began).map(|(from, to)| async move {
            let _turn = self.turns.past.acquire().await;
            let past = self.sources.history(target, from, to, SEASON_STEP.max(self.step)).await;
            past.inspect_err(|error| tracing::debug!(workload = %self.view.id, %error, "an earlier day cannot be read"))
        });
        let found: Vec<Observed> = join_all(windows).await.into_iter().filter_map(Result::ok).flatten().collect();
        introduced(target, &found).into_iter().chain(found).collect()
    }
}

/// Pods that are gone, as far as their counters tell: there from the first reading to the last.
fn introduced(target: &TrialTarget, past: &[Observed]) -> Vec<Observed> {
    let mut lives: BTreeMap<&PodId, (Seconds, Seconds)> = BTreeMap::new();
    for observed in past {
        let Observation::Counters { pod, .. } = &observed.what else { continue };
        if target.pods.iter().all(|known| known.pod != *pod) {
            let life = lives.entry(pod).or_insert((observed.t, observed.t));
            *life = (life.0.min(observed.t), life.1.max(observed.t));
        }
    }
    let state = |pod: &PodId, revision: &Revision, first: Seconds, deleted: bool| PodState {
        ready: !deleted,
        deleted,
        ready_since: (!deleted).then_some(first),
        ..PodState::new(pod.clone(), target.workload.clone(), revision.clone())
    };
    lives
        .into_iter()
        .filter_map(|(pod, life)| Some((pod, target.revision_of_gone(&pod.name)?, life)))
        .flat_map(|(pod, revision, (first, last))| {
            let there = Observed { t: first, what: Observation::from(state(pod, revision, first, false)) };
            // A moment after its last reading, so that the reading still counts.
            let gone = Observed { t: last + 0.001, what: Observation::from(state(pod, revision, first, true)) };
            [there, gone]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counts, Kind};

    #[test]
    fn gone_pods_are_introduced_by_the_name_of_their_replica_set() {
        let workload = WorkloadId::new("shop", Kind::Deployment, "web");
        let gone = vec![("web-5c98".to_owned(), Revision::from("a"))];
        let target = TrialTarget { workload, rules: Arc::default(), pods: Vec::new(), gone };
        let counters = |t, name: &str| Observed {
            t,
            what: Observation::Counters { pod: PodId::new("shop", name), counts: Counts::default() },
        };
        let past = [counters(10.0, "web-5c98-abcde"), counters(25.0, "web-5c98-abcde"), counters(25.0, "web-admin-0")];
        let told = introduced(&target, &past);
        let seen: Vec<(f64, bool, &str)> = told
            .iter()
            .filter_map(|o| match &o.what {
                Observation::Pod(p) => Some((o.t, p.deleted, p.revision.0.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(seen, [(10.0, false, "a"), (25.001, true, "a")]);
    }
}
