use crate::sim::{
    behaviour::{Behaviour, Start},
    object::{annotation, label, list, name, number, text},
    resource::Resource::{
        self, ControllerRevisions, DaemonSets, Deployments, EndpointSlices, Nodes, Pods, ReplicaSets, Services,
        StatefulSets,
    },
    stage::Stage,
    store::Manager,
};
use serde_json::{Value, json};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn with_deployment(edit: impl FnOnce(&mut Value)) -> Stage {
    let mut stage = Stage::new();
    stage.create(Deployments, "web", edit);
    stage.pass(10);
    stage
}

fn never_ready() -> Behaviour {
    Behaviour { ready_after: None, ..Behaviour::default() }
}

/// `(image, revision, history, replicas)` of each ReplicaSet, by revision.
fn sets(stage: &Stage) -> Vec<(String, i64, String, i64)> {
    let of = |set: &Value| {
        (
            text(set, "/spec/template/spec/containers/0/image").to_owned(),
            annotation(set, REVISION).parse().unwrap_or(0),
            annotation(set, "deployment.kubernetes.io/revision-history").to_owned(),
            number(set, "/spec/replicas").unwrap_or(-1),
        )
    };
    let mut sets: Vec<_> = stage.all(ReplicaSets).iter().map(of).collect();
    sets.sort_by_key(|set| set.1);
    sets
}

fn set(image: &str, revision: i64, history: &str, replicas: i64) -> (String, i64, String, i64) {
    (image.into(), revision, history.into(), replicas)
}

#[test]
fn a_deployment_settles_and_says_so() {
    let stage = with_deployment(|_| {});
    let status = stage.get(Deployments, "web")["status"].clone();
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[field], 3, "{field} in {status}");
    }
    assert!(status.get("unavailableReplicas").is_none());
    assert_eq!(status["observedGeneration"], stage.get(Deployments, "web")["metadata"]["generation"]);
    assert_eq!(stage.condition("web", "Available"), "True/MinimumReplicasAvailable");
    assert_eq!(stage.condition("web", "Progressing"), "True/NewReplicaSetAvailable");
    let sets = stage.all(ReplicaSets);
    let hash = label(&sets[0], "pod-template-hash");
    assert_eq!(name(&sets[0]), format!("web-{hash}"));
    assert_eq!(sets[0]["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    assert_eq!(annotation(&sets[0], "team"), "shop");
    assert_eq!(annotation(&stage.get(Deployments, "web"), REVISION), "1");
    assert!(stage.all(Pods).iter().all(|pod| name(pod).starts_with(&format!("web-{hash}-"))));
}

#[test]
fn revisions_move_and_remember() {
    let mut stage = with_deployment(|_| {});
    stage.set_image(Deployments, "web", "app:2");
    stage.pass(60);
    assert_eq!(sets(&stage), [set("app:1", 1, "", 0), set("app:2", 2, "", 3)]);
    stage.set_image(Deployments, "web", "app:1");
    stage.pass(60);
    assert_eq!(sets(&stage), [set("app:2", 2, "", 0), set("app:1", 3, "1", 3)]);
    assert_eq!(annotation(&stage.get(Deployments, "web"), REVISION), "3");
    stage.set_image(Deployments, "web", "app:2");
    stage.pass(60);
    stage.set_image(Deployments, "web", "app:1");
    stage.pass(60);
    assert_eq!(sets(&stage), [set("app:2", 4, "2", 0), set("app:1", 5, "1,3", 3)]);
    assert_eq!(stage.condition("web", "Progressing"), "True/NewReplicaSetAvailable");
}

#[test]
fn a_rolling_update_keeps_its_fences() {
    // (maxSurge, maxUnavailable, most pods, fewest available)
    for (surge, unavailable, most, fewest) in [
        (json!(1), json!(0), 4, 3),
        (json!(0), json!(1), 3, 2),
        (json!("25%"), json!("25%"), 4, 3),
        (json!(0), json!(0), 3, 2),
    ] {
        let mut stage = with_deployment(|d| {
            d["spec"]["strategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        });
        stage.set_image(Deployments, "web", "app:2");
        let (mut seen_most, mut seen_fewest) = (0, usize::MAX);
        for _ in 0..60 {
            stage.pass(1);
            seen_most = seen_most.max(stage.images().len());
            seen_fewest = seen_fewest.min(stage.ready("app:1") + stage.ready("app:2"));
        }
        assert_eq!((seen_most, seen_fewest), (most, fewest), "surge {surge}, unavailable {unavailable}");
        assert_eq!(stage.ready("app:2"), 3);
    }
}

#[test]
fn a_bad_rollout_stops_and_its_deadline_runs_out() {
    let mut stage = with_deployment(|d| d["spec"]["progressDeadlineSeconds"] = json!(30));
    stage.0.set_behaviour("app:2", never_ready());
    stage.set_image(Deployments, "web", "app:2");
    stage.pass(20);
    assert_eq!(stage.condition("web", "Progressing"), "True/ReplicaSetUpdated");
    assert_eq!((stage.ready("app:1"), stage.images().len()), (3, 4));
    stage.pass(20);
    assert_eq!(stage.condition("web", "Progressing"), "False/ProgressDeadlineExceeded");
    assert_eq!(stage.condition("web", "Available"), "True/MinimumReplicasAvailable");
    stage.set_image(Deployments, "web", "app:1");
    stage.pass(20);
    assert_eq!(stage.condition("web", "Progressing"), "True/NewReplicaSetAvailable");
    assert_eq!(sets(&stage), [set("app:2", 2, "", 0), set("app:1", 3, "1", 3)]);
}

#[test]
fn available_waits_for_min_ready_seconds() {
    let mut stage = with_deployment(|d| d["spec"]["minReadySeconds"] = json!(20));
    let count = |stage: &Stage, field: &str| number(&stage.get(Deployments, "web"), field).unwrap_or(0);
    assert_eq!((count(&stage, "/status/readyReplicas"), count(&stage, "/status/availableReplicas")), (3, 0));
    assert_eq!(stage.condition("web", "Available"), "False/MinimumReplicasUnavailable");
    stage.pass(20);
    assert_eq!(count(&stage, "/status/availableReplicas"), 3);
}

#[test]
fn recreate_lets_the_last_old_pod_go_first() {
    let mut stage = with_deployment(|d| d["spec"]["strategy"] = json!({"type": "Recreate"}));
    stage.set_image(Deployments, "web", "app:2");
    assert!(stage.images().is_empty(), "{:?}", stage.images());
    assert_eq!(stage.all(Pods).len(), 3);
    stage.pass(10);
    assert_eq!((stage.ready("app:1"), stage.ready("app:2")), (0, 3));
}

#[test]
fn a_paused_deployment_changes_nothing_but_its_size() {
    let mut stage = with_deployment(|_| {});
    stage.update(Deployments, "web", |d| d["spec"]["paused"] = json!(true));
    assert_eq!(stage.condition("web", "Progressing"), "Unknown/DeploymentPaused");
    stage.set_image(Deployments, "web", "app:2");
    stage.update(Deployments, "web", |d| d["spec"]["replicas"] = json!(5));
    stage.pass(20);
    assert_eq!(sets(&stage), [set("app:1", 1, "", 5)]);
    stage.update(Deployments, "web", |d| d["spec"]["paused"] = json!(false));
    stage.pass(60);
    assert_eq!(sets(&stage), [set("app:1", 1, "", 0), set("app:2", 2, "", 5)]);
}

#[test]
fn history_beyond_the_limit_is_forgotten() {
    let mut stage = with_deployment(|d| d["spec"]["revisionHistoryLimit"] = json!(2));
    for image in ["app:2", "app:3", "app:4", "app:5"] {
        stage.set_image(Deployments, "web", image);
        stage.pass(60);
    }
    assert_eq!(sets(&stage), [set("app:3", 3, "", 0), set("app:4", 4, "", 0), set("app:5", 5, "", 3)]);
}

#[test]
fn annotations_are_handed_down_but_for_the_known_ones() {
    let mut stage = with_deployment(|_| {});
    stage.update(Deployments, "web", |d| {
        d["metadata"]["annotations"]["lastgood.dev/undo"] = json!("x");
        d["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!("{}");
    });
    let set = &stage.all(ReplicaSets)[0];
    assert_eq!(annotation(set, "lastgood.dev/undo"), "x");
    assert_eq!(annotation(set, "kubectl.kubernetes.io/last-applied-configuration"), "");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_spread() {
    let mut stage = with_deployment(|d| d["spec"]["replicas"] = json!(10));
    stage.0.set_behaviour("app:2", never_ready());
    stage.set_image(Deployments, "web", "app:2");
    stage.pass(10);
    assert_eq!(sets(&stage), [set("app:1", 1, "", 8), set("app:2", 2, "", 5)]);
    stage.update(Deployments, "web", |d| d["spec"]["replicas"] = json!(20));
    // The same step also goes on with the update where there is room; nothing is above 20 + 5.
    let total: i64 = sets(&stage).iter().map(|set| set.3).sum();
    assert_eq!(total, 25);
    assert!(sets(&stage)[0].3 >= 15, "{:?}", sets(&stage));
}

#[test]
fn deleting_a_deployment_takes_everything_along() {
    let mut stage = with_deployment(|_| {});
    stage.0.store.delete(&Stage::key(Deployments, "web")).expect("deleted");
    stage.pass(40);
    for resource in [Deployments, ReplicaSets, Pods] {
        assert!(stage.all(resource).is_empty(), "{resource:?}");
    }
}

#[test]
fn a_service_knows_its_ready_pods() {
    let mut stage = with_deployment(|_| {});
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    stage.0.store.create(Services, "default", service, Manager("kubectl")).expect("created");
    stage.0.set_behaviour("app:2", never_ready());
    stage.set_image(Deployments, "web", "app:2");
    stage.pass(10);
    let slices = stage.all(EndpointSlices);
    let ready = |ready: bool| list(&slices[0], "/endpoints").filter(|e| e["conditions"]["ready"] == ready).count();
    assert_eq!((slices.len(), ready(true), ready(false)), (1, 3, 1));
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
}

// --- StatefulSets -----------------------------------------------------------------------------------------

fn with_set(edit: impl FnOnce(&mut Value)) -> Stage {
    let mut stage = Stage::new();
    stage.create(StatefulSets, "db", edit);
    stage.pass(60);
    stage
}

fn images(stage: &Stage) -> Vec<(String, String)> {
    stage.images()
}

fn pods(images: [&str; 3]) -> Vec<(String, String)> {
    images.iter().enumerate().map(|(n, image)| (format!("db-{n}"), (*image).to_owned())).collect()
}

#[test]
fn a_stateful_set_grows_in_order_and_rolls_from_the_end() {
    let mut stage = Stage::new();
    stage.create(StatefulSets, "db", |_| {});
    assert_eq!(stage.images().len(), 1, "the first pod is waited for");
    stage.pass(60);
    assert_eq!(images(&stage), pods(["app:1"; 3]));
    stage.set_image(StatefulSets, "db", "app:2");
    let status = stage.get(StatefulSets, "db")["status"].clone();
    assert_ne!(status["currentRevision"], status["updateRevision"]);
    stage.pass(1);
    assert_eq!(images(&stage), pods(["app:1", "app:1", "app:2"]));
    stage.pass(60);
    assert_eq!(images(&stage), pods(["app:2"; 3]));
    let status = stage.get(StatefulSets, "db")["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!((&status["updatedReplicas"], &status["currentReplicas"]), (&json!(3), &json!(3)));
    let revisions = stage.all(ControllerRevisions);
    assert_eq!(revisions.len(), 2);
    assert!(revisions.iter().all(|revision| revision["data"]["spec"]["template"]["$patch"] == "replace"));
    let pod = stage.get(Pods, "db-0");
    assert_eq!(label(&pod, "controller-revision-hash"), text(&json!(status), "/updateRevision"));
}

/// k8s#67250, as seen on kube-apiserver 1.37: the pod of the bad revision stays, although both revisions agree.
#[test]
fn an_ordered_set_stays_stuck_on_a_bad_pod_and_a_parallel_one_does_not() {
    for (policy, healed) in [("OrderedReady", false), ("Parallel", true)] {
        let mut stage = with_set(|set| set["spec"]["podManagementPolicy"] = json!(policy));
        stage.0.set_behaviour("app:2", never_ready());
        stage.set_image(StatefulSets, "db", "app:2");
        stage.pass(60);
        assert_eq!(images(&stage), pods(["app:1", "app:1", "app:2"]), "{policy}");
        stage.set_image(StatefulSets, "db", "app:1");
        stage.pass(120);
        let status = stage.get(StatefulSets, "db")["status"].clone();
        assert_eq!(status["currentRevision"], status["updateRevision"], "{policy}");
        let last = if healed { "app:1" } else { "app:2" };
        assert_eq!(images(&stage), pods(["app:1", "app:1", last]), "{policy}");
        if !healed {
            assert_eq!(status["updatedReplicas"], 2);
            stage.0.store.delete(&Stage::key(Pods, "db-2")).expect("deleted");
            stage.pass(60);
            assert_eq!(images(&stage), pods(["app:1"; 3]));
        }
    }
}

#[test]
fn a_partition_and_on_delete_hold_pods_back() {
    let mut stage = with_set(|set| {
        set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    });
    stage.set_image(StatefulSets, "db", "app:2");
    stage.pass(60);
    assert_eq!(images(&stage), pods(["app:1", "app:1", "app:2"]));
    // A pod below the partition that is lost comes back as it was.
    stage.0.store.delete(&Stage::key(Pods, "db-0")).expect("deleted");
    stage.pass(30);
    assert_eq!(images(&stage), pods(["app:1", "app:1", "app:2"]));

    let mut stage = with_set(|set| set["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    stage.set_image(StatefulSets, "db", "app:2");
    stage.pass(60);
    assert_eq!(images(&stage), pods(["app:1"; 3]));
    stage.0.store.delete(&Stage::key(Pods, "db-1")).expect("deleted");
    stage.pass(30);
    assert_eq!(images(&stage), pods(["app:1", "app:2", "app:1"]));
}

#[test]
fn a_template_that_comes_back_moves_its_revision_to_the_end() {
    for resource in [StatefulSets, DaemonSets] {
        let mut stage = Stage::new();
        stage.create(resource, "db", |_| {});
        stage.pass(60);
        for image in ["app:2", "app:1"] {
            stage.set_image(resource, "db", image);
            stage.pass(90);
        }
        let mut found: Vec<(i64, String)> = stage
            .all(ControllerRevisions)
            .iter()
            .map(|r| {
                (number(r, "/revision").unwrap_or(0), text(r, "/data/spec/template/spec/containers/0/image").into())
            })
            .collect();
        found.sort();
        assert_eq!(found, [(2, "app:2".to_owned()), (3, "app:1".to_owned())], "{resource:?}");
    }
}

// --- DaemonSets -------------------------------------------------------------------------------------------

#[test]
fn a_daemon_set_has_one_pod_on_each_node_and_rolls_one_by_one() {
    let mut stage = Stage::new();
    stage.create(DaemonSets, "agent", |_| {});
    stage.pass(10);
    let nodes = |stage: &Stage| {
        let mut nodes: Vec<String> = stage.all(Pods).iter().map(|pod| text(pod, "/spec/nodeName").to_owned()).collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&stage), ["node-1", "node-2", "node-3"]);
    stage.set_image(DaemonSets, "agent", "app:2");
    let mut fewest = usize::MAX;
    for _ in 0..60 {
        stage.pass(1);
        fewest = fewest.min(stage.ready("app:1") + stage.ready("app:2"));
    }
    assert_eq!((fewest, stage.ready("app:2")), (2, 3));
    let status = stage.get(DaemonSets, "agent")["status"].clone();
    for field in
        ["desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable"]
    {
        assert_eq!(status[field], 3, "{field} in {status}");
    }
    stage.0.add_nodes(4);
    stage.pass(10);
    assert_eq!(nodes(&stage).len(), 4);
}

#[test]
fn a_bad_daemon_set_loses_one_node_and_is_healed_by_its_old_template() {
    let mut stage = Stage::new();
    stage.create(DaemonSets, "agent", |_| {});
    stage.pass(10);
    stage.0.set_behaviour("app:2", Behaviour { start: Start::PullError, ..Behaviour::default() });
    stage.set_image(DaemonSets, "agent", "app:2");
    stage.pass(60);
    assert_eq!((stage.ready("app:1"), stage.images().len()), (2, 3));
    stage.set_image(DaemonSets, "agent", "app:1");
    stage.pass(60);
    assert_eq!(stage.ready("app:1"), 3);
    let node: &Resource = &Nodes;
    assert_eq!(stage.0.store.list(*node, None).count(), 3);
}
