//! Leader election by a Lease. It only avoids double work: safety comes from conditional writes.
//!
//! Clocks of other machines are never trusted: a lease is expired when *we* have seen it unchanged
//! for its whole duration on our own monotonic clock.

use crate::{
    clock::Clock,
    cluster::{Cluster, within},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

const NAME: &str = "lastgood";
/// Twice client-go's: a standby takes over half a minute after a crash, and the lease costs six requests a
/// minute. Nothing is less safe by it, since safety does not come from the lease.
const DURATION: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// A leader that could not renew for this long stops acting, well before others may take over.
const RENEW_DEADLINE: Duration = Duration::from_secs(20);

/// Whether this replica leads.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Arc<State>>);

#[derive(Debug, Default)]
struct State {
    renewed: Option<Instant>,
    epoch: String,
    always: bool,
    why_not: Option<String>,
}

impl Leadership {
    /// A leader without a Lease: the only replica.
    pub fn alone() -> Self {
        let state = State { always: true, epoch: "alone".into(), ..State::default() };
        Self(watch::channel(Arc::new(state)).1)
    }

    /// Whether this replica leads at this moment. Ask again right before each write.
    pub fn leads(&self) -> bool {
        let state = self.0.borrow();
        state.always || state.renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE)
    }

    /// `lease uid/transitions` of the lease held; kept in the Incident.
    pub fn epoch(&self) -> String {
        self.0.borrow().epoch.clone()
    }

    /// Why the Lease cannot be used, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.0.borrow().why_not.clone()
    }

    /// Waits for the next change of the state.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes part in the election until `stop` turns true; then gives the lease back, last of all.
pub fn elect(
    cluster: &Cluster,
    namespace: &str,
    identity: String,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let (tx, rx) = watch::channel(Arc::new(State::default()));
    let mut candidate =
        Candidate { api: Api::namespaced(cluster.writer.clone(), namespace), identity, clock, seen: None, held: None };
    let task = tokio::spawn(async move {
        let mut tick = tokio::time::interval(RENEW_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            // The time of asking, not of the answer: others count from when they saw the write.
            let asked = Instant::now();
            match within(RENEW_DEADLINE / 2, "renewing the lease", candidate.try_lead()).await {
                Ok(Some(epoch)) => {
                    tx.send_replace(Arc::new(State { renewed: Some(asked), epoch, ..State::default() }));
                }
                Ok(None) => {
                    tx.send_replace(Arc::default());
                }
                Err(error) => {
                    let (renewed, epoch) = {
                        let state = tx.borrow();
                        (state.renewed, state.epoch.clone())
                    };
                    let why_not = Some(error.to_string());
                    tx.send_replace(Arc::new(State { renewed, epoch, why_not, always: false }));
                }
            }
        }
        if tx.borrow().renewed.is_some() {
            let _ = within(RENEW_DEADLINE / 2, "giving the lease back", candidate.release()).await;
        }
    });
    (Leadership(rx), task)
}

struct Candidate {
    api: Api<Lease>,
    identity: String,
    clock: Clock,
    /// Version of the lease when it last changed, and when we saw that.
    seen: Option<(String, Instant)>,
    /// The lease as we last wrote it: renewed against its version, without reading it again.
    held: Option<Lease>,
}

impl Candidate {
    /// The epoch when the lease is ours after this call.
    async fn try_lead(&mut self) -> Result<Option<String>, kube::Error> {
        if let Some(held) = self.held.take() {
            let answer = self.api.replace(NAME, &PostParams::default(), &self.ours(held)).await;
            if let Some(epoch) = self.won(answer)? {
                return Ok(Some(epoch));
            }
            // Somebody else has written it, or it is gone: look.
        }
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = Lease { metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() }, spec: None };
            let answer = self.api.create(&PostParams::default(), &self.ours(lease)).await;
            return self.won(answer);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let held = spec.holder_identity.filter(|h| !h.is_empty());
        if held.as_ref() != Some(&self.identity) {
            let version = lease.resource_version().unwrap_or_default();
            let since = match &self.seen {
                Some((known, since)) if *known == version => *since,
                _ => {
                    self.seen = Some((version, Instant::now()));
                    Instant::now()
                }
            };
            let duration =
                spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
            if held.is_some() && since.elapsed() < duration {
                return Ok(None);
            }
        }
        let ours = self.ours(lease);
        let answer = self.api.replace(NAME, &PostParams::default(), &ours).await;
        self.won(answer)
    }

    fn won(&mut self, answer: Result<Lease, kube::Error>) -> Result<Option<String>, kube::Error> {
        match answer {
            Ok(lease) => {
                let transitions = lease.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or(0);
                let epoch = format!("{}/{transitions}", lease.uid().unwrap_or_default());
                self.held = Some(lease);
                Ok(Some(epoch))
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The lease as we want it, against the version that was read.
    fn ours(&self, mut lease: Lease) -> Lease {
        let old = lease.spec.unwrap_or_default();
        let now = Some(MicroTime(self.clock.timestamp()));
        let mine = old.holder_identity.as_ref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { old.acquire_time } else { now.clone() },
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            renew_time: now,
            ..LeaseSpec::default()
        });
        lease
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(NAME).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            self.api.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}
