//! The documents say what the program says: a metric or a phase that is looked up is found, and examples are read.

use lastgood::{domain::Observed, record::Incident, telemetry::metrics::CATALOGUE};
use std::collections::BTreeSet;

const RUNBOOK: &str = include_str!("../docs/operations.md");

/// Rendered beside the catalogue, because its label changes.
const BESIDE: &str = "lastgood_config_info";

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).collect()
}

#[test]
fn every_metric_is_in_the_runbook_and_nothing_else() {
    let meant: BTreeSet<&str> = CATALOGUE.iter().map(|family| family.name).chain([BESIDE]).collect();
    let told: BTreeSet<&str> = words(RUNBOOK).into_iter().filter(|w| w.starts_with("lastgood_")).collect();
    assert!(meant.len() > 20, "the catalogue was not found");
    assert_eq!(meant, told, "left: the program, right: docs/operations.md");
}

#[test]
fn every_phase_is_in_the_runbook() {
    use kube::CustomResourceExt;
    let crd = serde_json::to_value(Incident::crd()).expect("a CRD is JSON");
    let phase = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/phase/enum";
    let phases: Vec<&str> =
        crd.pointer(phase).and_then(|p| p.as_array()).into_iter().flatten().filter_map(|p| p.as_str()).collect();
    assert!(phases.len() >= 8, "the phases were not found");
    for phase in phases {
        assert!(RUNBOOK.contains(&format!("| `{phase}` |")), "docs/operations.md does not explain {phase}");
    }
}

#[test]
fn every_line_of_the_trace_format_is_one_that_is_read() {
    let kinds: BTreeSet<String> = include_str!("../docs/traces.md")
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let value = serde_json::Deserializer::from_str(line).into_iter::<serde_json::Value>().next();
            let value = value.expect("a value").expect(line);
            let observed: Observed = serde_json::from_value(value.clone()).expect(line);
            assert_eq!(serde_json::to_value(&observed).expect("JSON")["kind"], value["kind"]);
            value["kind"].to_string()
        })
        .collect();
    assert_eq!(kinds.len(), 13, "{kinds:?}");
}
