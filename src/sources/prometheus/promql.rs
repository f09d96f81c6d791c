//! Pure. PromQL as text: fixed templates, every value quoted (safety.md 3.4, injection).
//!
//! Everything asked is a *cumulative* counter, never `rate` or `increase`: those extrapolate, and the
//! analysis differences raw counters itself. Requests and failures come in one expression, so that
//! both are of the same scrape; each result carries the label [`MARK`] = `<family>/<signal>`.

use crate::{
    domain::{TrialTarget, WorkloadId},
    sources::families::{Family, When},
};
use std::collections::BTreeSet;

/// The label that tells which family and signal a series of an answer is.
pub(super) const MARK: &str = "lastgood";
/// The mark of memory.
pub(super) const MEMORY: &str = "memory";
/// Longest pattern of pod names that is sent; beyond, the namespaces alone narrow the search.
const PATTERN: usize = 512;
/// A pod's name is cut to 63 characters with hashes at the end, so long workload names are cut too.
const PREFIX: usize = 40;

/// A quoted PromQL string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text as a regular expression that matches only itself.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub(super) fn any_of<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    texts.into_iter().map(|t| literal(t)).collect::<Vec<_>>().join("|")
}

/// Which part of the cluster is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    namespaces: BTreeSet<String>,
    workloads: BTreeSet<String>,
    pairs: BTreeSet<(String, String)>,
}

impl Scope {
    pub(super) fn of<'a>(trials: impl IntoIterator<Item = &'a TrialTarget>) -> Self {
        Self::around(trials.into_iter().map(|trial| &trial.workload))
    }

    pub(super) fn around<'a>(workloads: impl IntoIterator<Item = &'a WorkloadId>) -> Self {
        let mut scope = Self::default();
        for WorkloadId { namespace, name, .. } in workloads {
            scope.namespaces.insert(namespace.clone());
            scope.workloads.insert(name.clone());
            scope.pairs.insert((namespace.clone(), name.clone()));
        }
        scope
    }

    /// `namespace=~"a|b",pod=~"(x|y).*"` under the given label names.
    pub(super) fn pods(&self, namespace: &str, pod: &str) -> String {
        let cut: BTreeSet<String> = self.workloads.iter().map(|w| w.chars().take(PREFIX).collect()).collect();
        let pattern = format!("({}).*", any_of(&cut));
        let namespaces = self.equals(namespace, &self.namespaces);
        if pattern.len() > PATTERN {
            return format!("{namespaces},{pod}!=\"\"");
        }
        format!("{namespaces},{pod}=~{}", quote(&pattern))
    }

    /// `namespace=~"a|b",workload=~"x|y"` under the given label names.
    pub(super) fn workloads(&self, namespace: &str, workload: &str) -> String {
        let namespaces = self.equals(namespace, &self.namespaces);
        let pattern = any_of(&self.workloads);
        if pattern.len() > PATTERN {
            return format!("{namespaces},{workload}!=\"\"");
        }
        format!("{namespaces},{workload}=~{}", quote(&pattern))
    }

    fn equals(&self, label: &str, texts: &BTreeSet<String>) -> String {
        format!("{label}=~{}", quote(&any_of(texts)))
    }

    /// `a<between>x|b<between>y`, for names that hold namespace and workload in one.
    fn pairs(&self, between: char) -> String {
        let pair = |(n, w): &(String, String)| format!("{}{between}{}", literal(n), literal(w));
        let all = self.pairs.iter().map(pair).collect::<Vec<_>>().join("|");
        if all.len() > PATTERN {
            return self.namespaces.iter().map(|n| format!("{}{between}.+", literal(n))).collect::<Vec<_>>().join("|");
        }
        all
    }
}

/// How series name the thing they are about, and how answers are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// Labels `namespace` and `pod` on the series.
    Pod,
    /// OpenTelemetry through a collector: pod and namespace are on `target_info` only.
    Resource,
    /// A proxy or ingress of the callers; each keeps its own series, so that one that goes away cannot
    /// look like a reset of all.
    Caller,
}

/// The pieces of one family's expressions in one scope.
struct Builder<'a> {
    family: &'a Family,
    seat: Seat,
    by: &'static str,
    /// Disjoint alternatives of identity matchers.
    whose: Vec<String>,
    info: String,
}

impl<'a> Builder<'a> {
    fn new(family: &'a Family, seat: Seat, scope: &Scope) -> Self {
        let (by, whose) = match (seat, family.name) {
            (Seat::Pod, _) => ("namespace, pod", vec![scope.pods("namespace", "pod")]),
            (Seat::Resource, _) => ("namespace, pod", vec!["pod=\"\"".into()]),
            (Seat::Caller, "istio") => (
                "destination_workload_namespace, destination_workload, instance, pod",
                vec![scope.workloads("destination_workload_namespace", "destination_workload")],
            ),
            (Seat::Caller, "ingress-nginx") => (
                "exported_namespace, exported_service, namespace, service, instance, controller_pod",
                vec![
                    scope.workloads("exported_namespace", "exported_service"),
                    format!("exported_service=\"\",{}", scope.workloads("namespace", "service")),
                ],
            ),
            (Seat::Caller, "envoy-gateway") => (
                "envoy_cluster_name, instance, pod",
                vec![format!(
                    "envoy_cluster_name=~{}",
                    quote(&format!("(httproute|grpcroute)/({})/.*", scope.pairs('/')))
                )],
            ),
            (Seat::Caller, _) => (
                "service, instance, pod",
                vec![format!("service=~{}", quote(&format!("({})-[^-@]+@kubernetes(crd)?", scope.pairs('-'))))],
            ),
        };
        let info = if seat == Seat::Resource { target_info(scope) } else { String::new() };
        Self { family, seat, by, whose, info }
    }

    /// `sum by (…) (m{a} or m{b})`; the alternatives are disjoint, so `or` is a union.
    fn sum(&self, metric: &str, by: &str, alternatives: &[&[When]]) -> String {
        let mut selectors = Vec::new();
        for whose in &self.whose {
            for alternative in alternatives {
                let mut matchers = vec![whose.clone()];
                for (label, is) in self.family.scope.iter().chain(alternative.iter()) {
                    let (operator, value) = is.promql();
                    matchers.push(format!("{label}{operator}{}", quote(&value)));
                }
                selectors.push(format!("{metric}{{{}}}", matchers.join(",")));
            }
        }
        let union = selectors.join(" or ");
        match self.seat {
            Seat::Resource => {
                format!("sum by ({by}) (({union}) * on (job, instance) group_left (namespace, pod) {})", self.info)
            }
            _ => format!("sum by ({by}) ({union})"),
        }
    }

    fn counts(&self) -> String {
        let (family, metric) = (self.family, self.family.requests);
        let requests = self.sum(metric, self.by, &[&[]]);
        let failed = self.sum(metric, self.by, family.failed);
        let judged = self.sum(metric, self.by, family.judged);
        let name = family.name;
        // A ratio query goes empty when nothing fails; zero is explicit, but only where the metric
        // carries a status at all.
        format!(
            "{} or {}",
            mark(&requests, &format!("{name}/requests")),
            mark(&format!("{failed} or 0 * {judged}"), &format!("{name}/errors"))
        )
    }

    fn latency(&self) -> String {
        let by = format!("{}, le", self.by);
        mark(&self.sum(self.family.buckets, &by, &[&[]]), &format!("{}/latency", self.family.name))
    }
}

pub(super) fn mark(expression: &str, text: &str) -> String {
    format!("label_replace({expression}, {}, {}, \"\", \"\")", quote(MARK), quote(text))
}

/// Which pod each (job, instance) is, where that is unambiguous; ambiguous ones are no data.
fn target_info(scope: &Scope) -> String {
    let matchers = scope.pods("k8s_namespace_name", "k8s_pod_name");
    let one = format!(
        "max by (job, instance, namespace, pod) (label_replace(label_replace(target_info{{{matchers}}}, \
         \"namespace\", \"$1\", \"k8s_namespace_name\", \"(.+)\"), \"pod\", \"$1\", \"k8s_pod_name\", \"(.+)\"))"
    );
    format!("({one} and on (job, instance) (count by (job, instance) ({one}) == 1))")
}

/// Requests and failures of these families in one expression.
pub(super) fn counts(families: &[&Family], seat: Seat, scope: &Scope) -> String {
    families.iter().map(|f| Builder::new(f, seat, scope).counts()).collect::<Vec<_>>().join(" or ")
}

/// Latency buckets of these families in one expression.
pub(super) fn latency(families: &[&Family], seat: Seat, scope: &Scope) -> String {
    families.iter().map(|f| Builder::new(f, seat, scope).latency()).collect::<Vec<_>>().join(" or ")
}

/// Bytes that each pod holds: as the kubelet counts them for the limit, else as its processes say. Whoever is scraped
/// twice is counted once.
pub(super) fn memory(scope: &Scope) -> String {
    let pods = scope.pods("namespace", "pod");
    let kubelet = format!(
        "sum by (namespace, pod) (max by (namespace, pod, container) \
         (container_memory_working_set_bytes{{{pods},container!=\"\",container!=\"POD\"}}))"
    );
    let own = format!("max by (namespace, pod) (process_resident_memory_bytes{{{pods}}})");
    mark(&format!("({kubelet} or {own})"), MEMORY)
}

/// Per pod whether one of its targets answers (`up`), and how old the newest scrape is (`age`, seconds).
pub(super) fn sanity(scope: &Scope) -> String {
    let up = format!("up{{{}}}", scope.pods("namespace", "pod"));
    format!(
        "{} or {}",
        mark(&format!("max by (namespace, pod) ({up})"), "up"),
        mark(&format!("time() - max(timestamp({up}))"), "age")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(quote("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
        assert_eq!(quote(&literal("a.b|c")), r#""a\\.b\\|c""#);
    }

    proptest! {
        #[test]
        fn a_quoted_text_has_no_free_quote(text in ".*") {
            let quoted = quote(&literal(&text));
            let inner = &quoted[1..quoted.len() - 1];
            let mut escaped = false;
            for c in inner.chars() {
                prop_assert!(escaped || c != '"');
                prop_assert!(c != '\n');
                escaped = c == '\\' && !escaped;
            }
            prop_assert!(!escaped);
        }
    }
}
