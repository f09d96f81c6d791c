//! The invariants I1 to I18, held against what happened: the audit log, the objects at the end, reports and notices.
//!
//! The checker knows nothing of how a daemon works; it reads [`Evidence`]. Each rule is shown to fail by forged
//! evidence at the end of the file. What evidence cannot show is shown elsewhere: I3 by the expectations of every
//! story and the oracle of the generator, I15 is a later capability, I16 because a story that hangs never ends, I17 by
//! the configuration's own tests, I18 by the comparison of runs with crashes (`crashes.rs`).

use lastgood::{cluster::TemplateMark, domain::UNDO_ANNOTATION};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One write of a daemon to a workload that was stored.
#[derive(Debug, Clone)]
pub struct Write {
    /// Seconds.
    pub at: f64,
    pub who: String,
    pub uid: String,
    /// `namespace/name`.
    pub workload: String,
    /// The object before and after.
    pub before: Value,
    pub after: Value,
    /// The JSON patch.
    pub patch: Value,
    /// Whether the workload was armed, and nobody had frozen it, when it was written.
    pub armed: bool,
}

/// A workload as it was once.
#[derive(Debug, Clone)]
pub struct State {
    pub at: f64,
    pub uid: String,
    pub template: Value,
    /// Every desired pod was of this template and available.
    pub complete: bool,
}

/// A moment at which an Incident became Verified.
#[derive(Debug, Clone)]
pub struct Verified {
    pub incident: String,
    /// Every pod was of the target and Ready, no other was left, and the controller had seen the live spec.
    pub arrived: bool,
}

/// A notice that a receiver got.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub channel: String,
    pub key: String,
    pub body: Value,
}

/// All that a run leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub writes: Vec<Write>,
    pub history: Vec<State>,
    /// Incidents at the end, as stored.
    pub incidents: Vec<Value>,
    pub verified: Vec<Verified>,
    /// Text of each report.
    pub reports: Vec<String>,
    pub told: Vec<Told>,
    /// Names of the channels; each must be told of every end.
    pub channels: Vec<String>,
    /// Events, as stored.
    pub events: Vec<Value>,
    /// A secret that stands in every template.
    pub canary: String,
    /// At most so many undos of a workload, a namespace, the cluster, in so many seconds.
    pub brakes: [(usize, f64); 3],
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken(pub &'static str, pub String);

/// Everything that is broken.
pub fn broken(e: &Evidence) -> Vec<Broken> {
    let mut found = Vec::new();
    let undos: Vec<&Write> = e.writes.iter().filter(|w| template(&w.before) != template(&w.after)).collect();
    one_undo(&undos, &mut found);
    known_good(e, &undos, &mut found);
    judged_template(e, &undos, &mut found);
    only_the_template(e, &mut found);
    restored_as_stored(e, &undos, &mut found);
    ended(e, &mut found);
    told(e, &mut found);
    hands_off(e, &mut found);
    brakes(e, &undos, &mut found);
    secrets(e, &mut found);
    fresh(e, &mut found);
    found
}

fn template(object: &Value) -> &Value {
    &object["spec"]["template"]
}

fn hash(object: &Value) -> String {
    TemplateMark::of(template(object)).revision.0
}

fn phase(incident: &Value) -> &str {
    incident["status"]["phase"].as_str().unwrap_or("Reported")
}

fn name(incident: &Value) -> &str {
    incident["metadata"]["name"].as_str().unwrap_or_default()
}

/// Id of the undo in the mark on an object.
fn undo_id(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][UNDO_ANNOTATION].as_str()?.rsplit('/').next()
}

/// I1, and I9 when more than one daemon wrote.
fn one_undo(undos: &[&Write], found: &mut Vec<Broken>) {
    let mut by: BTreeMap<(String, String), Vec<&Write>> = BTreeMap::new();
    for undo in undos {
        by.entry((undo.uid.clone(), hash(&undo.before))).or_default().push(undo);
    }
    for ((uid, bad), undos) in by.iter().filter(|(_, undos)| undos.len() > 1) {
        let daemons: BTreeSet<&str> = undos.iter().map(|u| u.who.as_str()).collect();
        let which = if daemons.len() > 1 { "I9" } else { "I1" };
        found.push(Broken(which, format!("{} undos of {bad} of {uid} ({})", undos.len(), undos[0].workload)));
    }
}

/// I2: the target was complete once, and no Incident had named it as bad before.
fn known_good(e: &Evidence, undos: &[&Write], found: &mut Vec<Broken>) {
    for (nth, undo) in undos.iter().enumerate() {
        let target = hash(&undo.after);
        let of_target = |s: &&State| s.uid == undo.uid && TemplateMark::of(&s.template).revision.0 == target;
        if !e.history.iter().filter(of_target).any(|s| s.complete && s.at <= undo.at) {
            found.push(Broken("I2", format!("{}: the target {target} was never seen complete", undo.workload)));
        }
        if undos[..nth].iter().any(|u| u.uid == undo.uid && hash(&u.before) == target) {
            found.push(Broken("I2", format!("{}: the target {target} was undone before", undo.workload)));
        }
    }
}

/// I4: what was undone is what the Incident names, and the API server was told to check it.
fn judged_template(e: &Evidence, undos: &[&Write], found: &mut Vec<Broken>) {
    for undo in undos {
        let id = undo_id(&undo.after);
        let of_undo = |i: &&Value| id.is_some() && i["status"]["undoId"].as_str() == id;
        match e.incidents.iter().find(of_undo) {
            None => found.push(Broken("I4", format!("{}: no Incident tells of undo {id:?}", undo.workload))),
            Some(incident) if incident["spec"]["bad"]["hash"] != json!(hash(&undo.before)) => {
                found.push(Broken("I4", format!("{}: another template was undone than was judged", undo.workload)));
            }
            Some(_) => {}
        }
        let tests = |path: &str, value: &Value| {
            let ops = undo.patch.as_array().into_iter().flatten();
            ops.filter(|op| op["op"] == "test" && op["path"] == path).any(|op| op["value"] == *value)
        };
        if !tests("/metadata/uid", &json!(undo.uid)) || !tests("/spec/template", template(&undo.before)) {
            found.push(Broken("I4", format!("{}: the patch does not test uid and template", undo.workload)));
        }
    }
}

/// I5: template, our own annotation, the template inside last-applied; and what the server itself counts.
fn only_the_template(e: &Evidence, found: &mut Vec<Broken>) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let rest = |object: &Value| {
        let mut rest = object.clone();
        rest["spec"]["template"] = Value::Null;
        rest["status"] = Value::Null;
        for counted in ["managedFields", "resourceVersion", "generation"] {
            rest["metadata"][counted] = Value::Null;
        }
        if !rest["metadata"]["annotations"].is_object() {
            rest["metadata"]["annotations"] = json!({});
        }
        if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
            annotations.remove(UNDO_ANNOTATION);
            annotations.remove("deprecated.daemonset.template.generation");
            if let Some(applied) = annotations.get_mut(LAST_APPLIED) {
                let mut inner: Value = serde_json::from_str(applied.as_str().unwrap_or_default()).unwrap_or_default();
                if inner.is_object() {
                    inner["spec"]["template"] = Value::Null;
                }
                *applied = inner;
            }
        }
        rest
    };
    for write in &e.writes {
        if rest(&write.before) != rest(&write.after) {
            found.push(Broken("I5", format!("{}: more than the template was changed", write.workload)));
        }
    }
}

/// I6: the restored template is one that was live before, in every field, but for the controller's own label.
fn restored_as_stored(e: &Evidence, undos: &[&Write], found: &mut Vec<Broken>) {
    for undo in undos {
        let same = |s: &&State| s.uid == undo.uid && s.at <= undo.at && s.template == *template(&undo.after);
        if !e.history.iter().any(|s| same(&s)) {
            found.push(Broken("I6", format!("{}: the restored template was never live", undo.workload)));
        }
    }
}

/// I7: every Incident has come to an end.
fn ended(e: &Evidence, found: &mut Vec<Broken>) {
    for incident in e.incidents.iter().filter(|i| matches!(phase(i), "Intended" | "Applied")) {
        found.push(Broken("I7", format!("{} stays {}", name(incident), phase(incident))));
    }
}

/// Words of another version are that version's to tell of.
fn is_ours(incident: &Value) -> bool {
    const ENDS: [&str; 6] = ["Reported", "Verified", "Unproven", "DidNotHelp", "Superseded", "Failed"];
    ENDS.contains(&phase(incident))
}

/// I8: every end has its report, and every channel was told of it under one key.
fn told(e: &Evidence, found: &mut Vec<Broken>) {
    for incident in e.incidents.iter().filter(|i| is_ours(i)) {
        let (name, phase) = (name(incident), phase(incident));
        if !e.reports.iter().any(|text| text.contains(name)) {
            found.push(Broken("I8", format!("{name} has no report")));
        }
        for channel in &e.channels {
            let word = phase.to_lowercase();
            let of_end = |t: &&Told| {
                t.channel == *channel && t.key.contains(name) && t.key.to_lowercase().replace('-', "").contains(&word)
            };
            if !e.told.iter().any(|t| of_end(&t)) {
                found.push(Broken("I8", format!("{channel} was not told that {name} is {phase}")));
            }
        }
    }
    for told in &e.told {
        if e.told.iter().any(|t| (&t.channel, &t.key) == (&told.channel, &told.key) && t.body != told.body) {
            found.push(Broken("I8", format!("{} was told two things under the key {}", told.channel, told.key)));
        }
    }
}

/// I10 and I14.
fn hands_off(e: &Evidence, found: &mut Vec<Broken>) {
    for write in &e.writes {
        let said = |what: &str| format!("{} was written although {what}", write.workload);
        if !write.armed {
            found.push(Broken("I14", said("it is not armed, or frozen")));
        }
        let changes = template(&write.before) != template(&write.after);
        if changes && write.before["spec"]["paused"] == json!(true) {
            found.push(Broken("I10", said("it was paused")));
        }
        if changes && !write.before["metadata"]["deletionTimestamp"].is_null() {
            found.push(Broken("I10", said("it is being deleted")));
        }
    }
}

/// I11.
fn brakes(e: &Evidence, undos: &[&Write], found: &mut Vec<Broken>) {
    let namespace = |w: &Write| w.workload.split('/').next().unwrap_or_default().to_owned();
    type GroupOf<'a> = &'a dyn Fn(&Write) -> String;
    let groups: [(&str, GroupOf<'_>); 3] =
        [("workload", &|w| w.uid.clone()), ("namespace", &namespace), ("cluster", &|_| String::new())];
    for ((what, key), (most, window)) in groups.into_iter().zip(e.brakes) {
        for undo in undos {
            let near = |u: &&&Write| key(u) == key(undo) && u.at <= undo.at && undo.at - u.at < window;
            let count = undos.iter().filter(near).count();
            if count > most {
                found.push(Broken("I11", format!("{count} undos of one {what} within {window} s")));
            }
        }
    }
}

/// I12. Pins hold templates and are not looked at.
fn secrets(e: &Evidence, found: &mut Vec<Broken>) {
    if e.canary.is_empty() {
        return;
    }
    let bodies = e.told.iter().map(|t| ("a notice", t.body.to_string()));
    let incidents = e.incidents.iter().map(|i| ("an Incident", i.to_string()));
    let events = e.events.iter().map(|i| ("an Event", i.to_string()));
    let reports = e.reports.iter().map(|r| ("a report", r.clone()));
    for (what, text) in bodies.chain(incidents).chain(events).chain(reports) {
        if text.contains(&e.canary) {
            found.push(Broken("I12", format!("{what} shows a value of a template")));
        }
    }
}

/// I13.
fn fresh(e: &Evidence, found: &mut Vec<Broken>) {
    for verified in e.verified.iter().filter(|v| !v.arrived) {
        let text = format!("{} was called verified before its pods were there", verified.incident);
        found.push(Broken("I13", text));
    }
}

// ---------------------------------------------------------------------------------------------
// The checker can fail

fn object(image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "annotations": {"team": "a"}},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

/// A good run: v1, v2 is bad, one undo, verified, told.
fn good() -> Evidence {
    let (before, mut after) = (object("v2"), object("v1"));
    after["metadata"]["annotations"][UNDO_ANNOTATION] = json!(format!("u1/{}/id7", hash(&object("v1"))));
    let state =
        |at, object: &Value, complete| State { at, uid: "u1".into(), template: template(object).clone(), complete };
    let incident = json!({
        "metadata": {"name": "web-1"}, "spec": {"bad": {"hash": hash(&before)}},
        "status": {"phase": "Verified", "undoId": "id7"},
    });
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": "u1"},
        {"op": "test", "path": "/spec/template", "value": template(&before)},
    ]);
    Evidence {
        history: vec![state(0.0, &after, true), state(50.0, &before, false)],
        writes: vec![Write {
            at: 100.0,
            who: "lastgood".into(),
            uid: "u1".into(),
            workload: "shop/web".into(),
            before,
            after,
            patch,
            armed: true,
        }],
        incidents: vec![incident],
        verified: vec![Verified { incident: "web-1".into(), arrived: true }],
        reports: vec!["# web-1".into()],
        told: vec![Told { channel: "hook".into(), key: "shop/web-1/verified/hook".into(), body: json!({"a": 1}) }],
        channels: vec!["hook".into()],
        events: vec![json!({"note": "undone"})],
        canary: "canary".into(),
        brakes: [(2, 3600.0), (3, 600.0), (5, 600.0)],
    }
}

#[test]
fn every_invariant_can_be_broken() {
    let said = |forge: &dyn Fn(&mut Evidence)| {
        let mut evidence = good();
        forge(&mut evidence);
        broken(&evidence).into_iter().map(|b| b.0).collect::<BTreeSet<_>>()
    };
    let only = |which: &'static str| BTreeSet::from([which]);
    assert_eq!(broken(&good()), []);
    assert!(said(&|e| e.writes.push(e.writes[0].clone())).contains("I1"), "the same twice");
    assert!(
        said(&|e| e.writes.push(Write { who: "other".into(), ..e.writes[0].clone() })).contains("I9"),
        "the same by another daemon"
    );
    assert_eq!(said(&|e| e.history[0].complete = false), only("I2"));
    assert_eq!(said(&|e| e.incidents[0]["spec"]["bad"]["hash"] = json!("other")), only("I4"));
    assert_eq!(said(&|e| e.writes[0].patch = json!([])), only("I4"));
    assert_eq!(said(&|e| e.incidents[0]["status"]["undoId"] = json!("id8")), only("I4"));
    assert_eq!(said(&|e| e.writes[0].after["spec"]["replicas"] = json!(2)), only("I5"));
    assert_eq!(said(&|e| e.writes[0].after["metadata"]["annotations"]["team"] = json!("b")), only("I5"));
    let altered = said(&|e| e.writes[0].after["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v0"));
    assert!(altered.contains("I6") && altered.contains("I2"), "{altered:?}");
    let open = said(&|e| e.incidents[0]["status"]["phase"] = json!("Applied"));
    assert!(open.contains("I7"), "{open:?}");
    assert_eq!(said(&|e| e.reports.clear()), only("I8"));
    assert_eq!(said(&|e| e.told.clear()), only("I8"));
    assert_eq!(said(&|e| e.told.push(Told { body: json!({"a": 2}), ..e.told[0].clone() })), only("I8"));
    assert_eq!(said(&|e| e.writes[0].armed = false), only("I14"));
    let paused = |e: &mut Evidence| {
        e.writes[0].before["spec"]["paused"] = json!(true);
        e.writes[0].after["spec"]["paused"] = json!(true);
    };
    assert_eq!(said(&paused), only("I10"));
    let deleting = |e: &mut Evidence| {
        e.writes[0].before["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        e.writes[0].after["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    };
    assert_eq!(said(&deleting), only("I10"));
    assert_eq!(said(&|e| e.brakes[0].0 = 0), only("I11"));
    assert_eq!(said(&|e| e.brakes[2].0 = 0), only("I11"));
    assert_eq!(said(&|e| e.events[0]["note"] = json!("canary")), only("I12"));
    assert_eq!(said(&|e| e.reports[0] += " canary"), only("I12"));
    assert_eq!(said(&|e| e.verified[0].arrived = false), only("I13"));
}
