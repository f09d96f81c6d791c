use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The three native kinds that Lastgood watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Kind {
    /// `apps/v1` Deployment: its revisions are ReplicaSets.
    Deployment,
    /// `apps/v1` StatefulSet: its revisions are ControllerRevisions.
    StatefulSet,
    /// `apps/v1` DaemonSet: its revisions are ControllerRevisions.
    DaemonSet,
}

impl Kind {
    /// All kinds, in the order in which lists show them.
    pub const ALL: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

    /// The kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
        }
    }

    /// The resource name in URLs.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Deployment => "deployments",
            Kind::StatefulSet => "statefulsets",
            Kind::DaemonSet => "daemonsets",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;
    /// Accepts what kubectl accepts: `deployment`, `deployments`, `deploy`, `sts`, `ds`, any case.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().trim_end_matches(".apps") {
            "deployment" | "deployments" | "deploy" => Ok(Kind::Deployment),
            "statefulset" | "statefulsets" | "sts" => Ok(Kind::StatefulSet),
            "daemonset" | "daemonsets" | "ds" => Ok(Kind::DaemonSet),
            _ => Err(format!("\"{text}\" is not a kind that Lastgood watches (deployment, statefulset, daemonset)")),
        }
    }
}

/// Names one workload of one cluster; written `namespace/Kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// Namespace.
    pub namespace: String,
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
}

impl WorkloadId {
    /// Puts the three parts together.
    pub fn new(namespace: impl Into<String>, kind: Kind, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), kind, name: name.into() }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

impl FromStr for WorkloadId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [namespace, kind, name] if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::new(namespace, kind.parse()?, name))
            }
            _ => Err(format!("\"{text}\" does not name a workload; write namespace/Kind/name")),
        }
    }
}

impl Serialize for WorkloadId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names one pod; written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl PodId {
    /// Puts the two parts together.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(namespace, name))
            }
            _ => Err(format!("\"{text}\" does not name a pod; write namespace/name")),
        }
    }
}

impl Serialize for PodId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PodId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
