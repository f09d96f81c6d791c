use crate::sim::{
    behaviour::{Behaviour, Memory, Start},
    object::{condition, name, number, text},
    pod_http::{Ask, respond, respond_as_service},
    resource::Resource::{Deployments, Pods, ReplicaSets, Services},
    stage::{NAMESPACE, Stage},
    store::Manager,
};
use crate::wire::Lost;
use http::Method;
use serde_json::{Value, json};

const STATE: &str = "/status/containerStatuses/0/state";

/// One pod that does this.
fn with_pod(behaviour: Behaviour) -> Stage {
    let mut stage = Stage::new();
    stage.0.set_behaviour("app:1", behaviour);
    let pod = json!({
        "metadata": {"name": "one", "labels": {"app": "one"}},
        "spec": {"containers": [{"name": "main", "image": "app:1", "ports": [{"containerPort": 8080}]}]},
    });
    stage.0.store.create(Pods, NAMESPACE, pod, Manager("kubectl")).expect("created");
    stage.pass(0);
    stage
}

fn pod(stage: &Stage) -> Value {
    stage.get(Pods, "one")
}

/// What the container is or waits for, how often it was restarted, how it last ended, whether it is Ready.
type Sight = (String, i64, String, bool);

fn sight(stage: &Stage) -> Sight {
    let pod = pod(stage);
    let state = pod.pointer(STATE).and_then(Value::as_object).and_then(|state| state.iter().next());
    let (word, inside) = state.map(|(word, inside)| (word.clone(), inside.clone())).unwrap_or_default();
    let reason = text(&inside, "/reason");
    let end = pod.pointer("/status/containerStatuses/0/lastState/terminated").cloned().unwrap_or_default();
    (
        if reason.is_empty() { word } else { reason.to_owned() },
        number(&pod, "/status/containerStatuses/0/restartCount").unwrap_or(-1),
        format!("{} {}", number(&end, "/exitCode").map_or("-".into(), |code| code.to_string()), text(&end, "/reason")),
        condition(&pod, "Ready").is_some_and(|ready| text(ready, "/status") == "True"),
    )
}

fn seen(word: &str, restarts: i64, end: &str, ready: bool) -> Sight {
    (word.into(), restarts, end.into(), ready)
}

/// Looks at these seconds.
fn timeline(behaviour: Behaviour, looks: &[(i64, Sight)]) {
    let mut stage = with_pod(behaviour);
    let mut at = 0;
    for (second, wanted) in looks {
        stage.pass(second - at);
        at = *second;
        assert_eq!(sight(&stage), *wanted, "after {second} s");
    }
}

#[test]
fn a_good_pod_becomes_ready() {
    timeline(
        Behaviour::default(),
        &[(0, seen("ContainerCreating", 0, "- ", false)), (3, seen("running", 0, "- ", true))],
    );
    let mut stage = with_pod(Behaviour::default());
    stage.pass(3);
    let pod = pod(&stage);
    assert_eq!((text(&pod, "/status/phase"), text(&pod, "/status/podIP")), ("Running", "10.244.0.1"));
    assert!(text(&pod, "/spec/nodeName").starts_with("node-"));
}

#[test]
fn a_crash_loop_backs_off_ten_seconds_and_doubles() {
    // 0.5 s to create, 1 s to crash, 0.5 s to restart; then 10 s, 20 s, 40 s.
    timeline(
        Behaviour::crashing(1.0),
        &[
            (1, seen("running", 0, "- ", false)),
            (4, seen("CrashLoopBackOff", 1, "1 Error", false)),
            (12, seen("CrashLoopBackOff", 1, "1 Error", false)),
            (13, seen("running", 2, "1 Error", false)),
            (33, seen("CrashLoopBackOff", 2, "1 Error", false)),
            (35, seen("CrashLoopBackOff", 3, "1 Error", false)),
            (74, seen("CrashLoopBackOff", 3, "1 Error", false)),
            (75, seen("running", 4, "1 Error", false)),
        ],
    );
}

#[test]
fn what_cannot_start_says_why() {
    let start = |start| Behaviour { start, ..Behaviour::default() };
    timeline(
        start(Start::PullError),
        &[
            (1, seen("ErrImagePull", 0, "- ", false)),
            (4, seen("ImagePullBackOff", 0, "- ", false)),
            (13, seen("ErrImagePull", 0, "- ", false)),
            (15, seen("ImagePullBackOff", 0, "- ", false)),
            (34, seen("ImagePullBackOff", 0, "- ", false)),
            (35, seen("ErrImagePull", 0, "- ", false)),
        ],
    );
    timeline(start(Start::ConfigError), &[(5, seen("CreateContainerConfigError", 0, "- ", false))]);
    timeline(Behaviour { ready_after: None, ..Behaviour::default() }, &[(600, seen("running", 0, "- ", false))]);
}

#[test]
fn memory_that_creeps_is_killed_at_the_limit() {
    let memory = Memory { base: 100.0, creep: 10.0, limit: 200.0 };
    timeline(
        Behaviour { memory, ..Behaviour::default() },
        &[(9, seen("running", 0, "- ", true)), (11, seen("running", 1, "137 OOMKilled", false))],
    );
}

#[test]
fn a_pod_that_must_go_serves_for_a_moment_and_is_gone() {
    let mut stage = with_pod(Behaviour { stops_in: 5.0, ..Behaviour::default() });
    stage.pass(3);
    stage.0.store.delete(&Stage::key(Pods, "one")).expect("deleted");
    stage.pass(4);
    assert!(!text(&pod(&stage), "/metadata/deletionTimestamp").is_empty());
    stage.pass(1);
    assert!(stage.all(Pods).is_empty());
}

#[test]
fn an_image_that_changes_its_mind_changes_what_runs() {
    let mut stage = with_pod(Behaviour { ready_after: None, ..Behaviour::default() });
    stage.pass(30);
    stage.0.set_behaviour("app:1", Behaviour::default());
    stage.pass(1);
    assert_eq!(sight(&stage), seen("running", 0, "- ", true));
    assert!(stage.0.kill_container(NAMESPACE, "one"));
    stage.pass(3);
    assert_eq!(sight(&stage), seen("running", 1, "137 Error", true));
}

#[test]
fn users_are_spread_and_see_what_pods_answer() {
    let mut stage = with_pod(Behaviour::failing(0.5));
    let service = json!({
        "metadata": {"name": "one"},
        "spec": {"selector": {"app": "one"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    stage.0.store.create(Services, NAMESPACE, service, Manager("kubectl")).expect("created");
    stage.0.set_load(NAMESPACE, "one", 10.0);
    // Nobody is there yet, then somebody is.
    stage.pass(60);
    let seen = stage.0.traffic.seen(NAMESPACE, "one");
    assert_eq!(seen.total(), 600);
    assert!(seen.refused <= 20 && (250..340).contains(&seen.failed), "{seen:?}");
    // When one looks changes nothing.
    let mut often = with_pod(Behaviour::failing(0.5));
    let service = stage.get(Services, "one");
    let service = json!({"metadata": {"name": "one"}, "spec": service["spec"]});
    often.0.store.create(Services, NAMESPACE, service, Manager("kubectl")).expect("created");
    often.0.set_load(NAMESPACE, "one", 10.0);
    (0..60).for_each(|_| often.pass(1));
    assert_eq!(often.0.traffic.seen(NAMESPACE, "one"), seen);
    // An outage of what everybody needs.
    stage.0.traffic.set_outage(1.0);
    stage.pass(10);
    assert_eq!(stage.0.traffic.seen(NAMESPACE, "one").ok, seen.ok);
}

#[test]
fn pods_answer_by_address_and_by_the_name_of_their_service() {
    let mut stage = with_pod(Behaviour::default());
    let service = json!({
        "metadata": {"name": "one"},
        "spec": {"selector": {"app": "one"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    stage.0.store.create(Services, NAMESPACE, service, Manager("kubectl")).expect("created");
    stage.0.set_load(NAMESPACE, "one", 10.0);
    stage.pass(10);
    let ask = |path| Ask { method: &Method::GET, path };
    let get = |stage: &Stage, address: &str, path| respond(&stage.0, address.parse().expect("an address"), ask(path));
    let metrics = get(&stage, "10.244.0.1:8080", "/metrics").expect("an answer");
    let body = String::from_utf8(metrics.into_body()).expect("text");
    assert!(body.contains("http_requests_total{code=\"200\",method=\"get\"} "), "{body}");
    assert_eq!(get(&stage, "10.244.0.1:8080", "/health").map(|a| a.status().as_u16()), Ok(200));
    assert_eq!(get(&stage, "10.244.0.9:8080", "/health").map(|_| ()), Err(Lost::Refused));
    let by_name = |stage: &Stage, host: &str, port| {
        respond_as_service(&stage.0, (host, port), 0, ask("/version")).map(|answer| answer.into_body())
    };
    let version = by_name(&stage, "one.default.svc.cluster.local", 80).expect("an answer");
    assert!(String::from_utf8_lossy(&version).contains("app:1"));
    assert_eq!(by_name(&stage, "two.default.svc.cluster.local", 80), Err(Lost::NoName));
    assert_eq!(by_name(&stage, "one.default.svc.cluster.local", 81), Err(Lost::Refused));
    stage.0.set_behaviour("app:1", Behaviour { refuses: true, ..Behaviour::default() });
    assert_eq!(get(&stage, "10.244.0.1:8080", "/health").map(|_| ()), Err(Lost::Refused));
    assert_eq!(name(&pod(&stage)), "one");
}

#[test]
fn in_a_world_that_stands_still_nobody_touches_what_is_written() {
    let mut stage = with_pod(Behaviour::default());
    stage.pass(10);
    assert_eq!(sight(&stage), seen("running", 0, "- ", true));
    stage.0.stand_still();
    stage.create(Deployments, "web", |_| {});
    let written = stage.0.store.update_status(&Stage::key(Pods, "one"), Manager("kubelet"), |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] = 7.into();
    });
    written.expect("written");
    stage.pass(600);
    assert_eq!(sight(&stage), seen("running", 7, "- ", true));
    assert_eq!(stage.0.store.list(ReplicaSets, None).count(), 0, "no controller");
    assert_eq!(stage.0.due(), None);
}
