//! Pure. What is asked of the past, as PromQL: which revisions came and went, how the pods stood, who else served.
//!
//! Where kube-state-metrics is scraped (with `honor_labels`, as its charts do), the names are its own; the labels
//! are those of its documentation. Where it is not, the names of pods that count requests tell their ReplicaSet.
//! What came and went is asked as *changes*, so that a week of a whole cluster is a short answer.

use crate::{
    domain::{Seconds, WorkloadId},
    sources::{
        families::PODS,
        prometheus::promql::{MARK, Scope, any_of, mark, quote},
    },
};
use std::collections::BTreeSet;

/// A template's hash, and the end of a pod's name, are of this alphabet only.
const SAFE: &str = "bcdfghjklmnpqrstvwxz2456789";
/// Longest pattern of names that is sent.
const PATTERN: usize = 2048;

/// The set (a ReplicaSet's name) of `<name>-<hash>-<five>`, and its parts: name and hash.
pub(in super::super) fn parts(set: &str) -> Option<(&str, &str)> {
    let (name, hash) = set.rsplit_once('-')?;
    let safe = hash.bytes().all(|b| SAFE.as_bytes().contains(&b));
    (safe && (5..=10).contains(&hash.len()) && !name.is_empty()).then_some((name, hash))
}

/// Which workloads are looked for.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Filter(pub BTreeSet<WorkloadId>);

impl Filter {
    pub fn wants(&self, id: &WorkloadId) -> bool {
        self.0.is_empty() || self.0.contains(id)
    }

    /// `namespace=~"…",label=~"(…)rest"`.
    fn matchers(&self, label: &str, rest: &str) -> String {
        if self.0.is_empty() {
            return format!("namespace!=\"\",{label}=~{}", quote(&format!(".+{rest}")));
        }
        let of = |part: fn(&WorkloadId) -> &String| self.0.iter().map(part).collect::<BTreeSet<_>>();
        let namespaces = quote(&any_of(of(|id| &id.namespace)));
        let names = any_of(of(|id| &id.name));
        let pattern = if names.len() > PATTERN { format!(".+{rest}") } else { format!("({names}){rest}") };
        format!("namespace=~{namespaces},{label}=~{}", quote(&pattern))
    }
}

/// Who tells what came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Witness {
    /// kube-state-metrics.
    Cluster,
    /// The names of the pods that count requests.
    Names,
}

/// Whether anything was recorded at all (`up`), by kube-state-metrics (`pods`), by pods that serve (`requests`).
pub(in super::super) fn overview() -> String {
    let requests = format!("count({{{},namespace!=\"\"}})", counted());
    format!(
        "{} or {} or {}",
        mark("count(up)", "up"),
        mark("count(kube_pod_info)", "pods"),
        mark(&requests, "requests")
    )
}

/// What ran at one time.
pub(in super::super) fn standing(witness: Witness, filter: &Filter) -> String {
    match witness {
        Witness::Names => mark(&named(filter, ""), "set"),
        Witness::Cluster => {
            let sets = format!("{} > 0 {}", replicas(filter, ""), owned(filter));
            let created = format!("{} and on (namespace, replicaset) ({sets})", created(filter));
            [
                mark(&sets, "set"),
                mark(&created, "created"),
                mark(&updates(filter, ""), "revision"),
                mark(&generations(filter, ""), "generation"),
            ]
            .join(" or ")
        }
    }
}

/// What changed since `step` seconds before.
pub(in super::super) fn changes(witness: Witness, filter: &Filter, step: u64) -> String {
    let ago = format!(" offset {step}s");
    // What appears was zero; where nothing is left there is zero now.
    let changed = |now: &str, then: &str| format!("({now} != ({then} or {now} * 0) or ({then} * 0 unless {now}))");
    match witness {
        Witness::Names => mark(&changed(&named(filter, ""), &named(filter, &ago)), "set"),
        Witness::Cluster => {
            let sets = format!("{} {}", changed(&replicas(filter, ""), &replicas(filter, &ago)), owned(filter));
            let created = format!("{} and on (namespace, replicaset) ({sets})", created(filter));
            let revision = format!("({} unless {})", updates(filter, ""), updates(filter, &ago));
            // A new template is a new generation, and pods of it are few at first; or all of them came between two
            // readings, and are others than before. The two may be scraped apart.
            let ago = format!(" offset {}s", step.max(60));
            let generation = format!(
                "({} > {} and on (namespace, daemonset) ({} < {} or {}))",
                generations(filter, ""),
                generations(filter, &ago),
                updated(filter, ""),
                updated(filter, &ago),
                fresh(filter, &ago)
            );
            [
                mark(&sets, "set"),
                mark(&created, "created"),
                mark(&revision, "revision"),
                mark(&generation, "generation"),
            ]
            .join(" or ")
        }
    }
}

fn replicas(filter: &Filter, ago: &str) -> String {
    let whose = filter.matchers("replicaset", "-[^-]+");
    format!("max by (namespace, replicaset) (kube_replicaset_spec_replicas{{{whose}}}{ago})")
}

fn owned(filter: &Filter) -> String {
    let whose = filter.matchers("replicaset", "-[^-]+");
    format!("and on (namespace, replicaset) kube_replicaset_owner{{owner_kind=\"Deployment\",{whose}}}")
}

fn created(filter: &Filter) -> String {
    let whose = filter.matchers("replicaset", "-[^-]+");
    format!("max by (namespace, replicaset) (kube_replicaset_created{{{whose}}})")
}

fn updates(filter: &Filter, ago: &str) -> String {
    let whose = filter.matchers("statefulset", "");
    format!("max by (namespace, statefulset, revision) (kube_statefulset_status_update_revision{{{whose}}}{ago})")
}

fn generations(filter: &Filter, ago: &str) -> String {
    let whose = filter.matchers("daemonset", "");
    format!("max by (namespace, daemonset) (kube_daemonset_metadata_generation{{{whose}}}{ago})")
}

fn updated(filter: &Filter, ago: &str) -> String {
    let whose = filter.matchers("daemonset", "");
    format!("max by (namespace, daemonset) (kube_daemonset_status_updated_number_scheduled{{{whose}}}{ago})")
}

/// Pods of DaemonSets that were not there before.
fn fresh(filter: &Filter, ago: &str) -> String {
    let pods = format!("kube_pod_info{{created_by_kind=\"DaemonSet\",{}}}", filter.matchers("created_by_name", ""));
    let new = format!("{pods} unless on (namespace, pod, uid) {pods}{ago}");
    let named = format!("label_replace({new}, \"daemonset\", \"$1\", \"created_by_name\", \"(.+)\")");
    format!("count by (namespace, daemonset) ({named})")
}

/// Pods that count requests, by their ReplicaSet's name.
fn named(filter: &Filter, ago: &str) -> String {
    let (hash, end) = (format!("-[{SAFE}]{{5,10}}"), format!("-[{SAFE}]{{5}}"));
    let counters = format!("{{{},{}}}{ago}", counted(), filter.matchers("pod", &format!("{hash}{end}")));
    let set = format!("label_replace({counters}, \"set\", \"$1\", \"pod\", {})", quote(&format!("(.+{hash}){end}")));
    format!("count by (namespace, set) (count by (namespace, pod, set) ({set}))")
}

/// The counters of requests that pods export about themselves.
fn counted() -> String {
    let names: BTreeSet<&str> = PODS.iter().map(|family| family.requests).collect();
    format!("__name__=~{}", quote(&names.into_iter().collect::<Vec<_>>().join("|")))
}

/// Who serves at one time: the beginnings of pod names, for all namespaces or for some.
pub(in super::super) fn serving(namespaces: Option<&BTreeSet<String>>) -> String {
    let whose = match namespaces {
        Some(namespaces) => format!("namespace=~{}", quote(&any_of(namespaces))),
        None => "namespace!=\"\"".into(),
    };
    let set = format!("label_replace({{{},{whose},pod!=\"\"}}, \"set\", \"$1\", \"pod\", \"(.+)-[^-]+\")", counted());
    format!("count by (namespace, set) ({set})")
}

/// How the pods of some workloads stood, as kube-state-metrics tells it.
pub(in super::super) fn states(scope: &Scope) -> String {
    let pods = scope.pods("namespace", "pod");
    let by = "namespace, pod, uid";
    let most = |by: &str, metric: &str, more: &str| format!("max by ({by}) ({metric}{{{pods}{more}}})");
    let reasons = |metric: &str| format!("max by ({by}, reason) ({metric}{{{pods}}} == 1)");
    let restarts = most(&format!("{by}, container"), "kube_pod_container_status_restarts_total", "");
    let of = |metric: &str, kind: &str| {
        format!("max by (namespace, {kind}) ({metric}{{{}}})", scope.workloads("namespace", kind))
    };
    let stuck = "kube_deployment_status_condition{condition=\"Progressing\",status=\"false\",";
    let stuck =
        format!("max by (namespace, deployment) ({stuck}{}}} == 1)", scope.workloads("namespace", "deployment"));
    let asked = [
        ("info", most(&format!("{by}, node, created_by_kind, created_by_name"), "kube_pod_info", "")),
        ("created", most(by, "kube_pod_created", "")),
        ("ready", most(by, "kube_pod_status_ready", ",condition=\"true\"")),
        ("since", most(by, "kube_pod_status_ready_time", "")),
        ("restarts", format!("sum by ({by}) ({restarts})")),
        ("waiting", reasons("kube_pod_container_status_waiting_reason")),
        ("ended", reasons("kube_pod_container_status_last_terminated_reason")),
        ("exit", most(by, "kube_pod_container_status_last_terminated_exitcode", "")),
        ("leaving", most(by, "kube_pod_deletion_timestamp", "")),
        ("replicas", of("kube_deployment_spec_replicas", "deployment")),
        ("replicas", of("kube_statefulset_replicas", "statefulset")),
        ("replicas", of("kube_daemonset_status_desired_number_scheduled", "daemonset")),
        ("stuck", stuck),
    ];
    asked.map(|(what, expression)| mark(&expression, what)).join(" or ")
}

/// How old the newest scrape was: what the daemon asks itself at every tick (gate 6).
pub(in super::super) fn age() -> &'static str {
    "time() - max(timestamp(up))"
}

/// Whole seconds on the grid of `step`, at or before `t`.
pub(in super::super) fn on_grid(t: Seconds, step: u64) -> Seconds {
    let step = step as f64;
    (t / step).floor() * step
}

/// The mark of a series.
pub(in super::super) const TOLD: &str = MARK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_name_of_its_deployment_and_a_hash() {
        assert_eq!(parts("web-api-7d9f8c6b5"), Some(("web-api", "7d9f8c6b5")));
        for other in ["web", "web-api", "web-7d9f", "-7d9f8c6b5", "db-postgres"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_pattern() {
        let id: WorkloadId = "sh\"op/Deployment/we.b".parse().unwrap();
        let filter = Filter([id].into());
        assert_eq!(filter.matchers("pod", "-x"), r#"namespace=~"sh\"op",pod=~"(we\\.b)-x""#);
        assert_eq!(Filter::default().matchers("pod", "-x"), r#"namespace!="",pod=~".+-x""#);
    }
}
