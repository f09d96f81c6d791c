//! Pure. Which stretches of the past are read: around each rollout, never the whole range.

use super::sets::Rollout;
use crate::domain::{Seconds, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// What is read before a rollout: the baseline.
const BEFORE: Seconds = 1800.0;
/// What is read beyond the watch, which begins when the first new pod is Ready.
const BEYOND: Seconds = 600.0;
/// A later rollout that begins this soon after a window's end belongs to it: two reads of one baseline cost more.
const NEAR: Seconds = 60.0;

/// A stretch of time.
pub(super) type Stretch = (Seconds, Seconds);

/// What is read when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When each workload is watched.
    watched: BTreeMap<WorkloadId, Vec<Stretch>>,
    /// What is read at all: apart from each other, in order of time.
    pub windows: Vec<Stretch>,
}

fn merged(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut all: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match all.last_mut() {
            Some(last) if stretch.0 <= last.1 + NEAR => last.1 = last.1.max(stretch.1),
            _ => all.push(stretch),
        }
    }
    all
}

impl Schedule {
    /// Nothing after `end` is read; `watch` is how long a workload's rollouts are watched.
    pub fn new(rollouts: &[Rollout], end: Seconds, watch: impl Fn(&WorkloadId) -> Seconds) -> Self {
        let mut watched: BTreeMap<WorkloadId, Vec<Stretch>> = BTreeMap::new();
        for Rollout { t, workload, .. } in rollouts {
            let until = (t + watch(workload) + BEYOND).min(end);
            watched.entry(workload.clone()).or_default().push((t - BEFORE, until));
        }
        let watched: BTreeMap<_, _> = watched.into_iter().map(|(id, stretches)| (id, merged(stretches))).collect();
        let windows = merged(watched.values().flatten().copied().collect());
        Self { watched, windows }
    }

    /// Who is watched somewhere in a stretch.
    pub fn active(&self, (from, to): Stretch) -> BTreeSet<&WorkloadId> {
        let overlaps = |stretches: &[Stretch]| stretches.iter().any(|(a, b)| *a <= to && *b >= from);
        self.watched.iter().filter(|(_, stretches)| overlaps(stretches)).map(|(id, _)| id).collect()
    }

    /// Whose watch ends in a stretch (its end included), and when.
    pub fn endings(&self, (from, to): Stretch) -> impl Iterator<Item = (Seconds, &WorkloadId)> {
        let all = self.watched.iter().flat_map(|(id, stretches)| stretches.iter().map(move |(_, end)| (*end, id)));
        all.filter(move |(end, _)| *end > from && *end <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(t: Seconds, name: &str) -> Rollout {
        let workload = format!("shop/Deployment/{name}").parse().unwrap();
        Rollout { t, workload, from: "a".into(), to: "b".into() }
    }

    #[test]
    fn windows_that_overlap_merge_and_each_workload_keeps_its_own_end() {
        let rollouts =
            [rollout(10_000.0, "web"), rollout(11_000.0, "api"), rollout(11_500.0, "web"), rollout(90_000.0, "web")];
        let schedule = Schedule::new(&rollouts, 90_600.0, |_| 1800.0);
        assert_eq!(schedule.windows, [(8200.0, 13_900.0), (88_200.0, 90_600.0)]);
        let names = |stretch| schedule.active(stretch).into_iter().map(|id| id.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names((8200.0, 8300.0)), ["web"]);
        assert_eq!(names((13_000.0, 13_300.0)), ["api", "web"]);
        assert_eq!(names((13_500.0, 13_800.0)), ["web"]);
        let ends = |stretch| schedule.endings(stretch).map(|(t, id)| (t, id.name.as_str())).collect::<Vec<_>>();
        assert_eq!(ends((8200.0, 13_399.0)), []);
        assert_eq!(ends((13_399.0, 13_900.0)), [(13_400.0, "api"), (13_900.0, "web")]);
    }
}
