use super::*;
use crate::{
    record::Phase,
    report::fixtures::{context, ended, hostile, verified},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use proptest::prelude::*;
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

/// What must never be seen in any text (I12).
const CANARY: &str = "canary-7Qz";

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

#[derive(Clone)]
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: &'static str,
    seen: Seen,
}

fn answer(code: u16, body: &'static str) -> Answer {
    let code = StatusCode::from_u16(code).unwrap();
    Answer { code, headers: HeaderMap::new(), body, seen: Seen::default() }
}

impl Answer {
    fn with(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

/// A receiver on loopback. Its task ends with the test's runtime.
async fn receiver(answer: Answer) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .fallback(|State(a): State<Answer>, headers: HeaderMap, body: Bytes| async move {
            a.seen.lock().unwrap().push((headers, body));
            (a.code, a.headers, a.body)
        })
        .with_state(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn channel(folder: &Path, kind: NotifierKind, url: &str) -> NotifierSettings {
    let (url_file, secret_file) = (folder.join("url"), folder.join("key"));
    std::fs::write(&url_file, format!("{url}\n")).unwrap();
    std::fs::write(&secret_file, format!("key-{CANARY}\n")).unwrap();
    NotifierSettings {
        name: "incidents".into(),
        kind,
        url_file: SecretFile(url_file),
        secret_file: Some(SecretFile(secret_file)),
        timeout: Duration::from_secs(5),
    }
}

fn notifiers(channel: NotifierSettings) -> Notifiers {
    let clock = Clock::starting_at("2026-11-23T14:41:13Z".parse().unwrap());
    let sender = transport::Sender { client: transport::client(false).unwrap(), wire: Wire::Network };
    Notifiers::with_sender(&[channel], context(), clock, Some(sender)).unwrap()
}

/// Delivers the one due notice of a verified undo to a receiver with this answer.
async fn deliver_to(kind: NotifierKind, answer: Answer) -> Delivery {
    let folder = tempfile::tempdir().unwrap();
    let address = receiver(answer).await;
    let notifiers = notifiers(channel(folder.path(), kind, &format!("http://{address}/services/{CANARY}")));
    let incident = verified();
    let notice = notifiers.due(&incident).remove(0);
    let delivery = notifiers.deliver(&notice, &incident).await;
    assert!(!format!("{delivery:?}{notifiers:?}").contains(CANARY));
    delivery
}

fn words(delivery: &Delivery) -> (&'static str, u64) {
    match delivery {
        Delivery::Done => ("done", 0),
        Delivery::Retry { after, .. } => ("retry", after.as_secs()),
        Delivery::GiveUp { .. } => ("give up", 0),
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_carries_its_key() {
    let reply = answer(204, "");
    let seen = reply.seen.clone();
    assert_eq!(deliver_to(NotifierKind::Webhook, reply).await, Delivery::Done);
    let (headers, body) = seen.lock().unwrap().remove(0);
    assert_eq!(headers["x-lastgood-id"], "production/jarvis-api-4f2a9c/verified/incidents");
    assert_eq!(headers["content-type"], "application/json");
    let timestamp = headers["x-lastgood-timestamp"].to_str().unwrap();
    assert_eq!(timestamp, "1795444873");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, format!("key-{CANARY}").as_bytes());
    let signature = headers["x-lastgood-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    let tag: Vec<u8> =
        (0..signature.len()).step_by(2).map(|i| u8::from_str_radix(&signature[i..i + 2], 16).unwrap()).collect();
    let signed = [timestamp.as_bytes(), b".", &body].concat();
    ring::hmac::verify(&key, &signed, &tag).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["apiVersion"], "lastgood.dev/v1");
    assert_eq!(value["kind"], "IncidentNotice");
    assert_eq!(value["phase"], "Verified");
    assert_eq!(value["final"], true);
    assert_eq!(value["environment"], "production");
    assert_eq!(value["workload"]["name"], "jarvis-api");
    assert_eq!(value["findings"][0]["counts"]["newBad"], 609.0);
}

#[test]
fn the_signature_is_that_of_other_tools() {
    // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
    assert_eq!(
        webhook::signature(&Secret::new("key"), 1_700_000_000, br#"{"a":1}"#),
        "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
    );
}

#[test]
fn the_body_of_a_webhook_keeps_its_keys() {
    let incident = verified();
    let notice = due(&incident, &[channel(tempfile::tempdir().unwrap().path(), NotifierKind::Webhook, "x")]).remove(0);
    let body = webhook::body(&notice, &incident, &context());
    assert_eq!(body, webhook::body(&notice, &incident, &context()), "the same for every try");
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "apiVersion",
            "applied",
            "bad",
            "cluster",
            "decided",
            "environment",
            "explanation",
            "final",
            "findings",
            "finished",
            "harmSince",
            "headline",
            "id",
            "incident",
            "kind",
            "message",
            "phase",
            "reason",
            "rolloutBegan",
            "target",
            "text",
            "trigger",
            "workload",
        ]
    );
}

#[tokio::test]
async fn which_answers_are_tried_again() {
    use NotifierKind::{Slack, Webhook};
    for (kind, code, body, expected) in [
        (Webhook, 200, "", "done"),
        (Webhook, 500, "", "retry"),
        (Webhook, 503, "", "retry"),
        (Webhook, 429, "", "retry"),
        (Webhook, 400, "", "give up"),
        (Webhook, 404, "", "give up"),
        (Webhook, 301, "", "give up"),
        (Slack, 200, "ok", "done"),
        (Slack, 200, "{\"success\":true}", "done"),
        (Slack, 200, "{\"ok\":false,\"error\":\"what\"}", "retry"),
        (Slack, 200, "<html>log in</html>", "retry"),
        (Slack, 200, "invalid_payload", "give up"),
        (Slack, 400, "invalid_payload", "give up"),
        (Slack, 410, "channel_is_archived", "give up"),
        (Slack, 403, "action_prohibited", "give up"),
        (Slack, 500, "rollup_error", "retry"),
    ] {
        let delivery = deliver_to(kind, answer(code, body)).await;
        assert_eq!(words(&delivery).0, expected, "{kind:?} {code} {body}: {delivery:?}");
    }
}

#[tokio::test]
async fn slack_words_are_told_and_other_text_is_not() {
    let known = deliver_to(NotifierKind::Slack, answer(404, "no_service")).await;
    assert_eq!(known, Delivery::GiveUp { why: "the receiver answered 404: no_service".into() });
    let other = deliver_to(NotifierKind::Slack, answer(404, "your URL /services/canary-7Qz is wrong")).await;
    assert_eq!(other, Delivery::GiveUp { why: "the receiver answered 404".into() });
}

#[tokio::test]
async fn retry_after_is_honoured_in_both_spellings_and_capped() {
    let asked = |value| answer(429, "").with(header::RETRY_AFTER, value);
    assert_eq!(words(&deliver_to(NotifierKind::Slack, asked("30")).await), ("retry", 30));
    let date = deliver_to(NotifierKind::Slack, asked("Mon, 23 Nov 2026 14:43:13 GMT")).await;
    assert!(matches!(date, Delivery::Retry { after, .. } if (118..=120).contains(&after.as_secs())), "{date:?}");
    assert_eq!(words(&deliver_to(NotifierKind::Slack, asked("999999999")).await), ("retry", 3600));
    let nonsense = deliver_to(NotifierKind::Slack, asked("soon")).await;
    assert!(matches!(nonsense, Delivery::Retry { after, .. } if after.as_secs() < 10), "{nonsense:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let reply = answer(302, "").with(header::LOCATION, "/elsewhere");
    let seen = reply.seen.clone();
    assert_eq!(words(&deliver_to(NotifierKind::Webhook, reply).await).0, "give up");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// I12: whatever goes wrong, the URL and the key stay out of every text.
#[tokio::test]
async fn i12_no_fault_shows_the_url_or_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let plain = receiver(answer(200, "ok")).await;
    let incident = verified();
    for url in [
        format!("http://{closed}/{CANARY}"),
        format!("http://user:{CANARY}@{closed}/"),
        format!("https://{plain}/{CANARY}"),
        format!("http://{CANARY}.invalid/x"),
        format!("ftp://{CANARY}/"),
        format!("http://[{CANARY}]/"),
        format!("{CANARY} is not a URL"),
        String::new(),
    ] {
        for kind in [NotifierKind::Slack, NotifierKind::Webhook] {
            let settings = channel(folder.path(), kind, &url);
            let notifiers = notifiers(settings.clone());
            let notice = notifiers.due(&incident).remove(0);
            let delivery = notifiers.deliver(&notice, &incident).await;
            assert_eq!(words(&delivery).0, "retry", "{url}: {delivery:?}");
            let mut status = incident.status.clone().unwrap();
            record(&mut status, &notice, &delivery);
            let shown = format!("{delivery:?} {notifiers:?} {settings:?} {status:?} {notice:?}");
            assert!(!shown.contains(CANARY), "{shown}");
        }
    }
}

#[tokio::test]
async fn faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = receiver(answer(200, "ok")).await;
    let incident = verified();
    for (url, expected) in [
        (format!("http://{closed}/"), "the connection failed: connection refused"),
        (format!("https://{plain}/"), "TLS with the receiver failed"),
    ] {
        let notifiers = notifiers(channel(folder.path(), NotifierKind::Webhook, &url));
        let notice = notifiers.due(&incident).remove(0);
        match notifiers.deliver(&notice, &incident).await {
            Delivery::Retry { why, .. } => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_tried_again_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = channel(folder.path(), NotifierKind::Slack, "http://127.0.0.1:1/");
    std::fs::remove_file(&settings.url_file.0).unwrap();
    let notifiers = notifiers(settings);
    let incident = verified();
    match notifiers.deliver(&notifiers.due(&incident)[0], &incident).await {
        Delivery::Retry { why, .. } => assert!(why.contains("/url"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_costs_the_channels_deadline() {
    let folder = tempfile::tempdir().unwrap();
    // The connection is taken by the system's backlog and never answered.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let notifiers = notifiers(channel(folder.path(), NotifierKind::Slack, &url));
    let incident = verified();
    match notifiers.deliver(&notifiers.due(&incident)[0], &incident).await {
        Delivery::Retry { why, .. } => assert_eq!(why, "no answer within 5 s"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_channel_that_is_no_longer_configured_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let notifiers = notifiers(channel(folder.path(), NotifierKind::Slack, "http://127.0.0.1:1/"));
    let incident = verified();
    let mut notice = notifiers.due(&incident).remove(0);
    notice.channel = "gone".into();
    assert_eq!(words(&notifiers.deliver(&notice, &incident).await).0, "give up");
}

#[test]
fn two_channels_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let twice = channel(folder.path(), NotifierKind::Slack, "x");
    let error = Notifiers::with_sender(&[twice.clone(), twice], context(), Clock::system(), None).unwrap_err();
    assert!(error.to_string().contains("\"incidents\""), "{error}");
}

#[test]
fn waits_double_up_to_ten_minutes() {
    let incident = verified();
    let folder = tempfile::tempdir().unwrap();
    let mut notice = due(&incident, &[channel(folder.path(), NotifierKind::Slack, "x")]).remove(0);
    let mut last = 0.0;
    for attempts in [0, 1, 2, 3, 4, 5, 6, 7, 8, 100, u32::MAX] {
        notice.attempts = attempts;
        let Delivery::Retry { after, .. } = transport::later(&notice, String::new()) else { unreachable!() };
        let base = (5.0 * 2f64.powi(attempts.min(10) as i32)).min(600.0);
        assert!((0.75 * base..=1.25 * base).contains(&after.as_secs_f64()), "{attempts}: {after:?}");
        assert!(after.as_secs_f64() > last * 0.6);
        last = after.as_secs_f64();
    }
}

fn texts(value: &serde_json::Value) -> Vec<&serde_json::Value> {
    match value {
        serde_json::Value::Object(map) if map.contains_key("type") && map["type"] == "plain_text" => vec![value],
        serde_json::Value::Object(map) => map.values().flat_map(texts).collect(),
        serde_json::Value::Array(list) => list.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn slack_limits_are_kept_and_nothing_untrusted_is_markup() {
    let mut long = hostile();
    let text = "<!channel> & ü".repeat(2000);
    long.spec.explanation = text.clone();
    long.spec.bad.images = vec![text.clone(); 20];
    if let Some(status) = &mut long.status {
        status.message = text;
    }
    for incident in [long, hostile(), verified(), ended(Phase::DidNotHelp, "")] {
        let body = slack::body(&incident, &context());
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        assert!(serde_json::to_string(blocks).unwrap().chars().count() < 10_000);
        assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= 150);
        for text in texts(&body["blocks"]) {
            let text = text["text"].as_str().unwrap();
            assert!(!text.is_empty() && text.chars().count() <= 3000);
        }
        assert!(!body.to_string().contains("mrkdwn"));
        let fallback = body["text"].as_str().unwrap();
        assert!(!fallback.is_empty() && !fallback.contains(['<', '>']));
    }
}

proptest! {
    /// Whatever a receiver asks for: a wait between nothing and an hour, and no panic on dates of any year.
    #[test]
    fn a_mangled_retry_after_is_a_bounded_wait(value in crate::fuzz_tests::mangled("retry-after")) {
        let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        let answer = http::Response::builder().status(429).header(header::RETRY_AFTER, value).body("").unwrap();
        let clock = Clock::starting_at("2026-11-23T14:41:13Z".parse().unwrap());
        let notice = due(&verified(), &[channel(tempfile::tempdir().unwrap().path(), NotifierKind::Slack, "x")]).remove(0);
        let Some(Delivery::Retry { after, .. }) = transport::refused(&answer.into(), &notice, clock, "said") else {
            panic!("429 is tried again")
        };
        prop_assert!(after <= Duration::from_secs(3600));
    }
}
