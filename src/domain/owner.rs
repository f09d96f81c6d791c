use serde::{Deserialize, Serialize};
use std::fmt;

/// Who else would put a workload back after our undo (safety.md 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Argo CD, by its tracking id or instance label.
    ArgoCd,
    /// Flux kustomize-controller, by its labels.
    Flux,
    /// Flux helm-controller, by its labels.
    FluxHelm,
    /// Plain Helm, by its label and release annotations. An undo stays until the next upgrade.
    Helm,
    /// An Argo Rollout references or owns it.
    ArgoRollout,
    /// A Flagger Canary owns it.
    Flagger,
    /// Any other controller, by `ownerReferences[].controller`.
    Controller,
}

impl Owner {
    /// Whether this owner would revert an undo by itself, so that acting needs an explicit permission.
    pub fn reverts(self) -> bool {
        self != Owner::Helm
    }

    /// The name people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Owner::ArgoCd => "Argo CD",
            Owner::Flux => "Flux",
            Owner::FluxHelm => "Flux (HelmRelease)",
            Owner::Helm => "Helm",
            Owner::ArgoRollout => "Argo Rollouts",
            Owner::Flagger => "Flagger",
            Owner::Controller => "another controller",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
