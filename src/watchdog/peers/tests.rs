use super::*;
use crate::{
    cluster::RawDeployment,
    domain::{Kind, WorkloadId},
};
use serde_json::json;

fn view(namespace: &str, name: &str, replicas: i64) -> WorkloadView {
    let raw = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {"spec": {}}},
        "status": {"replicas": replicas},
    });
    serde_json::from_value::<RawDeployment>(raw).expect("a view").into()
}

fn chosen(views: &[WorkloadView], rank: impl Fn(&WorkloadView) -> Option<u8>) -> (Vec<&WorkloadId>, usize) {
    let views: Vec<&WorkloadView> = views.iter().collect();
    let (chosen, left_out) = choose(&views, rank, &MOST);
    (chosen.into_iter().map(|view| &view.id).collect(), left_out)
}

#[test]
fn the_nearest_come_first_and_what_does_not_fit_is_counted() {
    let mut views: Vec<WorkloadView> = (0..300).map(|i| view("far", &format!("w{i:03}"), 2)).collect();
    views.extend((0..5).map(|i| view("shop", &format!("w{i}"), 2)));
    views.push(view("bank", "ledger", 900));
    views.push(view("shop", "giant", 800));
    let rank = |view: &WorkloadView| match view.id.namespace.as_str() {
        "bank" => Some(0),
        "shop" => Some(1),
        _ => (view.id.name != "w000").then_some(2),
    };
    let (chosen, left_out) = chosen(&views, rank);
    let id = |namespace: &str, name: &str| WorkloadId::new(namespace, Kind::Deployment, name);
    assert_eq!(chosen[..3], [&id("bank", "ledger"), &id("shop", "w0"), &id("shop", "w1")]);
    // 900 pods of the callee, 10 of the neighbours; the giant does not fit; 45 others do.
    assert_eq!((chosen.len(), left_out), (51, 1 + 299 - 45));
    assert!(chosen.iter().all(|id| id.name != "giant" && id.name != "w000"));
}

#[test]
fn of_a_crowded_namespace_only_as_many_as_names_can_narrow() {
    let views: Vec<WorkloadView> = (0..2000).map(|i| view("shop", &format!("workload-{i:04}"), 2)).collect();
    let (chosen, left_out) = chosen(&views, |_| Some(1));
    assert_eq!((chosen.len(), left_out), (NAMES / 14, 2000 - NAMES / 14));
    let views: Vec<WorkloadView> = (0..400).map(|i| view("shop", &format!("workload-{i:04}"), 2)).collect();
    let (chosen, left_out) = super::tests::chosen(&views, |_| Some(1));
    assert_eq!((chosen.len(), left_out), (MOST.workloads, 200), "whole namespaces that are not crowded");
}
