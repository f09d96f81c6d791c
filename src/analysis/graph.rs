//! Who calls whom. Pure.

use super::tuning::{EDGES_MAX, GRAPH_DEPTH};
use crate::domain::WorkloadId;
use std::collections::{BTreeMap, BTreeSet};

/// The service graph, as far as it was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    callees: BTreeMap<WorkloadId, BTreeSet<WorkloadId>>,
    edges: usize,
}

impl Graph {
    /// Replaces what is known of the callees of one workload.
    pub(super) fn calls(&mut self, caller: &WorkloadId, callees: &[WorkloadId]) {
        self.edges -= self.callees.remove(caller).map_or(0, |old| old.len());
        let known: BTreeSet<WorkloadId> = callees.iter().filter(|callee| *callee != caller).cloned().collect();
        if !known.is_empty() && self.edges + known.len() <= EDGES_MAX {
            self.edges += known.len();
            self.callees.insert(caller.clone(), known);
        }
    }

    /// Whether nothing is known of who calls whom.
    pub(super) fn is_empty(&self) -> bool {
        self.callees.is_empty()
    }

    /// Whether anything is known of who calls a workload or whom it calls.
    pub(super) fn knows(&self, id: &WorkloadId) -> bool {
        self.callees.contains_key(id) || self.callees.values().any(|callees| callees.contains(id))
    }

    /// Everything that a workload depends on, the nearest first; a few calls deep.
    pub(super) fn callees(&self, of: &WorkloadId) -> Vec<&WorkloadId> {
        reach(of, &|id| self.callees.get(id).into_iter().flatten().collect())
    }

    /// Everything that depends on a workload.
    pub(super) fn callers(&self, of: &WorkloadId) -> BTreeSet<&WorkloadId> {
        let callers = |id: &WorkloadId| {
            self.callees.iter().filter(|(_, callees)| callees.contains(id)).map(|(caller, _)| caller).collect()
        };
        reach(of, &callers).into_iter().collect()
    }
}

/// All that `next` leads to from `from`, itself left out.
fn reach<'a>(from: &WorkloadId, next: &dyn Fn(&WorkloadId) -> Vec<&'a WorkloadId>) -> Vec<&'a WorkloadId> {
    let (mut found, mut layer): (Vec<&WorkloadId>, Vec<&WorkloadId>) = (Vec::new(), next(from));
    for _ in 0..GRAPH_DEPTH {
        layer.retain(|id| *id != from && !found.contains(id));
        layer.dedup();
        if layer.is_empty() {
            break;
        }
        found.extend(&layer);
        layer = layer.into_iter().flat_map(next).collect();
        layer.sort();
        layer.dedup();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    fn id(name: &str) -> WorkloadId {
        WorkloadId::new("shop", Kind::Deployment, name)
    }

    #[test]
    fn what_is_below_and_above_even_in_a_circle() {
        let mut graph = Graph::default();
        assert!(graph.is_empty());
        graph.calls(&id("web"), &[id("cart"), id("pay"), id("web")]);
        graph.calls(&id("cart"), &[id("db")]);
        graph.calls(&id("pay"), &[id("db"), id("web")]);
        let names = |ids: Vec<&WorkloadId>| ids.iter().map(|id| id.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(graph.callees(&id("web"))), ["cart", "pay", "db"]);
        assert_eq!(names(graph.callers(&id("db")).into_iter().collect()), ["cart", "pay", "web"]);
        assert!(graph.callees(&id("db")).is_empty());
        graph.calls(&id("web"), &[]);
        assert!(graph.callees(&id("web")).is_empty(), "it calls nobody any more");
        assert!(graph.knows(&id("web")), "pay calls it");
        graph.calls(&id("cart"), &[]);
        graph.calls(&id("pay"), &[]);
        assert!(graph.is_empty() && graph.edges == 0);
    }

    #[test]
    fn edges_are_bounded() {
        let mut graph = Graph::default();
        for i in 0..200 {
            let many: Vec<WorkloadId> = (0..1000).map(|k| id(&format!("c{k}"))).collect();
            graph.calls(&id(&format!("w{i}")), &many);
        }
        assert!(graph.edges <= EDGES_MAX);
    }
}
