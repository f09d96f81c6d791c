//! Incident objects in the cluster: created once, changed only against the version that was read.

use super::{Incident, IncidentStatus, JournalEntry};
use crate::{
    clock::Clock,
    cluster::{READ_DEADLINE, ReadError, WRITE_DEADLINE, within},
    domain::{Revision, WorkloadId},
};
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{ListParams, PostParams},
    core::DeserializeGuard,
};
use ring::digest;

/// Incidents read in one request.
const PAGE: u32 = 250;
pub use crate::domain::UID_LABEL;
/// Label: hash of the bad template.
pub const BAD_LABEL: &str = "lastgood.dev/bad";

/// Why an Incident or a pin could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Somebody has created it already: the compare-and-swap was lost.
    #[error("{0} exists already")]
    Exists(String),
    /// Somebody has changed it since it was read.
    #[error("{0} was changed by somebody else since it was read")]
    Changed(String),
    /// The CRD is not installed.
    #[error("the cluster does not know incidents.lastgood.dev: install the CRD (kubectl apply -k deploy/)")]
    NoCrd,
    /// Any other failure; whether the write landed is not known.
    #[error(transparent)]
    Other(#[from] ReadError),
}

impl RecordError {
    pub(super) fn of(name: &str, error: ReadError) -> Self {
        if let ReadError::Api { source, .. } = &error
            && let kube::Error::Api(status) = source.as_ref()
        {
            match status.code {
                409 if status.is_already_exists() => return Self::Exists(name.into()),
                409 => return Self::Changed(name.into()),
                // A missing object answers 404 with details; a missing CRD without a kind.
                404 if status.details.as_ref().is_none_or(|d| d.name.is_empty()) => return Self::NoCrd,
                _ => {}
            }
        }
        Self::Other(error)
    }
}

/// The store of Incidents.
#[derive(Clone)]
pub struct Incidents {
    client: Client,
    clock: Clock,
    /// Namespaces that may be looked at; empty for all.
    scopes: Vec<String>,
}

/// The name of the one automatic incident that a workload uid and a bad template can have: creating it
/// is what makes a second undo impossible (I1, I9).
pub fn incident_name(workload: &WorkloadId, uid: &str, bad: &Revision) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{uid}/{bad}").as_bytes());
    let short: String = digest.as_ref()[..5].iter().map(|b| format!("{b:02x}")).collect();
    let base: String = workload.name.chars().take(40).collect();
    format!("{}-{short}", base.trim_end_matches(['-', '.']))
}

impl Incidents {
    /// `client` must not retry by itself. `scopes`: the watched namespaces, empty for all; what lies
    /// elsewhere is somebody else's to work on and to count.
    pub fn new(client: Client, clock: Clock, scopes: &[String]) -> Self {
        Self { client, clock, scopes: scopes.to_vec() }
    }

    /// One Incident, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Incident>, RecordError> {
        within(WRITE_DEADLINE, format!("reading incident {name}"), self.api(namespace).get_opt(name))
            .await
            .map_err(|e| RecordError::of(name, e))
    }

    /// All Incidents of the watched namespaces.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn all(&self) -> Result<Vec<Incident>, RecordError> {
        if self.scopes.is_empty() {
            return self.list(None, "").await;
        }
        let mut all = Vec::new();
        for namespace in &self.scopes {
            all.extend(self.list(Some(namespace), "").await?);
        }
        Ok(all)
    }

    /// An Incident that cannot be read is told and left out: it must not stand in the way of all others.
    async fn list(&self, namespace: Option<&str>, labels: &str) -> Result<Vec<Incident>, RecordError> {
        let client = self.client.clone();
        let api: Api<DeserializeGuard<Incident>> =
            namespace.map_or_else(|| Api::all(client.clone()), |n| Api::namespaced(client.clone(), n));
        let mut params = ListParams::default().labels(labels).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = within(READ_DEADLINE, "listing incidents", api.list(&params)).await;
            let page = page.map_err(|e| RecordError::of("incidents", e))?;
            for guard in page.items {
                match guard.0 {
                    Ok(incident) => all.push(incident),
                    Err(invalid) => {
                        let name = invalid.metadata.name.unwrap_or_default();
                        tracing::warn!(
                            incident = name,
                            why = invalid.error,
                            "an incident cannot be read and is left out"
                        );
                    }
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    /// All Incidents of one workload.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn of(&self, namespace: &str, uid: &str) -> Result<Vec<Incident>, RecordError> {
        self.list(Some(namespace), &format!("{UID_LABEL}={uid}")).await
    }

    /// Stores a new Incident, with its status, if none of that name exists.
    ///
    /// # Errors
    /// [`RecordError::Exists`] when the race is lost.
    pub async fn create(&self, incident: &Incident) -> Result<Incident, RecordError> {
        let name = incident.name_any();
        let api = self.api(&incident.namespace().unwrap_or_default());
        let create = async { api.create(&PostParams::default(), incident).await };
        within(WRITE_DEADLINE, format!("storing incident {name}"), create).await.map_err(|e| RecordError::of(&name, e))
    }

    /// Writes a changed Incident against the version that was read.
    ///
    /// # Errors
    /// [`RecordError::Changed`] when somebody else was first.
    pub async fn replace(&self, incident: &Incident) -> Result<Incident, RecordError> {
        let name = incident.name_any();
        let api = self.api(&incident.namespace().unwrap_or_default());
        let params = PostParams::default();
        let replace = async { api.replace(&name, &params, incident).await };
        within(WRITE_DEADLINE, format!("updating incident {name}"), replace)
            .await
            .map_err(|e| RecordError::of(&name, e))
    }

    /// Reads, edits and writes an Incident until no one comes between (three tries).
    ///
    /// # Errors
    /// When it is gone, cannot be written, or is contended.
    pub async fn edit(
        &self,
        namespace: &str,
        name: &str,
        edit: impl Fn(&mut IncidentStatus),
    ) -> Result<Incident, RecordError> {
        let mut tries = 0;
        loop {
            let missing = || RecordError::Other(ReadError::Missing(format!("incident {namespace}/{name}")));
            let mut incident = self.get(namespace, name).await?.ok_or_else(missing)?;
            edit(incident.status.get_or_insert_default());
            tries += 1;
            match self.replace(&incident).await {
                Err(RecordError::Changed(_)) if tries < 3 => {}
                done => return done,
            }
        }
    }

    /// A journal line with the time of now.
    pub fn entry(&self, step: &str, text: impl Into<String>) -> JournalEntry {
        JournalEntry { t: self.clock.timestamp(), step: step.into(), text: text.into() }
    }

    fn api(&self, namespace: &str) -> Api<Incident> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// The CRD as it is shipped: without a status subresource, so that an Incident is created together
/// with its status in one request.
pub fn crd() -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition {
    let mut crd = Incident::crd();
    for version in &mut crd.spec.versions {
        version.subresources = None;
    }
    crd
}
