//! Pure. Which metric families count requests, failures and latency (apis.md 1.3), as one table that
//! both the PromQL generator and the direct scrape read: the two cannot drift apart.

use crate::domain::{Counts, Preset};
use std::collections::BTreeMap;

/// A condition on one label.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Is {
    /// The label is there.
    Present,
    /// The label is absent or empty; PromQL makes no difference.
    Absent,
    /// Three characters, the first a 5: `503`, `5xx`.
    ServerError,
    /// Anything else.
    NotServerError,
    /// As [`Is::ServerError`], or 0: Envoy's way to say that no response came.
    ServerErrorOrNone,
    /// Exactly this.
    Equals(&'static str),
    /// One of these.
    OneOf(&'static str),
    /// Does not start with this.
    NotUnder(&'static str),
}

/// A label and its condition.
pub(crate) type When = (&'static str, Is);

impl Is {
    /// Operator and unquoted value in PromQL. Every value is a constant of the table below.
    pub(crate) fn promql(self) -> (&'static str, String) {
        match self {
            Self::Present => ("!=", String::new()),
            Self::Absent => ("=", String::new()),
            Self::ServerError => ("=~", "5..".into()),
            Self::NotServerError => ("!~", "5..".into()),
            Self::ServerErrorOrNone => ("=~", "5..|0".into()),
            Self::Equals(value) => ("=", value.into()),
            Self::OneOf(values) => ("=~", values.into()),
            Self::NotUnder(prefix) => ("!~", format!("{prefix}.*")),
        }
    }

    /// The same condition on a value read directly; an absent label is `""`.
    pub(crate) fn holds(self, value: &str) -> bool {
        let server_error = value.starts_with('5') && value.chars().count() == 3;
        match self {
            Self::Present => !value.is_empty(),
            Self::Absent => value.is_empty(),
            Self::ServerError => server_error,
            Self::NotServerError => !server_error,
            Self::ServerErrorOrNone => server_error || value == "0",
            Self::Equals(wanted) => value == wanted,
            Self::OneOf(values) => values.split('|').any(|one| one == value),
            Self::NotUnder(prefix) => !value.starts_with(prefix),
        }
    }
}

/// One metric family of one preset.
#[derive(Debug)]
pub(crate) struct Family {
    /// Preset it belongs to.
    pub(crate) preset: Preset,
    /// Its name in answers and error texts.
    pub(crate) name: &'static str,
    /// Counter of requests.
    pub(crate) requests: &'static str,
    /// Cumulative histogram buckets.
    pub(crate) buckets: &'static str,
    /// Seconds per unit of `le`.
    pub(crate) unit: f64,
    /// Which of its series count at all.
    pub(crate) scope: &'static [When],
    /// Which requests failed: disjoint alternatives.
    pub(crate) failed: &'static [&'static [When]],
    /// Which series say at all whether they failed: disjoint alternatives. Only where such a series
    /// exists is "no failures" an explicit zero.
    pub(crate) judged: &'static [&'static [When]],
}

use Is::*;

/// Families that a pod exports about itself. The order is the order of preference under `auto`.
pub(crate) const PODS: [Family; 6] = [
    Family {
        preset: Preset::Go,
        name: "go",
        requests: "http_requests_total",
        buckets: "http_request_duration_seconds_bucket",
        unit: 1.0,
        scope: &[],
        failed: &[&[("code", ServerError)], &[("code", NotServerError), ("status", ServerError)]],
        judged: &[&[("code", Present)], &[("code", Absent), ("status", Present)]],
    },
    Family {
        preset: Preset::Spring,
        name: "spring",
        requests: "http_server_requests_seconds_count",
        buckets: "http_server_requests_seconds_bucket",
        unit: 1.0,
        scope: &[("uri", NotUnder("/actuator"))],
        failed: &[&[("status", ServerError)]],
        judged: &[&[("status", Present)]],
    },
    Family {
        preset: Preset::Otel,
        name: "otel",
        requests: "http_server_request_duration_seconds_count",
        buckets: "http_server_request_duration_seconds_bucket",
        unit: 1.0,
        scope: &[],
        failed: &[
            &[("http_response_status_code", ServerError)],
            &[("http_response_status_code", Absent), ("error_type", Present)],
        ],
        judged: &[
            &[("http_response_status_code", Present)],
            &[("http_response_status_code", Absent), ("error_type", Present)],
        ],
    },
    Family {
        preset: Preset::Otel,
        name: "otel-before-1.20",
        requests: "http_server_duration_milliseconds_count",
        buckets: "http_server_duration_milliseconds_bucket",
        unit: 1e-3,
        scope: &[],
        failed: &[&[("http_status_code", ServerError)]],
        judged: &[&[("http_status_code", Present)]],
    },
    Family {
        preset: Preset::Grpc,
        name: "grpc",
        requests: "grpc_server_handled_total",
        buckets: "grpc_server_handling_seconds_bucket",
        unit: 1.0,
        scope: &[],
        failed: &[&[("grpc_code", OneOf("Unknown|Internal|Unavailable|DataLoss|DeadlineExceeded|Unimplemented"))]],
        judged: &[&[("grpc_code", Present)]],
    },
    Family {
        preset: Preset::Linkerd,
        name: "linkerd",
        requests: "response_total",
        buckets: "response_latency_ms_bucket",
        unit: 1e-3,
        scope: &[("direction", Equals("inbound"))],
        failed: &[&[("classification", Equals("failure"))]],
        judged: &[&[("classification", Present)]],
    },
];

/// Families in which the callers' side (a proxy, an ingress) counts for the whole workload.
pub(crate) const CALLERS: [Family; 4] = [
    Family {
        preset: Preset::Istio,
        name: "istio",
        requests: "istio_requests_total",
        buckets: "istio_request_duration_milliseconds_bucket",
        unit: 1e-3,
        // The caller's proxy: a connection that fails never reaches the callee's.
        scope: &[("reporter", Equals("source"))],
        failed: &[&[("response_code", ServerErrorOrNone)]],
        judged: &[&[("response_code", Present)]],
    },
    Family {
        preset: Preset::IngressNginx,
        name: "ingress-nginx",
        requests: "nginx_ingress_controller_requests",
        buckets: "nginx_ingress_controller_request_duration_seconds_bucket",
        unit: 1.0,
        scope: &[("ingress", Present)],
        failed: &[&[("status", ServerError)]],
        judged: &[&[("status", Present)]],
    },
    Family {
        preset: Preset::EnvoyGateway,
        name: "envoy-gateway",
        requests: "envoy_cluster_upstream_rq_xx",
        buckets: "envoy_cluster_upstream_rq_time_bucket",
        unit: 1e-3,
        scope: &[],
        failed: &[&[("envoy_response_code_class", Equals("5"))]],
        judged: &[&[("envoy_response_code_class", Present)]],
    },
    Family {
        preset: Preset::Traefik,
        name: "traefik",
        requests: "traefik_service_requests_total",
        buckets: "traefik_service_request_duration_seconds_bucket",
        unit: 1.0,
        scope: &[],
        failed: &[&[("code", ServerError)]],
        judged: &[&[("code", Present)]],
    },
];

/// Whether a workload with this preset is measured by this per-pod family.
pub(crate) fn serves(family: &Family, preset: Preset) -> bool {
    match preset {
        // A mesh's proxy is a second witness of the same requests; `auto` asks the application only.
        Preset::Auto => family.preset != Preset::Linkerd,
        other => family.preset == other,
    }
}

/// What the families say about one pod, before one of them is believed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Candidates(pub(crate) BTreeMap<usize, Counts>);

impl Candidates {
    /// The counts of one family, by its place in [`PODS`].
    pub(crate) fn family(&mut self, at: usize) -> &mut Counts {
        self.0.entry(at).or_default()
    }

    /// Adds one series of a direct read. Unknown names and values that are no counts leave no trace.
    pub(crate) fn add<'a>(&mut self, name: &str, value: f64, label: impl Fn(&str) -> &'a str) {
        if !is_count(value) {
            return;
        }
        for (at, family) in PODS.iter().enumerate() {
            let all = |conditions: &[When]| conditions.iter().all(|(l, is)| is.holds(label(l)));
            if name == family.requests && all(family.scope) {
                let counts = self.family(at);
                *counts.requests.get_or_insert(0.0) += value;
                if family.failed.iter().any(|w| all(w)) {
                    *counts.errors.get_or_insert(0.0) += value;
                } else if family.judged.iter().any(|w| all(w)) {
                    counts.errors.get_or_insert(0.0);
                }
            } else if name == family.buckets && all(family.scope) {
                add_bucket(self.family(at), label("le"), family.unit, value);
            }
        }
    }

    /// The family to believe: the first that tells requests and failures, else the first that tells
    /// requests, else the first. Never a sum: two families of one pod count the same requests twice.
    pub(crate) fn best(&self) -> Option<usize> {
        let first = |wanted: &dyn Fn(&Counts) -> bool| self.0.iter().find(|(_, c)| wanted(c)).map(|(at, _)| *at);
        first(&|c| c.requests.is_some() && c.errors.is_some())
            .or_else(|| first(&|c| c.requests.is_some()))
            .or_else(|| first(&|_| true))
    }
}

/// Whether a number can be a cumulative count.
pub(crate) fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Adds a bucket at its bound in seconds. Returns whether the bound could be read.
pub(crate) fn add_bucket(counts: &mut Counts, le: &str, unit: f64, value: f64) -> bool {
    let Some(bound) = bound(le, unit) else { return false };
    counts.latency.get_or_insert_default().add(bound, value);
    true
}

/// `le` in seconds.
fn bound(le: &str, unit: f64) -> Option<f64> {
    let value: f64 = le.trim().parse().ok()?;
    if value == f64::INFINITY {
        return Some(value);
    }
    // Twelve digits after the point swallow what scaling from milliseconds adds in the last place.
    value.is_finite().then(|| (value * unit * 1e12).round() / 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_have_one_spelling() {
        assert_eq!(bound("1.0", 1.0), Some(1.0));
        assert_eq!(bound("1e-1", 1.0), Some(0.1));
        assert_eq!(bound("3", 1e-3), Some(0.003));
        assert_eq!(bound("+Inf", 1e-3), Some(f64::INFINITY));
        assert_eq!(bound("NaN", 1.0), None);
        assert_eq!(bound("", 1.0), None);
    }

    #[test]
    fn a_family_that_tells_failures_is_believed_first_and_nothing_is_summed() {
        let mut c = Candidates::default();
        c.add("http_requests_total", 10.0, |_| "");
        c.add("http_server_request_duration_seconds_count", 9.0, |l| {
            if l == "http_response_status_code" { "200" } else { "" }
        });
        let best = c.best().unwrap();
        assert_eq!(PODS[best].name, "otel");
        assert_eq!(c.0[&best], Counts { requests: Some(9.0), errors: Some(0.0), latency: None });
    }

    #[test]
    fn no_status_label_means_failures_are_not_measured() {
        let mut c = Candidates::default();
        c.add("http_requests_total", 10.0, |_| "");
        assert_eq!(c.0[&0].errors, None);
        c.add("http_requests_total", 2.0, |l| if l == "status" { "5xx" } else { "" });
        assert_eq!(c.0[&0].errors, Some(2.0));
        c.add("http_requests_total", f64::NAN, |l| if l == "code" { "500" } else { "" });
        c.add("http_requests_total", -1.0, |l| if l == "code" { "500" } else { "" });
        assert_eq!(c.0[&0], Counts { requests: Some(12.0), errors: Some(2.0), latency: None });
    }

    #[test]
    fn actuator_calls_are_no_traffic() {
        let mut c = Candidates::default();
        c.add("http_server_requests_seconds_count", 5.0, |l| if l == "uri" { "/actuator/health" } else { "200" });
        assert!(c.best().is_none());
    }
}
