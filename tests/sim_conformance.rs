//! The conformance suite on the simulated cluster, in paused time. `tests/e2e/run --conformance` plays the same
//! cases on a real control plane.

mod conformance;

use futures::StreamExt;
use lastgood::sim::{Behaviour, Manager, Resource, Sim, behaviour::Start};

#[tokio::test(start_paused = true)]
async fn the_simulated_cluster_is_a_kubernetes_cluster() {
    let start = "2026-01-01T00:00:00Z".parse().expect("a time");
    let sim = Sim::new(start, 7);
    let crd = serde_json::to_value(lastgood::record::crd()).expect("JSON");
    sim.with(|world| {
        world.add_nodes(3);
        // What the tags say to the real plane's fake kubelet.
        let never_ready = Behaviour { ready_after: None, ..Behaviour::default() };
        let crashes = Behaviour { crash_after: Some(1.0), ..Behaviour::default() };
        let no_image = Behaviour { start: Start::PullError, ..Behaviour::default() };
        world.set_behaviour("shop/web:never-ready-v2", never_ready.clone());
        world.set_behaviour("shop/db:never-ready-v2", never_ready);
        world.set_behaviour("shop/web:crash-v1", crashes);
        world.set_behaviour("shop/web:pull-error-v1", no_image);
    });
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
