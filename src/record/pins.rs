//! Pins: copies of revisions that were seen good, so that they outlive the history limit; and the same for one
//! that was presumed good and then measured beyond its limits, so that the presumption counts no more.
//!
//! A pin is a ControllerRevision in the workload's namespace. Its labels are all under
//! `lastgood.dev/`, so that no controller adopts it; it is owned by the workload, so that it goes
//! with it. A pin is never changed: what is known of a revision in three ways is in three objects.

use super::RecordError;
use crate::{
    clock::seconds,
    cluster::{RevisionEntry, TemplateMark, WRITE_DEADLINE, within},
    domain::{FIELD_MANAGER, Kind, PIN_LABEL, REVISION_LABEL, Revision, Seconds, UID_LABEL, WorkloadId},
};
use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use ring::digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many revisions are kept of a workload.
const KEEP: usize = 5;

/// What was seen of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinState {
    /// It was fully rolled out and available when the next rollout began.
    Presumed,
    /// It passed a trial.
    Passed,
    /// What was measured before it was replaced lay beyond its limits: to presume it good was wrong.
    Doubted,
}

impl PinState {
    /// As written in the label and shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            PinState::Presumed => "presumed",
            PinState::Passed => "passed",
            PinState::Doubted => "doubted",
        }
    }
}

/// A revision of which something was seen.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Its names.
    pub mark: TemplateMark,
    /// How.
    pub state: PinState,
    /// When.
    pub pinned: Seconds,
    /// The number that it had then.
    pub number: i64,
    /// Name of the object that holds the copy.
    pub object: String,
    /// The template as an undo would write it.
    pub template: Value,
}

/// The store of pins.
#[derive(Clone)]
pub struct Pins {
    client: Client,
}

impl Pins {
    /// `client` must not retry by itself.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Keeps a copy of a revision, unless there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn pin(
        &self,
        workload: &WorkloadId,
        uid: &str,
        entry: &RevisionEntry,
        state: PinState,
    ) -> Result<(), RecordError> {
        let name = name(workload, uid, &entry.mark.revision, state);
        let object = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(workload.namespace.clone()),
                labels: Some(BTreeMap::from([
                    (PIN_LABEL.into(), state.as_str().into()),
                    (UID_LABEL.into(), uid.into()),
                    (REVISION_LABEL.into(), entry.mark.revision.0.clone()),
                ])),
                owner_references: Some(vec![OwnerReference {
                    api_version: "apps/v1".into(),
                    kind: workload.kind.as_str().into(),
                    name: workload.name.clone(),
                    uid: uid.into(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(json!({"spec": {"template": entry.template}}))),
            revision: entry.number,
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let api = self.api(&workload.namespace);
        let create = async { api.create(&params, &object).await };
        match within(WRITE_DEADLINE, format!("pinning {workload} {}", entry.mark.revision), create).await {
            Ok(_) => Ok(()),
            Err(error) => match RecordError::of(&name, error) {
                // Passed again, perhaps after an incident spoke against it: the pin's time must say so.
                RecordError::Exists(_) if state == PinState::Passed => {
                    let delete = async { api.delete(&name, &DeleteParams::default()).await };
                    within(WRITE_DEADLINE, format!("renewing the pin {name}"), delete).await?;
                    let again = async { api.create(&params, &object).await };
                    within(WRITE_DEADLINE, format!("renewing the pin {name}"), again).await?;
                    Ok(())
                }
                RecordError::Exists(_) => return Ok(()),
                error => Err(error),
            },
        }?;
        self.trim(workload, uid).await
    }

    /// The pins of one workload, latest first.
    ///
    /// # Errors
    /// When they cannot be listed. A pin that cannot be read is left out.
    pub async fn of(&self, workload: &WorkloadId, uid: &str) -> Result<Vec<Pin>, RecordError> {
        let params = ListParams::default().labels(&format!("{UID_LABEL}={uid},{PIN_LABEL}"));
        let api = self.api(&workload.namespace);
        let list = within(WRITE_DEADLINE, format!("listing the pins of {workload}"), api.list(&params))
            .await
            .map_err(|e| RecordError::of("pins", e))?;
        let mut pins: Vec<Pin> = list.items.iter().filter_map(read).collect();
        pins.sort_by(|a, b| b.pinned.total_cmp(&a.pinned));
        Ok(pins)
    }

    /// Removes the oldest pins beyond [`KEEP`].
    async fn trim(&self, workload: &WorkloadId, uid: &str) -> Result<(), RecordError> {
        for old in self.of(workload, uid).await?.iter().skip(2 * KEEP) {
            let api = self.api(&workload.namespace);
            let delete = async { api.delete(&old.object, &DeleteParams::default()).await };
            within(WRITE_DEADLINE, format!("removing the old pin {}", old.object), delete).await?;
        }
        Ok(())
    }

    fn api(&self, namespace: &str) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn read(object: &ControllerRevision) -> Option<Pin> {
    let template = object.data.as_ref()?.0.pointer("/spec/template")?;
    let state = match object.labels().get(PIN_LABEL)?.as_str() {
        "passed" => PinState::Passed,
        "presumed" => PinState::Presumed,
        "doubted" => PinState::Doubted,
        _ => return None,
    };
    let mark = TemplateMark::of(template);
    // A copy that is not what its label says was tampered with: it vouches for nothing (I2).
    (mark.revision.0 == *object.labels().get(REVISION_LABEL)?).then(|| Pin {
        state,
        pinned: object.creation_timestamp().map_or(0.0, |t| seconds(t.0)),
        number: object.revision,
        object: object.name_any(),
        template: crate::cluster::restorable(template),
        mark,
    })
}

fn name(workload: &WorkloadId, uid: &str, revision: &Revision, state: PinState) -> String {
    let kind = match workload.kind {
        Kind::Deployment => "deploy",
        Kind::StatefulSet => "sts",
        Kind::DaemonSet => "ds",
    };
    let digest = digest::digest(&digest::SHA256, format!("{uid}/{revision}").as_bytes());
    let short: String = digest.as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect();
    let base: String = workload.name.chars().take(40).collect();
    format!("lastgood-{kind}-{}-{short}-{}", base.trim_end_matches(['-', '.']), state.as_str())
}
