//! Pure. What is asked for a set of trials: a number of queries that depends on the presets in use,
//! never on the number of trials or workloads.

use super::promql::{Scope, Seat, counts, latency, memory, sanity};
use crate::{
    domain::{CustomQueries, Preset, TrialTarget},
    sources::families::{CALLERS, Family, PODS, serves},
};
use std::collections::BTreeMap;

/// Queries that belong together: all that counts of a group must succeed, or none of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// Per-pod families with `namespace` and `pod` labels, merged.
    Pods,
    /// OpenTelemetry by way of `target_info`.
    Resource,
    /// One family of the callers' side, by its place in [`CALLERS`].
    Callers(usize),
    /// The same own queries of one or more policies.
    Custom(CustomQueries),
}

impl Group {
    /// Its name in reasons.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Resource => "otel by target_info",
            Self::Callers(at) => CALLERS[*at].name,
            Self::Custom(_) => "custom",
        }
    }
}

/// What one query gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Requests and failures, told apart by the mark.
    Counts,
    /// Requests (own query).
    Requests,
    /// Failures (own query).
    Errors,
    /// Latency buckets.
    Latency,
    /// Bytes that pods hold.
    Memory,
}

impl Part {
    /// Whether the rest is of use without it.
    pub(super) fn dispensable(self) -> bool {
        matches!(self, Self::Latency | Self::Memory)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }
}

/// One query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) group: usize,
    pub(super) part: Part,
    pub(super) expression: String,
}

/// All queries of one read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) groups: Vec<Group>,
    pub(super) asks: Vec<Ask>,
    /// Asked when per-pod families are.
    pub(super) sanity: Option<String>,
}

/// Whether a preset is read pod by pod.
fn per_pod(preset: Preset) -> bool {
    PODS.iter().any(|f| serves(f, preset))
}

impl Plan {
    pub(super) fn of(trials: &[TrialTarget]) -> Self {
        let mut plan = Self::default();
        let using = |wanted: &dyn Fn(Preset) -> bool| -> Vec<&TrialTarget> {
            trials.iter().filter(|t| wanted(t.rules.metrics.preset)).collect()
        };
        let pods = using(&per_pod);
        if !pods.is_empty() {
            let scope = Scope::of(pods.iter().copied());
            let families: Vec<&Family> =
                PODS.iter().filter(|f| pods.iter().any(|t| serves(f, t.rules.metrics.preset))).collect();
            plan.add(Group::Pods, &families, Seat::Pod, &scope);
            plan.ask(Part::Memory, memory(&scope));
            plan.sanity = Some(sanity(&scope));
        }
        // The join with `target_info` is dear and rarely needed: only where OpenTelemetry is named.
        let otel = using(&|p| p == Preset::Otel);
        if !otel.is_empty() {
            let families: Vec<&Family> = PODS.iter().filter(|f| f.preset == Preset::Otel).collect();
            plan.add(Group::Resource, &families, Seat::Resource, &Scope::of(otel));
        }
        for (at, family) in CALLERS.iter().enumerate() {
            let users = using(&|p| p == family.preset);
            if !users.is_empty() {
                plan.add(Group::Callers(at), &[family], Seat::Caller, &Scope::of(users));
            }
        }
        let mut own: BTreeMap<&CustomQueries, ()> = BTreeMap::new();
        for trial in using(&|p| p == Preset::Custom) {
            own.extend(trial.rules.metrics.custom.as_ref().map(|c| (c, ())));
        }
        for queries in own.into_keys() {
            plan.groups.push(Group::Custom(queries.clone()));
            plan.ask(Part::Requests, queries.requests.clone());
            for (part, query) in [(Part::Errors, &queries.errors), (Part::Latency, &queries.latency)] {
                if let Some(query) = query {
                    plan.ask(part, query.clone());
                }
            }
        }
        plan
    }

    /// The same but for one part.
    pub(super) fn without(mut self, part: Part) -> Self {
        self.asks.retain(|ask| ask.part != part);
        self
    }

    /// One signal of workloads without a trial; own queries are left out, whose price nobody knows.
    pub(super) fn of_peers(peers: &[TrialTarget], part: Part) -> Self {
        let known: Vec<TrialTarget> =
            peers.iter().filter(|peer| peer.rules.metrics.preset != Preset::Custom).cloned().collect();
        let mut plan = Self::of(&known);
        plan.asks.retain(|ask| ask.part == part);
        plan.sanity = None;
        plan
    }

    fn add(&mut self, group: Group, families: &[&Family], seat: Seat, scope: &Scope) {
        self.groups.push(group);
        self.ask(Part::Counts, counts(families, seat, scope));
        self.ask(Part::Latency, latency(families, seat, scope));
    }

    fn ask(&mut self, part: Part, expression: String) {
        self.asks.push(Ask { group: self.groups.len() - 1, part, expression });
    }
}
