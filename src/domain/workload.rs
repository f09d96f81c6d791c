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

/// A workload that another one calls, as people write it: `payments`, `bank/ledger`, `bank/StatefulSet/ledger`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Callee {
    /// Its namespace; absent: that of the caller.
    pub namespace: Option<String>,
    /// Its kind; absent: whichever there is.
    pub kind: Option<Kind>,
    /// Its name.
    pub name: String,
}

impl Callee {
    /// Which workload `caller` means by it: of the kinds that it may be the first that `exists`, else a Deployment.
    pub fn of(&self, caller: &WorkloadId, exists: impl Fn(&WorkloadId) -> bool) -> WorkloadId {
        let namespace = self.namespace.as_deref().unwrap_or(&caller.namespace);
        let of = |kind| WorkloadId::new(namespace, kind, &*self.name);
        match self.kind {
            Some(kind) => of(kind),
            None => Kind::ALL.into_iter().map(of).find(|id| exists(id)).unwrap_or_else(|| of(Kind::Deployment)),
        }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.iter().map(String::as_str);
        let parts: Vec<&str> = namespace.chain(self.kind.map(Kind::as_str)).chain([self.name.as_str()]).collect();
        f.write_str(&parts.join("/"))
    }
}

impl FromStr for Callee {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let fits = |part: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            !part.is_empty()
                && part.len() <= 253
                && part.chars().all(inner)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
        };
        let (namespace, kind, name) = match parts[..] {
            [name] => (None, None, name),
            [namespace, name] => (Some(namespace), None, name),
            [namespace, kind, name] => (Some(namespace), Some(kind.parse()?), name),
            _ => (None, None, ""),
        };
        if fits(name) && namespace.is_none_or(fits) {
            return Ok(Self { namespace: namespace.map(str::to_owned), kind, name: name.to_owned() });
        }
        Err(format!("\"{text}\" does not name a workload; write name, namespace/name or namespace/Kind/name"))
    }
}

impl Serialize for Callee {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
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
