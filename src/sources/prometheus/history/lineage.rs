//! Pure. Whose pod a pod of the past was, and of which revision.
//!
//! The pods of a Deployment carry the hash of their template. Those of the other kinds do not: they are of the
//! revision that their workload was moving to when they were made.

use super::{asks::parts, sets::Rollout};
use crate::domain::{Kind, PodId, Revision, Seconds, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// A pod made this little before the rollout began still belongs to it (clocks, and the grid of the reads).
const SLACK: Seconds = 10.0;

/// All workloads that are read, and their revisions.
#[derive(Debug, Default, Clone)]
pub(super) struct Lineages {
    wanted: BTreeSet<WorkloadId>,
    /// By beginning of the pod's name.
    names: BTreeMap<(String, String), WorkloadId>,
    rollouts: BTreeMap<WorkloadId, Vec<Rollout>>,
    /// Rollouts that a person named and whose template's hash is not known.
    by_time: BTreeSet<WorkloadId>,
}

impl Lineages {
    /// What is known of all workloads; `by_time` are those whose hashes say nothing.
    pub fn new(rollouts: &[Rollout], by_time: BTreeSet<WorkloadId>) -> Self {
        let mut all = Self { by_time, ..Self::default() };
        for rollout in rollouts {
            all.rollouts.entry(rollout.workload.clone()).or_default().push(rollout.clone());
        }
        all
    }

    /// Only these are read next; with the beginnings of the names of their pods.
    pub fn only<'a>(&self, workloads: impl IntoIterator<Item = (&'a WorkloadId, Vec<String>)>) -> Self {
        let mut only = Self { wanted: BTreeSet::new(), names: BTreeMap::new(), ..self.clone() };
        for (id, sets) in workloads {
            only.names.extend(sets.into_iter().map(|set| ((id.namespace.clone(), set), id.clone())));
            only.wanted.insert(id.clone());
        }
        only
    }

    pub fn wants(&self, id: &WorkloadId) -> bool {
        self.wanted.contains(id)
    }

    /// Whose pod this is, by its name.
    pub fn of_pod(&self, pod: &PodId) -> Option<WorkloadId> {
        let (set, _) = pod.name.rsplit_once('-')?;
        self.names.get(&(pod.namespace.clone(), set.to_owned())).cloned()
    }

    /// The revision of a pod of this set that was made then.
    pub fn revision(&self, id: &WorkloadId, set: &str, made: Seconds) -> Revision {
        let hash = parts(set).filter(|_| id.kind == Kind::Deployment && !self.by_time.contains(id));
        if let Some((_, hash)) = hash {
            return Revision(hash.to_owned());
        }
        let rollouts = self.rollouts.get(id).map(Vec::as_slice).unwrap_or_default();
        match rollouts.iter().rev().find(|rollout| made >= rollout.t - SLACK).or(rollouts.first()) {
            Some(rollout) if made >= rollout.t - SLACK => rollout.to.clone(),
            Some(first) => first.from.clone(),
            None => Revision::from("live"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_of_the_revision_its_workload_was_moving_to() {
        let db: WorkloadId = "shop/StatefulSet/db".parse().unwrap();
        let rollout = |t, from: &str, to: &str| Rollout { t, workload: db.clone(), from: from.into(), to: to.into() };
        let lineages = Lineages::new(&[rollout(100.0, "a", "b"), rollout(900.0, "b", "a")], BTreeSet::new());
        let of = |made| lineages.revision(&db, "db", made).0;
        assert_eq!([of(50.0), of(95.0), of(899.0 - SLACK), of(900.0)], ["a", "b", "b", "a"]);
        let web: WorkloadId = "shop/Deployment/web".parse().unwrap();
        assert_eq!(lineages.revision(&web, "web-7d9f8c6b5", 0.0).0, "7d9f8c6b5");
        let only = lineages.only([(&web, vec!["web-7d9f8c6b5".to_owned()])]);
        assert_eq!(only.of_pod(&PodId::new("shop", "web-7d9f8c6b5-x2x2x")), Some(web.clone()));
        assert_eq!(only.of_pod(&PodId::new("shop", "db-0")), None);
        assert!(only.wants(&web) && !only.wants(&db));
    }
}
