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
    roster::Roster,
    series::Series,
    split,
    tuning::*,
};
use crate::domain::{HoldReason, Seconds};
use std::collections::BTreeMap;

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

/// Requests since the onset by node, and the node that has nearly all bad ones.
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
    let bad: f64 = nodes.values().map(|sums| sums.new.bad).sum();
    let worst = nodes.iter().max_by(|a, b| a.1.new.bad.total_cmp(&b.1.new.bad));
    let culprit = worst.filter(|(_, sums)| bad > 0.0 && sums.new.bad > NODE_SHARE * bad);
    (culprit.map(|(node, sums)| (node.clone(), sums.clone())), nodes)
}

/// Gate 5: with several new pods the evidence must not rest on one pod or one node.
fn concentration(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let theta = evidence.theta();
    let pods: Vec<(u32, Tally)> = evidence
        .by_pod(onset)
        .filter(|(_, new, tally)| *new && tally.total >= 1.0)
        .map(|(serial, _, tally)| (serial, tally))
        .collect();
    let serving = around.roster.all().filter(|pod| pods.iter().any(|(serial, _)| *serial == pod.serial)).count();
    if serving < CROWD {
        return Gate::Open;
    }
    let excess = |tally: &Tally| tally.bad - theta * tally.total;
    let Some((worst, its)) = pods.iter().max_by(|a, b| excess(&a.1).total_cmp(&excess(&b.1))) else {
        return Gate::Open;
    };
    let rest = |gone: &[u32]| pods.iter().filter(|(s, _)| !gone.contains(s)).map(|(_, t)| *t).sum::<Tally>();
    let holds =
        |gone: &[u32]| evidence.without(gone) >= LEVEL / 2.0 && rest(gone).ratio().is_some_and(|ratio| ratio > theta);
    let left = rest(&[*worst]);
    // Pods that are bad alike need not each be convicted: the worst of several is the worst by chance, too.
    let alike = evidence.without(&[*worst]) > 0.0
        && left.ratio().is_some_and(|ratio| ratio > theta)
        && split::log_split(*its, left) < ALIKE;
    if !holds(&[*worst]) && !alike {
        // Clean others are an answer; few requests of the others are none yet.
        if evidence.without(&[*worst]) > 0.0 && left.ratio().is_some_and(|ratio| ratio > theta) {
            return Gate::Wait("the other new pods have not served enough to tell whether it is one pod".to_owned());
        }
        let name = around.roster.by_serial(*worst).map_or("one pod", |pod| pod.state.pod.name.as_str());
        let text = format!(
            "{name} alone of {} new pods fails ({}), the others do not ({})",
            pods.len(),
            text_of(*its),
            text_of(left)
        );
        return Gate::Hold(HoldReason::OnePod, text);
    }
    let (culprit, all) = by_node(evidence, onset, around);
    if let Some((node, sums)) = culprit {
        let elsewhere = all.iter().filter(|(name, s)| **name != node && s.new.total >= 1.0).count();
        if elsewhere > 0 && !holds(&sums.pods) {
            let left = rest(&sums.pods);
            if left.total < SOME_TRAFFIC {
                return Gate::Wait(format!("new pods outside node {node} have not served enough to tell"));
            }
            let text = format!("the failing pods share node {node}, new pods elsewhere are clean ({})", text_of(left));
            return Gate::Hold(HoldReason::Node, text);
        }
    }
    Gate::Open
}

/// Gate 1: old pods in the same minutes.
fn old_pods(evidence: &Evidence, onset: &Onset, around: &Surroundings<'_>) -> Gate {
    let [new, old] = onset.beside;
    if old.total < SOME_TRAFFIC {
        // It began so lately that nobody has served beside anybody; but old pods that fail meanwhile are a reason to
        // wait for that.
        let meanwhile = evidence.old_since(onset.t);
        let too = meanwhile.total >= SOME_TRAFFIC && meanwhile.ratio().is_some_and(|ratio| ratio > evidence.theta());
        return match too && around.t - onset.t < 3.0 * PEER_BIN {
            true => Gate::Wait(format!("old pods ({}) are not yet told apart from new ones", text_of(meanwhile))),
            false => Gate::Open,
        };
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
