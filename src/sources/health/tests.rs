use super::*;
use crate::sources::testing::{Server, nobody, response, trial};

fn probe(via: ProbeVia, scheme: Scheme, port: u16) -> HealthProbe {
    let timeout = Duration::from_secs(2);
    HealthProbe { name: "health".into(), via, scheme, port, path: "/healthz?full=1".into(), timeout }
}

fn health(fixed: &[(&str, SocketAddr)]) -> Health {
    let fixed = fixed.iter().map(|(name, address)| ((*name).to_owned(), vec![*address])).collect();
    Health::with_names(&HealthSettings::default(), Clock::system(), Guard::Loopback, fixed)
}

/// One pod at this address, probed there.
fn one_pod(address: SocketAddr, scheme: Scheme) -> TrialTarget {
    let mut trial = trial("shop", "checkout");
    trial.pods.remove(0);
    trial.pods[0].address = Some(address.ip());
    Arc::make_mut(&mut trial.rules).health = vec![probe(ProbeVia::Pod, scheme, address.port())];
    trial
}

fn through_service(port: u16, scheme: Scheme) -> TrialTarget {
    let mut trial = trial("shop", "checkout");
    Arc::make_mut(&mut trial.rules).health = vec![probe(ProbeVia::Service("web".into()), scheme, port)];
    trial
}

async fn said(health: &Health, trial: TrialTarget) -> ProbeResult {
    let mut read = health.read_all(&[trial]).await;
    assert!(read.ok && read.observed.len() == 1, "{read:?}");
    let Observation::Probe(result) = read.observed.remove(0).what else { panic!() };
    result
}

#[tokio::test]
async fn fault_55_redirects_are_not_followed_and_a_body_says_only_what_json_says() {
    use ProbeOutcome::{Fail, Pass};
    for (status, media, body, outcome, detail) in [
        (200, "text/plain", "ok", Pass, None),
        (204, "text/plain", "", Pass, None),
        (302, "text/html", "", Pass, Some("HTTP 302, not followed")),
        (404, "text/html", "", Fail, Some("HTTP 404")),
        (429, "text/html", "", Fail, Some("HTTP 429")),
        (503, "application/json", r#"{"status":"UP"}"#, Fail, Some("HTTP 503")),
        (200, "application/health+json; charset=utf-8", r#"{"status":"fail"}"#, Fail, Some("status fail")),
        (200, "application/vnd.spring-boot.actuator.v3+json", r#"{"status":"DOWN"}"#, Fail, Some("status down")),
        (200, "application/json", r#"{"status":"warn"}"#, Pass, Some("status warn")),
        (200, "application/json", r#"{"status":"sold out"}"#, Pass, None),
        (200, "application/json", "{trunca", Pass, None),
        (200, "text/html", r#"{"status":"DOWN"}"#, Pass, None),
    ] {
        let server = Server::new(move |_| {
            let mut answer = response(status, media, body);
            answer.headers_mut().insert("location", "http://169.254.169.254/".parse().unwrap());
            answer
        })
        .await;
        let result = said(&health(&[]), one_pod(server.address, Scheme::Http)).await;
        assert_eq!((result.outcome, result.detail.as_deref()), (outcome, detail), "{status} {body}");
        assert_eq!(result.pod.unwrap().name, "checkout-new-1");
        assert_eq!(result.revision.unwrap().0, "new");
        assert_eq!(server.seen()[0].path, "/healthz?full=1");
        assert_eq!(server.seen().len(), 1, "nothing is followed");
    }
}

#[tokio::test]
async fn no_answer_fails_and_what_we_cannot_reach_is_an_error() {
    let refused = said(&health(&[]), one_pod(nobody().await, Scheme::Http)).await;
    assert_eq!((refused.outcome, refused.detail.as_deref()), (ProbeOutcome::Fail, Some("connection refused")));
    let broken = Server::raw(b"HTTP/1.1 2", false).await;
    assert_eq!(said(&health(&[]), one_pod(broken.address, Scheme::Http)).await.outcome, ProbeOutcome::Fail);

    // A name without an address; given, so that the test asks no name server.
    let mut nameless = health(&[]);
    nameless.resolver.fixed = Arc::new([("web.shop.svc.cluster.local".to_owned(), vec![])].into());
    let unknown = said(&nameless, through_service(80, Scheme::Http)).await;
    assert_eq!(unknown.outcome, ProbeOutcome::Error, "{unknown:?}");
    assert_eq!(unknown.detail.as_deref(), Some("the name does not resolve"));
    assert!(unknown.pod.is_none() && unknown.revision.is_none());
    let no_tls = Server::raw(b"plain HTTP or something like it", true).await;
    let tls = said(&health(&[]), one_pod(no_tls.address, Scheme::Https)).await;
    assert_eq!(tls.outcome, ProbeOutcome::Error, "{tls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_a_timeout_before_and_in_the_body() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":"] {
        let server = Server::raw(bytes, true).await;
        let result = said(&health(&[]), one_pod(server.address, Scheme::Http)).await;
        assert_eq!((result.outcome, result.detail.as_deref()), (ProbeOutcome::Fail, Some("timeout")));
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_its_status_counts() {
    let server = Server::new(|_| {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(1 << 14)));
        response(200, "application/json", axum::body::Body::from_stream(endless))
    })
    .await;
    assert_eq!(said(&health(&[]), one_pod(server.address, Scheme::Http)).await.outcome, ProbeOutcome::Pass);
}

#[tokio::test]
async fn a_service_is_asked_by_its_name_at_the_checked_address() {
    let server = Server::new(|_| response(200, "text/plain", "")).await;
    let health = health(&[("web.shop.svc.cluster.local", server.address)]);
    let result = said(&health, through_service(server.address.port(), Scheme::Http)).await;
    assert_eq!(result.outcome, ProbeOutcome::Pass, "{result:?}");
    let host = format!("web.shop.svc.cluster.local:{}", server.address.port());
    assert_eq!(server.seen()[0].headers["host"], host.as_str());
}

#[tokio::test]
async fn forbidden_addresses_are_an_error_and_are_not_asked() {
    let server = Server::new(|_| response(200, "text/plain", "")).await;
    let strict = Health::with_names(
        &HealthSettings::default(),
        Clock::system(),
        Guard::Strict,
        [("web.shop.svc.cluster.local".to_owned(), vec![server.address])].into(),
    );
    for trial in [one_pod(server.address, Scheme::Http), through_service(server.address.port(), Scheme::Http)] {
        let result = said(&strict, trial).await;
        assert_eq!(result.outcome, ProbeOutcome::Error);
        assert_eq!(result.detail.as_deref(), Some("the address 127.0.0.1 is not allowed"));
    }
    assert!(server.seen().is_empty());
    // A service name is a name, not a place to write a URL into.
    let mut trial = through_service(80, Scheme::Http);
    Arc::make_mut(&mut trial.rules).health[0].via = ProbeVia::Service("evil.example/#".into());
    assert_eq!(said(&strict, trial).await.outcome, ProbeOutcome::Error);
}

#[tokio::test]
async fn pods_without_an_address_are_not_asked() {
    let mut trial = one_pod(nobody().await, Scheme::Http);
    trial.pods[0].address = None;
    let read = health(&[]).read_all(&[trial]).await;
    assert!(read.ok && read.observed.is_empty());
}
