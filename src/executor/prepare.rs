//! Everything before the first write: fresh reads, the gates, the plan, the rehearsal.

use super::{
    gate::{Blocked, Gate, PastUndo, Situation, gate},
    plan::{Plan, check, plan},
    references,
    send::{self, Sent},
    target::{Known, NoTarget, Target, choose, chosen},
};
use crate::{
    clock::seconds,
    cluster::{Cluster, Freezes, RevisionEntry, WorkloadView, get_raw, of_raw, revisions},
    domain::{Judgement, Response, Revision, Rules, Seconds, WorkloadId},
    record::{Incident, Incidents, Phase, Pin, PinState, Pins, RecordError, RevisionRef, Trigger},
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// Which revision a person chose.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The last known good one.
    LastGood,
    /// A number, as Kubernetes counts now.
    Number(i64),
    /// A template hash.
    Revision(Revision),
}

/// What is asked of the executor.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    /// Which workload.
    pub id: WorkloadId,
    /// Its uid when it was judged.
    pub uid: String,
    /// The bad revision.
    pub bad: Revision,
    /// The revision that was serving before it.
    pub from: Option<Revision>,
    /// The rules in force.
    pub rules: Arc<Rules>,
    /// The verdict, when there is one.
    pub judgement: Option<Judgement>,
    /// When the rollout began.
    pub began: Option<Seconds>,
    /// Who asks.
    pub by: Trigger,
    /// Where to go.
    pub choice: Choice,
}

/// An undo that may be sent now.
pub struct Prepared {
    /// The patch and its names.
    pub plan: Plan,
    /// Where it goes.
    pub target: Target,
    /// The live object that the plan was made from.
    pub live: Value,
    /// Images and number of the bad revision.
    pub bad: RevisionRef,
    /// What could not be looked up.
    pub unchecked: Vec<String>,
}

/// Why an undo is not prepared.
#[derive(Debug)]
pub(super) enum Stop {
    /// A gate; the bad revision and the target as far as they are known.
    Blocked { blocked: Blocked, bad: RevisionRef, target: Option<RevisionRef> },
    /// The cluster could not be read or did not answer clearly.
    Error(String),
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Stop::Error(error.to_string())
    }
}

impl From<crate::cluster::ReadError> for Stop {
    fn from(error: crate::cluster::ReadError) -> Self {
        Stop::Error(error.to_string())
    }
}

pub(super) struct Readers<'a> {
    pub cluster: &'a Cluster,
    pub incidents: &'a Incidents,
    pub pins: &'a Pins,
    pub leads: bool,
    pub now: Seconds,
    /// What people have frozen; a person's own undo asks nobody.
    pub freezes: Option<Arc<Freezes>>,
}

/// Reads everything afresh and goes through the gates; nothing is written.
pub(super) async fn prepare(r: &Readers<'_>, request: &UndoRequest, undo_id: &str) -> Result<Prepared, Stop> {
    // The record first, the workload after it: an undo that lands in between then shows as a template that is live
    // no more. The other way round it would look as if the bad template had come again. That it is not undone twice
    // rests on the name of the Incident, not on this.
    let of_workload = r.incidents.of(&request.id.namespace, &request.uid).await?;
    let object = get_raw(&r.cluster.reader, &request.id).await?;
    let Some(view) = of_raw(request.id.kind, &object) else {
        return Err(Stop::Error(format!("{} cannot be read", request.id)));
    };
    let live = serde_json::to_value(&object).map_err(|e| Stop::Error(e.to_string()))?;
    let entries = revisions(&r.cluster.reader, &request.id, &view.uid, &view.selector).await?;
    let pins = r.pins.of(&request.id, &view.uid).await?;
    // A person's undo pulls no brake, and a person may have no right to look everywhere.
    let past = if request.by.manual { Vec::new() } else { past(&r.incidents.all().await?, undo_id) };
    let frozen = r.freezes.as_ref().and_then(|f| f.why(&request.id.namespace, &view.annotations, r.now));

    let target = pick(request, &view, &entries, &pins, &of_workload);
    let bad = reference(&entries, &request.bad, &view);
    let situation = Situation {
        now: r.now,
        id: &request.id,
        judged_uid: &request.uid,
        live_uid: &view.uid,
        bad: &request.bad,
        live: &view.template.revision,
        leads: r.leads,
        paused: view.paused,
        deleting: view.deleting,
        owner: view.owner,
        frozen: frozen.as_deref(),
        rules: &request.rules,
        response: request.judgement.as_ref().map_or(Response::Undo, |j| j.response(&request.rules, r.now)),
        undone_before: undone_before(&of_workload, &request.bad),
        past: &past,
        target: target.as_ref(),
        manual: request.by.manual,
    };
    let target_ref = target.as_ref().ok().map(Target::reference);
    let block = |blocked| Stop::Blocked { blocked, bad: bad.clone(), target: target_ref.clone() };
    gate(&situation).map_err(block)?;
    let target = target.map_err(|_| Stop::Error("no target although the gate let it pass".into()))?;

    let references = references::check(&r.cluster.reader, &request.id.namespace, &target.template).await;
    if !references.missing.is_empty() {
        let why = format!("the revision to go back to needs what is gone: {}", references.missing.join(", "));
        return Err(block(Blocked { gate: Gate::NotRunnable, why }));
    }

    let plan = plan(&live, &target, undo_id);
    // I4 by name: the plan is for the template that was judged.
    assert_eq!(plan.bad, request.bad, "I4: the live template is the judged one");
    match send::patch(&r.cluster.writer, &request.id, &plan.patch, true).await {
        Sent::Applied(rehearsed) => {
            let rehearsed = serde_json::to_value(&*rehearsed).map_err(|e| Stop::Error(e.to_string()))?;
            check(&live, &rehearsed, &plan).map_err(|why| block(Blocked { gate: Gate::Admission, why }))?;
        }
        Sent::Refused(why) => {
            let why = format!("the API server refuses the undo: {why}");
            return Err(block(Blocked { gate: Gate::Admission, why }));
        }
        Sent::MovedOn => return Err(Stop::Error("the workload changed while the undo was rehearsed".into())),
        Sent::Later { why, .. } | Sent::Unclear(why) => {
            return Err(Stop::Error(format!("the rehearsal got no answer: {why}")));
        }
    }
    Ok(Prepared { plan, target, live, bad, unchecked: references.unchecked })
}

fn pick(
    request: &UndoRequest,
    view: &WorkloadView,
    entries: &[RevisionEntry],
    pins: &[Pin],
    incidents: &[Incident],
) -> Result<Target, NoTarget> {
    let known_bad = known_bad(incidents, pins);
    // Without a trial (a person asks), the newest other revision was serving before.
    let before = crate::cluster::before(entries, &view.template.revision).map(|e| &e.mark.revision);
    let known = Known {
        bad: &request.bad,
        from: request.from.as_ref().or(before),
        from_measured_good: request.judgement.as_ref().and_then(|j| j.baseline_good),
        worse_than_from: request.judgement.as_ref().is_some_and(|j| j.worse_than_before),
        entries,
        pins,
        known_bad: &known_bad,
    };
    let wanted = match &request.choice {
        Choice::LastGood => return choose(&known),
        Choice::Number(number) => entries.iter().find(|e| e.number == *number).map(|e| e.mark.revision.clone()),
        Choice::Revision(revision) => Some(revision.clone()),
    };
    let not_there = || {
        let earlier = entries.iter().filter(|e| e.mark.revision != request.bad);
        NoTarget::NotThere(
            earlier.map(|e| format!("{} ({}, {})", e.number, e.mark.images.join(", "), e.mark.revision)).collect(),
        )
    };
    wanted.filter(|w| *w != request.bad).and_then(|wanted| chosen(&known, &wanted)).ok_or_else(not_there)
}

/// Revisions that an incident names as bad, unless they passed a trial after it.
fn known_bad(incidents: &[Incident], pins: &[Pin]) -> BTreeSet<Revision> {
    let passed_since = |bad: &Revision, t: Seconds| {
        pins.iter().any(|p| p.state == PinState::Passed && p.mark.revision == *bad && p.pinned > t)
    };
    // What a person went away from is bad, too; what a person only tried to leave is not.
    let counts = |i: &Incident| !i.spec.trigger.manual || i.status.as_ref().is_some_and(|s| s.applied.is_some());
    let bad = |i: &Incident| counts(i).then(|| (i.spec.bad.hash.clone(), seconds(i.spec.decided)));
    incidents.iter().filter_map(bad).filter(|(hash, t)| !passed_since(hash, *t)).map(|(hash, _)| hash).collect()
}

/// I1: whether this bad template of this workload was undone by Lastgood before.
fn undone_before(incidents: &[Incident], bad: &Revision) -> bool {
    let applied = |i: &&Incident| i.status.as_ref().is_some_and(|s| s.applied.is_some() || s.phase.was_applied());
    incidents.iter().filter(|i| !i.spec.trigger.manual && i.spec.bad.hash == *bad).any(|i| applied(&i))
}

/// Undos in the past, but for the one that is being prepared.
fn past(incidents: &[Incident], but: &str) -> Vec<PastUndo> {
    incidents
        .iter()
        .filter(|i| i.status.as_ref().is_none_or(|s| s.undo_id.as_deref() != Some(but)))
        .filter_map(|i| {
            let status = i.status.as_ref()?;
            let t = status.applied.or((status.phase == Phase::Intended).then_some(i.spec.decided))?;
            Some(PastUndo {
                uid: i.spec.workload.uid.clone(),
                namespace: i.metadata.namespace.clone().unwrap_or_default(),
                t: seconds(t),
                manual: i.spec.trigger.manual,
            })
        })
        .collect()
}

fn reference(entries: &[RevisionEntry], revision: &Revision, view: &WorkloadView) -> RevisionRef {
    match entries.iter().find(|e| e.mark.revision == *revision) {
        Some(e) => RevisionRef {
            hash: revision.clone(),
            number: Some(e.number),
            images: e.mark.images.clone(),
            object: Some(e.object.clone()),
        },
        None => {
            RevisionRef { hash: revision.clone(), number: None, images: view.template.images.clone(), object: None }
        }
    }
}

impl Target {
    /// The target as an incident names it.
    pub fn reference(&self) -> RevisionRef {
        RevisionRef {
            hash: self.mark.revision.clone(),
            number: self.number,
            images: self.mark.images.clone(),
            object: Some(self.object.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        cluster::{Contact, TemplateMark},
        domain::{Kind, Mode},
        executor::gate::Gate,
        record::Trigger,
    };
    use kube::{Client, client::Body};
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    /// An API server on which the undo of another replica lands right after the first read of either side.
    fn raced(bad: &Revision) -> Client {
        let (bad, landed) = (bad.clone(), Arc::new(AtomicBool::new(false)));
        let answer = move |request: http::Request<Body>| {
            let path = request.uri().path().to_owned();
            let looks = path.ends_with("/deployments/web") || path.ends_with("/incidents");
            let landed = if looks { landed.swap(true, Ordering::SeqCst) } else { landed.load(Ordering::SeqCst) };
            let list =
                |kind: &str, items: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items});
            let body = match path.rsplit('/').next().unwrap_or_default() {
                "web" => json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 2},
                    "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(if landed { "web:1" } else { "web:2" })},
                }),
                "incidents" if landed => list(
                    "IncidentList",
                    json!([{
                        "apiVersion": "lastgood.dev/v1", "kind": "Incident", "metadata": {"name": "web-1", "namespace": "shop"},
                        "spec": {
                            "workload": {"kind": "Deployment", "name": "web", "uid": "u"}, "environment": "test",
                            "bad": {"hash": bad}, "trigger": {"by": "Lastgood", "manual": false}, "reason": "errors",
                            "explanation": "x", "decided": "2026-01-01T00:00:00Z",
                        },
                        "status": {"phase": "Applied", "applied": "2026-01-01T00:00:01Z", "journal": []},
                    }]),
                ),
                _ => list("List", json!([])),
            };
            let answer = http::Response::new(Body::from(body.to_string().into_bytes()));
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        };
        Client::new(tower::service_fn(answer), "shop")
    }

    #[tokio::test]
    async fn an_undo_that_lands_between_two_reads_is_no_template_that_came_again() {
        let bad = TemplateMark::of(&template("web:2")).revision;
        let client = raced(&bad);
        let cluster = Cluster {
            reader: client.clone(),
            writer: client.clone(),
            url: "http://test".into(),
            contact: Contact::default(),
            default_namespace: "shop".into(),
            namespaces: Vec::new(),
        };
        let incidents = Incidents::new(client.clone(), Clock::system(), &[]);
        let pins = Pins::new(client);
        let readers =
            Readers { cluster: &cluster, incidents: &incidents, pins: &pins, leads: true, now: 0.0, freezes: None };
        let request = UndoRequest {
            id: WorkloadId::new("shop", Kind::Deployment, "web"),
            uid: "u".into(),
            bad,
            from: None,
            rules: Arc::new(Rules { mode: Mode::Act, ..Rules::default() }),
            judgement: None,
            began: None,
            by: Trigger { by: "Lastgood".into(), manual: false, note: None },
            choice: Choice::LastGood,
        };
        match prepare(&readers, &request, "id").await {
            Err(Stop::Blocked { blocked, .. }) => assert_eq!(blocked.gate, Gate::Superseded, "{}", blocked.why),
            Err(Stop::Error(why)) => panic!("{why}"),
            Ok(_) => panic!("nothing stood in the way"),
        }
    }
}
