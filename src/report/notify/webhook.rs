//! Our own signed JSON.
//!
//! Headers: `X-Lastgood-Id` (the notice's key: drop repeats by it), `X-Lastgood-Timestamp` (Unix seconds) and,
//! with a secret, `X-Lastgood-Signature: sha256=<hex>`, the HMAC-SHA256 of `<timestamp>.<body>`. The body of one
//! key never changes between tries; a receiver refuses old timestamps to stop replays.

use super::{Delivery, transport};
use crate::{
    clock::Clock,
    config::Secret,
    domain::Finding,
    record::{Incident, Notice, Phase, RevisionRef, Trigger},
    report::{Context, facts, text},
};
use jiff::Timestamp;
use reqwest::{Url, header};
use ring::hmac;
use serde::Serialize;
use std::fmt::Write;

/// Version of the body; fields are only ever added to it.
const API_VERSION: &str = "lastgood.dev/v1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    id: &'a str,
    phase: Phase,
    #[serde(rename = "final")]
    is_final: bool,
    headline: String,
    text: String,
    environment: &'a str,
    cluster: Option<&'a str>,
    incident: Named<'a>,
    workload: Workload<'a>,
    bad: &'a RevisionRef,
    target: Option<&'a RevisionRef>,
    trigger: &'a Trigger,
    reason: &'a str,
    explanation: &'a str,
    message: &'a str,
    findings: &'a [Finding],
    rollout_began: Option<Timestamp>,
    harm_since: Option<Timestamp>,
    decided: Timestamp,
    applied: Option<Timestamp>,
    finished: Option<Timestamp>,
}

#[derive(Serialize)]
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Workload<'a> {
    namespace: &'a str,
    kind: &'static str,
    name: &'a str,
    uid: &'a str,
}

/// Pure. The body of a notice.
pub(super) fn body(notice: &Notice, incident: &Incident, context: &Context) -> Vec<u8> {
    let spec = &incident.spec;
    let status = facts::status(incident);
    let namespace = incident.metadata.namespace.as_deref().unwrap_or_default();
    let body = Body {
        api_version: API_VERSION,
        kind: "IncidentNotice",
        id: &notice.key,
        phase: status.phase,
        is_final: status.phase.is_final(),
        headline: text::headline(incident),
        text: text::paragraph(incident),
        environment: crate::report::markdown::environment(incident, context),
        cluster: context.cluster.as_deref(),
        incident: Named { namespace, name: facts::name(incident) },
        workload: Workload {
            namespace,
            kind: spec.workload.kind.as_str(),
            name: &spec.workload.name,
            uid: &spec.workload.uid,
        },
        bad: &spec.bad,
        target: spec.target.as_ref(),
        trigger: &spec.trigger,
        reason: &spec.reason,
        explanation: &spec.explanation,
        message: &status.message,
        findings: &spec.findings,
        rollout_began: spec.rollout_began,
        harm_since: spec.harm_since,
        decided: spec.decided,
        applied: status.applied,
        finished: status.finished,
    };
    // These types have text keys only and cannot fail to serialise.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// Pure. `sha256=<hex>` over `<timestamp>.<body>`.
pub(super) fn signature(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    context.sign().as_ref().iter().fold(String::from("sha256="), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) async fn send(
    sender: &transport::Sender,
    url: Url,
    secret: Option<&Secret>,
    notice: &Notice,
    incident: &Incident,
    context: &Context,
    clock: Clock,
) -> Delivery {
    let body = body(notice, incident, context);
    let timestamp = clock.timestamp().as_second();
    let mut request = sender
        .client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("X-Lastgood-Id", &notice.key)
        .header("X-Lastgood-Timestamp", timestamp);
    if let Some(secret) = secret {
        request = request.header("X-Lastgood-Signature", signature(secret, timestamp, &body));
    }
    match sender.send(request.body(body)).await {
        Ok(response) => transport::refused(&response, notice, clock, "").unwrap_or(Delivery::Done),
        Err(error) => transport::later(notice, transport::fault(&error)),
    }
}
