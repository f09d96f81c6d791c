use super::*;
use crate::{
    clock::seconds,
    domain::{Counts, CustomQueries, Observation, PodId, Preset},
    sources::{
        Fault,
        testing::{Seen, Server, TlsServer, nobody, response, trial},
    },
};
use axum::response::Response;
use proptest::prelude::*;
use serde_json::json;

fn settings(url: &str) -> PrometheusSettings {
    serde_json::from_value(json!({"url": url})).unwrap()
}

fn source(server: &Server) -> Prometheus {
    Prometheus::new(&settings(&server.url()), Clock::system()).unwrap()
}

/// A vector at the time that was asked for, with some pods' counts.
fn vector(seen: &Seen, samples: &[(serde_json::Value, &str)]) -> String {
    let t: f64 = seen.param("time").unwrap().parse().unwrap();
    let result: Vec<_> = samples.iter().map(|(labels, v)| json!({"metric": labels, "value": [t, v]})).collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
}

fn pod(mark: &str, pod: &str) -> serde_json::Value {
    json!({"lastgood": mark, "namespace": "shop", "pod": pod})
}

/// What is asked, by the text of the query.
fn asks(seen: &Seen) -> &'static str {
    let query = seen.param("query").unwrap_or_default();
    match () {
        () if seen.path.ends_with("/api/v1/status/runtimeinfo") => "runtimeinfo",
        () if query.contains("timestamp(up") => "sanity",
        () if query.contains("_bucket") => "latency",
        () if query.contains("_memory_") => "memory",
        () => "counts",
    }
}

/// A healthy Prometheus, except for what `or` says instead.
async fn healthy(or: impl Fn(&Seen) -> Option<Response> + Clone + Send + Sync + 'static) -> Server {
    Server::new(move |seen| {
        if let Some(other) = or(seen) {
            return other;
        }
        let body = match asks(seen) {
            "runtimeinfo" => json!({"status":"success","data":{"startTime":"2020-01-01T00:00:00Z"}}).to_string(),
            "sanity" => vector(
                seen,
                &[
                    (pod("up", "checkout-old-1"), "1"),
                    (pod("up", "checkout-new-1"), "1"),
                    (json!({"lastgood":"age"}), "5"),
                ],
            ),
            "latency" => {
                let le = |le: &str| json!({"lastgood":"go/latency","namespace":"shop","pod":"checkout-new-1","le":le});
                vector(seen, &[(le("0.1"), "70"), (le("+Inf"), "100")])
            }
            "memory" => vector(seen, &[(pod("memory", "checkout-old-1"), "1e8"), (pod("memory", "payments-1"), "1")]),
            _ => vector(
                seen,
                &[
                    (pod("go/requests", "checkout-old-1"), "1000"),
                    (pod("go/errors", "checkout-old-1"), "0"),
                    (pod("go/requests", "checkout-new-1"), "100"),
                    (pod("go/errors", "checkout-new-1"), "8"),
                    (pod("go/requests", "payments-1"), "5"),
                    (pod("go/errors", "payments-1"), "5"),
                ],
            ),
        };
        response(200, "application/json", body)
    })
    .await
}

fn counters(read: &Read) -> Vec<(String, Counts)> {
    let of = |o: &Observed| match &o.what {
        Observation::Counters { pod, counts } => Some((pod.to_string(), counts.clone())),
        _ => None,
    };
    read.observed.iter().filter_map(of).collect()
}

async fn read_once(server: &Server) -> Read {
    source(server).read_all(&[trial("shop", "checkout")]).await
}

/// A read that must fail, measure nothing and say why.
async fn blind(server: &Server, why: &str) {
    let read = read_once(server).await;
    assert!(!read.ok, "{read:?}");
    assert!(read.observed.is_empty(), "{read:?}");
    let reason = read.reason.unwrap();
    assert!(reason.contains(why), "\"{reason}\" does not say \"{why}\"");
}

#[tokio::test]
async fn reads_the_counters_of_the_pods_under_trial_and_no_others() {
    let server = healthy(|_| None).await;
    let before = Clock::system().now();
    let read = read_once(&server).await;
    assert!(read.ok && read.reason.is_none(), "{read:?}");
    let latency = [(0.1, 70.0), (f64::INFINITY, 100.0)].into_iter().collect();
    assert_eq!(
        counters(&read),
        [
            ("shop/checkout-new-1".into(), Counts { requests: Some(100.0), errors: Some(8.0), latency: Some(latency) }),
            ("shop/checkout-old-1".into(), Counts { requests: Some(1000.0), errors: Some(0.0), latency: None }),
        ]
    );
    let seen = server.seen();
    let of = |what: &str| seen.iter().filter(|s| asks(s) == what).collect::<Vec<_>>();
    assert_eq!((of("counts").len(), of("latency").len(), of("sanity").len(), of("runtimeinfo").len()), (1, 1, 1, 1));
    let times: Vec<_> = seen.iter().filter_map(|s| s.param("time")).collect();
    assert!(times.windows(2).all(|w| w[0] == w[1]), "one time for all: {times:?}");
    let t: f64 = times[0].parse().unwrap();
    assert!(t >= before - 0.001 && t <= before + 60.0);
    assert!(read.observed.iter().all(|o| (o.t - t).abs() < 1e-6), "the time of the observation is the time asked for");
    assert_eq!(of("counts")[0].param("partial_response").as_deref(), Some("false"));
    assert_eq!(of("counts")[0].param("deny_partial_response").as_deref(), Some("1"));
    assert_eq!(of("counts")[0].param("timeout").as_deref(), Some("10000ms"));
}

#[tokio::test]
async fn memory_is_read_once_a_minute_and_nothing_depends_on_it() {
    let server = healthy(|_| None).await;
    let prometheus = source(&server);
    let read = prometheus.read_all(&[trial("shop", "checkout")]).await;
    let memory = |read: &Read| -> Vec<Observation> {
        let all = read.observed.iter().map(|o| o.what.clone());
        all.filter(|what| matches!(what, Observation::Memory { .. })).collect()
    };
    assert_eq!(memory(&read), [Observation::Memory { pod: PodId::new("shop", "checkout-old-1"), bytes: 1e8 }]);
    let again = prometheus.read_all(&[trial("shop", "checkout")]).await;
    assert!(again.ok && memory(&again).is_empty(), "it was read a moment ago: {again:?}");
    assert_eq!(server.seen().iter().filter(|seen| asks(seen) == "memory").count(), 1);

    let broken = healthy(|seen| (asks(seen) == "memory").then(|| response(500, "text/plain", "no"))).await;
    let read = read_once(&broken).await;
    assert!(read.ok && counters(&read).len() == 2, "{read:?}");
    assert!(read.reason.unwrap().contains("pods memory"), "what is missing is said");
}

#[tokio::test]
async fn fault_42_a_prometheus_that_cannot_be_reached_measures_nothing() {
    let prometheus = Prometheus::new(&settings(&format!("http://{}", nobody().await)), Clock::system()).unwrap();
    let read = prometheus.read_all(&[trial("shop", "checkout")]).await;
    assert!(!read.ok && read.observed.is_empty());
    assert!(read.reason.unwrap().contains("connection refused"));

    // Plain HTTP where TLS is spoken, TLS where plain HTTP is spoken, and a server that knows us not.
    let tls = TlsServer::new("");
    for url in [format!("http://localhost:{}", tls.port), format!("https://localhost:{}", tls.port)] {
        let given = serde_json::from_value(json!({"url": url, "caFile": tls.folder.path().join("ca.pem")})).unwrap();
        let read = Prometheus::new(&given, Clock::system()).unwrap().read_all(&[trial("shop", "checkout")]).await;
        assert!(!read.ok && read.observed.is_empty() && read.reason.is_some(), "{url}: {read:?}");
    }
    for status in [401, 403] {
        blind(&healthy(move |_| Some(response(status, "text/plain", "no"))).await, &format!("HTTP {status}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_ends_at_the_deadline() {
    // Paused time runs to the next deadline as soon as nothing else can happen.
    for said in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"succ"] {
        let server = Server::raw(said, true).await;
        blind(&server, "within 10s").await;
    }
}

#[tokio::test]
async fn broken_answers_are_no_answers() {
    let whole = |status, media: &'static str, body: &'static str| healthy(move |_| Some(response(status, media, body)));
    let json = "application/json";
    blind(&whole(200, json, r#"{"status":"success","data":{"resultType":"vector","resu"#).await, "not a Prometheus")
        .await;
    blind(&whole(200, "text/html", "<html>login</html>").await, "text/html").await;
    blind(&whole(404, "text/html", "<html>").await, "HTTP 404").await;
    blind(&whole(500, "text/html", "<html>").await, "HTTP 500").await;
    blind(&whole(502, json, r#"{"message":"bad gateway"}"#).await, "HTTP 502").await;
    blind(&whole(401, "text/plain", "no org id").await, "HTTP 401").await;
    blind(&whole(403, json, "{}").await, "HTTP 403").await;
    blind(&whole(302, "text/html", "").await, "redirects").await;
    blind(
        &whole(503, json, r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#).await,
        "query timed out",
    )
    .await;
    blind(&whole(422, json, r#"{"status":"error","errorType":"execution","error":"many-to-many"}"#).await, "execution")
        .await;
    blind(&whole(200, json, r#"{"status":"error","errorType":"internal","error":"x"}"#).await, "internal").await;
    let closed =
        Server::raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", false).await;
    blind(&closed, "the connection broke").await;
}

#[tokio::test]
async fn fault_44_an_error_or_a_partial_answer_to_any_query_blinds_the_whole_read() {
    for which in ["counts", "latency", "sanity"] {
        for extra in [r#","warnings":["store 3 is down"]}"#, r#","isPartial":true}"#] {
            let server = healthy(move |seen| {
                (asks(seen) == which).then(|| {
                    let body = vector(seen, &[(pod("go/requests", "checkout-new-1"), "1")]);
                    response(200, "application/json", body.strip_suffix('}').unwrap().to_owned() + extra)
                })
            })
            .await;
            blind(&server, "partial answer").await;
        }
    }
    for (status, error) in [(200, "internal"), (422, "execution"), (503, "timeout")] {
        let body = json!({"status": "error", "errorType": error, "error": "said", "data": {"resultType": "vector",
            "result": [{"metric": pod("go/errors", "checkout-new-1"), "value": [1, "99"]}]}});
        blind(&healthy(move |_| Some(response(status, "application/json", body.to_string()))).await, error).await;
    }
}

#[tokio::test]
async fn fault_45_an_empty_answer_is_no_data_and_not_zero() {
    let server = healthy(|seen| {
        matches!(asks(seen), "counts" | "latency").then(|| response(200, "application/json", vector(seen, &[])))
    })
    .await;
    let read = read_once(&server).await;
    assert!(read.ok && counters(&read).is_empty(), "{read:?}");

    // No series of failures beside requests is not the same as no failures: nobody has said zero.
    let server = healthy(|seen| {
        (asks(seen) == "counts")
            .then(|| response(200, "application/json", vector(seen, &[(pod("go/requests", "checkout-new-1"), "100")])))
    })
    .await;
    let read = read_once(&server).await;
    assert!(counters(&read).iter().all(|(_, counts)| counts.errors.is_none()), "{read:?}");
}

#[tokio::test]
async fn fault_46_what_is_no_number_is_no_data_and_is_counted() {
    let server = healthy(|seen| match asks(seen) {
        "counts" => {
            let samples = [
                (pod("go/requests", "checkout-new-1"), "NaN"),
                (pod("go/errors", "checkout-new-1"), "+Inf"),
                (pod("go/errors", "checkout-new-1"), "-Inf"),
                (pod("go/requests", "checkout-new-1"), "1e999"),
                (pod("go/requests", "checkout-old-1"), "-3"),
                (pod("go/errors", "checkout-old-1"), "many"),
                (json!({"namespace":"shop","pod":"checkout-old-1"}), "3"),
            ];
            Some(response(200, "application/json", vector(seen, &samples)))
        }
        "latency" => Some(response(200, "application/json", vector(seen, &[]))),
        _ => None,
    })
    .await;
    let prometheus = source(&server);
    let read = prometheus.read_all(&[trial("shop", "checkout")]).await;
    assert!(read.ok && counters(&read).is_empty(), "{read:?}");
    assert_eq!(prometheus.malformed(), 7);
}

/// Somebody's own query lacks its matcher and finds every service of the cluster.
#[tokio::test]
async fn fault_49_series_without_the_workloads_identity_are_nobodys() {
    let server = healthy(|seen| {
        let everything = [
            (json!({}), "900"),
            (json!({"job": "checkout"}), "900"),
            (json!({"namespace": "shop"}), "900"),
            (json!({"namespace": "shop", "workload": "payments"}), "900"),
            (json!({"namespace": "other", "workload": "checkout"}), "900"),
            (json!({"namespace": "shop", "pod": "payments-1"}), "900"),
        ];
        seen.param("query")?.starts_with("my_").then(|| response(200, "application/json", vector(seen, &everything)))
    })
    .await;
    let read = source(&server).read_all(&[custom("checkout", "my_requests", "my_errors")]).await;
    assert!(read.ok && read.observed.is_empty(), "{read:?}");
}

#[tokio::test]
async fn caps_on_bytes_and_series_hold() {
    let server = healthy(|seen| {
        (asks(seen) == "counts").then(|| {
            let many: Vec<_> = (0..50).map(|i| (pod("go/requests", &format!("p{i}")), "1")).collect();
            response(200, "application/json", vector(seen, &many))
        })
    })
    .await;
    for (cap, why) in [("maxBytes", "larger than 2000 bytes"), ("maxSeries", "more than 20 series")] {
        let limit = if cap == "maxBytes" { 2000 } else { 20 };
        let settings = serde_json::from_value(json!({"url": server.url(), cap: limit})).unwrap();
        let read = Prometheus::new(&settings, Clock::system()).unwrap().read_all(&[trial("shop", "checkout")]).await;
        assert!(!read.ok && read.observed.is_empty());
        let reason = read.reason.unwrap();
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn fault_47_an_endless_body_is_cut() {
    let server = healthy(|_| {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1 << 16)));
        Some(response(200, "application/json", axum::body::Body::from_stream(endless)))
    })
    .await;
    blind(&server, "larger than 33554432 bytes").await;
}

#[tokio::test]
async fn fault_40_answers_for_another_time_are_no_answers() {
    let server = healthy(|seen| {
        let late = |t: f64| json!({"status":"success","data":{"resultType":"vector","result":[{"metric":pod("go/requests","checkout-new-1"),"value":[t - 300.0,"1"]}]}});
        (asks(seen) == "counts").then(|| response(200, "application/json", late(seen.param("time").unwrap().parse().unwrap()).to_string()))
    })
    .await;
    blind(&server, "wrong time").await;

    let server = healthy(|_| None).await;
    for (off, works) in [(90, true), (-90, true), (300, false), (-300, false)] {
        let clock = Clock::starting_at(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(off));
        let read =
            Prometheus::new(&settings(&server.url()), clock).unwrap().read_all(&[trial("shop", "checkout")]).await;
        assert_eq!(read.ok, works, "{off} {read:?}");
        if !works {
            assert!(read.reason.unwrap().contains("wrong time: the server's clock"));
        }
    }
}

#[tokio::test]
async fn too_many_requests_are_not_answered_with_more() {
    let server = healthy(|_| {
        let mut answer = response(429, "text/plain", "slow down");
        answer.headers_mut().insert("retry-after", "120".parse().unwrap());
        Some(answer)
    })
    .await;
    let prometheus = source(&server);
    let trials = [trial("shop", "checkout")];
    assert!(prometheus.read_all(&trials).await.reason.unwrap().contains("rate limited"));
    let asked = server.seen().len();
    let second = prometheus.read_all(&trials).await;
    assert!(!second.ok && second.reason.unwrap().contains("rate limited"));
    let queries = |seen: Vec<Seen>| seen.iter().filter(|s| asks(s) != "runtimeinfo").count();
    assert_eq!(queries(server.seen()), queries(server.seen()[..asked].to_vec()));
}

#[tokio::test]
async fn a_failed_latency_query_leaves_only_the_latency_out() {
    let server = healthy(|seen| (asks(seen) == "latency").then(|| response(500, "text/plain", ""))).await;
    let read = read_once(&server).await;
    assert!(read.ok);
    assert!(read.reason.as_ref().unwrap().contains("pods latency: HTTP 500"), "{read:?}");
    assert_eq!(counters(&read).len(), 2);
    assert!(counters(&read).iter().all(|(_, c)| c.latency.is_none() && c.requests.is_some()));
}

#[tokio::test]
async fn a_path_before_the_api_is_kept() {
    for prefix in ["/select/0:0/prometheus", "/prometheus/"] {
        let server = healthy(|_| None).await;
        let given = settings(&format!("{}{prefix}", server.url()));
        assert!(Prometheus::new(&given, Clock::system()).unwrap().read_all(&[trial("shop", "checkout")]).await.ok);
        let prefix = prefix.trim_end_matches('/');
        for seen in server.seen() {
            let rest = seen.path.strip_prefix(prefix).unwrap();
            assert!(matches!(rest, "/api/v1/query" | "/api/v1/status/runtimeinfo"), "{}", seen.path);
        }
    }
}

#[tokio::test]
async fn slow_queries_of_one_policy_do_not_blind_the_others() {
    let server = healthy(|seen| {
        let slow = seen.param("query").is_some_and(|q| q.starts_with("slow"));
        slow.then(|| {
            response(
                200,
                "application/json",
                axum::body::Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>()),
            )
        })
    })
    .await;
    let given = serde_json::from_value(json!({"url": server.url(), "timeout": "20s"})).unwrap();
    let mut trials = vec![trial("shop", "checkout")];
    trials.extend((0..30).map(|i| custom(&format!("c{i}"), &format!("slow_{i}"), "slow_errors")));
    let prometheus = Arc::new(Prometheus::new(&given, Clock::system()).unwrap());
    let reading = tokio::spawn({
        let prometheus = Arc::clone(&prometheus);
        async move { tokio::time::timeout(prometheus.deadline(), prometheus.read_all(&trials)).await }
    });
    // All places are taken by stalled queries: what comes before them has been answered.
    let stalled = |s: &Seen| s.param("query").is_some_and(|q| q.starts_with("slow"));
    while server.seen().iter().filter(|s| stalled(s)).count() < CONCURRENCY
        || !server.seen().iter().any(|s| asks(s) == "runtimeinfo")
    {
        tokio::task::yield_now().await;
    }
    // From here on time jumps to the next deadline; a minute in all, which the check of clocks allows for.
    tokio::time::pause();
    let read = reading.await.unwrap().expect("the read ends before the deadline of the source");
    assert!(read.ok, "{read:?}");
    assert_eq!(counters(&read).len(), 2);
    assert!(read.reason.unwrap().contains("no complete answer within"));
}

fn custom(name: &str, requests: &str, errors: &str) -> TrialTarget {
    let mut trial = trial("shop", name);
    let rules = Arc::make_mut(&mut trial.rules);
    rules.metrics.preset = Preset::Custom;
    rules.metrics.custom =
        Some(CustomQueries { requests: requests.into(), errors: Some(errors.into()), latency: None });
    trial
}

#[tokio::test]
async fn own_queries_are_sent_once_and_a_broken_one_harms_only_its_owners() {
    let server = healthy(|seen| {
        let query = seen.param("query")?;
        let samples = match query.as_str() {
            "my_requests" => vec![
                (json!({"namespace":"shop","pod":"a-new-1"}), "10"),
                (json!({"namespace":"shop","workload":"b"}), "50"),
                (json!({"namespace":"shop","workload":"checkout"}), "50"),
                (json!({"namespace":"shop","pod":"c-new-1"}), "99"),
            ],
            "my_errors" => vec![(json!({"namespace":"shop","pod":"a-new-1"}), "1")],
            "broken_requests" => vec![(json!({"namespace":"shop","pod":"c-new-1"}), "7")],
            "broken(" => {
                let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
                return Some(response(400, "application/json", refused));
            }
            _ => return None,
        };
        Some(response(200, "application/json", vector(seen, &samples)))
    })
    .await;
    let trials = [
        trial("shop", "checkout"),
        custom("a", "my_requests", "my_errors"),
        custom("b", "my_requests", "my_errors"),
        custom("c", "broken_requests", "broken("),
    ];
    let read = source(&server).read_all(&trials).await;
    assert!(read.ok);
    assert_eq!(read.reason.as_deref(), Some("custom errors: the query failed (bad_data): parse error"));
    let found = counters(&read);
    let pods: Vec<&str> = found.iter().map(|(p, _)| p.as_str()).collect();
    assert_eq!(pods, ["shop/a-new-1", "shop/checkout-new-1", "shop/checkout-old-1"], "c's requests without c's errors");
    assert_eq!(found[0].1, Counts { requests: Some(10.0), errors: Some(1.0), latency: None });
    let callers: Vec<_> = read
        .observed
        .iter()
        .filter(|o| matches!(&o.what, Observation::Callers { workload, .. } if workload.name == "b"))
        .collect();
    assert_eq!(callers.len(), 1);
    assert_eq!(server.seen().iter().filter(|s| s.param("query").as_deref() == Some("my_requests")).count(), 1);
}

#[tokio::test]
async fn insane_monitoring_blinds_the_read() {
    let sanity = |old: &'static str, new: &'static str, age: &'static str| {
        healthy(move |seen| {
            let samples = [
                (pod("up", "checkout-old-1"), old),
                (pod("up", "checkout-new-1"), new),
                (json!({"lastgood":"age"}), age),
            ];
            (asks(seen) == "sanity").then(|| response(200, "application/json", vector(seen, &samples)))
        })
    };
    blind(&sanity("1", "1", "200").await, "monitoring: the newest scrape is 200 s old").await;
    // Two pods that stay silent although they are Ready: after a minute it is the monitoring.
    let server = sanity("0", "0", "5").await;
    let prometheus = source(&server);
    let trials = [trial("shop", "checkout")];
    assert!(prometheus.read_all(&trials).await.ok);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let read = prometheus.read_all(&trials).await;
    assert!(!read.ok && read.observed.is_empty());
    assert!(read.reason.unwrap().contains("monitoring: only 0 of 2 Ready pods"));

    let young = healthy(|seen| {
        let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(20);
        let info = json!({"status":"success","data":{"startTime":start.to_string()}});
        (asks(seen) == "runtimeinfo").then(|| response(200, "application/json", info.to_string()))
    })
    .await;
    blind(&young, "monitoring: Prometheus started ").await;
    // A backend that has no such page is no worse for it, and is not asked for it each time.
    let other = healthy(|seen| (asks(seen) == "runtimeinfo").then(|| response(404, "text/plain", ""))).await;
    let prometheus = source(&other);
    for _ in 0..3 {
        assert!(prometheus.read_all(&[self::trial("shop", "checkout")]).await.ok);
    }
    assert_eq!(other.seen().iter().filter(|s| asks(s) == "runtimeinfo").count(), 1);
}

#[tokio::test]
async fn credentials_are_sent_reread_and_never_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "canary-one\n").unwrap();
    let server = healthy(|seen| {
        let known = seen.headers.get("authorization").is_some_and(|v| v.as_bytes().starts_with(b"Bearer canary-"));
        (!known || seen.headers.get("x-scope-orgid").is_none()).then(|| response(401, "text/plain", ""))
    })
    .await;
    let given: PrometheusSettings = serde_json::from_value(json!({
        "url": server.url(), "bearerTokenFile": file, "headers": {"X-Scope-OrgID": "canary-tenant"},
    }))
    .unwrap();
    let prometheus = Prometheus::new(&given, Clock::system()).unwrap();
    let trials = [trial("shop", "checkout")];
    assert!(prometheus.read_all(&trials).await.ok);
    std::fs::write(&file, "canary-two").unwrap();
    assert!(prometheus.read_all(&trials).await.ok);
    let last = server.seen().pop().unwrap();
    assert_eq!(last.headers["authorization"], "Bearer canary-two");
    std::fs::write(&file, "secret\u{7f}canary").unwrap();
    let bad = prometheus.read_all(&trials).await;
    assert!(!bad.ok && !format!("{bad:?}").contains("canary"), "{bad:?}");
    std::fs::remove_file(&file).unwrap();
    let gone = prometheus.read_all(&trials).await;
    assert!(gone.reason.unwrap().contains("cannot read the secret file"));

    std::fs::write(&file, "pass:word").unwrap();
    let basic: PrometheusSettings =
        serde_json::from_value(json!({"url": server.url(), "username": "u", "passwordFile": file})).unwrap();
    let read = Prometheus::new(&basic, Clock::system()).unwrap().read_all(&trials).await;
    assert!(!read.ok && read.reason.unwrap().contains("HTTP 401"));
    assert_eq!(server.seen().pop().unwrap().headers["authorization"], "Basic dTpwYXNzOndvcmQ=");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_repeating_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for wrong in [
        json!({"url": "http://user:canary@prometheus:9090"}),
        json!({"url": "http://canary@prometheus:9090"}),
        json!({"url": "http://prometheus:9090/?token=canary"}),
        json!({"url": "ftp://prometheus"}),
        json!({"url": "prometheus:9090"}),
        json!({"url": "/canary"}),
        json!({"url": "http://p", "headers": {"a b": "canary"}}),
        json!({"url": "http://p", "headers": {"a": "canary\n"}}),
        json!({"url": "http://p", "caFile": "/nowhere/ca.pem"}),
        json!({"url": "https://p", "caFile": empty}),
        json!({"url": "http://p", "certFile": empty}),
        json!({"url": "https://p", "certFile": empty, "keyFile": empty, "caFile": empty}),
        json!({"url": "http://p", "bearerTokenFile": "/nowhere/token"}),
        json!({"url": "http://p", "bearerTokenFile": empty, "username": "u"}),
    ] {
        let given: PrometheusSettings = serde_json::from_value(wrong.clone()).unwrap();
        match Prometheus::new(&given, Clock::system()).map(|_| ()) {
            Err(SourceError::Settings(text)) => assert!(!text.contains("canary"), "{text}"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn check_says_what_is_wrong() {
    let up = healthy(|seen| Some(response(200, "application/json", vector(seen, &[(json!({}), "7")])))).await;
    assert!(source(&up).check().await.unwrap().ends_with("knows 7 targets"));
    let empty = healthy(|seen| Some(response(200, "application/json", vector(seen, &[])))).await;
    assert!(source(&empty).check().await.unwrap_err().contains("knows no target"));
    let page = healthy(|_| Some(response(200, "text/html", "<html>"))).await;
    assert!(source(&page).check().await.unwrap_err().contains("not a Prometheus"));
    let tenant = healthy(|_| Some(response(401, "text/plain", "no org id"))).await;
    assert!(source(&tenant).check().await.unwrap_err().contains("tenant"));
    let gone = Prometheus::new(&settings(&format!("http://{}", nobody().await)), Clock::system()).unwrap();
    assert!(gone.check().await.unwrap_err().contains("connection refused"));
    assert_eq!(gone.connection.instant("up", 1.0).await.map_err(|e| e.label()), Err("unreachable"));
}

#[tokio::test]
async fn the_past_is_read_by_range_and_joined_to_known_pods() {
    let server = healthy(|seen| {
        if !seen.path.ends_with("query_range") {
            return None;
        }
        let start: f64 = seen.param("start").unwrap().parse().unwrap();
        let series = |labels: serde_json::Value, values: &[&str]| {
            let points: Vec<_> = values.iter().enumerate().map(|(i, v)| json!([start + 15.0 * i as f64, v])).collect();
            json!({"metric": labels, "values": points})
        };
        let result = match asks(seen) {
            "latency" => vec![],
            // A point in five: a slope needs no more.
            "memory" => vec![series(pod("memory", "checkout-old-1"), &["7", "8", "9", "10", "11"])],
            _ => vec![
                series(pod("go/requests", "checkout-old-1"), &["10", "20", "NaN", "40"]),
                series(pod("go/errors", "checkout-old-1"), &["0", "1", "1", "1"]),
                series(pod("go/requests", "checkout-gone-1"), &["1", "2", "3", "4"]),
            ],
        };
        let body = json!({"status":"success","data":{"resultType":"matrix","result":result}});
        Some(response(200, "application/json", body.to_string()))
    })
    .await;
    let past =
        source(&server).history(&trial("shop", "checkout"), 1000.2, 1060.7, Duration::from_secs(15)).await.unwrap();
    let id = PodId::new("shop", "checkout-old-1");
    let at = |t: f64, requests: Option<f64>, errors: f64| Observed {
        t,
        what: Observation::Counters {
            pod: id.clone(),
            counts: Counts { requests, errors: Some(errors), latency: None },
        },
    };
    let held = |t: f64, bytes| Observed { t, what: Observation::Memory { pod: id.clone(), bytes } };
    let (memory, past): (Vec<_>, Vec<_>) = past.into_iter().partition(|o| matches!(o.what, Observation::Memory { .. }));
    assert_eq!(memory, [held(1001.0, 7.0), held(1061.0, 11.0)]);
    assert_eq!(
        past,
        [at(1001.0, Some(10.0), 0.0), at(1016.0, Some(20.0), 1.0), at(1031.0, None, 1.0), at(1046.0, Some(40.0), 1.0)]
    );
    let asked = server.seen();
    assert_eq!(asked[0].param("start").as_deref(), Some("1001"));
    assert_eq!(asked[0].param("end").as_deref(), Some("1060"));
    assert_eq!(asked[0].param("step").as_deref(), Some("15"));

    // A week at 15 s would be more points than Prometheus gives out.
    source(&server).history(&trial("shop", "checkout"), 0.0, 604_800.0, Duration::from_secs(15)).await.unwrap();
    let step: f64 = server.seen().pop().unwrap().param("step").unwrap().parse().unwrap();
    assert!(604_800.0 / step < connection::MOST_POINTS, "{step}");

    let partial = healthy(|_| {
        Some(response(
            200,
            "application/json",
            r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["x"]}"#,
        ))
    })
    .await;
    let past = source(&partial).history(&trial("shop", "checkout"), 0.0, 60.0, Duration::from_secs(15)).await;
    assert!(matches!(past, Err(SourceError::Partial(_))), "{past:?}");
}

#[tokio::test]
async fn callers_of_a_mesh_and_of_an_ingress_speak_for_their_workload() {
    let server = healthy(|seen| {
        let query = seen.param("query")?;
        let samples = match () {
            () if query.contains("_bucket") => vec![],
            () if query.contains("istio_") => {
                let of = |mark: &str, name: &str| json!({"lastgood":mark,"destination_workload_namespace":"shop","destination_workload":name,"instance":"i"});
                vec![(of("istio/requests", "mesh"), "100"), (of("istio/errors", "mesh"), "5"), (of("istio/requests", "edge"), "9")]
            }
            () if query.contains("nginx_") => {
                let of = |mark: &str| json!({"lastgood":mark,"namespace":"ingress-nginx","service":"x","exported_namespace":"shop","exported_service":"edge","instance":"i"});
                vec![(of("ingress-nginx/requests"), "70"), (of("ingress-nginx/errors"), "0")]
            }
            () if query.contains("traefik_") => {
                let of = |service: &str| json!({"lastgood":"traefik/requests","service":service,"instance":"i"});
                vec![(of("shop-t-r-80@kubernetes"), "1"), (of("shop-nobody-80@kubernetes"), "1")]
            }
            () if query.contains("envoy_") => {
                vec![(json!({"lastgood":"envoy-gateway/requests","envoy_cluster_name":"httproute/shop/gate/rule/0"}), "1")]
            }
            () => return None,
        };
        Some(response(200, "application/json", vector(seen, &samples)))
    })
    .await;
    let with = |name: &str, preset| {
        let mut trial = trial("shop", name);
        Arc::make_mut(&mut trial.rules).metrics.preset = preset;
        trial
    };
    let trials = [
        with("mesh", Preset::Istio),
        with("edge", Preset::IngressNginx),
        with("t-r", Preset::Traefik),
        with("gate", Preset::EnvoyGateway),
    ];
    let read = source(&server).read_all(&trials).await;
    assert!(read.ok, "{read:?}");
    let seen: Vec<_> = read
        .observed
        .iter()
        .map(|o| match &o.what {
            Observation::Callers { workload, counts } => (workload.name.as_str(), counts.requests, counts.errors),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("edge", Some(0.0), Some(0.0)),
            ("gate", Some(0.0), None),
            ("mesh", Some(0.0), Some(0.0)),
            ("t-r", Some(0.0), None)
        ]
    );
    assert!(!server.seen().iter().any(|s| asks(s) == "sanity"), "no pod is scraped for these");
}

#[test]
fn a_traefik_name_that_two_workloads_could_have_is_nobodys() {
    let mut trials = [trial("a", "b-c"), trial("a-b", "c")];
    for trial in &mut trials {
        Arc::make_mut(&mut trial.rules).metrics.preset = Preset::Traefik;
    }
    let series = Series {
        labels: [("lastgood", "traefik/requests"), ("service", "a-b-c-80@kubernetes")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into(),
        points: vec![(1.0, 5.0)],
        malformed: 0,
    };
    let group = plan::Group::Callers(3);
    let found = |trials: &[TrialTarget]| {
        let mut joined = Joined::default();
        joined.add(&Targets::of(trials), &group, Part::Counts, std::slice::from_ref(&series), None);
        joined.finish(&mut Totals::default()).len()
    };
    assert_eq!((found(&trials), found(&trials[..1])), (0, 1));
}

proptest! {
    #[test]
    fn odd_label_values_never_panic_the_join(
        labels in proptest::collection::vec(("[a-z_]{0,12}|service|pod|namespace|lastgood|envoy_cluster_name|le", "[-a-z/@.]{0,14}|go/latency|go/requests|traefik/requests"), 0..6),
        value in any::<f64>(), t in any::<f64>(), group in 0usize..6,
    ) {
        let trials = [trial("shop", "checkout")];
        let series = Series { labels: labels.into_iter().collect(), points: vec![(t, value)], malformed: 0 };
        let group = match group { 0 => plan::Group::Pods, 1 => plan::Group::Resource, n => plan::Group::Callers(n - 2) };
        let mut joined = Joined::default();
        joined.add(&Targets::of(&trials), &group, Part::Counts, &[series], None);
        joined.finish(&mut Totals::default());
    }
}

#[test]
fn dates_of_http_are_read() {
    let read = jiff::fmt::rfc2822::parse("Mon, 23 Nov 2026 16:29:26 GMT").map(|z| seconds(z.timestamp()));
    assert_eq!(read.ok(), Some(1_795_451_366.0));
}

#[tokio::test]
async fn tls_trusts_the_given_ca_only_and_shows_the_client_certificate() {
    let server = TlsServer::new(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#);
    let file = |name: &str| server.folder.path().join(name);
    let url = format!("https://localhost:{}", server.port);
    let ask = async |given: serde_json::Value| {
        let given: PrometheusSettings = serde_json::from_value(given).unwrap();
        Prometheus::new(&given, Clock::system())?.connection.instant("up", 1.0).await
    };
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    assert_eq!(ask(json!({"url": url, "caFile": ca, "certFile": cert, "keyFile": key})).await, Ok(vec![]));
    assert!(ask(json!({"url": url, "caFile": ca})).await.is_err(), "no client certificate, no answer");
    // Another CA: the server's certificate must not be believed.
    let other = TlsServer::new("");
    let untrusted =
        ask(json!({"url": url, "caFile": other.folder.path().join("ca.pem"), "certFile": cert, "keyFile": key})).await;
    assert!(matches!(untrusted, Err(SourceError::Unreachable { fault: Fault::Tls, .. })), "{untrusted:?}");
    // The certificate names localhost, not the address.
    let by_address = format!("https://127.0.0.1:{}", server.port);
    let wrong_name = ask(json!({"url": by_address, "caFile": ca, "certFile": cert, "keyFile": key})).await;
    assert!(matches!(wrong_name, Err(SourceError::Unreachable { fault: Fault::Tls, .. })), "{wrong_name:?}");
}
