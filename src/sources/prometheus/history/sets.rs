//! Pure. From what came and went to rollouts: which revision each workload was moving to, and since when.
//!
//! A Deployment is at the ReplicaSet that it scaled up last; going back to an older one is a rollout as well. A
//! StatefulSet and a DaemonSet say themselves which revision they move to.

use super::{
    super::envelope::Series,
    asks::{TOLD, Witness, parts},
};
use crate::domain::{Kind, Revision, Seconds, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// A set that was not seen for this long is gone; pods that merely missed a scrape are not.
const GONE: Seconds = 120.0;
/// A set was made at most this long before it was first seen; older ones were scaled up again.
const YOUNG: Seconds = 300.0;
/// A set that was given up on may come back within this time, if only names of pods tell.
const FLAPPING: Seconds = 60.0;

/// One rollout of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// When it began.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// Revision that was serving; `none` for a first deploy.
    pub from: Revision,
    /// Revision that was rolled out.
    pub to: Revision,
}

/// One workload on its way.
#[derive(Debug, Default)]
struct Course {
    current: Option<String>,
    /// Sizes of its sets, zero ones included: they were there before.
    sizes: BTreeMap<String, f64>,
    left: BTreeMap<String, Seconds>,
    /// Since when its current set is gone while another is there.
    abandoned: Option<Seconds>,
}

/// All workloads that were seen, and their rollouts.
#[derive(Debug)]
pub(super) struct Courses {
    witness: Witness,
    step: Seconds,
    all: BTreeMap<WorkloadId, Course>,
    created: BTreeMap<(WorkloadId, String), Seconds>,
    rollouts: Vec<Rollout>,
}

/// What one point of an answer says.
enum What {
    Set(String, f64),
    Revision(String),
}

impl Courses {
    pub fn new(witness: Witness, step: u64) -> Self {
        let (all, created) = Default::default();
        Self { witness, step: step as f64, all, created, rollouts: Vec::new() }
    }

    /// What ran when the range began: nothing of it is a rollout of the range.
    pub fn standing(&mut self, answer: &[Series]) {
        for (_, id, what) in self.told(answer) {
            let course = self.all.entry(id).or_default();
            match what {
                What::Set(set, size) => {
                    let largest = course.current.as_ref().is_none_or(|c| course.sizes.get(c) < Some(&size));
                    course.sizes.insert(set.clone(), size);
                    if largest {
                        course.current = Some(set);
                    }
                }
                What::Revision(revision) => course.current = Some(revision),
            }
        }
    }

    /// What changed in the next stretch of the range.
    pub fn changed(&mut self, answer: &[Series]) {
        let mut told = self.told(answer);
        told.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let mut told = told.into_iter().peekable();
        while let Some((t, id, what)) = told.next() {
            let mut sets = Vec::new();
            let mut one = Some(what);
            while let Some(what) = one.take() {
                match what {
                    What::Set(set, size) => sets.push((set, size)),
                    What::Revision(revision) => self.moves_to(t, &id, revision),
                }
                one = told.next_if(|(at, of, _)| at.total_cmp(&t).is_eq() && *of == id).map(|(_, _, what)| what);
            }
            if !sets.is_empty() {
                self.scaled(t, &id, sets);
            }
        }
    }

    fn told(&mut self, answer: &[Series]) -> Vec<(Seconds, WorkloadId, What)> {
        let of_set = |series: &Series| {
            let set = if series.label("set").is_empty() { series.label("replicaset") } else { series.label("set") };
            let (name, hash) = parts(set)?;
            Some((WorkloadId::new(series.label("namespace"), Kind::Deployment, name), hash.to_owned()))
        };
        let named =
            |series: &Series, kind, label| WorkloadId::new(series.label("namespace"), kind, series.label(label));
        let mut all = Vec::new();
        for series in answer {
            let points = series.points.iter().copied();
            match series.label(TOLD) {
                "set" => {
                    let Some((id, hash)) = of_set(series) else { continue };
                    all.extend(points.map(|(t, size)| (t, id.clone(), What::Set(hash.clone(), size))));
                }
                "created" => {
                    let (Some(key), Some((_, at))) = (of_set(series), points.last()) else { continue };
                    self.created.insert(key, at);
                }
                "revision" => {
                    let id = named(series, Kind::StatefulSet, "statefulset");
                    let revision = series.label("revision");
                    let revision = revision.strip_prefix(&format!("{}-", id.name)).unwrap_or(revision).to_owned();
                    all.extend(points.map(|(t, _)| (t, id.clone(), What::Revision(revision.clone()))));
                }
                "generation" => {
                    let id = named(series, Kind::DaemonSet, "daemonset");
                    all.extend(points.map(|(t, n)| (t, id.clone(), What::Revision(format!("generation-{n}")))));
                }
                _ => {}
            }
        }
        all
    }

    fn moves_to(&mut self, t: Seconds, id: &WorkloadId, to: String) {
        let current = &mut self.all.entry(id.clone()).or_default().current;
        if current.as_ref() == Some(&to) {
            return;
        }
        let from = current.replace(to.clone()).unwrap_or_else(|| "none".into());
        self.rollouts.push(Rollout { t: t - self.step, workload: id.clone(), from: Revision(from), to: Revision(to) });
    }

    fn scaled(&mut self, t: Seconds, id: &WorkloadId, sets: Vec<(String, f64)>) {
        let course = self.all.entry(id.clone()).or_default();
        // Pods that missed a scrape look as if their set shrank, where only their names tell.
        let sure = self.witness == Witness::Cluster;
        let (mut fresh, mut grown, mut shrank) = (None, None, false);
        for (set, size) in sets {
            let before = course.sizes.insert(set.clone(), size).unwrap_or(0.0);
            let current = course.current.as_ref() == Some(&set);
            if size <= 0.0 {
                course.left.insert(set.clone(), t);
            }
            if current {
                shrank |= size < before;
                continue;
            }
            let back = before <= 0.0 && size > 0.0;
            if back && (sure || course.left.get(&set).is_none_or(|left| t - left >= GONE)) {
                fresh = Some(set);
            } else if size > before && before > 0.0 {
                grown = Some(set);
            }
        }
        let size = |set: &Option<String>| set.as_ref().and_then(|set| course.sizes.get(set)).copied().unwrap_or(0.0);
        let others = course.sizes.iter().filter(|(set, size)| course.current.as_ref() != Some(*set) && **size > 0.0);
        let largest = others.max_by(|a, b| a.1.total_cmp(b.1)).map(|(set, _)| set.clone());
        let abandoned = largest.is_some() && course.current.is_some() && size(&course.current) <= 0.0;
        let since = course.abandoned.filter(|_| abandoned);
        course.abandoned = abandoned.then(|| since.unwrap_or(t));
        let given_up = course.abandoned.is_some_and(|since| sure || t - since >= FLAPPING);
        let to = fresh.or(grown.filter(|_| shrank)).or(largest.filter(|_| given_up));
        if let Some(to) = to {
            course.abandoned = None;
            let made = self.created.get(&(id.clone(), to.clone())).filter(|made| (t - YOUNG..=t).contains(*made));
            let t = made.copied().unwrap_or(t - self.step);
            let from = course.current.replace(to.clone()).unwrap_or_else(|| "none".into());
            self.rollouts.push(Rollout { t, workload: id.clone(), from: Revision(from), to: Revision(to) });
        }
    }

    /// The rollouts so far, in order of time, and the hashes of each Deployment's sets.
    pub fn end(self) -> (Vec<Rollout>, BTreeMap<WorkloadId, BTreeSet<String>>) {
        let mut rollouts = self.rollouts;
        rollouts.sort_by(|a, b| a.t.total_cmp(&b.t));
        let sets = self.all.into_iter().map(|(id, course)| (id, course.sizes.into_keys().collect())).collect();
        (rollouts, sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "7d9f8c6b5";
    const B: &str = "5c98d7f6b";

    fn set(hash: &str, points: &[(f64, f64)]) -> Series {
        series(&[(TOLD, "set"), ("namespace", "shop"), ("replicaset", &format!("web-{hash}"))], points)
    }

    fn series(labels: &[(&str, &str)], points: &[(f64, f64)]) -> Series {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Series { labels, points: points.to_vec(), malformed: 0 }
    }

    fn rollouts(witness: Witness, standing: &[Series], changes: &[Series]) -> Vec<(f64, String, String)> {
        let mut courses = Courses::new(witness, 15);
        courses.standing(standing);
        courses.changed(changes);
        courses.end().0.into_iter().map(|r| (r.t, r.from.0, r.to.0)).collect()
    }

    fn moved(t: f64, from: &str, to: &str) -> (f64, String, String) {
        (t, from.to_owned(), to.to_owned())
    }

    #[test]
    fn a_new_set_is_a_rollout_and_so_is_going_back() {
        let created =
            series(&[(TOLD, "created"), ("namespace", "shop"), ("replicaset", &format!("web-{B}"))], &[(315.0, 304.0)]);
        let changes = [
            set(B, &[(315.0, 1.0), (330.0, 3.0), (630.0, 0.0)]),
            set(A, &[(330.0, 1.0), (345.0, 0.0), (615.0, 1.0), (630.0, 3.0)]),
            created,
        ];
        let found = rollouts(Witness::Cluster, &[set(A, &[(0.0, 3.0)])], &changes);
        assert_eq!(found, [moved(304.0, A, B), moved(600.0, B, A)]);
    }

    #[test]
    fn scaling_is_no_rollout() {
        let up = [set(A, &[(315.0, 6.0), (600.0, 0.0), (900.0, 3.0)])];
        assert_eq!(rollouts(Witness::Cluster, &[set(A, &[(0.0, 3.0)])], &up), []);
        // In the middle of a rollout both sets are scaled up in proportion.
        let both = [set(B, &[(315.0, 1.0), (330.0, 2.0)]), set(A, &[(330.0, 6.0)])];
        assert_eq!(rollouts(Witness::Cluster, &[set(A, &[(0.0, 3.0)])], &both), [moved(300.0, A, B)]);
    }

    #[test]
    fn taken_back_in_the_middle() {
        let grows = [set(B, &[(315.0, 1.0), (375.0, 0.0)]), set(A, &[(330.0, 2.0), (375.0, 3.0)])];
        let back = [moved(300.0, A, B), moved(360.0, B, A)];
        assert_eq!(rollouts(Witness::Cluster, &[set(A, &[(0.0, 3.0)])], &grows), back);
        // Nothing had been taken from the old set.
        let stays = [set(B, &[(315.0, 1.0), (375.0, 0.0)])];
        assert_eq!(rollouts(Witness::Cluster, &[set(A, &[(0.0, 3.0)])], &stays), back);
    }

    #[test]
    fn by_names_alone_a_missed_scrape_is_no_rollout() {
        // The last old pod misses a scrape; the only new one does.
        let changes =
            [set(B, &[(315.0, 1.0), (345.0, 0.0), (360.0, 1.0)]), set(A, &[(330.0, 0.0), (345.0, 1.0), (390.0, 0.0)])];
        assert_eq!(rollouts(Witness::Names, &[set(A, &[(0.0, 1.0)])], &changes), [moved(300.0, A, B)]);
        let back = [set(B, &[(315.0, 3.0), (630.0, 0.0)]), set(A, &[(330.0, 0.0), (615.0, 3.0)])];
        let back = rollouts(Witness::Names, &[set(A, &[(0.0, 3.0)])], &back);
        assert_eq!(back, [moved(300.0, A, B), moved(600.0, B, A)]);
    }

    #[test]
    fn the_other_kinds_name_their_revision() {
        let labels =
            |revision| [(TOLD, "revision"), ("namespace", "shop"), ("statefulset", "db"), ("revision", revision)];
        let daemon = [(TOLD, "generation"), ("namespace", "shop"), ("daemonset", "agent")];
        let found = rollouts(
            Witness::Cluster,
            &[series(&labels("db-6f5d"), &[(0.0, 1.0)]), series(&daemon, &[(0.0, 3.0)])],
            // A restart of kube-state-metrics tells everything anew.
            &[
                series(&labels("db-6f5d"), &[(150.0, 1.0)]),
                series(&labels("db-77c9"), &[(300.0, 1.0)]),
                series(&daemon, &[(450.0, 4.0), (465.0, 4.0)]),
            ],
        );
        assert_eq!(found, [moved(285.0, "6f5d", "77c9"), moved(435.0, "generation-3", "generation-4")]);
    }

    #[test]
    fn a_first_deploy_has_nothing_before_it() {
        assert_eq!(rollouts(Witness::Cluster, &[], &[set(A, &[(45.0, 2.0)])]), [moved(30.0, "none", A)]);
    }
}
