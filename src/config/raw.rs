//! Pure. `thresholds.yaml` as it is written: the deserialised twins of [`crate::domain::Rules`].
//! Every key may be absent. The doc comments become the JSON Schema and `lastgood config explain`.

use super::values::*;
use crate::domain::{Kind, Mode, Owner, Preset, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is watched, with which limits, and what Lastgood may do about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Lastgood thresholds")]
pub(crate) struct RawThresholds {
    /// Version of this format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, with = "ApiVersion")]
    pub(crate) api_version: Option<String>,
    /// What this file is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, with = "FileKind")]
    pub(crate) kind: Option<String>,
    /// The rules of every workload that no policy matches; policies inherit from them key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawRules")]
    pub(crate) defaults: Option<RawRules>,
    /// Rules for some workloads. The first policy that matches wins; annotations on the workload win over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<RawPolicy>")]
    pub(crate) policies: Option<Vec<RawPolicy>>,
}

/// The keys of a rule, once for the defaults and once for a policy. (`serde(flatten)` would share
/// them too, but it loses places and the refusal of unknown keys.)
macro_rules! with_rule_keys {
    ($(#[$meta:meta])* $name:ident { $($(#[$own_meta:meta])* $own:ident: $own_type:ty,)* }) => {
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        $(#[$meta])*
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$own_meta])* pub(crate) $own: $own_type,)*
            /// Whether to act: `observe` judges and reports, `act` also undoes, `off` does not look.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Mode")]
            pub(crate) mode: Option<Mode>,
            /// How long a rollout is watched after its first new pod is Ready. From `1s` to `7d`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Watch")]
            pub(crate) watch: Option<Watch>,
            /// How long after its begin a rollout is still looked at, every five minutes, once its watch is over. One
            /// that passed is never undone then: what breaks is told. From `0s`, which is not at all, to `7d`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "LateWatch")]
            pub(crate) late_watch: Option<LateWatch>,
            /// Requests that the new revision must have answered before it can pass.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Requests")]
            pub(crate) min_requests: Option<Requests>,
            /// The error limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "RawErrors")]
            pub(crate) errors: Option<RawErrors>,
            /// The latency limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "RawLatency")]
            pub(crate) latency: Option<RawLatency>,
            /// Where the counts of requests, errors and latency come from.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "RawMetrics")]
            pub(crate) metrics: Option<RawMetrics>,
            /// Workloads that it calls; `payments` is one of its own namespace. What breaks there first is not blamed
            /// on this one. A policy's list replaces the one of the defaults.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Vec<CalleeText>", length(max = 100))]
            pub(crate) calls: Option<Vec<CalleeText>>,
            /// Health probes. A policy's list replaces the one of the defaults.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Vec<RawProbe>")]
            pub(crate) health: Option<Vec<RawProbe>>,
            /// What is undone at once, what waits for a person's fix, and what is only told.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "RawSeverity")]
            pub(crate) severity: Option<RawSeverity>,
            /// What an undo may do, and how often.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "RawUndo")]
            pub(crate) undo: Option<RawUndo>,
        }
    };
}

with_rule_keys! {
    /// Rules.
    #[schemars(rename = "Rules")]
    RawRules {}
}

with_rule_keys! {
    /// Rules for the workloads that it matches; a key that is not given is inherited from the defaults.
    #[schemars(rename = "Policy")]
    RawPolicy {
        /// Name of the policy, in reports and logs. Each name once.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(required, with = "Label")]
        name: Option<Label>,
        /// Which workloads it matches: every key that is given must match. `{}` matches all.
        #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
        #[schemars(required, with = "RawMatch")]
        matches: Option<RawMatch>,
    }
}

impl RawPolicy {
    /// The rules alone.
    pub(crate) fn into_rules(self) -> RawRules {
        let Self {
            name: _,
            matches: _,
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
        } = self;
        RawRules { mode, watch, late_watch, min_requests, errors, latency, metrics, calls, health, severity, undo }
    }
}

/// Which workloads a policy matches: every key that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Match")]
pub(crate) struct RawMatch {
    /// Namespaces; `*` and `?` stand for any characters and for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<NameGlob>", length(min = 1))]
    pub(crate) namespaces: Option<Vec<NameGlob>>,
    /// Kinds: Deployment, StatefulSet, DaemonSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Kind>", length(min = 1))]
    pub(crate) kinds: Option<Vec<Kind>>,
    /// Names of workloads; `*` and `?` stand for any characters and for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<NameGlob>", length(min = 1))]
    pub(crate) names: Option<Vec<NameGlob>>,
    /// Labels of the workload; a value of `*` asks only for the label to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<String, LabelGlob>")]
    pub(crate) labels: Option<BTreeMap<String, LabelGlob>>,
}

/// The error limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Errors")]
pub(crate) struct RawErrors {
    /// Share of requests that may fail: `5%` or `0.05`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorShare")]
    pub(crate) max: Option<ErrorShare>,
}

/// The latency limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Latency")]
pub(crate) struct RawLatency {
    /// Which quantile is compared: `0.95` is the 95th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantile")]
    pub(crate) quantile: Option<Quantile>,
    /// How much slower it may get than the earlier revision: `50%` or `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Increase")]
    pub(crate) max_increase: Option<Increase>,
    /// A quantile below this never breaks the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Floor")]
    pub(crate) floor: Option<Floor>,
}

/// Where the counts of requests, errors and latency come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(crate) struct RawMetrics {
    /// Metric names that the workload, or the mesh around it, uses. `auto` tries those of single pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PresetName")]
    pub(crate) preset: Option<PresetName>,
    /// Own queries; needs `preset: custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawQueries")]
    pub(crate) custom: Option<RawQueries>,
    /// Port of the pods' own metrics, where `prometheus.io/port` does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Port")]
    pub(crate) port: Option<Port>,
    /// Path of the pods' own metrics, where `prometheus.io/path` does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HttpPath")]
    pub(crate) path: Option<HttpPath>,
}

/// Own PromQL. Each must return cumulative counters with the labels `namespace` and `pod`, or
/// `namespace` and `workload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Queries")]
pub(crate) struct RawQueries {
    /// Requests answered.
    pub(crate) requests: Query,
    /// Requests failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Query")]
    pub(crate) errors: Option<Query>,
    /// Latency buckets in seconds, with the label `le`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Query")]
    pub(crate) latency: Option<Query>,
}

/// One health probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(crate) struct RawProbe {
    /// Its name in reports. Each name once.
    pub(crate) name: Label,
    /// Who is asked: `pod` is every pod under trial, `{service: NAME}` a Service of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawVia")]
    pub(crate) via: Option<RawVia>,
    /// `http`, or `https` with a verified certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SchemeName")]
    pub(crate) scheme: Option<SchemeName>,
    /// Port of the pod or the Service.
    pub(crate) port: Port,
    /// Path, starting with `/`.
    pub(crate) path: HttpPath,
    /// Deadline of one probe, from `100ms` to `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProbeTimeout")]
    pub(crate) timeout: Option<ProbeTimeout>,
}

/// Who a probe asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Via")]
pub(crate) enum RawVia {
    /// Every pod under trial at its own address.
    Pod,
    /// A Service of the workload's namespace.
    Service(ServiceName),
}

/// What follows a conviction, by its severity. What is critical (at least half of the requests fail, a probe
/// fails on every new pod, or nothing is left that serves) is undone at once, always.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Severity")]
pub(crate) struct RawSeverity {
    /// The error limit is broken by less than half of the requests, or new pods do not come up while old ones serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawHigh")]
    pub(crate) high: Option<RawHigh>,
    /// Requests are slower than allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawMedium")]
    pub(crate) medium: Option<RawMedium>,
}

/// What follows a conviction of high severity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "High")]
pub(crate) struct RawHigh {
    /// How long a person may deploy a fix before it is undone; `0s` does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HotfixWindow")]
    pub(crate) hotfix_window: Option<HotfixWindow>,
}

/// What follows a conviction of medium severity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Medium")]
pub(crate) struct RawMedium {
    /// `undo`, or `report` to tell it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MediumAction")]
    pub(crate) action: Option<MediumAction>,
}

/// What is done about a conviction of medium severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MediumAction {
    /// Put back.
    Undo,
    /// Told to people.
    Report,
}

/// What an undo may do, and how often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Undo")]
pub(crate) struct RawUndo {
    /// Most undos of one workload: `1/1h` is one in any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BrakeText")]
    pub(crate) max_per_workload: Option<BrakeText>,
    /// Most undos in one namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BrakeText")]
    pub(crate) max_per_namespace: Option<BrakeText>,
    /// Most undos in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BrakeText")]
    pub(crate) max_per_cluster: Option<BrakeText>,
    /// How long an undo may take to prove that it helped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "VerifyWithin")]
    pub(crate) verify_within: Option<VerifyWithin>,
    /// Permission to evict stuck pods of the bad revision of a StatefulSet, which else waits for them for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(crate) evict_stuck_pods: Option<bool>,
    /// Owners that would revert an undo, but beside whom acting is allowed all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeSet<Owner>")]
    pub(crate) allow_owners: Option<BTreeSet<Owner>>,
}

/// The twin of an enum of the domain that has no serde of its own.
macro_rules! twin {
    ($(#[$meta:meta])* $name:ident of $domain:ident { $($(#[$doc:meta])* $variant:ident),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        $(#[$meta])*
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum $name { $($(#[$doc])* $variant),+ }
        impl From<$name> for $domain {
            fn from(x: $name) -> Self { match x { $($name::$variant => $domain::$variant),+ } }
        }
        impl From<$domain> for $name {
            fn from(x: $domain) -> Self { match x { $($domain::$variant => $name::$variant),+ } }
        }
    };
}

twin! {
    /// Metric names that a workload, or the mesh around it, uses.
    #[schemars(rename = "Preset")]
    PresetName of Preset {
        /// Try the presets of single pods and keep what answers.
        Auto,
        /// Go promhttp and look-alikes.
        Go,
        /// Spring Boot with Micrometer.
        Spring,
        /// OpenTelemetry semantic conventions.
        Otel,
        /// gRPC servers.
        Grpc,
        /// Istio, at the caller's proxy.
        Istio,
        /// Linkerd, inbound.
        Linkerd,
        /// ingress-nginx.
        IngressNginx,
        /// Envoy Gateway.
        EnvoyGateway,
        /// Traefik.
        Traefik,
        /// Own queries.
        Custom,
    }
}

twin! {
    /// Scheme of a probe.
    #[schemars(rename = "Scheme")]
    SchemeName of Scheme {
        /// Plain.
        Http,
        /// TLS, verified.
        Https,
    }
}
