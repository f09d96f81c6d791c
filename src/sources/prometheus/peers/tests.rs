use super::{super::join::by_name, *};
use crate::{
    clock::{Clock, timestamp},
    domain::{Observation, Preset},
    sources::testing::{Seen, Server, response, trial},
};
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn a_pods_name_tells_whose_it_may_be() {
    let of = |pod| by_name(pod).map(|(kind, name)| format!("{kind}/{name}")).collect::<Vec<_>>();
    assert_eq!(of("web-5c98d7f6b4-x2x9z"), ["DaemonSet/web-5c98d7f6b4", "Deployment/web"]);
    assert_eq!(of("db-0"), ["StatefulSet/db"]);
    assert_eq!(of("node-agent-x2x9z"), ["DaemonSet/node-agent"], "\"agent\" is no hash");
    assert_eq!(of("a-24567"), ["StatefulSet/a", "DaemonSet/a"]);
    for nobodys in ["web", "", "-", "web-", "web-admin", "web-job-abcde"] {
        assert!(of(nobodys).is_empty(), "{nobodys}");
    }
}

/// A workload whose pods nobody has listed.
fn peer(name: &str) -> TrialTarget {
    let mut peer = trial("shop", name);
    peer.pods.clear();
    peer
}

fn asking(peers: &[TrialTarget]) -> PeerQuestion {
    PeerQuestion { peers: peers.to_vec(), ..PeerQuestion::default() }
}

/// Each pod answers ten requests a second; those of `pay` fail one in ten of them.
fn answer(seen: &Seen) -> axum::response::Response {
    let number = |name: &str| seen.param(name).and_then(|text| text.parse::<f64>().ok());
    let pods = ["web-5c98d7f6b4-x2x9z", "web-5c98d7f6b4-b2b9b", "pay-7c9b8d6f5d-d4d4d", "stranger-7c9b8d6f5d-d4d4d"];
    let at = |pod: &str, signal: &str, t: f64| {
        let requests = (10.0 * (t - 1.7e9)).floor();
        let share = if pod.starts_with("pay") { 0.1 } else { 0.0 };
        json!([t, (if signal == "requests" { requests } else { requests * share }).to_string()])
    };
    let mut series = Vec::new();
    for (pod, signal) in pods.iter().flat_map(|pod| [(pod, "requests"), (pod, "errors")]) {
        let metric = json!({"lastgood": format!("go/{signal}"), "namespace": "shop", "pod": pod});
        series.push(match (number("time"), number("start"), number("end"), number("step")) {
            (Some(t), ..) => json!({"metric": metric, "value": at(pod, signal, t)}),
            (_, Some(start), Some(end), Some(step)) => {
                let times = (0..).map(|i| start + f64::from(i) * step).take_while(|t| *t <= end);
                json!({"metric": metric, "values": times.map(|t| at(pod, signal, t)).collect::<Vec<Value>>()})
            }
            other => panic!("{other:?}"),
        });
    }
    let kind = if number("time").is_some() { "vector" } else { "matrix" };
    let body = json!({"status": "success", "data": {"resultType": kind, "result": series}});
    let mut response = response(200, "application/json", body.to_string());
    // The server's clock goes with ours, which the tests turn on.
    let now = timestamp(number("time").or_else(|| number("end")).unwrap());
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
    response.headers_mut().insert("date", date.parse().unwrap());
    response
}

fn source(server: &Server) -> Prometheus {
    Prometheus::new(&serde_json::from_value(json!({"url": server.url()})).unwrap(), Clock::system()).unwrap()
}

fn paths(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// Requests and failures of a workload in what was read: how many readings, from the first to the last.
fn told(read: &PeerRead, name: &str) -> (usize, f64, f64) {
    let of = |o: &Observed| match &o.what {
        Observation::Callers { workload, counts } if workload.name == name => {
            assert!(counts.latency.is_none());
            Some((counts.requests.unwrap(), counts.errors.unwrap()))
        }
        _ => None,
    };
    let all: Vec<(f64, f64)> = read.observed.iter().filter_map(of).collect();
    let (first, last) = (all.first().unwrap(), all.last().unwrap());
    (all.len(), last.0 - first.0, last.1 - first.1)
}

#[tokio::test]
async fn the_past_is_read_once_and_then_the_moment_in_one_query_each() {
    let server = Server::new(answer).await;
    let prometheus = source(&server);
    let peers = [peer("web"), peer("pay"), peer("idle")];
    let read = prometheus.read_peers(&asking(&peers)).await;
    assert_eq!((read.failed.as_deref(), paths(&server)), (None, vec!["query_range".to_owned()]));
    // Two pods of `web`, one of `pay`, 35 minutes every 15 s; and nobody else's.
    assert_eq!(told(&read, "web"), (141, 42_000.0, 0.0));
    assert_eq!(told(&read, "pay"), (141, 21_000.0, 2100.0));
    assert!(read.observed.windows(2).all(|two| two[0].t <= two[1].t));
    let strangers =
        |o: &&Observed| !matches!(&o.what, Observation::Callers { workload, .. } if workload.name != "idle");
    assert_eq!(read.observed.iter().find(strangers), None);

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let next = prometheus.read_peers(&asking(&peers)).await;
    assert_eq!(paths(&server)[1..], ["query"], "one query for all");
    let of_web = |read: &PeerRead| {
        read.observed
            .iter()
            .filter_map(|o| match &o.what {
                Observation::Callers { workload, counts } if workload.name == "web" => counts.requests,
                _ => None,
            })
            .next_back()
            .unwrap()
    };
    let grown = of_web(&next) - of_web(&read);
    assert!((300.0..=340.0).contains(&grown), "{grown}");

    // Somebody new: its past, and the moment of the others.
    let more = [peer("web"), peer("pay"), peer("stranger")];
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let read = prometheus.read_peers(&asking(&more)).await;
    assert_eq!((told(&read, "stranger").0, told(&read, "web").0), (141, 1));
    let mut last = paths(&server)[2..].to_vec();
    last.sort();
    assert_eq!(last, ["query", "query_range"]);
}

/// Each pod answers ten requests a second, those of `pay` within 0.2 s, all others within 0.1 s.
fn latencies(seen: &Seen) -> axum::response::Response {
    let query = seen.param("query").unwrap_or_default();
    if !query.contains("/latency") {
        return answer(seen);
    }
    let number = |name: &str| seen.param(name).and_then(|text| text.parse::<f64>().ok());
    let times: Vec<f64> = match (number("time"), number("start"), number("end"), number("step")) {
        (Some(t), ..) => vec![t],
        (_, Some(start), Some(end), Some(step)) => {
            (0..).map(|i| start + f64::from(i) * step).take_while(|t| *t <= end).collect()
        }
        other => panic!("{other:?}"),
    };
    let mut series = Vec::new();
    for pod in ["web-5c98d7f6b4-x2x9z", "web-5c98d7f6b4-b2b9b", "pay-7c9b8d6f5d-d4d4d"] {
        for le in ["0.1", "0.2", "+Inf"] {
            let within = le != "0.1" || !pod.starts_with("pay");
            let at = |t: &f64| json!([t, (if within { (10.0 * (t - 1.7e9)).floor() } else { 0.0 }).to_string()]);
            let metric = json!({"lastgood": "go/latency", "namespace": "shop", "pod": pod, "le": le});
            series.push(match number("time") {
                Some(_) => json!({"metric": metric, "value": at(&times[0])}),
                None => json!({"metric": metric, "values": times.iter().map(at).collect::<Vec<Value>>()}),
            });
        }
    }
    let kind = if number("time").is_some() { "vector" } else { "matrix" };
    response(
        200,
        "application/json",
        json!({"status": "success", "data": {"resultType": kind, "result": series}}).to_string(),
    )
}

#[tokio::test]
async fn latency_is_read_of_the_nearest_only_and_only_when_it_is_asked_for() {
    let server = Server::new(latencies).await;
    let prometheus = source(&server);
    let peers = [peer("web"), peer("pay")];
    let latency = |read: &PeerRead| {
        let of = |o: &Observed| match &o.what {
            Observation::Callers { workload, counts } => {
                let of = |buckets: &crate::domain::Buckets| {
                    Some((workload.name.clone(), buckets.get(0.1)?, buckets.get(f64::INFINITY)?))
                };
                counts.latency.as_ref().and_then(of)
            }
            _ => None,
        };
        read.observed.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(latency(&prometheus.read_peers(&asking(&peers)).await), []);
    assert_eq!(paths(&server), ["query_range"]);

    // The counts were read a moment ago, the latency never: its past is read, of the first one alone.
    let read = prometheus.read_peers(&PeerQuestion { slow: 1, ..asking(&peers) }).await;
    let told = latency(&read);
    assert_eq!(told.len(), 71, "35 minutes, every 30 s");
    assert!(told.iter().all(|(name, ..)| name == "web"));
    let grown = (told[70].1 - told[0].1, told[70].2 - told[0].2);
    assert_eq!(grown, (42_000.0, 42_000.0), "two pods, ten requests a second each");
    let mut asked = paths(&server)[1..].to_vec();
    asked.sort();
    assert_eq!(asked, ["query", "query_range"]);

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let told = latency(&prometheus.read_peers(&PeerQuestion { slow: 9, ..asking(&peers) }).await);
    let of = |name: &str| told.iter().filter(|(of, ..)| of == name).collect::<Vec<_>>();
    assert_eq!((of("web").len(), of("pay").len()), (1, 71));
    let (first, last) = (of("pay")[0], of("pay")[70]);
    assert_eq!((last.1 - first.1, last.2 - first.2), (0.0, 21_000.0), "all of them slower than 0.1 s");
}

#[tokio::test]
async fn who_was_read_five_minutes_ago_is_asked_for_the_time_since_in_one_query() {
    let server = Server::new(answer).await;
    let prometheus = source(&server);
    let peers = [peer("web"), peer("pay")];
    prometheus.read_peers(&asking(&peers)).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(300)).await;
    tokio::time::resume();
    let read = prometheus.read_peers(&asking(&peers)).await;
    assert_eq!(paths(&server), ["query_range", "query_range"]);
    let (readings, requests, _) = told(&read, "web");
    assert!((20..=21).contains(&readings), "{readings}");
    assert!((5700.0..=6000.0).contains(&requests), "{requests}");

    // Somebody new does not make the others' past be read again.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(300)).await;
    tokio::time::resume();
    let read = prometheus.read_peers(&asking(&[peer("web"), peer("stranger")])).await;
    assert!((20..=21).contains(&told(&read, "web").0));
    assert_eq!(told(&read, "stranger").0, 141);
}

#[tokio::test]
async fn the_number_of_queries_depends_on_presets_alone() {
    let server = Server::new(answer).await;
    let many: Vec<TrialTarget> = (0..200)
        .map(|i| {
            let mut peer = peer(&format!("w{i}"));
            Arc::make_mut(&mut peer.rules).metrics.preset = [Preset::Auto, Preset::Custom, Preset::Traefik][i % 3];
            peer
        })
        .collect();
    source(&server).read_peers(&asking(&many)).await;
    assert_eq!(server.seen().len(), 2, "pods and Traefik; own queries are left out");
    source(&server).read_peers(&asking(&[])).await;
    assert_eq!(server.seen().len(), 2, "nobody, nothing");
}

#[tokio::test]
async fn a_read_that_fails_brings_nothing_and_is_made_up_for_by_the_next() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let turn = broken.clone();
    let server = Server::new(move |seen| match turn.load(Ordering::Relaxed) {
        true => response(
            200,
            "application/json",
            r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["x"]}"#,
        ),
        false => answer(seen),
    })
    .await;
    let prometheus = source(&server);
    let peers = [peer("web")];
    let read = prometheus.read_peers(&asking(&peers)).await;
    assert!(read.observed.is_empty() && read.failed.unwrap().contains("partial answer"));
    broken.store(false, Ordering::Relaxed);
    let read = prometheus.read_peers(&asking(&peers)).await;
    assert_eq!((told(&read, "web").0, read.failed), (141, None));
}

#[tokio::test]
async fn a_mesh_is_asked_who_calls_whom_when_somebody_is_new() {
    let server = Server::new(|seen| {
        let query = seen.param("query").unwrap_or_default();
        if !query.starts_with("label_replace(count by (source_workload") {
            return answer(seen);
        }
        let labels = json!({
            "source_workload_namespace": "shop", "source_workload": "web",
            "destination_workload_namespace": "shop", "destination_workload": "pay",
        });
        let t: f64 = seen.param("time").unwrap().parse().unwrap();
        let result = json!([{"metric": labels, "value": [t, "3"]}]);
        let body = json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        response(200, "application/json", body.to_string())
    })
    .await;
    let prometheus = source(&server);
    let meshed = |name: &str| {
        let mut target = peer(name);
        Arc::make_mut(&mut target.rules).metrics.preset = Preset::Istio;
        target
    };
    let (trials, peers) = ([meshed("web")], [meshed("pay")]);
    let question = PeerQuestion { trials: trials.to_vec(), ..asking(&peers) };
    let read = prometheus.read_peers(&question).await;
    assert_eq!(read.calls, [(trials[0].workload.clone(), vec![peers[0].workload.clone()])]);
    assert!(prometheus.read_peers(&question).await.calls.is_empty(), "asked once");
    assert_eq!(server.seen().len(), 3, "counts twice, edges once");
}
