use super::*;
use crate::domain::{Kind, Mode, SourceState, ThresholdsState, WorkloadId, WorkloadStatus};
use axum::body::{Body, to_bytes};
use tower::ServiceExt;

const NOW: f64 = 1_795_444_873.0;

fn good() -> Snapshot {
    let mut snapshot = Snapshot {
        t: NOW,
        synced: true,
        leader: true,
        thresholds: ThresholdsState { hash: "0123456789ab".into(), loaded: NOW - 60.0, rejected: None },
        ..Snapshot::default()
    };
    snapshot.watches.insert("deployments".into(), 3.0);
    snapshot.workloads.push(WorkloadStatus {
        workload: WorkloadId::new("prod", Kind::Deployment, "api"),
        revision: "abc".into(),
        images: vec!["api:1".into()],
        mode: Mode::Observe,
        policy: "defaults".into(),
        owner: None,
        held_by: None,
        judgement: None,
        began: None,
        watch_until: None,
        under_watch: false,
        recovery: None,
        late_until: None,
        late: None,
    });
    snapshot
}

fn served(mut snapshot: Snapshot) -> Served {
    let known = std::mem::take(&mut snapshot.workloads);
    let (_, receiver) = watch::channel(Arc::new(snapshot));
    let (workloads, mut asked) = mpsc::channel::<oneshot::Sender<Vec<WorkloadStatus>>>(1);
    tokio::spawn(async move {
        while let Some(answer) = asked.recv().await {
            let _ = answer.send(known.clone());
        }
    });
    Served {
        snapshot: receiver,
        workloads,
        heartbeats: vec![
            Heartbeat::new("watchdog", Duration::from_secs(60)),
            Heartbeat::new("executor", Duration::from_secs(90)),
        ],
        tape: broadcast::Sender::new(16),
        metrics: Arc::new(|| "# TYPE x gauge\nx 1\n".into()),
        clock: Clock::starting_at(crate::clock::timestamp(NOW)),
    }
}

async fn ask(served: &Served, method: &str, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router(served.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn metrics_name_their_format() {
    let (code, headers, body) = ask(&served(good()), "GET", "/metrics").await;
    assert_eq!(code, 200);
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(body, "# TYPE x gauge\nx 1\n");
}

#[tokio::test(start_paused = true)]
async fn i16_a_loop_that_stops_beating_fails_liveness_by_name() {
    let served = served(good());
    assert_eq!(ask(&served, "GET", "/livez").await.0, 200);
    tokio::time::advance(Duration::from_secs(61)).await;
    let (code, _, body) = ask(&served, "GET", "/livez").await;
    assert_eq!(code, 503);
    assert_eq!(body, "[-]watchdog: no beat for 61 s\n");
    served.heartbeats[0].clone().beat();
    assert_eq!(ask(&served, "GET", "/livez").await.0, 200);
    tokio::time::advance(Duration::from_secs(30)).await;
    let (code, _, body) = ask(&served, "GET", "/livez").await;
    assert_eq!((code.as_u16(), body.as_str()), (503, "[-]executor: no beat for 91 s\n"));
}

#[tokio::test]
async fn readiness_needs_the_first_list_fresh_watches_and_thresholds() {
    let (code, _, body) = ask(&served(good()), "GET", "/readyz").await;
    assert_eq!((code.as_u16(), body.as_str()), (200, "ok\n"));
    type Spoil = fn(&mut Snapshot);
    let faults: [(Spoil, &str); 5] = [
        (|s| s.synced = false, "[-]synced: the first list of workloads is not complete yet\n"),
        (
            |s| {
                s.watches.insert("pods".into(), 500.0);
            },
            "[-]watch pods: no message for 500 s\n",
        ),
        (
            |s| {
                s.watches.insert("pods".into(), f64::NAN);
            },
            "[-]watch pods: no message for NaN s\n",
        ),
        (|s| s.thresholds = ThresholdsState::default(), "[-]thresholds: none are loaded\n"),
        (|s| s.t = NOW - 200.0, "[-]watch deployments: no message for 203 s\n"),
    ];
    for (spoil, line) in faults {
        let mut snapshot = good();
        spoil(&mut snapshot);
        let (code, _, body) = ask(&served(snapshot), "GET", "/readyz").await;
        assert_eq!(code, 503, "{body}");
        assert!(body.contains(line) && body.ends_with("not ready\n"), "{body}");
    }
}

#[tokio::test]
async fn sources_permissions_and_a_refused_file_degrade_but_do_not_fail_readiness() {
    let mut snapshot = good();
    let down = SourceState { ok: false, last_good: None, reason: Some("timeout\nafter 10 s".into()) };
    snapshot.sources.insert("prometheus".into(), down);
    snapshot.degraded.push("may not patch StatefulSets in shop".into());
    snapshot.thresholds.rejected = Some("line 3: unknown key `erors`".into());
    snapshot.skipped = 2;
    snapshot.leader = false;
    let (code, _, body) = ask(&served(snapshot), "GET", "/readyz?verbose").await;
    assert_eq!(code, 200);
    assert_eq!(
        body,
        "[+]synced ok\n\
         [+]watch deployments ok, last message 3 s ago\n\
         [~]thresholds: 0123456789ab, loaded 60 s ago, stay in force; the file was refused: line 3: unknown key `erors`\n\
         [~]source prometheus: timeout after 10 s\n\
         [~]degraded: may not patch StatefulSets in shop\n\
         [~]skipped 2 malformed objects\n\
         [+]stands by; another replica leads\n\
         ok\n"
    );
}

#[tokio::test]
async fn the_snapshot_can_be_read_back() {
    let (code, headers, body) = ask(&served(good()), "GET", "/api/v1/snapshot").await;
    assert_eq!((code.as_u16(), &headers["content-type"]), (200, &HeaderValue::from_static("application/json")));
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((value["apiVersion"].as_str(), value["kind"].as_str()), (Some("lastgood.dev/v1"), Some("Snapshot")));
    let back: Snapshot = serde_json::from_str(&body).unwrap();
    assert_eq!(back.workloads[0].workload, good().workloads[0].workload);
}

#[tokio::test]
async fn one_workload_is_found_by_any_spelling_of_its_kind() {
    for kind in ["Deployment", "deployments", "deploy"] {
        let (code, _, body) = ask(&served(good()), "GET", &format!("/api/v1/workloads/prod/{kind}/api")).await;
        assert_eq!(code, 200);
        assert!(body.contains("\"workload\":\"prod/Deployment/api\""), "{body}");
    }
    let missing = ask(&served(good()), "GET", "/api/v1/workloads/prod/Deployment/apy").await;
    assert_eq!(missing.0, 404);
    assert!(missing.2.contains("prod/Deployment/apy is not watched"), "{}", missing.2);
    assert_eq!(ask(&served(good()), "GET", "/api/v1/workloads/prod/Rollout/api").await.0, 400);
    assert_eq!(ask(&served(Snapshot::default()), "GET", "/api/v1/workloads/prod/Deployment/api").await.0, 503);
    assert_eq!(ask(&served(good()), "GET", "/api/v1/workloads/%ff/Deployment/api").await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_does_not_answer_is_busy_and_not_empty() {
    let (workloads, _asked) = mpsc::channel(1);
    let stuck = |snapshot| Served { workloads: workloads.clone(), ..served(snapshot) };
    assert_eq!(ask(&stuck(good()), "GET", "/api/v1/snapshot").await.0, 503);
    assert_eq!(ask(&stuck(good()), "GET", "/api/v1/workloads/prod/Deployment/api").await.0, 503);
    assert_eq!(ask(&stuck(good()), "GET", "/readyz").await.0, 200);
    assert_eq!(ask(&stuck(Snapshot::default()), "GET", "/api/v1/snapshot").await.0, 200, "nothing is known yet");
}

#[tokio::test]
async fn nothing_can_be_changed_and_unknown_pages_are_named() {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/metrics", "/livez", "/readyz", "/api/v1/snapshot", "/api/v1/workloads/prod/Deployment/api"] {
            assert_eq!(ask(&served(good()), method, path).await.0, 405, "{method} {path}");
        }
    }
    let (code, _, body) = ask(&served(good()), "GET", "/health").await;
    assert_eq!(code, 404);
    assert!(body.contains("/readyz"));
}

#[tokio::test]
async fn a_taken_port_is_told_with_what_to_do() {
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = bind(first.address()).await.unwrap_err();
    assert!(matches!(error, ServeError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&first.address().to_string()) && text.contains("LASTGOOD_LISTEN"), "{text}");
}

#[tokio::test]
async fn it_serves_over_a_socket_and_stops_when_asked() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(server.run(served(good()), stopping));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    stop.send(true).unwrap();
    task.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn observations_come_as_lines_and_silence_keeps_the_connection() {
    use crate::domain::{Observation, Observed};
    use futures::StreamExt;
    let served = served(good());
    let request = Request::builder().uri("/api/v1/observations").body(Body::empty()).unwrap();
    let response = router(served.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let what = Observation::Source { source: "scrape".into(), ok: true, reason: None };
    for t in 0..20 {
        served.tape.send([Observed { t: f64::from(t), what: what.clone() }].into()).unwrap();
    }
    let mut line = async || String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(line().await.contains("\"kind\":\"lost\",\"observations\":4"), "a slow reader is told what it lost");
    for t in 4..20 {
        assert_eq!(line().await, format!("{{\"t\":{t}.0,\"kind\":\"source\",\"source\":\"scrape\",\"ok\":true}}\n"));
    }
    assert_eq!(line().await, "\n");
}
