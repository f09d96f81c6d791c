//! Pure. Written keys laid over inherited rules, and the faults that only several keys together show.

use super::{
    Fault, Faults,
    raw::{
        MediumAction, RawErrors, RawHigh, RawLatency, RawMatch, RawMedium, RawMetrics, RawPolicy, RawProbe, RawQueries,
        RawRules, RawSeverity, RawUndo, RawVia,
    },
    tree::Node,
    values::*,
};
use crate::domain::{
    Brake, CustomQueries, HealthProbe, Kind, LatencyLimit, MetricsRule, Mode, Owner, Preset, ProbeVia, Rules, Scheme,
    UndoRules,
};
use std::time::Duration;

/// Deadline of a probe that names none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Workloads that one may be said to call.
pub(crate) const CALLS_MAX: usize = 100;

impl RawRules {
    /// The rules that these keys make of `base`. Whether they make sense is [`check_rules`]'s concern.
    pub(crate) fn over(&self, base: &Rules, policy: &str) -> Rules {
        let mut rules = Rules { policy: policy.into(), ..base.clone() };
        set(&mut rules.mode, self.mode);
        set(&mut rules.watch, self.watch.as_ref().map(|x| x.0));
        set(&mut rules.late_watch, self.late_watch.as_ref().map(|x| x.0));
        set(&mut rules.min_requests, self.min_requests.as_ref().map(|x| x.0));
        if let Some(errors) = &self.errors {
            set(&mut rules.errors.max, errors.max.as_ref().map(|x| x.0));
        }
        if let Some(RawLatency { quantile, max_increase, floor }) = &self.latency {
            let LatencyLimit { quantile: q, max_increase: m, floor: f } = &mut rules.latency;
            set(q, quantile.as_ref().map(|x| x.0));
            set(m, max_increase.as_ref().map(|x| x.0));
            set(f, floor.as_ref().map(|x| x.0));
        }
        if let Some(metrics) = &self.metrics {
            set(&mut rules.metrics.preset, metrics.preset.map(Preset::from));
            set(&mut rules.metrics.custom, metrics.custom.as_ref().map(|x| Some(x.to_queries())));
            set(&mut rules.metrics.port, metrics.port.as_ref().map(|x| Some(x.0)));
            set(&mut rules.metrics.path, metrics.path.as_ref().map(|x| Some(x.0.clone())));
        }
        if rules.metrics.preset != Preset::Custom {
            rules.metrics.custom = None;
        }
        set(&mut rules.calls, self.calls.as_ref().map(|all| all.iter().map(|x| x.0.clone()).collect()));
        set(&mut rules.health, self.health.as_ref().map(|probes| probes.iter().map(RawProbe::to_probe).collect()));
        if let Some(severity) = &self.severity {
            let window = severity.high.as_ref().and_then(|high| high.hotfix_window.as_ref());
            set(&mut rules.severity.hotfix_window, window.map(|x| x.0));
            let action = severity.medium.as_ref().and_then(|medium| medium.action);
            set(&mut rules.severity.medium_is_told, action.map(|action| action == MediumAction::Report));
        }
        if let Some(undo) = &self.undo {
            set(&mut rules.undo.max_per_workload, undo.max_per_workload.as_ref().map(|x| x.0));
            set(&mut rules.undo.max_per_namespace, undo.max_per_namespace.as_ref().map(|x| x.0));
            set(&mut rules.undo.max_per_cluster, undo.max_per_cluster.as_ref().map(|x| x.0));
            set(&mut rules.undo.verify_within, undo.verify_within.as_ref().map(|x| x.0));
            set(&mut rules.undo.evict_stuck_pods, undo.evict_stuck_pods);
            set(&mut rules.undo.allow_owners, undo.allow_owners.clone());
        }
        rules
    }
}

fn set<T>(into: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *into = value;
    }
}

impl RawQueries {
    fn to_queries(&self) -> CustomQueries {
        let text = |q: &Option<Query>| q.as_ref().map(|q| q.0.clone());
        CustomQueries { requests: self.requests.0.clone(), errors: text(&self.errors), latency: text(&self.latency) }
    }
}

impl RawProbe {
    fn to_probe(&self) -> HealthProbe {
        HealthProbe {
            name: self.name.0.clone(),
            via: match &self.via {
                Some(RawVia::Service(name)) => ProbeVia::Service(name.0.clone()),
                Some(RawVia::Pod) | None => ProbeVia::Pod,
            },
            scheme: self.scheme.map_or(Scheme::Http, Scheme::from),
            port: self.port.0,
            path: self.path.0.clone(),
            timeout: self.timeout.as_ref().map_or(PROBE_TIMEOUT, |x| x.0),
        }
    }
}

impl From<&Rules> for RawRules {
    /// The rules as they would be written with every key given.
    fn from(rules: &Rules) -> Self {
        let Rules {
            policy: _,
            mode,
            watch,
            late_watch,
            min_requests,
            errors,
            latency,
            metrics,
            calls,
            health,
            severity,
            undo,
        } = rules;
        let MetricsRule { preset, custom, port, path } = metrics;
        let UndoRules {
            max_per_workload,
            max_per_namespace,
            max_per_cluster,
            verify_within,
            evict_stuck_pods,
            allow_owners,
        } = undo;
        Self {
            mode: Some(*mode),
            watch: Some(Watch(*watch)),
            late_watch: Some(LateWatch(*late_watch)),
            min_requests: Some(Requests(*min_requests)),
            errors: Some(RawErrors { max: Some(ErrorShare(errors.max)) }),
            latency: Some(RawLatency {
                quantile: Some(Quantile(latency.quantile)),
                max_increase: Some(Increase(latency.max_increase)),
                floor: Some(Floor(latency.floor)),
            }),
            metrics: Some(RawMetrics {
                preset: Some((*preset).into()),
                custom: custom.as_ref().map(|c| RawQueries {
                    requests: Query(c.requests.clone()),
                    errors: c.errors.clone().map(Query),
                    latency: c.latency.clone().map(Query),
                }),
                port: port.map(Port),
                path: path.clone().map(HttpPath),
            }),
            calls: Some(calls.iter().cloned().map(CalleeText).collect()),
            health: Some(
                health
                    .iter()
                    .map(|p| RawProbe {
                        name: Label(p.name.clone()),
                        via: Some(match &p.via {
                            ProbeVia::Pod => RawVia::Pod,
                            ProbeVia::Service(name) => RawVia::Service(ServiceName(name.clone())),
                        }),
                        scheme: Some(p.scheme.into()),
                        port: Port(p.port),
                        path: HttpPath(p.path.clone()),
                        timeout: Some(ProbeTimeout(p.timeout)),
                    })
                    .collect(),
            ),
            severity: Some(RawSeverity {
                high: Some(RawHigh { hotfix_window: Some(HotfixWindow(severity.hotfix_window)) }),
                medium: Some(RawMedium {
                    action: Some(if severity.medium_is_told { MediumAction::Report } else { MediumAction::Undo }),
                }),
            }),
            undo: Some(RawUndo {
                max_per_workload: Some(BrakeText(*max_per_workload)),
                max_per_namespace: Some(BrakeText(*max_per_namespace)),
                max_per_cluster: Some(BrakeText(*max_per_cluster)),
                verify_within: Some(VerifyWithin(*verify_within)),
                evict_stuck_pods: Some(*evict_stuck_pods),
                allow_owners: Some(allow_owners.clone()),
            }),
        }
    }
}

/// Where faults of one block (`defaults`, or one policy) are noted.
pub(crate) struct Block<'a> {
    pub(crate) file: &'a str,
    /// The block's node.
    pub(crate) node: Option<&'a Node>,
    /// `defaults`, or `policy "name"`.
    pub(crate) title: String,
    /// Whether keys were cut out because they could not be read; then nothing is called missing.
    pub(crate) cut: bool,
}

impl Block<'_> {
    /// Notes a fault at the value behind `path`, or where the path ends.
    pub(crate) fn fault(&self, faults: &mut Faults, path: &[&str], message: impl std::fmt::Display, hint: &str) {
        let at = self.node.map(|n| n.place(path)).unwrap_or_default();
        faults.0.push(Fault {
            file: self.file.into(),
            line: at.line,
            column: at.column,
            message: format!("{}: {message}", self.title),
            hint: hint.into(),
        });
    }
}

/// What no single key shows: keys that contradict each other.
pub(crate) fn check_rules(
    raw: &RawRules,
    rules: &Rules,
    kinds: Option<&[Kind]>,
    block: &Block<'_>,
    faults: &mut Faults,
) {
    let custom = raw.metrics.as_ref().and_then(|m| m.custom.as_ref());
    if custom.is_some() && rules.metrics.preset != Preset::Custom && !block.cut {
        block.fault(
            faults,
            &["metrics", "custom"],
            "custom queries are given, but another preset is in force",
            "write preset: custom",
        );
    }
    if rules.metrics.preset == Preset::Custom && rules.metrics.custom.is_none() && !block.cut {
        block.fault(
            faults,
            &["metrics", "preset"],
            "preset custom without queries measures nothing",
            "add metrics.custom.requests",
        );
    }
    if let Some(RawQueries { errors: None, latency: None, .. }) = custom
        && !block.cut
    {
        block.fault(
            faults,
            &["metrics", "custom"],
            "queries for requests alone can break no limit",
            "add a query for errors or for latency",
        );
    }
    for (i, probe) in rules.health.iter().enumerate() {
        if raw.health.is_some() && rules.health[..i].iter().any(|p| p.name == probe.name) {
            let path = ["health", &i.to_string(), "name"];
            block.fault(faults, &path, format!("two probes are named \"{}\"", probe.name), "give each its own name");
        }
    }
    if raw.calls.as_ref().is_some_and(|calls| calls.len() > CALLS_MAX) {
        let message = format!("{} workloads are called, and {CALLS_MAX} are the most", rules.calls.len());
        block.fault(faults, &["calls"], message, "name those without which it cannot answer");
    }
    let Some(undo) = &raw.undo else {
        return acting(raw, rules, block, faults);
    };
    if undo.allow_owners.as_ref().is_some_and(|o| o.contains(&Owner::Helm)) {
        block.fault(
            faults,
            &["undo", "allowOwners"],
            "helm needs no permission, it does not revert an undo",
            "remove helm from the list",
        );
    }
    if undo.evict_stuck_pods == Some(true) && kinds.is_some_and(|k| !k.contains(&Kind::StatefulSet)) {
        let message = "evictStuckPods is for StatefulSets, and this policy matches none";
        block.fault(faults, &["undo", "evictStuckPods"], message, "remove it, or add StatefulSet to match.kinds");
    }
    let brakes = [
        ("maxPerWorkload", &undo.max_per_workload),
        ("maxPerNamespace", &undo.max_per_namespace),
        ("maxPerCluster", &undo.max_per_cluster),
    ];
    for (i, (narrow_key, narrow)) in brakes.iter().enumerate() {
        for (wide_key, wide) in &brakes[i + 1..] {
            if let (Some(narrow), Some(wide)) = (narrow, wide)
                && never_reached(narrow.0, wide.0)
            {
                let message = format!(
                    "{narrow_key} {} can never be reached, because {wide_key} {} brakes first",
                    format_brake(narrow.0),
                    format_brake(wide.0)
                );
                block.fault(faults, &["undo", narrow_key], message, "lower it, or raise the other");
            }
        }
    }
    acting(raw, rules, block, faults);
}

/// Combinations that are senseless only where Lastgood acts.
fn acting(raw: &RawRules, rules: &Rules, block: &Block<'_>, faults: &mut Faults) {
    let touched = raw.mode.is_some() || raw.undo.is_some();
    if rules.mode == Mode::Act && touched && rules.undo.verify_within > rules.undo.max_per_workload.window {
        let message = format!(
            "verifyWithin {} is longer than the window of maxPerWorkload {}, so a second undo could begin before the first is proved",
            super::format_duration(rules.undo.verify_within),
            format_brake(rules.undo.max_per_workload)
        );
        block.fault(faults, &["undo", "verifyWithin"], message, "shorten it, or widen the window");
    }
}

/// Whether the wider brake always trips first.
fn never_reached(narrow: Brake, wide: Brake) -> bool {
    narrow.count > wide.count && narrow.window <= wide.window
}

/// What is wrong with the frame of a policy: its name and its match.
pub(crate) fn check_frame(policy: &RawPolicy, earlier: &[RawPolicy], block: &Block<'_>, faults: &mut Faults) {
    match &policy.name {
        None if !block.cut => block.fault(faults, &[], "a policy needs a name", "add name: …"),
        Some(Label(name)) if name == "defaults" => {
            block.fault(faults, &["name"], "the name \"defaults\" belongs to the defaults", "choose another name");
        }
        Some(name) if earlier.iter().any(|p| p.name.as_ref() == Some(name)) => {
            block.fault(faults, &["name"], format!("two policies are named \"{}\"", name.0), "give each its own name");
        }
        _ => {}
    }
    match &policy.matches {
        None if !block.cut => {
            block.fault(
                faults,
                &[],
                "a policy needs to say what it matches",
                "add match: {namespaces: [...]}, or match: {} for all",
            );
        }
        Some(RawMatch { namespaces, kinds, names, .. }) => {
            let empty = [
                ("namespaces", namespaces.as_ref().is_some_and(Vec::is_empty)),
                ("kinds", kinds.as_ref().is_some_and(Vec::is_empty)),
                ("names", names.as_ref().is_some_and(Vec::is_empty)),
            ];
            for (key, _) in empty.iter().filter(|(_, is_empty)| *is_empty && !block.cut) {
                block.fault(
                    faults,
                    &["match", key],
                    format!("an empty list of {key} matches nothing"),
                    "remove it to match all",
                );
            }
            let all = RawMatch::default();
            if let Some(catch_all) = earlier.iter().find(|p| p.matches.as_ref() == Some(&all)) {
                let name = catch_all.name.as_ref().map_or("", |n| n.0.as_str());
                let message = format!("this policy can never match, because \"{name}\" above it matches everything");
                block.fault(faults, &["match"], message, "move it up: the first match wins");
            }
        }
        None => {}
    }
}
