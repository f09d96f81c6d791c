//! What controllers and kubelets make of workloads: rollouts, revisions, stuck pods, evictions.
use super::{Ground, cases, deployment, deploys, image, refused, taken, workload};
use serde_json::{Value, json};

cases![
    a_deployment_becomes_available,
    an_undo_moves_the_revision,
    annotations_are_copied_to_the_replica_set,
    history_is_cleaned_up,
    a_stuck_rollout_passes_its_deadline,
    a_paused_deployment_does_not_roll_out,
    a_bad_rollout_keeps_old_pods,
    a_deployment_follows_its_replicas,
    a_deleted_deployment_takes_its_pods,
    a_stateful_set_rolls_out_from_the_last_pod,
    a_stuck_stateful_set_stays_until_its_pod_is_evicted,
    a_partition_holds_pods_back,
    on_delete_waits_for_deletions,
    a_daemon_set_rolls_out_over_all_nodes,
    crashing_pods_say_so,
    a_missing_image_is_told,
    an_eviction_replaces_the_pod,
    a_disruption_budget_refuses_an_eviction,
];

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Desired pods, all of the newest template and available, and no others.
fn rolled_out(o: &Value) -> bool {
    let (spec, status) = (&o["spec"], &o["status"]);
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let observed = status["observedGeneration"] == o["metadata"]["generation"];
    let wanted = spec["replicas"].as_i64().unwrap_or(number("desiredNumberScheduled"));
    match o["kind"].as_str() {
        Some("DaemonSet") => {
            let wanted = number("desiredNumberScheduled");
            observed && wanted > 0 && number("updatedNumberScheduled") == wanted && number("numberAvailable") == wanted
        }
        Some("StatefulSet") => {
            let same = status["currentRevision"] == status["updateRevision"];
            observed && same && number("readyReplicas") == wanted && number("replicas") == wanted
        }
        _ => observed && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|f| number(f) == wanted),
    }
}

async fn until_rolled_out(g: &Ground, place: &str) -> Value {
    g.until_is(place, "rolled out", rolled_out).await
}

/// The pods of `app` that are not on their way out.
async fn pods(g: &Ground, app: &str) -> Vec<Value> {
    let mut pods = g.items(&format!("pods?labelSelector=app%3D{app}")).await;
    pods.retain(|p| p["metadata"]["deletionTimestamp"].is_null());
    pods
}

fn pod_image(pod: &Value) -> &str {
    pod.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn web(g: &Ground, replicas: usize) -> Value {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["replicas"] = replicas.into();
    g.create("deployments", &wanted).await;
    until_rolled_out(g, "deployments/web").await
}

async fn deploy(g: &Ground, place: &str, image: &str) -> Value {
    taken(g.strategic(&g.at(place), "team", &deploys(image)).await)
}

/// The ReplicaSets of `web`, by image.
async fn replica_set(g: &Ground, image_wanted: &str) -> Option<Value> {
    let sets = g.items("replicasets?labelSelector=app%3Dweb").await;
    sets.into_iter().find(|set| image(set) == image_wanted)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

async fn a_deployment_becomes_available(g: Ground) {
    let web = web(&g, 2).await;
    assert_eq!(web["metadata"]["annotations"][REVISION], "1");
    assert_eq!(condition(&web, "Available").map(|c| &c["status"]), Some(&json!("True")));
    g.until_is("deployments/web", "progressing is told", |o| {
        condition(o, "Progressing").is_some_and(|c| c["reason"] == "NewReplicaSetAvailable")
    })
    .await;
    let set = replica_set(&g, "shop/web:ok-v1").await.expect("a ReplicaSet");
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().expect("a hash");
    assert_eq!(name(&set), format!("web-{hash}"));
    assert_eq!(set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"], hash);
    assert_eq!(set["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    let owner = &set["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&web["metadata"]["uid"], &json!(true)));
    let pods = pods(&g, "web").await;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert!(name(pod).starts_with(&format!("web-{hash}-")) && is_ready(pod));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], set["metadata"]["uid"]);
        assert_eq!(pod["status"]["phase"], "Running");
        assert!(pod["spec"]["nodeName"].is_string() && pod["status"]["podIP"].is_string());
    }
}

async fn an_undo_moves_the_revision(g: Ground) {
    let first = web(&g, 1).await;
    deploy(&g, "deployments/web", "shop/web:ok-v2").await;
    let second = until_rolled_out(&g, "deployments/web").await;
    assert_eq!(second["metadata"]["annotations"][REVISION], "2");
    let undo = json!([{"op": "replace", "path": "/spec/template", "value": first["spec"]["template"]}]);
    taken(g.json_patch(&g.at("deployments/web"), "lastgood", &undo).await);
    g.until_is("deployments/web", "revision 3", |o| o["metadata"]["annotations"][REVISION] == "3").await;
    let set = replica_set(&g, "shop/web:ok-v1").await.expect("the first ReplicaSet");
    assert_eq!(set["metadata"]["annotations"][REVISION], "3");
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    let old = replica_set(&g, "shop/web:ok-v2").await.expect("the second ReplicaSet");
    assert_eq!(old["metadata"]["annotations"][REVISION], "2");
    assert_eq!(g.items("replicasets?labelSelector=app%3Dweb").await.len(), 2);
    until_rolled_out(&g, "deployments/web").await;
}

async fn annotations_are_copied_to_the_replica_set(g: Ground) {
    web(&g, 1).await;
    let note = json!({"metadata": {"annotations": {"lastgood.dev/undo": "x"}}});
    taken(g.merge(&g.at("deployments/web"), "lastgood", &note).await);
    g.until("the ReplicaSet has it", async || {
        let set = replica_set(&g, "shop/web:ok-v1").await.ok_or("no ReplicaSet")?;
        let annotations = &set["metadata"]["annotations"];
        if annotations["lastgood.dev/undo"] == "x" { Ok(()) } else { Err(annotations.to_string()) }
    })
    .await;
}

async fn history_is_cleaned_up(g: Ground) {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["revisionHistoryLimit"] = 1.into();
    g.create("deployments", &wanted).await;
    until_rolled_out(&g, "deployments/web").await;
    for image in ["shop/web:ok-v2", "shop/web:ok-v3"] {
        deploy(&g, "deployments/web", image).await;
        until_rolled_out(&g, "deployments/web").await;
    }
    g.until("two ReplicaSets are left", async || {
        let sets = g.items("replicasets?labelSelector=app%3Dweb").await;
        let mut images: Vec<&str> = sets.iter().map(image).collect();
        images.sort_unstable();
        if images == ["shop/web:ok-v2", "shop/web:ok-v3"] { Ok(()) } else { Err(format!("{images:?}")) }
    })
    .await;
}

async fn a_stuck_rollout_passes_its_deadline(g: Ground) {
    let mut wanted = deployment("web", "shop/web:ok-v1");
    wanted["spec"]["progressDeadlineSeconds"] = 3.into();
    g.create("deployments", &wanted).await;
    until_rolled_out(&g, "deployments/web").await;
    deploy(&g, "deployments/web", "shop/web:never-ready-v2").await;
    let late = g
        .until_is("deployments/web", "deadline exceeded", |o| {
            condition(o, "Progressing")
                .is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded" && c["status"] == "False")
        })
        .await;
    assert_eq!(late["status"]["availableReplicas"], 1, "the old pod still serves");
}

async fn a_paused_deployment_does_not_roll_out(g: Ground) {
    web(&g, 1).await;
    let pause = json!({"spec": {"paused": true}});
    taken(g.merge(&g.at("deployments/web"), "t", &pause).await);
    deploy(&g, "deployments/web", "shop/web:ok-v2").await;
    g.until_is("deployments/web", "observed", |o| {
        o["status"]["observedGeneration"] == o["metadata"]["generation"]
            && condition(o, "Progressing").is_some_and(|c| c["reason"] == "DeploymentPaused")
    })
    .await;
    assert!(replica_set(&g, "shop/web:ok-v2").await.is_none());
    taken(g.merge(&g.at("deployments/web"), "t", &json!({"spec": {"paused": false}})).await);
    until_rolled_out(&g, "deployments/web").await;
    assert!(pods(&g, "web").await.iter().all(|p| pod_image(p) == "shop/web:ok-v2"));
}

async fn a_bad_rollout_keeps_old_pods(g: Ground) {
    web(&g, 4).await;
    deploy(&g, "deployments/web", "shop/web:never-ready-v2").await;
    let stuck = g
        .until_is("deployments/web", "as far as it goes", |o| {
            o["status"]["updatedReplicas"] == 2 && o["status"]["replicas"] == 5 && o["status"]["availableReplicas"] == 3
        })
        .await;
    assert_eq!(stuck["status"]["unavailableReplicas"], 2, "25 % more, 25 % fewer");
    let pods = pods(&g, "web").await;
    assert_eq!(pods.iter().filter(|p| pod_image(p) == "shop/web:ok-v1").count(), 3);
}

async fn a_deployment_follows_its_replicas(g: Ground) {
    web(&g, 1).await;
    for replicas in [3, 0] {
        taken(g.merge(&g.at("deployments/web"), "t", &json!({"spec": {"replicas": replicas}})).await);
        g.until("as many pods", async || {
            let pods = pods(&g, "web").await.len();
            if pods == replicas { Ok(()) } else { Err(format!("{pods} pods")) }
        })
        .await;
    }
    assert_eq!(g.read("deployments/web").await["metadata"]["annotations"][REVISION], "1");
}

async fn a_deleted_deployment_takes_its_pods(g: Ground) {
    web(&g, 2).await;
    taken(g.delete(&g.at("deployments/web")).await);
    g.until("nothing is left", async || {
        let sets = g.items("replicasets?labelSelector=app%3Dweb").await.len();
        let pods = g.items("pods?labelSelector=app%3Dweb").await.len();
        if sets + pods == 0 { Ok(()) } else { Err(format!("{sets} ReplicaSets, {pods} pods")) }
    })
    .await;
}

async fn db(g: &Ground, replicas: usize, more: &Value) -> Value {
    let mut wanted = workload("StatefulSet", "db", "shop/db:ok-v1");
    wanted["spec"]["replicas"] = replicas.into();
    if !more.is_null() {
        wanted["spec"]["updateStrategy"] = more.clone();
    }
    g.create("statefulsets", &wanted).await;
    until_rolled_out(g, "statefulsets/db").await
}

async fn a_stateful_set_rolls_out_from_the_last_pod(g: Ground) {
    let first = db(&g, 2, &Value::Null).await;
    let mut names: Vec<String> = pods(&g, "db").await.iter().map(|p| name(p).to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["db-0", "db-1"]);
    deploy(&g, "statefulsets/db", "shop/db:ok-v2").await;
    let second = until_rolled_out(&g, "statefulsets/db").await;
    assert_ne!(first["status"]["currentRevision"], second["status"]["currentRevision"]);
    let revisions = g.items("controllerrevisions?labelSelector=app%3Ddb").await;
    let mut numbers: Vec<i64> = revisions.iter().filter_map(|r| r["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    for revision in &revisions {
        assert_eq!(revision["metadata"]["ownerReferences"][0]["uid"], first["metadata"]["uid"]);
        assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
    }
    for pod in pods(&g, "db").await {
        assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], second["status"]["updateRevision"]);
        assert_eq!(pod_image(&pod), "shop/db:ok-v2");
    }
    let undo = json!([{"op": "replace", "path": "/spec/template", "value": first["spec"]["template"]}]);
    taken(g.json_patch(&g.at("statefulsets/db"), "lastgood", &undo).await);
    let third = g.until_is("statefulsets/db", "undone", |o| rolled_out(o) && image(o) == "shop/db:ok-v1").await;
    assert_eq!(third["status"]["currentRevision"], first["status"]["currentRevision"], "an old revision is used again");
    let revisions = g.items("controllerrevisions?labelSelector=app%3Ddb").await;
    let latest = revisions.iter().max_by_key(|r| r["revision"].as_i64()).expect("a revision");
    assert_eq!(
        (&latest["revision"], name(latest)),
        (&json!(3), first["status"]["currentRevision"].as_str().expect("a name"))
    );
}

async fn a_stuck_stateful_set_stays_until_its_pod_is_evicted(g: Ground) {
    let first = db(&g, 2, &Value::Null).await;
    deploy(&g, "statefulsets/db", "shop/db:never-ready-v2").await;
    let stuck =
        async || pods(&g, "db").await.into_iter().any(|p| pod_image(&p) == "shop/db:never-ready-v2" && !is_ready(&p));
    g.until("the last pod is stuck", async || if stuck().await { Ok(()) } else { Err("not yet".into()) }).await;
    let undo = json!([{"op": "replace", "path": "/spec/template", "value": first["spec"]["template"]}]);
    taken(g.json_patch(&g.at("statefulsets/db"), "lastgood", &undo).await);
    g.until_is("statefulsets/db", "observed", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"])
        .await;
    // Its controller rolls out a set that was made later: it had its time to move on with this one, if it would.
    g.create("statefulsets", &workload("StatefulSet", "later", "shop/db:ok-v1")).await;
    until_rolled_out(&g, "statefulsets/later").await;
    let last = g.read("pods/db-1").await;
    assert!(
        pod_image(&last) == "shop/db:never-ready-v2" && last["metadata"]["deletionTimestamp"].is_null(),
        "it stays"
    );
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "db-1", "namespace": g.namespace}});
    let status = taken(g.post(&g.at("pods/db-1/eviction"), "", &eviction).await);
    assert_eq!(status["status"], "Success");
    let done = until_rolled_out(&g, "statefulsets/db").await;
    assert_eq!(image(&done), "shop/db:ok-v1");
    assert_eq!(pod_image(&g.read("pods/db-1").await), "shop/db:ok-v1");
}

async fn a_partition_holds_pods_back(g: Ground) {
    db(&g, 2, &json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})).await;
    deploy(&g, "statefulsets/db", "shop/db:ok-v2").await;
    g.until_is("statefulsets/db", "one updated", |o| {
        o["status"]["updatedReplicas"] == 1 && o["status"]["readyReplicas"] == 2
    })
    .await;
    assert_eq!(pod_image(&g.read("pods/db-0").await), "shop/db:ok-v1");
    assert_eq!(pod_image(&g.read("pods/db-1").await), "shop/db:ok-v2");
}

async fn on_delete_waits_for_deletions(g: Ground) {
    db(&g, 1, &json!({"type": "OnDelete"})).await;
    deploy(&g, "statefulsets/db", "shop/db:ok-v2").await;
    g.until_is("statefulsets/db", "observed", |o| {
        o["status"]["observedGeneration"] == o["metadata"]["generation"]
            && o["status"]["updateRevision"] != o["status"]["currentRevision"]
    })
    .await;
    assert_eq!(pod_image(&g.read("pods/db-0").await), "shop/db:ok-v1");
    taken(g.delete(&g.at("pods/db-0")).await);
    g.until("the pod is new", async || {
        let pod = g.get(&g.at("pods/db-0")).await.map_err(|s| s.message)?;
        if pod_image(&pod) == "shop/db:ok-v2" && is_ready(&pod) { Ok(()) } else { Err(pod["status"].to_string()) }
    })
    .await;
}

async fn a_daemon_set_rolls_out_over_all_nodes(g: Ground) {
    g.create("daemonsets", &workload("DaemonSet", "agent", "shop/agent:ok-v1")).await;
    let first = until_rolled_out(&g, "daemonsets/agent").await;
    let nodes = taken(g.get("/api/v1/nodes").await)["items"].as_array().map_or(0, Vec::len);
    assert_eq!(first["status"]["desiredNumberScheduled"], nodes);
    deploy(&g, "daemonsets/agent", "shop/agent:ok-v2").await;
    until_rolled_out(&g, "daemonsets/agent").await;
    let pods = pods(&g, "agent").await;
    let mut on: Vec<&str> = pods.iter().filter_map(|p| p["spec"]["nodeName"].as_str()).collect();
    on.sort_unstable();
    on.dedup();
    assert_eq!((on.len(), pods.len()), (nodes, nodes), "one on each node");
    assert!(pods.iter().all(|p| pod_image(p) == "shop/agent:ok-v2"));
    assert_eq!(g.items("controllerrevisions?labelSelector=app%3Dagent").await.len(), 2);
}

async fn crashing_pods_say_so(g: Ground) {
    g.create("deployments", &deployment("web", "shop/web:crash-v1")).await;
    g.until("two restarts and a back-off", async || {
        let pods = pods(&g, "web").await;
        let status = &pods.first().ok_or("no pod")?["status"]["containerStatuses"][0];
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let ended = status["lastState"]["terminated"]["exitCode"] == 1;
        let restarts = status["restartCount"].as_i64() >= Some(1);
        if waits && ended && restarts { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn a_missing_image_is_told(g: Ground) {
    g.create("deployments", &deployment("web", "shop/web:pull-error-v1")).await;
    g.until("the pull fails", async || {
        let pods = pods(&g, "web").await;
        let status = &pods.first().ok_or("no pod")?["status"]["containerStatuses"][0];
        let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        if ["ErrImagePull", "ImagePullBackOff"].contains(&reason) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

fn eviction(g: &Ground, pod: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": g.namespace}})
}

async fn an_eviction_replaces_the_pod(g: Ground) {
    web(&g, 1).await;
    let first = name(&pods(&g, "web").await[0]).to_owned();
    taken(g.post(&g.at(&format!("pods/{first}/eviction")), "", &eviction(&g, &first)).await);
    g.until("another pod is ready", async || {
        let pods = pods(&g, "web").await;
        if pods.iter().any(|p| name(p) != first && is_ready(p)) { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    let none = refused(g.post(&g.at("pods/none/eviction"), "", &eviction(&g, "none")).await);
    assert_eq!(none.code, 404);
}

async fn a_disruption_budget_refuses_an_eviction(g: Ground) {
    web(&g, 1).await;
    let budget =
        json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    g.create("poddisruptionbudgets", &budget).await;
    g.until_is("poddisruptionbudgets/web", "counted", |o| {
        o["status"]["observedGeneration"] == o["metadata"]["generation"] && o["status"]["currentHealthy"] == 1
    })
    .await;
    let pod = name(&pods(&g, "web").await[0]).to_owned();
    let status = refused(g.post(&g.at(&format!("pods/{pod}/eviction")), "", &eviction(&g, &pod)).await);
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
    assert!(status.details.is_some_and(|d| d.causes.iter().any(|c| c.reason == "DisruptionBudget")));
}
