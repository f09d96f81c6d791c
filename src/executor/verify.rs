//! Proof that an undo arrived and helped, from observations made after it (I13).

use super::send;
use crate::{
    clock::{Clock, seconds, timestamp},
    cluster::{Cluster, Members, READ_DEADLINE, ReadError, get_raw, of_raw, revisions, within},
    domain::{Kind, Recovery, RecoveryState, Revision, Seconds, WorkloadId},
    record::{Leadership, Phase},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::Value;
use std::time::Duration;
use tokio::{sync::watch, time::MissedTickBehavior};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A pod of the bad revision that is not Ready for this long after the undo is stuck.
const STUCK_AFTER: Seconds = 5.0;
/// Evictions are asked for no more often than this.
const EVICT_EVERY: Seconds = 5.0;

/// What is to be proved.
pub(super) struct Claim<'a> {
    pub id: &'a WorkloadId,
    pub uid: &'a str,
    pub bad: &'a Revision,
    pub target: &'a Revision,
    pub applied: Timestamp,
    pub verify_by: Timestamp,
    /// Whether signals must agree: the verdict came from them.
    pub needs_signals: bool,
    /// Permission to evict stuck pods of a StatefulSet.
    pub may_evict: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proof {
    pub phase: Phase,
    pub text: String,
    /// Pods that were evicted.
    pub evicted: Vec<String>,
    /// When all pods ran the restored revision and were available.
    pub completed: Option<Timestamp>,
}

/// What one look at the cluster shows.
struct Look {
    /// Set when there is nothing left to wait for.
    ended: Option<(Phase, String)>,
    /// Every desired pod is of the target and available, and no other pod is left.
    done: bool,
    /// What is still missing.
    missing: String,
    /// StatefulSet pods of the bad revision that are not Ready and stay.
    stuck: Vec<String>,
}

/// Looks until the claim is proved, disproved, or its time is over; `None` when another replica leads.
pub(super) async fn verify(
    cluster: &Cluster,
    clock: Clock,
    claim: &Claim<'_>,
    mut signals: watch::Receiver<Option<Recovery>>,
    leadership: &Leadership,
) -> Option<Proof> {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut evicted = Vec::new();
    let mut said: String;
    let mut done_since: Option<Seconds> = None;
    let (mut evict_again, mut last_refusal) = (0.0, None::<String>);
    loop {
        tick.tick().await;
        if !leadership.leads() {
            return None;
        }
        let now = clock.now();
        match look(cluster, claim, now).await {
            // An unreadable cluster proves nothing; the next look may.
            Err(error) => said = error.to_string(),
            Ok(look) => {
                if let Some((phase, text)) = look.ended {
                    return Some(Proof { phase, text, evicted, completed: None });
                }
                let mut refused = None;
                let due = claim.may_evict && now >= evict_again;
                for pod in look.stuck.iter().filter(|_| due) {
                    match send::evict(&cluster.writer, &claim.id.namespace, pod).await {
                        Ok(()) if evicted.contains(pod) => {}
                        Ok(()) => evicted.push(pod.clone()),
                        // A disruption budget or a missing right: no hammering, and the outcome tells it.
                        Err(error) => refused = Some(error.to_string()),
                    }
                    evict_again = now + EVICT_EVERY;
                }
                last_refusal = refused.or(last_refusal).filter(|_| !look.stuck.is_empty());
                done_since = if look.done { done_since.or(Some(now)) } else { None };
                said = if look.stuck.is_empty() || claim.may_evict {
                    look.missing
                } else {
                    format!(
                        "{}; stuck on the bad revision: {} (undo.evictStuckPods is off)",
                        look.missing,
                        look.stuck.join(", ")
                    )
                };
                if let Some(why) = &last_refusal {
                    said = format!("{said}; {why}");
                }
            }
        }
        let signal =
            signals.borrow_and_update().clone().filter(|r| r.target == *claim.target && r.t > seconds(claim.applied));
        let over = now >= seconds(claim.verify_by);
        let completed = done_since.map(timestamp);
        let proof = |phase, text| Some(Proof { phase, text, evicted: evicted.clone(), completed });
        let ended = match (done_since, signal) {
            (Some(_), Some(r)) if r.state == RecoveryState::DidNotHelp => proof(Phase::DidNotHelp, r.explanation),
            (Some(_), Some(r)) if r.state == RecoveryState::Helped => proof(Phase::Verified, r.explanation),
            (Some(_), _) if !claim.needs_signals => {
                proof(Phase::Verified, "all pods run the restored revision and are available".into())
            }
            (Some(_), Some(r)) if over || r.state == RecoveryState::CannotTell => {
                proof(Phase::Unproven, format!("the restored revision is available, but {}", r.explanation))
            }
            (Some(_), None) if over => proof(
                Phase::Unproven,
                "the restored revision is available, but no signal was measured after the undo".into(),
            ),
            (None, _) if over => {
                proof(Phase::Failed, format!("the restored revision did not become available in time: {said}"))
            }
            _ => None,
        };
        if ended.is_some() {
            return ended;
        }
    }
}

async fn look(cluster: &Cluster, claim: &Claim<'_>, now: Seconds) -> Result<Look, ReadError> {
    let object = match get_raw(&cluster.reader, claim.id).await {
        Ok(object) => object,
        Err(ReadError::Missing(_)) => return Ok(Look::ended(Phase::Superseded, "the workload was deleted".into())),
        Err(error) => return Err(error),
    };
    let Some(view) = of_raw(claim.id.kind, &object) else {
        return Err(ReadError::Missing(format!("a readable {}", claim.id)));
    };
    let live = &view.template.revision;
    if view.uid != claim.uid {
        return Ok(Look::ended(Phase::Superseded, "the workload was deleted and made anew".into()));
    }
    if live == claim.bad {
        let owner = view.owner.map_or("somebody".to_owned(), |o| o.to_string());
        return Ok(Look::ended(
            Phase::Failed,
            format!("{owner} put the bad revision back; Lastgood does not fight over it"),
        ));
    }
    if live != claim.target {
        return Ok(Look::ended(Phase::Superseded, format!("a newer deploy ({live}) replaced the restored revision")));
    }
    let entries = revisions(&cluster.reader, claim.id, claim.uid, &view.selector).await?;
    let members = Members::new(claim.id, claim.uid, &entries, Clone::clone);
    let api: Api<Pod> = Api::namespaced(cluster.reader.clone(), &claim.id.namespace);
    let params = ListParams::default().labels(&view.selector);
    let pods = within(READ_DEADLINE, format!("listing the pods of {}", claim.id), api.list(&params)).await?;
    let states: Vec<_> = pods.iter().filter_map(|p| members.seen(p)).map(|s| s.state).filter(|s| !s.deleted).collect();
    let good = states.iter().filter(|s| s.revision == *claim.target && s.ready).count();
    let other = states.iter().filter(|s| s.revision != *claim.target).count();
    let desired = usize::try_from(view.progress.desired).unwrap_or(0);
    let stuck = |s: &&crate::domain::PodState| {
        claim.id.kind == Kind::StatefulSet
            && s.revision == *claim.bad
            && !s.ready
            && now - seconds(claim.applied) > STUCK_AFTER
    };
    let held = if view.progress.held_by_strategy {
        "; its update strategy moves no pods by itself: delete them by hand"
    } else {
        ""
    };
    let refused = replica_failure(&object.data).map(|why| format!("; no pod can be made: {why}")).unwrap_or_default();
    Ok(Look {
        ended: None,
        done: view.progress.observed && view.progress.complete() && good >= desired && other == 0,
        missing: format!(
            "{good} of {desired} pods of the restored revision are Ready, {other} of other revisions are left{held}{refused}"
        ),
        stuck: states.iter().filter(stuck).map(|s| s.pod.name.clone()).collect(),
    })
}

impl Look {
    fn ended(phase: Phase, text: String) -> Self {
        Self { ended: Some((phase, text)), done: false, missing: String::new(), stuck: Vec::new() }
    }
}

/// Why the controller cannot make pods (a quota, an admission rule), as a Deployment tells it.
fn replica_failure(object: &Value) -> Option<&str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let failing = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    failing["message"].as_str()
}

#[cfg(test)]
mod tests {
    use super::replica_failure;
    use serde_json::json;

    #[test]
    fn case_30_a_quota_that_leaves_no_room_is_named() {
        let with = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "Available", "status": "True", "message": "fine"},
                {"type": "ReplicaFailure", "status": status, "message": "exceeded quota: tight"},
            ]}})
        };
        assert_eq!(replica_failure(&with("True")), Some("exceeded quota: tight"));
        assert_eq!(replica_failure(&with("False")), None);
        assert_eq!(replica_failure(&json!({})), None);
    }
}
