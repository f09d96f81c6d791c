//! Attribution across workloads (decision.md 2.5: gates 2 and 3, and the node of gate 2): whether what one
//! trial shows is the cluster's doing, or that of something it calls. Pure.
//!
//! A trial whose new pods fail far beyond its own old pods in the same minutes answers for itself, whatever
//! else breaks (S25): its old pods live through the same hour and call the same callees. Only a node can
//! still be to blame: old pods may all run elsewhere.

use super::{
    draft::Case,
    explain::percent,
    gates::Gate,
    graph::Graph,
    peers::{Ask, Peers},
    recovery::RecoveryWatch,
    series::{Break, Told},
    tuning::*,
};
use crate::domain::{FailReason, HoldReason, Rules, Seconds, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// What a trial looks like to the others, before anybody is blamed.
#[derive(Debug, Clone)]
pub(super) struct Stance {
    pub(super) workload: WorkloadId,
    pub(super) t0: Seconds,
    /// Since when it is broken, by evidence or by a hard fact, whoever did it.
    pub(super) broken: Option<Seconds>,
    /// Whether that is its own rollout's doing as far as its own pods tell.
    pub(super) own: bool,
    /// Evidence against it grows, but does not convict yet.
    pub(super) rising: bool,
    /// Whether its new pods were measured.
    pub(super) measured: bool,
}

/// All that one trial is held against.
pub(super) struct Scene<'a> {
    pub(super) t: Seconds,
    pub(super) peers: &'a Peers,
    pub(super) graph: &'a Graph,
    pub(super) stances: &'a [Stance],
    pub(super) recoveries: &'a BTreeMap<WorkloadId, RecoveryWatch>,
    /// Since when peers cannot be read, and why.
    pub(super) unread: Option<&'a (Seconds, String)>,
}

/// How many peers could tell, and how many broke with us.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Compared {
    pub(super) told: usize,
    pub(super) broken: usize,
    /// Those on their way to that, and callers that seem to have broken before us.
    pub(super) rising: usize,
}

/// What stands against blaming a trial.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ruling {
    pub(super) gate: Gate,
    pub(super) compared: Compared,
    /// The rollout that is blamed instead: when it is undone, the trial is measured again.
    pub(super) blamed: Option<WorkloadId>,
}

/// Something below us that broke.
struct Culprit<'a> {
    id: &'a WorkloadId,
    why: String,
    rolled_out: bool,
}

impl Scene<'_> {
    /// Whether a case of `me` is its own doing.
    pub(super) fn rule(&self, me: &WorkloadId, rules: &Rules, case: &Case) -> Ruling {
        let Case { onset, earliest, reason, shift, .. } = *case;
        let asked = Ask { onset, earliest, t: self.t, reason, shift, rules };
        let (compared, broken) = self.compare(me, &asked);
        let open = |gate, blamed| Ruling { gate, compared: compared.clone(), blamed };
        if let Some(node) = &case.node
            && let Some(found) = self.peers.node_broke(node, &asked)
        {
            let ratio = percent(found.after.ratio().unwrap_or(0.0));
            let text = format!("pods of other workloads on node {node} fail too ({ratio}) and elsewhere they do not");
            return open(Gate::Hold(HoldReason::Node, text), None);
        }
        if case.strong {
            return open(Gate::Open, None);
        }
        let culprit = self.culprit(me, &asked);
        if cluster_wide(&compared) {
            let below: BTreeSet<&WorkloadId> = match &culprit {
                Some(culprit) => self.graph.callers(culprit.id).into_iter().chain([culprit.id]).collect(),
                None => BTreeSet::new(),
            };
            if !broken.iter().all(|id| below.contains(id)) {
                let text = format!(
                    "{} of {} workloads without a rollout broke in the same minutes, which looks cluster-wide",
                    compared.broken, compared.told
                );
                return open(Gate::Hold(HoldReason::ClusterWide, text), None);
            }
        }
        if let Some(culprit) = culprit {
            let blamed = culprit.rolled_out.then(|| culprit.id.clone());
            return open(Gate::Hold(HoldReason::Dependency, culprit.why), blamed);
        }
        let troubled = compared.broken + compared.rising;
        if compared.told >= PEERS_LEAST && troubled > 0 && self.t - case.onset < PEERS_SETTLE {
            let how = if compared.rising > 0 { "broke or begin to break" } else { "broke" };
            let text =
                format!("{troubled} other workloads {how} in the same minutes; whether more of them do is waited for");
            return open(Gate::Wait(text), None);
        }
        if let Some((since, why)) = self.unread
            && compared.told < PEERS_LEAST
            && matches!(case.reason, FailReason::Errors | FailReason::Latency)
            && self.t - since < PEERS_UNREAD
        {
            let text = format!(
                "what other workloads do could not be read ({why}); that is waited for, {PEERS_UNREAD:.0} s at most"
            );
            return open(Gate::Wait(text), None);
        }
        if let Some(id) = self.rising_below(me, case.onset) {
            let text = format!("{id}, which it calls, was rolled out as well and may be the one that is failing");
            return open(Gate::Wait(text), None);
        }
        open(Gate::Open, None)
    }

    /// Gate 2: who else broke in the same minutes. Who calls us breaks because of us: it is no witness, but where it
    /// seems to have broken clearly before us, a reason to look twice.
    fn compare(&self, me: &WorkloadId, asked: &Ask<'_>) -> (Compared, Vec<&WorkloadId>) {
        let callers = self.graph.callers(me);
        let mut compared = Compared::default();
        let mut broken = Vec::new();
        for (id, peer) in self.peers.all().filter(|(id, _)| *id != me) {
            let told = peer.told(asked);
            if callers.contains(id) {
                let before_us = told.broken().is_some_and(|found| found.onset < asked.onset - ONSET_SLACK);
                compared.rising += usize::from(before_us);
                continue;
            }
            match told {
                Told::TooLittle => continue,
                Told::Fine => {}
                Told::Rising => compared.rising += 1,
                Told::Broken(_) => broken.push(id),
            }
            compared.told += 1;
        }
        // A rollout that was over long before is a witness like any other.
        let settled = |s: &&Stance| s.workload != *me && s.measured && s.t0 < asked.onset - BEFORE;
        for stance in self.stances.iter().filter(settled).filter(|s| !callers.contains(&s.workload)) {
            compared.told += 1;
            if stance.broken.is_some_and(|since| (since - asked.onset).abs() <= PEER_ONSET) {
                broken.push(&stance.workload);
            }
        }
        compared.broken = broken.len();
        (compared, broken)
    }

    /// Gate 3: a callee that broke first or with us; one that was rolled out itself is blamed.
    fn culprit(&self, me: &WorkloadId, asked: &Ask<'_>) -> Option<Culprit<'_>> {
        if !self.graph.knows(me) {
            return self.culprit_by_namespace(me, asked);
        }
        let callees = self.graph.callees(me);
        // The deepest is the last: what is below breaks what is above.
        callees.into_iter().rev().find_map(|id| {
            let culprit = |why: String, rolled_out| Some(Culprit { id, why, rolled_out });
            if self.recoveries.get(id).is_some_and(|recovery| !recovery.settled()) {
                return culprit(
                    format!("{id}, which it calls, is being undone; it is measured again after that"),
                    true,
                );
            }
            let with_us = |onset: Seconds| onset <= asked.onset + ONSET_SLACK;
            if let Some(stance) = self.stances.iter().find(|s| s.workload == *id) {
                let since = stance.broken.filter(|since| with_us(*since))?;
                let when = when(since, asked.onset);
                return match stance.own {
                    true => culprit(format!("{id}, which it calls, was rolled out too and {when}"), true),
                    false => culprit(format!("{id}, which it calls, {when}"), false),
                };
            }
            let peer = self.peers.get(id)?;
            if let Some(found) = peer.broke(asked).filter(|found| with_us(found.onset)) {
                let how = describe(&found, asked);
                return culprit(format!("{id}, which it calls and which was not changed, {how}"), false);
            }
            let crash = || format!("pods of {id}, which it calls and which was not changed, crash");
            peer.facts.fault(self.t).then(crash).and_then(|why| culprit(why, false))
        })
    }

    /// Where the graph does not know us: who is of the same namespace and was broken clearly before us.
    fn culprit_by_namespace(&self, me: &WorkloadId, asked: &Ask<'_>) -> Option<Culprit<'_>> {
        let near = |id: &WorkloadId| id != me && id.namespace == me.namespace;
        let earlier = |onset: Seconds| onset <= asked.onset - ONSET_SLACK;
        let unsure = "no call graph is known, so this rests on the namespace and on who broke first";
        let trial = self.stances.iter().filter(|s| near(&s.workload) && s.own);
        let mut trial = trial.filter(|s| s.broken.is_some_and(earlier));
        if let Some(stance) = trial.next() {
            let why = format!("{} was rolled out too and broke first ({unsure})", stance.workload);
            return Some(Culprit { id: &stance.workload, why, rolled_out: true });
        }
        self.peers.all().filter(|(id, _)| near(id)).find_map(|(id, peer)| {
            let found = peer.told(asked).broken().filter(|found| earlier(found.onset))?;
            let why = format!("{id}, which was not changed, {} ({unsure})", describe(&found, asked));
            Some(Culprit { id, why, rolled_out: false })
        })
    }

    /// A callee on trial whose own evidence grows: a moment tells which of the two it is.
    fn rising_below(&self, me: &WorkloadId, onset: Seconds) -> Option<&WorkloadId> {
        let callees = self.graph.callees(me);
        let rising = |s: &&Stance| s.rising && callees.contains(&&s.workload) && self.t - onset <= PEER_ONSET;
        self.stances.iter().find(rising).map(|stance| &stance.workload)
    }
}

pub(super) fn cluster_wide(compared: &Compared) -> bool {
    compared.told >= PEERS_LEAST
        && compared.broken >= PEERS_BROKEN
        && compared.broken as f64 >= PEERS_SHARE * compared.told as f64
}

fn when(since: Seconds, ours: Seconds) -> &'static str {
    if since < ours - PEER_BIN { "broke first" } else { "broke at the same time" }
}

fn describe(found: &Break, asked: &Ask<'_>) -> String {
    let ratio = found.after.ratio().map(|ratio| format!(" ({})", percent(ratio))).unwrap_or_default();
    format!("{}{ratio}", when(found.onset, asked.onset))
}
