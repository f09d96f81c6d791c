//! Faults, crash points, rights and time, as a client sees them. What a healthy server does is held by
//! `tests/conformance`.
use crate::sim::{Fault, Key, Resource, Rule, Sim, Stale, When, Written};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

fn sim() -> Sim {
    Sim::new(Timestamp::constant(1_800_000_000, 0), 3)
}

fn api(sim: &Sim, who: &str) -> Api<ConfigMap> {
    Api::namespaced(sim.client(who), "default")
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a ConfigMap")
}

fn stored(sim: &Sim, name: &str) -> bool {
    sim.with(|world| world.store.get(&Key::new(Resource::ConfigMaps, "default", name)).is_some())
}

async fn create(sim: &Sim, who: &str, name: &str) -> Result<ConfigMap, kube::Error> {
    api(sim, who).create(&PostParams::default(), &map(name)).await
}

/// Far longer than any deadline of a client.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn each_fault_leaves_the_store_as_it_says() {
    let cases = [
        (Fault::Refuse(429, Some(7)), false, Some(429)),
        (Fault::Deny(504), true, Some(504)),
        (Fault::ResetBefore, false, None),
        (Fault::ResetAfter, true, None),
        (Fault::Garbage("<html>".into()), false, None),
        (Fault::Truncated, true, None),
        (Fault::Lost, false, None),
        (Fault::LostAnswer, true, None),
    ];
    for (fault, done, code) in cases {
        let sim = sim();
        sim.faults(|f| f.add(Rule::new(fault.clone(), |asked| asked.who == "x" && asked.is_write()).times(1)));
        create(&sim, "y", "other").await.expect("only x is hit");
        match timeout(LONG, create(&sim, "x", "a")).await {
            Err(_) => assert!(matches!(fault, Fault::Lost | Fault::LostAnswer), "{fault:?} never answers"),
            Ok(Err(kube::Error::Api(status))) => {
                assert_eq!(Some(status.code), code, "{fault:?}");
                if code == Some(429) {
                    assert_eq!(status.details.map(|d| d.retry_after_seconds), Some(7));
                }
            }
            Ok(answer) => assert!(answer.is_err() && code.is_none(), "{fault:?}: {answer:?}"),
        }
        assert_eq!(stored(&sim, "a"), done, "{fault:?}");
        create(&sim, "x", "b").await.expect("the rule has had its turn");
    }
}

#[tokio::test(start_paused = true)]
async fn delays_pass_in_the_worlds_time() {
    let sim = sim();
    let before = sim.now();
    sim.faults(|f| f.add(Rule::new(Fault::Delay(Duration::from_secs(5)), |_| true).times(1)));
    create(&sim, "x", "a").await.expect("it arrives");
    assert_eq!(sim.now().duration_since(before), SignedDuration::from_secs(5));
    sim.faults(|f| f.add(Rule::new(Fault::Refuse(500, None), |_| true).after(1).times(1)));
    create(&sim, "x", "b").await.expect("the first is spared");
    assert!(create(&sim, "x", "c").await.is_err());
}

async fn lines(sim: &Sim, who: &str, query: &str) -> impl futures::Stream<Item = Value> + use<> {
    let url = format!("/api/v1/namespaces/default/configmaps?watch=true{query}");
    let request = http::Request::get(url).body(Vec::new()).expect("a request");
    let lines = sim.client(who).request_stream(request).await.expect("a watch").lines();
    lines.map_ok(|line| serde_json::from_str(&line).expect("JSON")).map(|line| line.expect("a line")).boxed()
}

fn told(event: Option<Value>) -> String {
    let event = event.expect("an event");
    format!(
        "{} {}",
        event["type"].as_str().unwrap_or_default(),
        event["object"]["metadata"]["name"].as_str().unwrap_or_default()
    )
}

#[tokio::test(start_paused = true)]
async fn open_watches_fail_in_four_ways() {
    let sim = sim();
    create(&sim, "y", "a").await.expect("created");
    let mut watch = lines(&sim, "x", "").await;
    assert_eq!(told(watch.next().await), "ADDED a");
    let watches = |fault| Rule::new(fault, |asked| asked.verb == "watch");
    sim.faults(|f| f.add(watches(Fault::DoubledWatch)));
    create(&sim, "y", "b").await.expect("created");
    assert_eq!([told(watch.next().await), told(watch.next().await)], ["ADDED b", "ADDED b"]);
    sim.faults(|f| {
        f.heal();
        f.add(watches(Fault::ReversedWatch));
    });
    sim.with(|world| {
        for name in ["c", "d"] {
            let _ = world.store.create(
                Resource::ConfigMaps,
                "default",
                json!({"metadata": {"name": name}}),
                crate::sim::Manager("t"),
            );
        }
    });
    assert_eq!([told(watch.next().await), told(watch.next().await)], ["ADDED d", "ADDED c"]);
    sim.faults(|f| {
        f.heal();
        f.add(watches(Fault::SilentWatch));
    });
    create(&sim, "y", "e").await.expect("created");
    assert!(timeout(Duration::from_secs(40), watch.next()).await.is_err(), "silent");
    sim.faults(super::super::faults::Faults::heal);
    assert_eq!(told(watch.next().await), "ADDED e", "what was kept back comes when the line is good again");
    sim.faults(|f| f.add(watches(Fault::CutWatch).times(1)));
    assert_eq!(watch.next().await, None);
    let mut watch = lines(&sim, "x", "").await;
    assert_eq!(told(watch.next().await), "ADDED a", "a new watch works");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_version_ends_a_watch_with_410() {
    let sim = sim();
    let first = create(&sim, "y", "a").await.expect("created");
    let version = first.metadata.resource_version.expect("a version");
    create(&sim, "y", "b").await.expect("created");
    sim.with(|world| world.store.forget());
    let mut watch = lines(&sim, "x", &format!("&resourceVersion={version}")).await;
    assert_eq!(watch.next().await.expect("an event")["object"]["code"], 410);
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_reads_from_a_lagging_server_sees_the_past_and_writes_to_the_present() {
    let sim = sim();
    create(&sim, "y", "a").await.expect("created");
    let view = sim.snapshot();
    let mut watch = lines(&sim, "x", "").await;
    assert_eq!(told(watch.next().await), "ADDED a");
    sim.faults(|f| f.freeze("x", Stale { view: view.clone(), quorum_too: false }));
    create(&sim, "y", "b").await.expect("created");
    let any = ListParams::default().match_any();
    let names = async |params: &ListParams| {
        let list = api(&sim, "x").list(params).await.expect("a list");
        list.items.into_iter().filter_map(|m| m.metadata.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&any).await, ["a"], "from the cache");
    assert_eq!(names(&ListParams::default()).await, ["a", "b"], "the newest is asked of etcd");
    assert!(timeout(Duration::from_secs(20), watch.next()).await.is_err(), "the watch stands still");
    sim.faults(|f| f.freeze("x", Stale { view, quorum_too: true }));
    assert_eq!(names(&ListParams::default()).await, ["a"]);
    create(&sim, "x", "c").await.expect("writes go through");
    assert!(stored(&sim, "c"));
    sim.faults(|f| f.thaw("x"));
    assert_eq!([told(watch.next().await), told(watch.next().await)], ["ADDED b", "ADDED c"], "it catches up");
}

#[test]
fn a_client_dies_at_each_moment_of_a_write_and_the_world_goes_on() {
    for when in When::ALL {
        let sim = sim();
        let died = Arc::new(AtomicUsize::new(0));
        let runtime = || {
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
        };
        let count = died.clone();
        sim.faults(|f| {
            f.crash_at("x", 1, when, move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        let before = sim.now();
        runtime().block_on(async {
            create(&sim, "x", "a").await.expect("the first write is spared");
            tokio::time::sleep(Duration::from_secs(10)).await;
            let second = timeout(LONG, api(&sim, "x").delete("a", &DeleteParams::default())).await;
            assert_eq!(second.is_ok(), when == When::AfterAnswer, "{when:?}");
            let third = timeout(LONG, create(&sim, "x", "b")).await;
            assert!(third.is_err(), "a dead client is not heard");
            let read = timeout(LONG, api(&sim, "x").get("a")).await;
            assert!(read.is_err(), "and not answered");
        });
        assert_eq!(died.load(Ordering::Relaxed), 1);
        assert_eq!(stored(&sim, "a"), when == When::BeforeSend, "{when:?}");
        assert!(!stored(&sim, "b"));
        let writes: Vec<String> = sim.faults(|f| f.writes("x").iter().map(|w| w.what.clone()).collect());
        let place = "/api/v1/namespaces/default/configmaps";
        assert_eq!(writes.len(), 2, "{writes:?}");
        assert!(writes[0].starts_with(&format!("POST {place}")) && writes[1].starts_with(&format!("DELETE {place}/a")));
        sim.faults(|f| f.revive("x"));
        runtime().block_on(async {
            assert!(sim.now() >= before + SignedDuration::from_secs(10), "time goes on where it stood");
            create(&sim, "x", "b").await.expect("the next process is heard");
        });
        assert_eq!(sim.faults(|f| f.writes("x").len()), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn writes_elsewhere_are_counted_and_can_be_died_at() {
    let sim = sim();
    sim.faults(|f| f.crash_at("x", 1, When::BeforeSend, || {}));
    create(&sim, "x", "a").await.expect("created");
    let file = Written { what: "file /report".into(), body: Value::Null };
    let written = AtomicUsize::new(0);
    let write = sim.write_elsewhere("x", file, async { written.fetch_add(1, Ordering::Relaxed) });
    assert!(timeout(LONG, write).await.is_err());
    assert_eq!(written.load(Ordering::Relaxed), 0);
    assert!(sim.faults(|f| f.is_dead("x")));
}

#[tokio::test(start_paused = true)]
async fn the_audit_log_tells_writes_with_their_bodies_and_rights_can_be_taken() {
    let sim = sim();
    create(&sim, "x", "a").await.expect("created");
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    api(&sim, "x").patch("a", &dry, &Patch::Merge(json!({"data": {"k": "v"}}))).await.expect("patched");
    sim.faults(|f| f.deny("x", "delete", "configmaps"));
    let refused = api(&sim, "x").delete("a", &DeleteParams::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403 && status.reason == "Forbidden"));
    let seen: Vec<_> =
        sim.audit(|a| a.asked.who == "x").iter().map(|a| (a.asked.verb, a.code, a.asked.dry_run)).collect();
    assert_eq!(seen, [("create", 201, false), ("patch", 200, true), ("delete", 403, false)]);
    let patch = &sim.audit(|a| a.asked.verb == "patch")[0];
    assert_eq!((&patch.body, &patch.answer["data"]["k"]), (&json!({"data": {"k": "v"}}), &json!("v")));
    assert!(!patch.asked.is_write(), "a rehearsal is none");
    let asked = json!({"spec": {"resourceAttributes": {"verb": "delete", "group": "", "resource": "configmaps"}}});
    let url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let request = http::Request::post(url).body(asked.to_string().into_bytes()).expect("a request");
    let review: Value = sim.client("x").request(request).await.expect("a review");
    assert_eq!(review["status"]["allowed"], false);
}

#[tokio::test(start_paused = true)]
async fn a_custom_kind_is_served_once_it_is_defined() {
    let sim = sim();
    let list = || http::Request::get("/apis/lastgood.dev/v1/incidents").body(Vec::new()).expect("a request");
    let answer = sim.client("x").request::<Value>(list()).await;
    assert!(matches!(answer, Err(kube::Error::Api(s)) if s.code == 404 && s.details.is_none()));
    let crd = json!({"metadata": {"name": "incidents.lastgood.dev"}, "spec": {"versions": []}});
    sim.with(|w| w.store.create(Resource::CustomResourceDefinitions, "", crd, crate::sim::Manager("t")))
        .expect("created");
    assert_eq!(sim.client("x").request::<Value>(list()).await.expect("a list")["items"], json!([]));
}
