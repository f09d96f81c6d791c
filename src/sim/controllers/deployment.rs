//! Deployments: which ReplicaSet is the new one, how many pods each may have now, and what is told of it.

use super::{
    super::{
        object::{
            active, annotate, annotation, condition, count_or_share, deleting, flag, name, number, owned_by, put_label,
            text, uid,
        },
        resource::{Key, Resource},
        store::{Manager, Store},
    },
    owned,
    progress::{Counts, tell},
    rolling,
    status::Condition,
    template::{HASH, hash, same},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the whole Deployment should have, written on its ReplicaSets.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that stay on the Deployment.
const KEPT: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// A Deployment and its ReplicaSets as they are now.
pub(super) struct View {
    pub key: Key,
    pub deployment: Value,
    /// The ReplicaSet of the live template.
    pub new: Option<Value>,
    /// The others, oldest first.
    pub old: Vec<Value>,
}

/// Most pods above, and most unavailable pods below what is wanted.
pub(super) struct Fences {
    pub surge: i64,
    pub unavailable: i64,
}

impl View {
    fn read(store: &Store, key: &Key) -> Option<Self> {
        let deployment = store.get(key)?.clone();
        let mut sets: Vec<Value> = owned(store, Resource::ReplicaSets, &key.namespace, uid(&deployment))
            .into_iter()
            .map(|(_, set)| set)
            .collect();
        // Of two with the same template the older one is used; so it stays when the clock tells them not apart.
        sets.sort_by_cached_key(|set| (text(set, "/metadata/creationTimestamp").to_owned(), name(set).to_owned()));
        let template = &deployment["spec"]["template"];
        let at = sets.iter().position(|set| same(&set["spec"]["template"], template));
        let new = at.map(|at| sets.remove(at));
        Some(Self { key: key.clone(), deployment, new, old: sets })
    }

    pub fn wanted(&self) -> i64 {
        number(&self.deployment, "/spec/replicas").unwrap_or(1).max(0)
    }

    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(&self.new)
    }

    pub fn fences(&self) -> Fences {
        if self.recreates() {
            return Fences { surge: 0, unavailable: self.wanted() };
        }
        let rolling = self.deployment.pointer("/spec/strategy/rollingUpdate");
        let quarter = json!("25%");
        let read = |field: &str, up| {
            let value = rolling.and_then(|r| r.get(field)).filter(|value| !value.is_null()).unwrap_or(&quarter);
            count_or_share(value, self.wanted(), up).unwrap_or(0).max(0)
        };
        let (surge, unavailable) = (read("maxSurge", true), read("maxUnavailable", false));
        // With neither, nothing could ever move.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Fences { surge, unavailable: unavailable.min(self.wanted()) }
    }

    fn recreates(&self) -> bool {
        text(&self.deployment, "/spec/strategy/type") == "Recreate"
    }

    fn set_key(&self, set: &Value) -> Key {
        Key::new(Resource::ReplicaSets, &*self.key.namespace, name(set))
    }

    /// Gives a ReplicaSet so many pods; whether that was news.
    pub fn scale(&self, store: &mut Store, set: &Value, replicas: i64) -> bool {
        let (wanted, most) = (self.wanted(), self.wanted() + self.fences().surge);
        let changed = number(set, "/spec/replicas") != Some(replicas);
        let _ = store.update(&self.set_key(set), Manager::CONTROLLERS, |set| {
            set["spec"]["replicas"] = replicas.into();
            annotate(set, DESIRED, wanted.to_string());
            annotate(set, MAX, most.to_string());
        });
        changed
    }

    /// `progressDeadlineSeconds`; none when it is switched off by the largest number.
    pub fn deadline(&self) -> Option<f64> {
        let seconds = number(&self.deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
        (seconds < i64::from(i32::MAX)).then_some(seconds as f64)
    }
}

/// Sum of a field over ReplicaSets.
pub(super) fn sum<'a>(sets: impl Iterator<Item = &'a Value>, pointer: &str) -> i64 {
    sets.filter_map(|set| number(set, pointer)).sum()
}

/// One step of one Deployment.
pub fn reconcile(store: &mut Store, key: &Key) -> Option<Timestamp> {
    let view = View::read(store, key)?;
    if deleting(&view.deployment) {
        return tell(store, &view, None);
    }
    let paused = flag(&view.deployment, "/spec/paused");
    let note = pause_note(&view, paused);
    if paused || rolling::was_scaled(&view) {
        if view.new.is_some() {
            name_new(store, &view);
        }
        rolling::spread(store, &view);
        let view = View::read(store, key)?;
        clean_up(store, &view, paused);
        return tell(store, &view, note);
    }
    if view.recreates() {
        let running = view.old.iter().any(|set| number(set, "/spec/replicas").unwrap_or(0) > 0);
        view.old.iter().filter(|set| number(set, "/spec/replicas") != Some(0)).for_each(|set| {
            view.scale(store, set, 0);
        });
        // Until the last old pod is gone there is no new one.
        if running || pods_left(store, &view) {
            return tell(store, &view, note);
        }
    }
    let note = make_new(store, &view).or(note);
    let view = View::read(store, key)?;
    if view.recreates() {
        if let Some(new) = &view.new {
            view.scale(store, new, view.wanted());
        }
    } else {
        rolling::step(store, &view);
    }
    let view = View::read(store, key)?;
    clean_up(store, &view, false);
    tell(store, &view, note)
}

/// Says that a Deployment was paused or goes on: its deadline does not run meanwhile.
fn pause_note(view: &View, paused: bool) -> Option<Condition> {
    view.deadline()?;
    let reason = condition(&view.deployment, "Progressing").map_or("", |c| text(c, "/reason"));
    match (paused, reason) {
        (_, "ProgressDeadlineExceeded") | (true, "DeploymentPaused") => None,
        (true, _) => {
            Some(Condition::new("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused").touched())
        }
        (false, "DeploymentPaused") => {
            Some(Condition::new("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed").touched())
        }
        (false, _) => None,
    }
}

fn pods_left(store: &Store, view: &View) -> bool {
    view.old.iter().any(|set| {
        owned(store, Resource::Pods, &view.key.namespace, uid(set)).iter().any(|(_, pod)| active(pod) || deleting(pod))
    })
}

fn revision(set: &Value) -> i64 {
    annotation(set, REVISION).parse().unwrap_or(0)
}

/// Makes the new ReplicaSet, or names the one that is there.
fn make_new(store: &mut Store, view: &View) -> Option<Condition> {
    let deployment = &view.deployment;
    if let Some(new) = &view.new {
        name_new(store, view);
        let silent = condition(deployment, "Progressing").is_none() && view.deadline().is_some();
        let text = format!("Found new replica set \"{}\"", name(new));
        return silent.then(|| Condition::new("Progressing", "True", "FoundNewReplicaSet", text));
    }
    let collisions = number(deployment, "/status/collisionCount").unwrap_or(0);
    let hash = hash(&deployment["spec"]["template"], collisions);
    let set_name = format!("{}-{hash}", name(deployment));
    let mut template = deployment["spec"]["template"].clone();
    put_label(&mut template, HASH, hash.clone());
    let mut selector = deployment["spec"]["selector"].clone();
    super::super::object::set(&mut selector, &["matchLabels"], HASH, hash);
    let (wanted, surge) = (view.wanted(), view.fences().surge);
    let mut set = json!({
        "metadata": {
            "name": set_name, "labels": template["metadata"]["labels"],
            "ownerReferences": owned_by(deployment, "apps/v1", "Deployment"),
        },
        "spec": {
            "replicas": rolling::room_for_new(view, 0), "selector": selector, "template": template,
        },
    });
    if let Some(seconds) = number(deployment, "/spec/minReadySeconds").filter(|seconds| *seconds > 0) {
        set["spec"]["minReadySeconds"] = seconds.into();
    }
    copy_annotations(deployment, &mut set);
    annotate(&mut set, DESIRED, wanted.to_string());
    annotate(&mut set, MAX, (wanted + surge).to_string());
    let next = next_revision(view).to_string();
    annotate(&mut set, REVISION, next.clone());
    let said = match store.create(Resource::ReplicaSets, &view.key.namespace, set, Manager::CONTROLLERS) {
        Ok(_) => Condition::new(
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            format!("Created new replica set \"{set_name}\""),
        ),
        // Another template has the same hash: the next look tries another name.
        Err(refusal) if refusal.code == 409 => {
            let _ = store.update_status(&view.key, Manager::CONTROLLERS, |d| {
                d["status"]["collisionCount"] = (collisions + 1).into();
            });
            return None;
        }
        Err(refusal) => Condition::new("Progressing", "False", "ReplicaSetCreateError", refusal.message),
    };
    set_revision(store, &view.key, &next);
    view.deadline().map(|_| said.touched())
}

fn next_revision(view: &View) -> i64 {
    view.old.iter().map(revision).max().unwrap_or(0) + 1
}

/// A ReplicaSet that becomes the new one again gets the next number, and remembers the one that it had.
fn name_new(store: &mut Store, view: &View) {
    let Some(new) = &view.new else { return };
    let next = next_revision(view).max(revision(new));
    let min_ready = number(&view.deployment, "/spec/minReadySeconds").unwrap_or(0);
    let _ = store.update(&view.set_key(new), Manager::CONTROLLERS, |set| {
        copy_annotations(&view.deployment, set);
        let had = annotation(set, REVISION).to_owned();
        if revision(set) < next {
            if !had.is_empty() {
                let history = annotation(set, HISTORY).to_owned();
                let history = if history.is_empty() { had } else { format!("{history},{had}") };
                annotate(set, HISTORY, history);
            }
            annotate(set, REVISION, next.to_string());
        }
        if number(set, "/spec/minReadySeconds").unwrap_or(0) != min_ready {
            set["spec"]["minReadySeconds"] = min_ready.into();
        }
    });
    set_revision(store, &view.key, &next.to_string());
}

fn set_revision(store: &mut Store, key: &Key, revision: &str) {
    // Through the status, as the real controller does: its own note must not raise the generation.
    let _ = store.update_status(key, Manager::CONTROLLERS, |deployment| annotate(deployment, REVISION, revision));
}

fn copy_annotations(from: &Value, to: &mut Value) {
    let annotations = from.pointer("/metadata/annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten().filter(|(key, _)| !KEPT.contains(&key.as_str())) {
        annotate(to, key, value.clone());
    }
}

/// `DeploymentComplete`.
fn complete(view: &View) -> bool {
    let status = Counts::of(view);
    status.updated == view.wanted()
        && status.total == view.wanted()
        && status.available == view.wanted()
        && number(&view.deployment, "/status/observedGeneration") >= number(&view.deployment, "/metadata/generation")
}

/// Deletes the oldest empty ReplicaSets beyond the limit, once a rollout is complete.
fn clean_up(store: &mut Store, view: &View, paused: bool) {
    let limit = number(&view.deployment, "/spec/revisionHistoryLimit").unwrap_or(10).max(0) as usize;
    if !paused && !complete(view) {
        return;
    }
    let empty = |set: &&Value| {
        number(set, "/spec/replicas") == Some(0)
            && number(set, "/status/replicas").unwrap_or(0) == 0
            && number(set, "/metadata/generation") <= number(set, "/status/observedGeneration")
            && !deleting(set)
    };
    let mut old: Vec<&Value> = view.old.iter().filter(|set| !deleting(set)).collect();
    old.sort_by_key(|set| revision(set));
    let excess = old.len().saturating_sub(limit);
    for set in old.into_iter().take(excess).filter(empty) {
        let _ = store.delete(&view.set_key(set));
    }
}
