//! Pure. Who calls whom, where the proxies of a mesh count by source and destination.

use super::{
    envelope::Series,
    promql::{MARK, Scope, quote},
};
use crate::domain::{Kind, Preset, TrialTarget, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// Callees of one workload that are believed; more is a proxy that calls everybody.
const EACH: usize = 64;

/// A mesh whose proxies say both ends of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mesh {
    Istio,
    Linkerd,
}

/// The question to each mesh in use: at most two.
pub(super) fn expressions(workloads: &[TrialTarget]) -> Vec<(Mesh, String)> {
    let uses = |preset| move |target: &&TrialTarget| target.rules.metrics.preset == preset;
    let all = [(Preset::Istio, Mesh::Istio), (Preset::Linkerd, Mesh::Linkerd)];
    let used = all.into_iter().filter_map(|(preset, mesh)| {
        let scope = Scope::of(workloads.iter().filter(uses(preset)));
        (scope != Scope::default()).then(|| (mesh, expression(mesh, &scope)))
    });
    used.collect()
}

/// One series for each pair of workloads of which one ever called the other.
pub(super) fn expression(mesh: Mesh, scope: &Scope) -> String {
    let (by, what) = match mesh {
        Mesh::Istio => (
            "source_workload_namespace, source_workload, destination_workload_namespace, destination_workload",
            format!(
                "istio_requests_total{{reporter=\"source\",{}}}",
                scope.workloads("source_workload_namespace", "source_workload")
            ),
        ),
        Mesh::Linkerd => (
            "namespace, deployment, statefulset, daemonset, dst_namespace, dst_deployment, dst_statefulset, dst_daemonset",
            format!("response_total{{direction=\"outbound\",dst_namespace!=\"\",{}}}", scope.pods("namespace", "pod")),
        ),
    };
    format!("label_replace(count by ({by}) ({what}), {}, \"edge\", \"\", \"\")", quote(MARK))
}

/// The callees of each workload that an answer names. Both ends must be among `workloads`.
pub(super) fn read(workloads: &[TrialTarget], answers: &[(Mesh, Vec<Series>)]) -> Vec<(WorkloadId, Vec<WorkloadId>)> {
    let known: BTreeSet<&WorkloadId> = workloads.iter().map(|target| &target.workload).collect();
    let mut calls: BTreeMap<&WorkloadId, BTreeSet<&WorkloadId>> = BTreeMap::new();
    for (mesh, series) in answers.iter().flat_map(|(mesh, answer)| answer.iter().map(move |series| (*mesh, series))) {
        let Some((caller, callee)) = end(mesh, series, &known, true).zip(end(mesh, series, &known, false)) else {
            continue;
        };
        let callees = calls.entry(caller).or_default();
        if caller != callee && callees.len() < EACH {
            callees.insert(callee);
        }
    }
    let told = calls.into_iter().filter(|(_, callees)| !callees.is_empty());
    told.map(|(caller, callees)| (caller.clone(), callees.into_iter().cloned().collect())).collect()
}

/// The workload at one end of a call, if exactly one that is known fits.
fn end<'a>(mesh: Mesh, series: &Series, known: &BTreeSet<&'a WorkloadId>, source: bool) -> Option<&'a WorkloadId> {
    let named = |namespace: &str, kinds: &[Kind], name: &str| {
        let ids = kinds.iter().map(|kind| WorkloadId::new(namespace, *kind, name));
        let mut found = ids.filter_map(|id| known.get(&id).copied());
        found.next().filter(|_| found.next().is_none())
    };
    match (mesh, source) {
        (Mesh::Istio, true) => {
            named(series.label("source_workload_namespace"), &Kind::ALL, series.label("source_workload"))
        }
        (Mesh::Istio, false) => {
            named(series.label("destination_workload_namespace"), &Kind::ALL, series.label("destination_workload"))
        }
        (Mesh::Linkerd, source) => {
            let before = if source { "" } else { "dst_" };
            let label = |of: &str| series.label(&format!("{before}{of}"));
            let kinds = [(Kind::Deployment, "deployment"), (Kind::StatefulSet, "statefulset")];
            kinds
                .into_iter()
                .chain([(Kind::DaemonSet, "daemonset")])
                .find_map(|(kind, of)| named(label("namespace"), &[kind], label(of)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::trial;
    use std::sync::Arc;

    fn with(preset: Preset, name: &str) -> TrialTarget {
        let mut target = trial("shop", name);
        Arc::make_mut(&mut target.rules).metrics.preset = preset;
        target
    }

    fn series(labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Series { labels, points: vec![(0.0, 1.0)], malformed: 0 }
    }

    #[test]
    fn both_ends_of_a_call_must_be_known() {
        let all = [with(Preset::Istio, "web"), with(Preset::Linkerd, "pay"), with(Preset::Auto, "db")];
        assert_eq!(expressions(&all).len(), 2);
        assert!(expressions(&all[2..]).is_empty(), "no mesh, no question");
        let istio = |from: &str, to: &str| {
            series(&[
                ("source_workload_namespace", "shop"),
                ("source_workload", from),
                ("destination_workload_namespace", "shop"),
                ("destination_workload", to),
            ])
        };
        let linkerd =
            [("namespace", "shop"), ("deployment", "pay"), ("dst_namespace", "shop"), ("dst_deployment", "db")];
        let answers = [
            (Mesh::Istio, vec![istio("web", "pay"), istio("web", "web"), istio("web", "x"), istio("unknown", "db")]),
            (Mesh::Linkerd, vec![series(&linkerd)]),
        ];
        let told: Vec<String> = read(&all, &answers)
            .iter()
            .map(|(caller, callees)| {
                format!("{caller}: {}", callees.iter().map(|c| c.name.as_str()).collect::<String>())
            })
            .collect();
        assert_eq!(told, ["shop/Deployment/pay: db", "shop/Deployment/web: pay"]);
    }
}
