//! The trimmed view of a workload: what is kept in memory of each of thousands.

use super::template::TemplateMark;
use crate::domain::{Kind, Owner, PREFIX, Revision, Seconds, UNDO_ANNOTATION, WorkloadId};
use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{Resource, api::DynamicObject};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One workload, trimmed: the template is reduced to its names when it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadView {
    /// Which one.
    pub id: WorkloadId,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    pub created: Seconds,
    /// `metadata.generation`; bumped by annotation writes too, so never "the template changed".
    pub generation: i64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `lastgood.dev/` annotations.
    pub annotations: BTreeMap<String, String>,
    /// Who else would put it back.
    pub owner: Option<Owner>,
    /// The names of its live template.
    pub template: TemplateMark,
    /// Its pod selector as a query string.
    pub selector: String,
    /// Whether it is paused (Deployments only).
    pub paused: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What its controller says.
    pub progress: Progress,
    /// The mark of an undo of this very object, whatever is live now.
    pub mark: Option<UndoMark>,
}

/// What an undo leaves on a workload: `<uid>/<restored template>/<undo id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoMark {
    /// The restored template.
    pub revision: Revision,
    /// Id of the undo.
    pub undo_id: String,
}

impl UndoMark {
    /// When the undo was planned: the id ends in the seconds, in hexadecimal.
    pub fn planned(&self) -> Option<Seconds> {
        Some(u64::from_str_radix(self.undo_id.get(8..)?, 16).ok()? as Seconds)
    }
}

impl WorkloadView {
    /// Id of our undo, if what it restored is live.
    pub fn undo_id(&self) -> Option<&str> {
        self.mark.as_ref().filter(|mark| mark.revision == self.template.revision).map(|mark| mark.undo_id.as_str())
    }
}

/// How far a rollout is, in the words of the three kinds' status made one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Whether the controller has seen the live spec.
    pub observed: bool,
    /// Desired pods.
    pub desired: i64,
    /// Pods of any revision.
    pub total: i64,
    /// Pods of the live revision.
    pub updated: i64,
    /// Ready pods of any revision.
    pub ready: i64,
    /// Available pods of any revision.
    pub available: i64,
    /// StatefulSet: `updateRevision == currentRevision`. True for the other kinds.
    pub revision_settled: bool,
    /// `Progressing=False`, reason `ProgressDeadlineExceeded`.
    pub deadline_exceeded: bool,
    /// When `Progressing` was last updated.
    pub progressed: Option<Seconds>,
    /// Whether the controller moves no pods by itself (`OnDelete`, or a partition above 0).
    pub held_by_strategy: bool,
}

impl Progress {
    /// Whether every desired pod is of the live revision and available: the done-test of
    /// `kubectl rollout status` (safety.md 2.1).
    pub fn complete(&self) -> bool {
        self.observed
            && !self.deadline_exceeded
            && self.updated >= self.desired
            && self.total <= self.updated.max(self.desired)
            && self.available >= self.desired
            && self.revision_settled
    }

    /// Whether a rollout runs. A strategy that moves no pods leaves one unsettled for ever: that counts only
    /// while pods lack.
    pub fn rolling(&self) -> bool {
        let at_rest = self.held_by_strategy && self.available >= self.desired;
        !self.complete() && !at_rest
    }
}

macro_rules! kinds {
    ($($name:ident: $inner:ident => $kind:ident),+) => {$(
        /// As read from the API server; becomes a [`WorkloadView`] at once.
        #[derive(Debug, Clone, Serialize, Deserialize, Resource)]
        #[resource(inherit = $inner)]
        pub struct $name {
            metadata: ObjectMeta,
            spec: RawSpec,
            #[serde(default)]
            status: RawStatus,
        }
        impl From<$name> for WorkloadView {
            fn from(raw: $name) -> Self { view(Kind::$kind, raw.metadata, raw.spec, &raw.status) }
        }
    )+};
}
kinds!(RawDeployment: Deployment => Deployment, RawStatefulSet: StatefulSet => StatefulSet, RawDaemonSet: DaemonSet => DaemonSet);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    #[serde(default)]
    replicas: Option<i64>,
    #[serde(default)]
    paused: bool,
    selector: LabelSelector,
    #[serde(deserialize_with = "mark", skip_serializing)]
    template: TemplateMark,
    #[serde(default)]
    update_strategy: Strategy,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: String,
    rolling_update: Partition,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Partition {
    partition: i64,
}

/// The union of the three kinds' status fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    ready_replicas: i64,
    available_replicas: i64,
    current_revision: String,
    update_revision: String,
    desired_number_scheduled: i64,
    current_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_ready: i64,
    number_available: i64,
    conditions: Vec<RawCondition>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: String,
    last_update_time: Option<jiff::Timestamp>,
}

/// The trimmed view of a raw object; `None` when it cannot be read.
pub fn of_raw(kind: Kind, object: &DynamicObject) -> Option<WorkloadView> {
    let value = serde_json::to_value(object).ok()?;
    match kind {
        Kind::Deployment => serde_json::from_value::<RawDeployment>(value).ok().map(Into::into),
        Kind::StatefulSet => serde_json::from_value::<RawStatefulSet>(value).ok().map(Into::into),
        Kind::DaemonSet => serde_json::from_value::<RawDaemonSet>(value).ok().map(Into::into),
    }
}

fn mark<'de, D: Deserializer<'de>>(d: D) -> Result<TemplateMark, D::Error> {
    serde_json::Value::deserialize(d).map(|template| TemplateMark::of(&template))
}

fn view(kind: Kind, meta: ObjectMeta, spec: RawSpec, status: &RawStatus) -> WorkloadView {
    let id = WorkloadId::new(meta.namespace.unwrap_or_default(), kind, meta.name.unwrap_or_default());
    let uid = meta.uid.unwrap_or_default();
    let labels = meta.labels.unwrap_or_default();
    let all = meta.annotations.unwrap_or_default();
    let controller = meta.owner_references.into_iter().flatten().find(|o| o.controller == Some(true));
    let owner = owner(&id, &labels, &all, controller.map(|o| o.kind).as_deref());
    let mark = all.get(UNDO_ANNOTATION).and_then(|text| undo_mark(text, &uid));
    let annotations = all.into_iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    let generation = meta.generation.unwrap_or_default();
    WorkloadView {
        progress: progress(kind, generation, &spec, status),
        created: meta.creation_timestamp.map_or(0.0, |t| crate::clock::seconds(t.0)),
        selector: selector(&spec.selector),
        paused: spec.paused,
        deleting: meta.deletion_timestamp.is_some(),
        template: spec.template,
        id,
        uid,
        generation,
        labels,
        annotations,
        owner,
        mark,
    }
}

fn progress(kind: Kind, generation: i64, spec: &RawSpec, status: &RawStatus) -> Progress {
    let progressing = status.conditions.iter().find(|c| c.r#type == "Progressing");
    let common = Progress {
        observed: status.observed_generation >= generation,
        desired: spec.replicas.unwrap_or(1),
        total: status.replicas,
        updated: status.updated_replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        revision_settled: true,
        deadline_exceeded: progressing.is_some_and(|c| c.reason == "ProgressDeadlineExceeded"),
        progressed: progressing.and_then(|c| c.last_update_time).map(crate::clock::seconds),
        held_by_strategy: spec.update_strategy.r#type == "OnDelete"
            || spec.update_strategy.rolling_update.partition > 0,
    };
    match kind {
        Kind::Deployment => common,
        // A StatefulSet's updateRevision stays ahead of currentRevision until every pod has moved.
        Kind::StatefulSet => Progress { revision_settled: status.update_revision == status.current_revision, ..common },
        Kind::DaemonSet => Progress {
            desired: status.desired_number_scheduled,
            total: status.current_number_scheduled,
            updated: status.updated_number_scheduled,
            ready: status.number_ready,
            available: status.number_available,
            ..common
        },
    }
}

/// The mark, if it names this object: ReplicaSets hand annotations on, and a mark may come back from one.
fn undo_mark(text: &str, uid: &str) -> Option<UndoMark> {
    let mut parts = text.split('/');
    let (of, hash, id) = (parts.next()?, parts.next()?, parts.next()?);
    (of == uid && !id.is_empty() && parts.next().is_none())
        .then(|| UndoMark { revision: hash.into(), undo_id: id.to_owned() })
}

/// Who else owns a workload, by the marks that tools leave on it (safety.md 2.3).
fn owner(
    id: &WorkloadId,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    controller: Option<&str>,
) -> Option<Owner> {
    match controller {
        Some("Rollout") => return Some(Owner::ArgoRollout),
        Some("Canary") => return Some(Owner::Flagger),
        Some(_) => return Some(Owner::Controller),
        None => {}
    }
    // `<app>:<group>/<kind>:<namespace>/<name>`; Argo CD itself ignores one that names another object.
    if let Some(tracking) = annotations.get("argocd.argoproj.io/tracking-id")
        && tracking.ends_with(&format!(":apps/{}:{}/{}", id.kind, id.namespace, id.name))
    {
        return Some(Owner::ArgoCd);
    }
    if labels.contains_key("argocd.argoproj.io/instance") {
        return Some(Owner::ArgoCd);
    }
    let has = |prefix: &str| labels.keys().chain(annotations.keys()).any(|key| key.starts_with(prefix));
    if has("kustomize.toolkit.fluxcd.io/") {
        return Some(Owner::Flux);
    }
    if has("helm.toolkit.fluxcd.io/") {
        return Some(Owner::FluxHelm);
    }
    let helm = labels.get("app.kubernetes.io/managed-by").is_some_and(|v| v == "Helm");
    if helm || annotations.contains_key("meta.helm.sh/release-name") {
        return Some(Owner::Helm);
    }
    // Only Argo CD's older label tracking is left, and that label is in wide use for other things.
    None
}

fn selector(selector: &LabelSelector) -> String {
    let mut parts: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    for rule in selector.match_expressions.iter().flatten() {
        let values = rule.values.clone().unwrap_or_default().join(",");
        parts.push(match rule.operator.as_str() {
            "In" => format!("{} in ({values})", rule.key),
            "NotIn" => format!("{} notin ({values})", rule.key),
            "Exists" => rule.key.clone(),
            _ => format!("!{}", rule.key),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(edit: impl FnOnce(&mut Value)) -> WorkloadView {
        let mut raw = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"spec": {"containers": [{"name": "c", "image": "web:1"}]}}},
            "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
                       "availableReplicas": 2},
        });
        edit(&mut raw);
        serde_json::from_value::<RawDeployment>(raw).expect("a view").into()
    }

    #[test]
    fn a_settled_deployment_is_complete_and_each_missing_part_is_not() {
        assert!(deployment(|_| {}).progress.complete());
        for (field, value) in
            [("observedGeneration", 2), ("updatedReplicas", 1), ("availableReplicas", 1), ("replicas", 3)]
        {
            let view = deployment(|raw| raw["status"][field] = json!(value));
            assert!(!view.progress.complete(), "{field}={value}");
        }
    }

    #[test]
    fn an_undo_mark_of_another_object_or_template_is_not_believed() {
        let hash = deployment(|_| {}).template.revision.0;
        let marked = |mark: String| {
            deployment(|raw| raw["metadata"]["annotations"] = json!({ "lastgood.dev/undo": mark }))
                .undo_id()
                .map(str::to_owned)
        };
        assert_eq!(marked(format!("u1/{hash}/7")), Some("7".into()));
        for wrong in
            [format!("u2/{hash}/7"), "u1/abc/7".into(), format!("u1/{hash}"), format!("u1/{hash}/7/8"), "".into()]
        {
            assert_eq!(marked(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn owners_are_told_by_their_marks() {
        let with = |labels: Value, annotations: Value| {
            deployment(|raw| {
                raw["metadata"]["labels"] = labels;
                raw["metadata"]["annotations"] = annotations;
            })
            .owner
        };
        let tracking =
            |name: &str| json!({"argocd.argoproj.io/tracking-id": format!("app:apps/Deployment:shop/{name}")});
        assert_eq!(with(json!({}), tracking("web")), Some(Owner::ArgoCd));
        assert_eq!(with(json!({}), tracking("other")), None);
        assert_eq!(with(json!({"kustomize.toolkit.fluxcd.io/name": "x"}), json!({})), Some(Owner::Flux));
        assert_eq!(with(json!({"app.kubernetes.io/managed-by": "Helm"}), json!({})), Some(Owner::Helm));
        let owned = deployment(|raw| {
            raw["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "x/v1", "kind": "Shop", "name": "s", "uid": "o", "controller": true}]);
        });
        assert_eq!(owned.owner, Some(Owner::Controller));
    }

    #[test]
    fn only_our_annotations_are_kept() {
        let view = deployment(|raw| {
            raw["metadata"]["annotations"] = json!({"lastgood.dev/mode": "act", "secret/thing": "x"});
        });
        assert_eq!(view.annotations.keys().collect::<Vec<_>>(), ["lastgood.dev/mode"]);
    }
}
