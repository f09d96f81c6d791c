//! The generated PromQL against `promtool test rules` with synthetic series (`tests/promql/`).
//!
//! `tests/promql/rules.yaml` is written from the code. After a wanted change of the expressions run
//! `BLESS=1 cargo test --lib sources::prometheus::rules`.

use super::{
    edges::{self, Mesh},
    history::asks::{self, Witness},
    plan::{Part, Plan},
    promql::{Scope, Seat, counts, latency, sanity},
};
use crate::sources::{
    families::{CALLERS, Family, PODS},
    testing::trial,
};
use std::{fmt::Write as _, path::PathBuf, process::Command};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/promql")
}

/// Every expression that the code can generate, for two workloads of two namespaces.
fn expressions() -> Vec<(String, String)> {
    let trials = [trial("shop", "checkout"), trial("bank", "cart.v2")];
    let scope = Scope::of(&trials);
    let pods: Vec<&Family> = PODS.iter().collect();
    let otel: Vec<&Family> = PODS.iter().filter(|f| f.name.starts_with("otel")).collect();
    let mut all = Vec::new();
    let mut both = |name: &str, families: &[&Family], seat| {
        all.push((format!("lastgood:{name}:counts"), counts(families, seat, &scope)));
        all.push((format!("lastgood:{name}:latency"), latency(families, seat, &scope)));
    };
    both("pods", &pods, Seat::Pod);
    both("resource", &otel, Seat::Resource);
    for family in &CALLERS {
        both(&family.name.replace('-', "_"), &[family], Seat::Caller);
    }
    for (name, mesh) in [("istio", Mesh::Istio), ("linkerd", Mesh::Linkerd)] {
        all.push((format!("lastgood:{name}:edges"), edges::expression(mesh, &scope)));
    }
    all.push(("lastgood:sanity".into(), sanity(&scope)));
    let ids = ["shop/Deployment/web", "shop/StatefulSet/db", "shop/DaemonSet/agent"].map(|id| id.parse().unwrap());
    let filter = asks::Filter(ids.clone().into());
    for (witness, name) in [(Witness::Cluster, "cluster"), (Witness::Names, "names")] {
        all.push((format!("lastgood:history:standing_{name}"), asks::standing(witness, &filter)));
        all.push((format!("lastgood:history:changes_{name}"), asks::changes(witness, &filter, 15)));
    }
    all.push(("lastgood:history:overview".into(), asks::overview()));
    all.push(("lastgood:history:age".into(), asks::age().into()));
    all.push(("lastgood:history:serving".into(), asks::serving(None)));
    all.push(("lastgood:history:states".into(), asks::states(&Scope::around(&ids))));
    all
}

#[test]
fn generated_promql_is_what_promtool_tests() {
    let mut yaml = String::from(
        "# Written by src/sources/prometheus/rules.rs from the code; do not edit.\ngroups:\n- name: lastgood\n  interval: 1m\n  rules:\n",
    );
    for (record, expression) in expressions() {
        let quoted = serde_json::to_string(&expression).unwrap();
        writeln!(yaml, "  - record: {record}\n    expr: {quoted}").unwrap();
    }
    let file = folder().join("rules.yaml");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &yaml).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        yaml,
        "the expressions changed: run with BLESS=1 and look at the diff"
    );
}

#[test]
fn promtool_agrees_with_every_expression() {
    let mut tests: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with("_test.yaml"))
        .collect();
    tests.sort();
    assert!(tests.len() >= 3, "{tests:?}");
    // A recorded name that no test asks for would be an expression that nobody tests.
    let text: String = tests.iter().map(|t| std::fs::read_to_string(t).unwrap()).collect();
    for (record, _) in expressions() {
        assert!(text.contains(&format!("expr: {record}\n")), "no test in tests/promql asks for {record}");
    }
    let output = match Command::new("promtool").args(["test", "rules"]).args(&tests).output() {
        Ok(output) => output,
        Err(error) => {
            // Past the capture of the test harness: a skipped proof must be seen.
            let loud = format!("SKIPPED: promtool is not installed ({error}); {} files were not run\n", tests.len());
            std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes()).unwrap();
            return;
        }
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_number_of_queries_does_not_depend_on_the_number_of_trials() {
    use crate::domain::Preset;
    let many = |n: usize| -> Vec<_> {
        let presets = [Preset::Auto, Preset::Otel, Preset::Istio, Preset::Linkerd, Preset::Traefik];
        (0..n)
            .map(|i| {
                let mut trial = trial(&format!("ns-{}", i % 7), &format!("workload-{i}"));
                std::sync::Arc::make_mut(&mut trial.rules).metrics.preset = presets[i % presets.len()];
                trial
            })
            .collect()
    };
    let (few, lots) = (Plan::of(&many(5)), Plan::of(&many(500)));
    assert_eq!(few.asks.len(), lots.asks.len());
    assert_eq!(few.asks.iter().filter(|a| a.part == Part::Counts).count(), 4);
    let longest = lots.asks.iter().map(|a| a.expression.len()).max().unwrap();
    assert!(longest < 16 << 10, "VictoriaMetrics takes 16 KiB by default; this is {longest}");
    assert!(Plan::of(&[]).asks.is_empty());
}
