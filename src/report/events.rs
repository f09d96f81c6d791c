//! Kubernetes Events on the workload: what `kubectl describe` shows.
//!
//! Each decision is one Event object of its own. kube's `Recorder` is not used: it takes two undos of
//! one workload within six minutes for repeats and sends the first one's text again.

use super::{
    ReportError,
    escape::{cut_bytes, one_line},
};
use crate::{
    clock::Clock,
    domain::{FIELD_MANAGER, Verdict, WorkloadId},
    record::Phase,
};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Longest that one Event may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest note that the API server takes, in bytes.
const NOTE_BYTES: usize = 1024;
/// The controller that Events name.
const CONTROLLER: &str = "lastgood.dev/lastgood";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident: $type:literal, $action:literal;)+) => {
        /// What an Event tells. A closed set: people filter by these words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventReason { $($(#[$doc])* $variant),+ }

        impl EventReason {
            /// Every reason.
            pub const ALL: &'static [EventReason] = &[$(EventReason::$variant),+];
            /// The reason as Kubernetes shows it.
            pub fn as_str(self) -> &'static str { match self { $(EventReason::$variant => stringify!($variant)),+ } }
            /// `Normal` or `Warning`.
            pub fn event_type(self) -> &'static str { match self { $(EventReason::$variant => $type),+ } }
            /// What was being done.
            pub fn action(self) -> &'static str { match self { $(EventReason::$variant => $action),+ } }
        }
    };
}

reasons! {
    /// A rollout is under watch.
    RolloutWatched: "Normal", "Watch";
    /// The rollout is good.
    RolloutPassed: "Normal", "Judge";
    /// The rollout is bad.
    RolloutBad: "Warning", "Judge";
    /// It passed, and broke later: nothing is undone.
    RolloutBrokeLater: "Warning", "Watch";
    /// It passed, broke later, and keeps its limit again.
    RolloutRecovered: "Normal", "Watch";
    /// Something is wrong, but it is not this rollout's doing.
    RolloutHeld: "Warning", "Judge";
    /// Nothing can be told.
    RolloutUnknown: "Warning", "Judge";
    /// The undo is in the cluster.
    UndoStarted: "Warning", "Undo";
    /// The restored revision is proved healthy.
    UndoVerified: "Normal", "Undo";
    /// The restored revision runs, but nothing measured it.
    UndoUnproven: "Warning", "Undo";
    /// The fault is still there.
    UndoDidNotHelp: "Warning", "Undo";
    /// The undo failed.
    UndoFailed: "Warning", "Undo";
    /// Something newer took over.
    UndoSuperseded: "Normal", "Undo";
    /// A gate stood in the way.
    UndoBlocked: "Warning", "Undo";
}

impl EventReason {
    /// The Event of a verdict.
    pub fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Watching => EventReason::RolloutWatched,
            Verdict::Pass => EventReason::RolloutPassed,
            Verdict::Fail(_) => EventReason::RolloutBad,
            Verdict::Hold(_) => EventReason::RolloutHeld,
            Verdict::Unknown(_) => EventReason::RolloutUnknown,
        }
    }

    /// The Event of an incident's phase; `Intended` has none.
    pub fn of_phase(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Reported => Some(EventReason::UndoBlocked),
            Phase::Intended => None,
            Phase::Applied => Some(EventReason::UndoStarted),
            Phase::Verified => Some(EventReason::UndoVerified),
            Phase::Unproven => Some(EventReason::UndoUnproven),
            Phase::DidNotHelp => Some(EventReason::UndoDidNotHelp),
            Phase::Superseded => Some(EventReason::UndoSuperseded),
            Phase::Failed => Some(EventReason::UndoFailed),
        }
    }
}

/// Creates Events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    clock: Clock,
    instance: String,
    next: Arc<AtomicU64>,
}

impl Events {
    /// `instance` is the name of this replica (its pod).
    pub fn new(client: Client, clock: Clock, instance: impl Into<String>) -> Self {
        Self { client, clock, instance: instance.into(), next: Arc::default() }
    }

    /// Creates one Event on a workload.
    ///
    /// # Errors
    /// The API server refused, could not be reached, or did not answer within five seconds. The fault is
    /// logged and counted here; the caller goes on.
    pub async fn publish(
        &self,
        workload: &WorkloadId,
        uid: &str,
        reason: EventReason,
        note: &str,
    ) -> Result<(), ReportError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let event = event(workload, uid, reason, note, self.clock, &self.instance, number);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &workload.namespace);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let result = match tokio::time::timeout(DEADLINE, api.create(&parameters, &event)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(ReportError::Event { reason: reason.as_str(), source: Box::new(source) }),
            Err(_) => Err(ReportError::EventDeadline { reason: reason.as_str(), after: DEADLINE }),
        };
        crate::telemetry::metrics::event_sent(result.is_ok());
        if let Err(error) = &result {
            tracing::warn!(%workload, reason = reason.as_str(), %error, "an Event was not created");
        }
        result
    }
}

fn event(
    workload: &WorkloadId,
    uid: &str,
    reason: EventReason,
    note: &str,
    clock: Clock,
    instance: &str,
    number: u64,
) -> Event {
    let now = clock.timestamp();
    // Names of workloads may be as long as names of Events; the stamp must fit. The replica's name keeps
    // two replicas apart at one nanosecond.
    let stem = cut_name(&workload.name, 180);
    let replica = instance.bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    Event {
        metadata: ObjectMeta {
            namespace: Some(workload.namespace.clone()),
            name: Some(format!("{stem}.{:x}.{replica:x}.{number:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        action: Some(reason.action().into()),
        reason: Some(reason.as_str().into()),
        type_: Some(reason.event_type().into()),
        note: Some(cut_bytes(&one_line(note), NOTE_BYTES)),
        event_time: Some(MicroTime(now)),
        regarding: Some(ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some(workload.kind.as_str().into()),
            namespace: Some(workload.namespace.clone()),
            name: Some(workload.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(cut_name(if instance.is_empty() { FIELD_MANAGER } else { instance }, 128)),
        ..Event::default()
    }
}

fn cut_name(name: &str, max: usize) -> String {
    name.chars().take(max).collect::<String>().trim_end_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;
    use http::{Request, Response};
    use kube::client::Body;
    use std::sync::Mutex;

    fn workload() -> WorkloadId {
        WorkloadId::new("prod", Kind::StatefulSet, "db")
    }

    /// A client whose requests are kept and answered with `status`; it never answers when `status` is 0.
    fn client(status: u16, seen: Arc<Mutex<Vec<serde_json::Value>>>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                assert_eq!(request.method(), "POST");
                assert_eq!(request.uri().path(), "/apis/events.k8s.io/v1/namespaces/prod/events");
                let bytes = request.into_body().collect_bytes().await.unwrap();
                let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                seen.lock().unwrap().push(value);
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                let body = if status == 201 {
                    bytes.to_vec()
                } else {
                    br#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}"#.to_vec()
                };
                Ok::<_, std::io::Error>(Response::builder().status(status).body(Body::from(body)).unwrap())
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn two_undos_in_one_minute_are_two_events_with_their_own_notes() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = Events::new(client(201, seen.clone()), Clock::system(), "lastgood-0");
        events.publish(&workload(), "u1", EventReason::UndoStarted, "first").await.unwrap();
        events.publish(&workload(), "u1", EventReason::UndoStarted, "second").await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.iter().map(|e| e["note"].as_str().unwrap()).collect::<Vec<_>>(), ["first", "second"]);
        assert_ne!(seen[0]["metadata"]["name"], seen[1]["metadata"]["name"]);
        assert_eq!(seen[0]["regarding"]["uid"], "u1");
        assert_eq!(seen[0]["regarding"]["kind"], "StatefulSet");
        assert_eq!(seen[0]["type"], "Warning");
        assert_eq!(seen[0]["reportingController"], "lastgood.dev/lastgood");
        assert_eq!(seen[0]["reportingInstance"], "lastgood-0");
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_value() {
        let events = Events::new(client(403, Arc::default()), Clock::system(), "x");
        let error = events.publish(&workload(), "u1", EventReason::UndoFailed, "n").await.unwrap_err();
        assert_eq!(error.label(), "event");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_api_server_costs_five_seconds() {
        let events = Events::new(client(0, Arc::default()), Clock::system(), "x");
        let start = tokio::time::Instant::now();
        let error = events.publish(&workload(), "u1", EventReason::UndoFailed, "n").await.unwrap_err();
        assert_eq!(error.label(), "event_deadline");
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[test]
    fn limits_of_the_api_server_are_kept() {
        let long = WorkloadId::new("prod", Kind::Deployment, "a".repeat(253));
        let clock = Clock::starting_at(jiff::Timestamp::UNIX_EPOCH);
        let event = event(&long, "u", EventReason::RolloutBad, &"ä\n".repeat(2000), clock, &"p".repeat(300), 7);
        assert!(event.note.unwrap().len() <= 1024);
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert!(event.reporting_instance.unwrap().len() <= 128);
        for reason in EventReason::ALL {
            assert!(reason.as_str().len() <= 128 && reason.as_str().starts_with(char::is_uppercase));
            assert!(["Normal", "Warning"].contains(&reason.event_type()));
        }
    }
}
