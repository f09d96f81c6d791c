//! Pure. The kinds that the simulated API server knows, and how an object of one of them is named.

use std::fmt;

macro_rules! resources {
    ($($variant:ident: $group:literal, $version:literal, $kind:literal, $plural:literal, $namespaced:literal, $status:literal, $generation:literal;)+) => {
        /// A kind of object.
        #[allow(missing_docs, reason = "each is named after what it is")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Resource { $($variant),+ }

        impl Resource {
            /// Every kind.
            pub const ALL: &'static [Resource] = &[$(Resource::$variant),+];
            /// API group; empty for the core group.
            pub fn group(self) -> &'static str { match self { $(Resource::$variant => $group),+ } }
            /// API version.
            pub fn version(self) -> &'static str { match self { $(Resource::$variant => $version),+ } }
            /// `kind` of an object.
            pub fn kind(self) -> &'static str { match self { $(Resource::$variant => $kind),+ } }
            /// The word in a URL.
            pub fn plural(self) -> &'static str { match self { $(Resource::$variant => $plural),+ } }
            /// Whether objects live in namespaces.
            pub fn namespaced(self) -> bool { match self { $(Resource::$variant => $namespaced),+ } }
            /// Whether `status` is written through an endpoint of its own only.
            pub(super) fn has_status(self) -> bool { match self { $(Resource::$variant => $status),+ } }
            /// Whether `metadata.generation` counts changes of what is wanted.
            pub(super) fn has_generation(self) -> bool { match self { $(Resource::$variant => $generation),+ } }
        }
    };
}

resources! {
    //                         group                   version  kind                      plural                      ns     status generation
    Deployments:               "apps",                 "v1", "Deployment",               "deployments",               true,  true,  true;
    ReplicaSets:               "apps",                 "v1", "ReplicaSet",               "replicasets",               true,  true,  true;
    StatefulSets:              "apps",                 "v1", "StatefulSet",              "statefulsets",              true,  true,  true;
    DaemonSets:                "apps",                 "v1", "DaemonSet",                "daemonsets",                true,  true,  true;
    ControllerRevisions:       "apps",                 "v1", "ControllerRevision",       "controllerrevisions",       true,  false, false;
    Pods:                      "",                     "v1", "Pod",                      "pods",                      true,  true,  true;
    Nodes:                     "",                     "v1", "Node",                     "nodes",                     false, true,  false;
    Services:                  "",                     "v1", "Service",                  "services",                  true,  true,  false;
    EndpointSlices:            "discovery.k8s.io",     "v1", "EndpointSlice",            "endpointslices",            true,  false, true;
    ConfigMaps:                "",                     "v1", "ConfigMap",                "configmaps",                true,  false, false;
    Secrets:                   "",                     "v1", "Secret",                   "secrets",                   true,  false, false;
    ServiceAccounts:           "",                     "v1", "ServiceAccount",           "serviceaccounts",           true,  false, false;
    PersistentVolumeClaims:    "",                     "v1", "PersistentVolumeClaim",    "persistentvolumeclaims",    true,  true,  false;
    ResourceQuotas:            "",                     "v1", "ResourceQuota",            "resourcequotas",            true,  true,  false;
    Namespaces:                "",                     "v1", "Namespace",                "namespaces",                false, true,  false;
    Events:                    "events.k8s.io",        "v1", "Event",                    "events",                    true,  false, false;
    Leases:                    "coordination.k8s.io",  "v1", "Lease",                    "leases",                    true,  false, false;
    PodDisruptionBudgets:      "policy",               "v1", "PodDisruptionBudget",      "poddisruptionbudgets",      true,  true,  true;
    HorizontalPodAutoscalers:  "autoscaling",          "v2", "HorizontalPodAutoscaler",  "horizontalpodautoscalers",  true,  true,  false;
    CustomResourceDefinitions: "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false, true,  true;
    Incidents:                 "lastgood.dev",         "v1", "Incident",                 "incidents",                 true,  false, true;
}

impl Resource {
    /// `apiVersion` of an object.
    pub fn api_version(self) -> String {
        if self.group().is_empty() { self.version().to_owned() } else { format!("{}/{}", self.group(), self.version()) }
    }

    /// `plural.group`, as messages and CRDs say it.
    pub fn qualified(self) -> String {
        if self.group().is_empty() { self.plural().to_owned() } else { format!("{}.{}", self.plural(), self.group()) }
    }

    /// The kind of a URL.
    pub fn of_url(group: &str, version: &str, plural: &str) -> Option<Self> {
        let found =
            Self::ALL.iter().copied().find(|r| (r.group(), r.version(), r.plural()) == (group, version, plural));
        // Events have an older name, under which the same objects are served.
        found.or(((group, version, plural) == ("", "v1", "events")).then_some(Self::Events))
    }

    /// The kind of an object.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.kind() == kind && r.api_version() == api_version)
    }

    /// Whether the kind is served only while a CustomResourceDefinition says so.
    pub fn is_custom(self) -> bool {
        self == Self::Incidents
    }
}

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Names an object.
    pub fn new(resource: Resource, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let namespace = if resource.namespaced() { namespace.into() } else { String::new() };
        Self { resource, namespace, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.qualified(), self.namespace, self.name)
    }
}
