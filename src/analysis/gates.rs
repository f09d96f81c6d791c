//! Attribution within one workload (decision.md 2.5): evidence that convicts must also be this rollout's
//! doing. Pure.
//!
//! Gates 1 (old pods), 4 (onset) and 5 (concentration). Gate 6 freezes in `trial`; gates 2 and 3 need other
//! workloads and are in `scene`, gate 7 is in `blame`.

use super::{
    bounds,
    counter::Tally,
    evidence::{Evidence, Onset},
    explain::{percent, share},
    roster::{Pod, Roster},
    series::Series,
    split,
    tuning::*,
};
use crate::domain::{HoldReason, Seconds};
use std::collections::{BTreeMap, BTreeSet};

/// What a gate says; the text goes after "…, but ".
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gate {
    Open,
    /// Not settled yet; nothing is undone meanwhile.
    Wait(String),
    /// Not this rollout.
    Hold(HoldReason, String),
}

/// What the gates need besides the evidence.
pub(super) struct Surroundings<'a> {
    pub(super) roster: &'a Roster,
    /// The ten minutes before the rollout; empty when that cannot be said of this signal.
    pub(super) before: Tally,
    /// The half hour before it, in order of time.
    pub(super) history: &'a Series,
    /// New pods that became Ready so lately that a reading of them is still to come.
    pub(super) due: &'a [u32],
    pub(super) t: Seconds,
}

/// Runs the gates in the order in which their reasons are most telling.
pub(super) fn pass(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    for gate in [before, bursts, node_of_old_pods, concentration, old_pods] {
        match gate(evidence, onset, around) {
            Gate::Open => {}
            closed => return closed,
        }
    }
    Gate::Open
}

/// Gate 4: it must not go on from before. That it begins with the new pods holds by construction:
/// a pod's requests count from its first Ready on.
fn before(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let theta = evidence.theta();
    let then = around.before;
    let Some(ratio) = then.ratio().filter(|ratio| *ratio > theta && then.total >= SOME_TRAFFIC) else {
        return Gate::Open;
    };
    let sure = bounds::lower(then.bad, then.total, BASELINE_CONFIDENCE) > theta;
    let same = bounds::lower(onset.new.bad, onset.new.total, BASELINE_CONFIDENCE)
        <= bounds::upper(then.bad, then.total, BASELINE_CONFIDENCE);
    if sure || same {
        let text = format!("it was {} in the ten minutes before the rollout as well", percent(ratio));
        return Gate::Hold(HoldReason::Before, text);
    }
    Gate::Open
}

/// Gate 4 for what comes and goes: minutes as bad as these came before the rollout, too. Once it lasts
/// longer than it ever did, or is worse, it is something new.
fn bursts(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let theta = evidence.theta();
    let length = around.t - onset.t;
    if length > STRETCH {
        return Gate::Open;
    }
    let worst = around.history.worst(length + PEER_BIN);
    let then = bounds::clopper_pearson(worst.bad, worst.total, BASELINE_CONFIDENCE);
    let now = evidence.since(onset.t);
    if worst.total >= SOME_TRAFFIC
        && then.low > theta
        && bounds::lower(now.bad, now.total, BASELINE_CONFIDENCE) <= then.high
    {
        let text = format!("minutes as bad as these came before the rollout as well ({})", text_of(worst));
        return Gate::Hold(HoldReason::Before, text);
    }
    Gate::Open
}

/// Gates 2 and 5, the node variant across both revisions: old pods on the same node fail, old pods
/// elsewhere do not.
fn node_of_old_pods(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let theta = evidence.theta();
    let (bad_nodes, all) = by_node(evidence, onset, around);
    let Some((node, sums)) = bad_nodes else { return Gate::Open };
    let elsewhere: Tally = all.iter().filter(|(name, _)| **name != node).map(|(_, s)| s.old).sum();
    let broken = |tally: Tally| tally.total >= SOME_TRAFFIC && tally.ratio().is_some_and(|r| r > theta);
    let clean = |tally: Tally| tally.total >= SOME_TRAFFIC && tally.ratio().is_some_and(|r| r <= theta);
    if broken(sums.old) && clean(elsewhere) {
        let text = format!("old pods on node {node} fail too ({}) and old pods elsewhere do not", text_of(sums.old));
        return Gate::Hold(HoldReason::Node, text);
    }
    Gate::Open
}

/// The node that has nearly all bad requests of the new pods.
pub(super) fn culprit_node(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Option<String> {
    by_node(evidence, onset, around).0.map(|(node, _)| node)
}

/// Whether old pods with real traffic say so clearly that it is the new ones: what is left when their share
/// of bad requests is taken off breaks the limit alone.
pub(super) fn told_apart(evidence: &Evidence, onset: &Onset) -> bool {
    told_apart_by(onset.beside, evidence.theta())
        || onset.beside_proven.is_some_and(|beside| told_apart_by(beside, evidence.theta()))
}

/// Whether the only old pods are those of a revision that nobody proved good, and they fail as well: whether that
/// is the cluster's doing only peers can tell.
pub(super) fn rests_on_peers(evidence: &Evidence, onset: &Onset) -> bool {
    let bad = onset.beside[1].ratio().is_some_and(|ratio| ratio > evidence.theta());
    bad && onset.beside_proven.is_some_and(|[_, proven]| proven.total < SOME_TRAFFIC)
}

fn told_apart_by([new, old]: [Tally; 2], theta: f64) -> bool {
    let more = new.ratio().zip(old.ratio()).is_some_and(|(new, old)| new - old > theta);
    old.total >= SOME_TRAFFIC && more && split::log_split(new, old) >= LEVEL
}

#[derive(Default, Clone)]
struct NodeSums {
    new: Tally,
    old: Tally,
    pods: Vec<u32>,
}

/// Requests since the onset by node, and the node that has nearly all bad ones, or surely more than all others.
fn by_node(
    evidence: &Evidence,
    onset: &Onset,
    around: &Surroundings<'_>,
) -> (Option<(String, NodeSums)>, BTreeMap<String, NodeSums>) {
    let mut nodes: BTreeMap<String, NodeSums> = BTreeMap::new();
    for (serial, new, tally) in evidence.by_pod(onset) {
        let Some(node) = around.roster.by_serial(serial).and_then(|pod| pod.state.node.clone()) else { continue };
        let sums = nodes.entry(node).or_default();
        if new {
            sums.new += tally;
            sums.pods.push(serial);
        } else {
            sums.old += tally;
        }
    }
    // What the limit allows is no node's fault: cold starts elsewhere must not hide the one that fails.
    let excess = |sums: &NodeSums| excess(sums.new, evidence.theta()).max(0.0);
    let all: f64 = nodes.values().map(excess).sum();
    let worst = nodes.iter().max_by(|a, b| excess(a.1).total_cmp(&excess(b.1)));
    let others = |node: &str| nodes.iter().filter(|(name, _)| *name != node).map(|(_, s)| s.new).sum::<Tally>();
    // A burst on one pod elsewhere must not hide the one that fails either.
    let apart = |node: &str, sums: &NodeSums| split::log_split(sums.new, others(node)) >= LEVEL;
    let culprit = worst.filter(|(node, sums)| all > 0.0 && (excess(sums) > NODE_SHARE * all || apart(node, sums)));
    (culprit.map(|(node, sums)| (node.clone(), sums.clone())), nodes)
}

/// Bad requests beyond those that the limit allows; negative below it.
fn excess(tally: Tally, theta: f64) -> f64 {
    tally.bad - theta * tally.total
}

/// Gate 5: with several new pods the evidence must not rest on one pod or one node.
fn concentration(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let crowd = Crowd::of(evidence, onset, around);
    let pods = &crowd.pods;
    let serving = around.roster.all().filter(|pod| pods.iter().any(|(serial, _)| *serial == pod.serial)).count();
    if serving < CROWD {
        return siblings_due(pods, evidence.theta(), around.due);
    }
    let (culprit, all) = by_node(evidence, onset, around);
    if let Some((node, sums)) = culprit.filter(|(_, sums)| sums.pods.len() > 1)
        && all.iter().any(|(name, s)| *name != node && s.new.total >= 1.0)
    {
        match crowd.without(&sums.pods, sums.new) {
            Left::Convicts => {}
            Left::Clean(left) if left.total >= SOME_TRAFFIC => {
                let left = text_of(left);
                let text = format!("the failing pods share node {node}, new pods elsewhere are clean ({left})");
                return Gate::Hold(HoldReason::Node, text);
            }
            _ => return Gate::Wait(format!("new pods outside node {node} have not served enough to tell")),
        }
    }
    let Some((worst, its)) = worst(pods, evidence.theta()) else { return Gate::Open };
    match crowd.without(&[worst], its) {
        Left::Convicts => Gate::Open,
        Left::Unsettled => {
            Gate::Wait("the other new pods have not served enough to tell whether it is one pod".to_owned())
        }
        Left::Clean(left) => {
            let name = around.roster.by_serial(worst).map_or("one pod", |pod| pod.state.pod.name.as_str());
            let text = format!(
                "{name} alone of {} new pods fails ({}), the others do not ({})",
                pods.len(),
                text_of(its),
                text_of(left)
            );
            Gate::Hold(HoldReason::OnePod, text)
        }
    }
}

/// The pod with the most bad requests beyond those that the limit allows.
fn worst(pods: &[(u32, Tally)], theta: f64) -> Option<(u32, Tally)> {
    pods.iter().max_by(|a, b| excess(a.1, theta).total_cmp(&excess(b.1, theta))).copied()
}

/// Whether it may be one pod that is read some seconds before its siblings.
fn siblings_due(pods: &[(u32, Tally)], theta: f64, due: &[u32]) -> Gate {
    let suspect = worst(pods, theta).map(|(serial, _)| serial);
    let told = pods.iter().any(|(serial, tally)| Some(*serial) != suspect && tally.total >= SOME_TRAFFIC);
    let due = due.iter().filter(|due| Some(**due) != suspect).count();
    if told || due == 0 {
        return Gate::Open;
    }
    Gate::Wait(format!("{due} more of the new pods are Ready and hardly read yet: it may be one pod"))
}

/// The new pods that served since the onset.
struct Crowd<'a> {
    evidence: &'a Evidence,
    t: Seconds,
    pods: Vec<(u32, Tally)>,
    /// Those that have been warm for as long as they were cold, at least.
    warm: BTreeSet<u32>,
}

impl<'a> Crowd<'a> {
    fn of(evidence: &'a Evidence, onset: &Onset, around: &Surroundings<'_>) -> Self {
        let served = evidence.by_pod(onset).filter(|(_, new, tally)| *new && tally.total >= 1.0);
        let warm = |pod: &&Pod| pod.first_ready.is_some_and(|at| around.t - at >= 2.0 * COLD_START);
        Self {
            evidence,
            t: around.t,
            pods: served.map(|(serial, _, tally)| (serial, tally)).collect(),
            warm: around.roster.all().filter(warm).map(|pod| pod.serial).collect(),
        }
    }

    fn sum(&self, of: impl Fn(&u32) -> bool) -> Tally {
        self.pods.iter().filter(|(serial, _)| of(serial)).map(|(_, tally)| *tally).sum()
    }

    /// For how long these have been beyond the limit without a break, on the average of their bad requests.
    fn bad_time(&self, of: impl Fn(&u32) -> bool) -> Seconds {
        let times = self.pods.iter().filter(|(serial, _)| of(serial)).map(|(serial, tally)| {
            let since = self.evidence.bad_since(*serial);
            tally.bad * since.map_or(0.0, |since| self.t - since)
        });
        times.sum::<Seconds>() / self.sum(&of).bad.max(1.0)
    }

    /// What is left of the evidence without those that are `gone`, which served `its`. Where others have long been
    /// warm, only they are heard: a cold start is no sign that they fail as well.
    fn without(&self, gone: &[u32], its: Tally) -> Left {
        let warm = |serial: &u32| !gone.contains(serial) && self.warm.contains(serial);
        let warm_only = self.sum(warm).total >= SOME_TRAFFIC;
        let stays = |serial: &u32| if warm_only { warm(serial) } else { !gone.contains(serial) };
        let out: Vec<u32> = self.pods.iter().map(|(serial, _)| *serial).filter(|serial| !stays(serial)).collect();
        let (left, log) = (self.sum(stays), self.evidence.without(&out));
        let bad = left.ratio().is_some_and(|ratio| ratio > self.evidence.theta());
        let apart = split::log_split(its, left);
        // What is bad alike need not be convicted without its worst: the worst of several is the worst by chance, too.
        // Where it is surely far worse, two things are going on, and the others must be convicted by themselves: by
        // more than a burst, too, for this evidence takes no time to rise.
        let convicts = match apart >= LEVEL {
            true => log >= LEVEL && self.bad_time(stays) > COLD_START,
            false => log >= LEVEL / 2.0 || log > 0.0 && apart < ALIKE,
        };
        match (bad, convicts) {
            (true, true) => Left::Convicts,
            // Clean others are an answer; few requests of the others are none yet.
            (true, false) if log > 0.0 => Left::Unsettled,
            _ => Left::Clean(left),
        }
    }
}

/// What is left of the evidence without some of the new pods.
enum Left {
    Convicts,
    /// It points the same way, with too few requests to convict.
    Unsettled,
    Clean(Tally),
}

/// Gate 1 where old and new pods have not served long enough beside each other to be told apart.
fn too_short_together(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let last = onset.old_then;
    let failed = last.total >= SOME_TRAFFIC && last.ratio().is_some_and(|ratio| ratio > evidence.theta());
    // Old pods that serve on will tell.
    let serving = evidence.old_seen().is_some_and(|seen| around.t - seen < PEER_BIN);
    if failed && serving && around.t - onset.t < 3.0 * PEER_BIN {
        return Gate::Wait(format!("old pods ({}) are not yet told apart from new ones", text_of(last)));
    }
    // Those that failed like these ones before they went say whose doing it is not.
    let surely = bounds::lower(last.bad, last.total, BASELINE_CONFIDENCE) > evidence.theta();
    let alike = last.ratio().zip(evidence.since(onset.t).ratio()).is_some_and(|(old, new)| old >= LAST_WORDS * new);
    if failed && surely && alike {
        let text = format!("old pods failed as well while they served ({})", text_of(last));
        return Gate::Hold(HoldReason::OldVersion, text);
    }
    Gate::Open
}

/// Gate 1: old pods in the same minutes.
fn old_pods(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let [new, old] = onset.beside;
    if old.total < SOME_TRAFFIC {
        return too_short_together(evidence, onset, around);
    }
    if split::log_split(new, old) >= SPLIT_LEVEL {
        return Gate::Open;
    }
    if old.ratio().is_some_and(|ratio| ratio > evidence.theta()) {
        // Pods of a revision that nobody proved good may fail for the same reason. Proven ones tell; where none
        // serves, peers must.
        let [new, proven] = onset.beside_proven.unwrap_or(onset.beside);
        if proven.total < SOME_TRAFFIC || split::log_split(new, proven) >= SPLIT_LEVEL {
            return Gate::Open;
        }
        let text = format!("old pods fail as well in the same minutes ({})", text_of(old));
        return Gate::Hold(HoldReason::OldVersion, text);
    }
    // Old pods that are gone will never serve enough to compare with: they were clean, that is all.
    if evidence.old_seen().is_none_or(|seen| around.t - seen >= SILENT) {
        return Gate::Open;
    }
    Gate::Wait(format!("old pods ({}) are not yet told apart from new ones", text_of(old)))
}

fn text_of(tally: Tally) -> String {
    share(tally).unwrap_or_else(|| "no requests".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suspect_fails_most_beyond_the_limit_and_not_only_because_it_serves_most() {
        let few = SOME_TRAFFIC - 1.0;
        let pods = [(1, Tally::new(50.0, 1000.0)), (2, Tally::new(few, few))];
        assert_eq!(worst(&pods, 0.05), Some(pods[1]));
        // The first tells that it is the second alone, whatever a third one will say.
        assert_eq!(siblings_due(&pods, 0.05, &[3]), Gate::Open);
        assert!(matches!(siblings_due(&pods[1..], 0.05, &[2, 3]), Gate::Wait(text) if text.starts_with("1 more")));
    }
}
