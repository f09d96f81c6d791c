//! The conformance suite on the simulated cluster, in paused time. `tests/e2e/run --conformance` plays the same
//! cases on a real control plane.

mod conformance;

use futures::StreamExt;
use lastgood::sim::{Manager, Resource, Sim};

#[tokio::test(start_paused = true)]
async fn the_simulated_cluster_is_a_kubernetes_cluster() {
    let start = "2026-01-01T00:00:00Z".parse().expect("a time");
    let sim = Sim::new(start, 7);
    let crd = serde_json::to_value(lastgood::record::crd()).expect("JSON");
    let installed =
        sim.with(|world| world.store.create(Resource::CustomResourceDefinitions, "", crd, Manager("admin")));
    installed.expect("the CRD is installed");
    let time = tokio::spawn({
        let sim = sim.clone();
        async move { sim.drive().await }
    });
    let only = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<_> = conformance::all().into_iter().filter(|c| c.name.contains(&only)).collect();
    assert!(!cases.is_empty(), "no case is called {only}");
    let played = futures::stream::iter(&cases).map(async |case| (case.name, case.play(sim.client("tester")).await));
    let failed: Vec<String> = played
        .buffer_unordered(1)
        .filter_map(async |(name, result)| result.err().map(|why| format!("{name}: {why}")))
        .collect()
        .await;
    time.abort();
    assert!(failed.is_empty(), "{} of {} cases do not hold:\n\n{}\n", failed.len(), cases.len(), failed.join("\n\n"));
}
