//! Backtests against a server that answers as a Prometheus with a past does.

use super::*;
use crate::{
    domain::{Observation, Observed, PodState, RolloutCondition},
    sources::testing::{Seen, Server, response},
};
use axum::response::Response;
use serde_json::{Value, json};

/// A day in the past, on the grid of every step.
const T: f64 = 1_790_000_100.0;
const OLD: &str = "web-7d9f8c6b5";
const NEW: &str = "web-5c98d7f6b";

/// What is asked, by the text of the query.
fn asks(seen: &Seen) -> &'static str {
    let query = seen.param("query").unwrap_or_default();
    let ranged = seen.param("start") != seen.param("end");
    match () {
        () if query.contains("count(up)") => "overview",
        () if query.contains("timestamp(up)") => "age",
        () if query.contains("offset") => "changes",
        () if query.contains("kube_pod_info") => "states",
        () if query.contains("kube_replicaset_spec_replicas") || query.contains("count by (namespace, pod, set)") => {
            "standing"
        }
        () if query.starts_with("count by (namespace, set)") => "serving",
        () if query.contains("_bucket") => "latency",
        () if ranged => "counts",
        () => "?",
    }
}

fn range(seen: &Seen) -> (f64, f64, f64) {
    let number = |name: &str| seen.param(name).unwrap().parse::<f64>().unwrap();
    (number("start"), number("end"), number("step"))
}

/// The value of a series at a time, if it has one.
type Values<'a> = &'a dyn Fn(f64) -> Option<f64>;

/// A matrix: each series has its value wherever it says one.
fn matrix(seen: &Seen, series: &[(Value, Values<'_>)]) -> Response {
    let (start, end, step) = range(seen);
    let points = ((end - start) / step).floor() as usize;
    let values = |of: Values<'_>| -> Vec<Value> {
        let at = (0..=points).map(|n| start + n as f64 * step);
        at.filter_map(|t| Some(json!([t, of(t)?.to_string()]))).collect()
    };
    let result: Vec<Value> = series
        .iter()
        .map(|(labels, of)| json!({"metric": labels, "values": values(of)}))
        .filter(|s| s["values"].as_array().is_some_and(|v| !v.is_empty()))
        .collect();
    let body = json!({"status": "success", "data": {"resultType": "matrix", "result": result}});
    response(200, "application/json", body.to_string())
}

fn labelled(mark: &str, more: &[(&str, &str)]) -> Value {
    let mut labels = json!({"lastgood": mark, "namespace": "shop"});
    for (name, value) in more {
        labels[*name] = json!(value);
    }
    labels
}

fn always(value: f64) -> impl Fn(f64) -> Option<f64> {
    move |_| Some(value)
}

fn at(t0: f64, value: f64) -> impl Fn(f64) -> Option<f64> {
    move |t| ((t - t0).abs() < 0.5).then_some(value)
}

fn from(t0: f64, value: impl Fn(f64) -> f64) -> impl Fn(f64) -> Option<f64> {
    move |t| (t >= t0).then(|| value(t))
}

fn until(t1: f64, value: f64) -> impl Fn(f64) -> Option<f64> {
    move |t| (t < t1).then_some(value)
}

/// `web` goes from OLD to NEW at T + 3600, where 30 % of the requests fail; `cart` serves beside.
async fn cluster(with_state: bool, or: impl Fn(&Seen) -> Option<Response> + Clone + Send + Sync + 'static) -> Server {
    let t0 = T + 3600.0;
    Server::new(move |seen| {
        if let Some(other) = or(seen) {
            return other;
        }
        let (old, new) = (format!("{OLD}-x2x2x"), format!("{NEW}-z4z4z"));
        let pod = |mark: &str, pod: &str| labelled(mark, &[("pod", pod), ("uid", pod)]);
        let label = if with_state { "replicaset" } else { "set" };
        let info = |pod: &str, set: &str| {
            let owner = [("created_by_kind", "ReplicaSet"), ("created_by_name", set)];
            labelled("info", &[&[("pod", pod), ("uid", pod), ("node", "n1")], &owner[..]].concat())
        };
        let grows = |rate: f64, since: f64| move |t: f64| (t - since) * rate;
        match asks(seen) {
            "overview" if with_state => {
                matrix(seen, &[(labelled("up", &[]), &always(9.0)), (labelled("pods", &[]), &always(9.0))])
            }
            "overview" => matrix(seen, &[(labelled("up", &[]), &always(9.0))]),
            "age" => matrix(seen, &[(json!({}), &always(5.0))]),
            "standing" => matrix(seen, &[(labelled("set", &[(label, OLD)]), &always(1.0))]),
            "changes" => matrix(
                seen,
                &[
                    (labelled("set", &[(label, NEW)]), &at(t0 + 15.0, 1.0)),
                    (labelled("set", &[(label, OLD)]), &at(t0 + 30.0, 0.0)),
                    (labelled("created", &[(label, NEW)]), &at(t0 + 15.0, t0 + 4.0)),
                ],
            ),
            "serving" => matrix(seen, &[(json!({"namespace": "shop", "set": "cart-5c98d7f6b"}), &always(1.0))]),
            "states" => matrix(
                seen,
                &[
                    (labelled("replicas", &[("deployment", "web")]), &always(1.0)),
                    (info(&old, OLD), &until(t0 + 60.0, 1.0)),
                    (pod("ready", &old), &until(t0 + 60.0, 1.0)),
                    (info(&new, NEW), &from(t0 + 15.0, |_| 1.0)),
                    (pod("created", &new), &from(t0 + 15.0, move |_| t0 + 5.0)),
                    (pod("ready", &new), &from(t0 + 15.0, move |t| f64::from(t > t0 + 20.0))),
                    (pod("since", &new), &from(t0 + 30.0, move |_| t0 + 25.0)),
                    (labelled("stuck", &[("deployment", "web")]), &from(t0 + 900.0, |_| 1.0)),
                ],
            ),
            "counts" => matrix(
                seen,
                &[
                    (pod("go/requests", &old), &|t| (t < t0 + 60.0).then_some((t - T) * 10.0 + 90_000.0)),
                    (pod("go/errors", &old), &until(t0 + 60.0, 0.0)),
                    (pod("go/requests", &new), &from(t0 + 30.0, grows(10.0, t0 + 20.0))),
                    (pod("go/errors", &new), &from(t0 + 30.0, grows(3.0, t0 + 20.0))),
                    (pod("go/requests", "cart-5c98d7f6b-q2q2q"), &|t| Some((t - T) * 10.0 + 90_000.0)),
                    (pod("go/errors", "cart-5c98d7f6b-q2q2q"), &always(0.0)),
                ],
            ),
            _ => matrix(seen, &[]),
        }
    })
    .await
}

fn question() -> Question {
    Question {
        from: T + 1800.0,
        to: T + 7200.0,
        interval: Duration::from_secs(15),
        workloads: BTreeSet::new(),
        namespaces: BTreeSet::new(),
        rollouts: Vec::new(),
    }
}

fn history(server: &Server) -> History {
    let settings = serde_json::from_value(json!({"url": server.url()})).unwrap();
    History::new(&settings, Clock::system()).unwrap()
}

async fn find(server: &Server, question: &Question) -> Result<Past, HistoryError> {
    history(server).find(question, Arc::new(Thresholds::default())).await
}

async fn observed(mut past: Past) -> Vec<Observed> {
    let mut all = Vec::new();
    while let Some(slice) = past.next().await.unwrap() {
        all.extend(slice);
    }
    assert!(all.windows(2).all(|two| two[0].t <= two[1].t), "in order of time");
    all
}

fn pods(all: &[Observed]) -> Vec<(f64, &PodState)> {
    all.iter()
        .filter_map(|o| if let Observation::Pod(state) = &o.what { Some((o.t - T, state.as_ref())) } else { None })
        .collect()
}

#[tokio::test]
async fn the_past_of_a_rollout_is_what_the_daemon_would_have_observed() {
    let server = cluster(true, |_| None).await;
    let past = find(&server, &question()).await.unwrap();
    assert!(past.notes.is_empty(), "{:?}", past.notes);
    let web: WorkloadId = "shop/Deployment/web".parse().unwrap();
    let rollout = Rollout { t: T + 3604.0, workload: web.clone(), from: "7d9f8c6b5".into(), to: "5c98d7f6b".into() };
    assert_eq!(past.rollouts, [rollout]);
    let all = observed(past).await;
    assert_eq!(all.first().map(|o| o.t), Some(T + 1800.0), "half an hour before");
    let ended = all.last().unwrap();
    let condition = RolloutCondition::WatchEnded;
    assert_eq!(ended.what, Observation::Condition { workload: web.clone(), condition });
    assert_eq!(Some(ended.t), Some(T + 3604.0 + 1800.0 + 600.0));
    let told: Vec<_> = pods(&all)
        .into_iter()
        .map(|(t, p)| (t, p.revision.0.as_str(), p.ready, p.ready_since.map(|at| at - T), p.deleted))
        .collect();
    assert_eq!(
        told,
        [
            (1800.0, "7d9f8c6b5", true, None, false),
            (3615.0, "5c98d7f6b", false, None, false),
            (3630.0, "5c98d7f6b", true, Some(3625.0), false),
            (3660.0, "7d9f8c6b5", false, None, true),
        ]
    );
    let (_, new) = pods(&all)[1];
    assert_eq!((new.node.as_deref(), new.created), (Some("n1"), Some(T + 3605.0)));
    let stuck = Observation::Condition { workload: web, condition: RolloutCondition::ProgressDeadlineExceeded };
    assert_eq!(all.iter().filter(|o| o.what == stuck).map(|o| o.t - T).collect::<Vec<_>>(), [4500.0]);
    // The grid of the slices has no hole and nothing twice.
    let of = |name: &str| -> Vec<f64> {
        let is = |o: &&Observed| matches!(&o.what, Observation::Counters { pod, .. } if pod.name.starts_with(name));
        all.iter().filter(is).map(|o| o.t - T).collect()
    };
    let grid = |from: u32, to: u32| (from..=to).step_by(15).map(f64::from).collect::<Vec<_>>();
    assert_eq!(of(OLD), grid(1800, 3645));
    assert_eq!(of(NEW), grid(3630, 6000));
    // Only kube-state-metrics knows whose pod that is, and it does not.
    assert_eq!(of("cart"), Vec::<f64>::new());
    assert!(server.seen().iter().filter(|s| asks(s) == "counts").count() >= 2, "it was read in slices");
}

#[tokio::test]
async fn without_kube_state_metrics_names_tell_and_who_serves_beside_is_a_peer() {
    let server = cluster(false, |_| None).await;
    let past = find(&server, &question()).await.unwrap();
    assert!(past.notes[0].contains("no kube-state-metrics"), "{:?}", past.notes);
    let all = observed(past).await;
    let told: Vec<_> =
        pods(&all).into_iter().map(|(t, p)| (t, p.workload.name.as_str(), p.revision.0.as_str(), p.deleted)).collect();
    assert_eq!(
        told,
        [
            (1800.0, "cart", "5c98d7f6b", false),
            (1800.0, "web", "7d9f8c6b5", false),
            (3630.0, "web", "5c98d7f6b", false),
            // Its counters are missed for a minute first.
            (3720.0, "web", "7d9f8c6b5", true),
        ]
    );
    assert!(server.seen().iter().all(|s| asks(s) != "states"));
}

#[tokio::test]
async fn a_rollout_that_a_person_names_needs_no_hash() {
    let server = cluster(false, |_| None).await;
    let cart: WorkloadId = "shop/Deployment/cart".parse().unwrap();
    let asked = Question { rollouts: vec![(cart.clone(), T + 3000.0)], ..question() };
    let past = find(&server, &asked).await.unwrap();
    assert_eq!(past.rollouts.len(), 1, "who names one means that one: {:?}", past.rollouts);
    assert_eq!((&past.rollouts[0].workload, past.rollouts[0].from.0.as_str()), (&cart, "before"));
    // One that is found close to the time that was named is the same.
    let web: WorkloadId = "shop/Deployment/web".parse().unwrap();
    let asked = Question { rollouts: vec![(web, T + 3500.0)], ..question() };
    let past = find(&server, &asked).await.unwrap();
    assert_eq!(past.rollouts.iter().map(|r| r.to.0.as_str()).collect::<Vec<_>>(), ["5c98d7f6b"]);
}

#[tokio::test]
async fn nothing_to_judge_is_said_with_what_to_do() {
    let empty = Server::new(|seen| matrix(seen, &[])).await;
    let error = find(&empty, &question()).await.err().unwrap();
    assert!(error.is_blind() && error.to_string().contains("retention"), "{error}");

    let quiet = cluster(true, |seen| (asks(seen) == "changes").then(|| matrix(seen, &[]))).await;
    let error = find(&quiet, &question()).await.err().unwrap();
    assert!(error.is_blind() && error.to_string().contains("name one with --rollout"), "{error}");
    assert!(error.to_string().contains("kube-state-metrics"), "{error}");

    let short = cluster(true, |seen| {
        (asks(seen) == "overview").then(|| matrix(seen, &[(labelled("pods", &[]), &from(T + 3000.0, |_| 1.0))]))
    })
    .await;
    let past = find(&short, &question()).await.unwrap();
    assert!(past.notes[0].contains("samples only since 2026-09-21T"), "{:?}", past.notes);

    for (status, says) in [(401, "HTTP 401"), (422, "ask for less")] {
        let refused = Server::new(move |_| {
            response(
                status,
                "application/json",
                r#"{"status":"error","errorType":"execution","error":"too many samples"}"#,
            )
        })
        .await;
        let error = find(&refused, &question()).await.err().unwrap();
        assert!(!error.is_blind() && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn what_is_too_much_at_once_is_asked_in_parts() {
    let server = cluster(true, |seen| {
        let (start, end, _) = seen.param("start").map(|_| range(seen))?;
        let too_long = match asks(seen) {
            "counts" => end - start > 600.0,
            "changes" => end - start > 3000.0,
            _ => false,
        };
        let body =
            r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples"}"#;
        too_long.then(|| response(422, "application/json", body))
    })
    .await;
    let whole = cluster(true, |_| None).await;
    let (parts, whole) = (find(&server, &question()).await.unwrap(), find(&whole, &question()).await.unwrap());
    assert_eq!(parts.rollouts, whole.rollouts);
    assert_eq!(observed(parts).await, observed(whole).await);
}

#[tokio::test]
async fn a_past_with_a_hole_is_an_error() {
    let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store 3 is down"]}"#;
    let server =
        cluster(true, move |seen| (asks(seen) == "counts").then(|| response(200, "application/json", body))).await;
    let mut past = find(&server, &question()).await.unwrap();
    let error = past.next().await.err().unwrap().to_string();
    assert!(error.contains("the counters around the rollouts") && error.contains("store 3 is down"), "{error}");
    assert!(past.next().await.unwrap().is_none(), "there is nothing after that");
}

#[tokio::test]
async fn when_prometheus_itself_was_away_nothing_is_believed() {
    let server = cluster(true, |seen| {
        let age =
            |t: f64| (!(T + 3900.0..=T + 4200.0).contains(&t)).then_some(if t > T + 3800.0 { 400.0 } else { 5.0 });
        (asks(seen) == "age").then(|| matrix(seen, &[(json!({}), &age)]))
    })
    .await;
    let all = observed(find(&server, &question()).await.unwrap()).await;
    let mut blind = all.iter().filter_map(|o| match &o.what {
        Observation::Source { ok: false, reason, .. } => Some((o.t - T, reason.clone().unwrap_or_default())),
        _ => None,
    });
    assert_eq!(blind.next(), Some((3810.0, "monitoring: the newest scrape is 400 s old".into())));
}
