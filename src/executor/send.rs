//! The one place from which writes to workloads leave.

use crate::{
    cluster::{ReadError, WRITE_DEADLINE, raw_api, within},
    domain::{FIELD_MANAGER, WorkloadId},
};
use kube::{
    Api, Client,
    api::{DynamicObject, EvictParams, Patch, PatchParams, ValidationDirective},
};
use serde_json::Value;
use std::time::Duration;

/// What came of a conditional patch.
#[derive(Debug)]
pub enum Sent {
    /// It was applied; the object as it is now.
    Applied(Box<DynamicObject>),
    /// A `test` failed: somebody else was first. Nothing was written.
    MovedOn,
    /// The API server or a webhook refused it. Nothing was written.
    Refused(String),
    /// The API server asks to come later. Nothing was written.
    Later {
        /// After how long.
        after: Duration,
        /// What it said.
        why: String,
    },
    /// No clear answer: it may or may not be in. Read and look for the mark.
    Unclear(String),
}

/// Sends a JSON patch to a workload, once, with a deadline.
pub async fn patch(client: &Client, id: &WorkloadId, patch: &Value, dry_run: bool) -> Sent {
    let api = raw_api(client, &id.namespace, id.kind.as_str());
    let params = PatchParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.into()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let operations = match serde_json::from_value(patch.clone()) {
        Ok(operations) => Patch::Json::<()>(operations),
        Err(error) => return Sent::Refused(format!("not a JSON patch: {error}")),
    };
    let doing = if dry_run { format!("rehearsing the undo of {id}") } else { format!("patching {id}") };
    match within(WRITE_DEADLINE, doing, api.patch(&id.name, &params, &operations)).await {
        Ok(object) => Sent::Applied(Box::new(object)),
        Err(error) => classify(&error),
    }
}

fn classify(error: &ReadError) -> Sent {
    let ReadError::Api { source, .. } = error else { return Sent::Unclear(error.to_string()) };
    let kube::Error::Api(status) = source.as_ref() else { return Sent::Unclear(error.to_string()) };
    match status.code {
        // A failed `test` answers 422 with an empty-handed message; an invalid object 422 with causes.
        404 | 409 => Sent::MovedOn,
        422 if status.details.as_ref().is_none_or(|d| d.causes.is_empty()) => Sent::MovedOn,
        429 => {
            let seconds = status.details.as_ref().map_or(1, |d| d.retry_after_seconds.max(1));
            Sent::Later { after: Duration::from_secs(u64::from(seconds.min(60))), why: status.message.clone() }
        }
        // An admission webhook that times out or panics answers 500 too: whether it was stored is not known.
        500..=599 => Sent::Unclear(format!("{} ({})", status.message, status.code)),
        code => Sent::Refused(format!("{} ({code})", status.message)),
    }
}

/// Evicts one pod through the Eviction API, so that disruption budgets are heard.
///
/// # Errors
/// When it is refused.
pub async fn evict(client: &Client, namespace: &str, pod: &str) -> Result<(), ReadError> {
    let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
    let evict = async { api.evict(pod, &EvictParams::default()).await };
    within(WRITE_DEADLINE, format!("evicting the stuck pod {namespace}/{pod}"), evict).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answer(code: u16, causes: bool) -> Sent {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": code, "message": "said", "reason": "x",
            "details": {"name": "web", "causes": if causes { serde_json::json!([{"field": "spec", "message": "m", "reason": "r"}]) }
                        else { serde_json::json!([]) }, "retryAfterSeconds": 7},
        })).expect("a status");
        status.code = code;
        classify(&ReadError::Api { doing: "x".into(), source: Box::new(kube::Error::Api(Box::new(status))) })
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(matches!(answer(422, false), Sent::MovedOn));
        assert!(matches!(answer(422, true), Sent::Refused(_)));
        assert!(matches!(answer(409, false), Sent::MovedOn));
        assert!(matches!(answer(403, false), Sent::Refused(why) if why.contains("said")));
        assert!(matches!(answer(429, false), Sent::Later { after, .. } if after == Duration::from_secs(7)));
        for code in [500, 503, 504] {
            assert!(matches!(answer(code, false), Sent::Unclear(_)), "{code}: it may be in");
        }
        assert!(matches!(
            classify(&ReadError::Deadline { doing: "x".into(), deadline: WRITE_DEADLINE }),
            Sent::Unclear(_)
        ));
    }

    /// A broken proxy before the API server: what it says is never taken for yes or no.
    #[tokio::test]
    async fn fault_35_a_garbled_answer_is_unclear() {
        let id = WorkloadId::new("shop", crate::domain::Kind::Deployment, "web");
        for (status, media, body) in [
            (200, "text/html", "<html>sign in</html>"),
            (200, "application/json", r#"{"metadata": {"name": "we"#),
            (200, "application/json", ""),
            (200, "application/json", "[1, 2]"),
            (500, "text/html", "<html>"),
            (502, "text/plain", "bad gateway"),
        ] {
            let answer = move |_: http::Request<kube::client::Body>| {
                let answer = http::Response::builder().status(status).header("content-type", media);
                std::future::ready(answer.body(kube::client::Body::from(body.as_bytes().to_vec())))
            };
            let client = Client::new(tower::service_fn(answer), "shop");
            for dry_run in [true, false] {
                let sent = patch(&client, &id, &serde_json::json!([]), dry_run).await;
                assert!(matches!(sent, Sent::Unclear(_)), "{status} {media} {body:?}: {sent:?}");
            }
            assert!(crate::cluster::get_raw(&client, &id).await.is_err(), "{status} {media} {body:?}");
        }
    }
}
