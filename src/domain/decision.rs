use super::{Judgement, Mode, Owner, PodId, Revision, Rules, Seconds, WorkloadId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// What the watchdog has decided: data, sent over one bounded channel to those who write and tell.
#[derive(Debug, Clone)]
pub enum Decision {
    /// A rollout began. When `vouched`, the revision that was serving was seen fully available, and is
    /// presumed good: it is pinned before history forgets it.
    Began {
        /// Which workload.
        workload: WorkloadId,
        /// Its uid.
        uid: String,
        /// Revision that was serving.
        from: Revision,
        /// Revision that is being rolled out.
        to: Revision,
        /// Whether `from` is presumed good.
        vouched: bool,
        /// Whether only a restart was asked for.
        restart_only: bool,
    },
    /// A verdict changed. Told to people; a `pass` makes a pin, a `fail` may make an undo.
    Judged {
        /// The verdict and why.
        judgement: Box<Judgement>,
        /// Uid of the workload that was judged.
        uid: String,
        /// When the rollout began.
        began: Seconds,
        /// Whether the verdict is another than at the tick before; else it is told again.
        changed: bool,
    },
    /// The revision that was serving before a rollout was beyond its limits: presuming it good was wrong.
    Doubted {
        /// Which workload.
        workload: WorkloadId,
        /// Its uid.
        uid: String,
        /// The revision.
        revision: Revision,
    },
    /// What the signals say after our undo.
    Recovery(Box<Recovery>),
    /// A rollout that had passed broke later, or keeps its limit again. Told to people; never undone.
    Late {
        /// What is seen of it.
        seen: Box<LateWatch>,
        /// Uid of the workload.
        uid: String,
    },
}

/// What is seen of a rollout after it has passed (decision.md 2.6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateWatch {
    /// When it was said.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// The revision that passed.
    pub revision: Revision,
    /// When it passed.
    pub passed: Seconds,
    /// Until when it is looked at.
    pub until: Seconds,
    /// Since when it breaks its limit, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Seconds>,
    /// One plain sentence with numbers.
    pub explanation: String,
}

/// What the signals say after an undo (decision.md 2.7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// When it was said.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// The restored revision.
    pub target: Revision,
    /// What is said.
    pub state: RecoveryState,
    /// One plain sentence with numbers.
    pub explanation: String,
}

/// Whether an undo helped, as far as signals tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    /// Not enough fresh samples yet.
    Waiting,
    /// The limit is kept again, beyond chance.
    Helped,
    /// The limit is still broken.
    DidNotHelp,
    /// Nothing measures this workload now.
    CannotTell,
}

/// What the sources must know of one live trial to read its signals.
#[derive(Debug, Clone)]
pub struct TrialTarget {
    /// Whose.
    pub workload: WorkloadId,
    /// Rules: preset, probes.
    pub rules: Arc<Rules>,
    /// Pods of the old and the new revision, gone ones left out.
    pub pods: Vec<PodTarget>,
    /// Beginnings of pod names that tell a revision, for pods that are gone: a ReplicaSet's name. Only the
    /// past is read of them.
    pub gone: Vec<(String, Revision)>,
}

impl TrialTarget {
    /// The revision of a pod that is gone, by its name: `<ReplicaSet>-<five letters>`.
    pub fn revision_of_gone(&self, pod: &str) -> Option<&Revision> {
        let (set, _) = pod.rsplit_once('-')?;
        self.gone.iter().find(|(prefix, _)| prefix == set).map(|(_, revision)| revision)
    }
}

/// Where one pod can be reached, and of which revision it is.
#[derive(Debug, Clone)]
pub struct PodTarget {
    /// Which pod.
    pub pod: PodId,
    /// Of which revision.
    pub revision: Revision,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
    /// Whether it is Ready.
    pub ready: bool,
    /// `prometheus.io/*` annotations without their prefix: `scrape`, `port`, `path`, `scheme`.
    pub scrape: BTreeMap<String, String>,
    /// First declared container port, if any.
    pub port: Option<u16>,
}

/// What the daemon knows now; served to the command line and to `/readyz`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When it was taken.
    pub t: Seconds,
    /// Whether the first complete list of workloads has been read.
    pub synced: bool,
    /// Whether this replica leads.
    pub leader: bool,
    /// Seconds since the last message of each watch.
    pub watches: BTreeMap<String, Seconds>,
    /// Each source's last state.
    pub sources: BTreeMap<String, SourceState>,
    /// What is degraded, in plain sentences: a missing permission, a broken file, a malformed annotation.
    pub degraded: Vec<String>,
    /// The thresholds in force.
    pub thresholds: ThresholdsState,
    /// Every watched workload; empty but in an answer to somebody who asks.
    pub workloads: Vec<WorkloadStatus>,
    /// Malformed objects that were skipped.
    pub skipped: u64,
}

/// The thresholds in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdsState {
    /// First 12 hexadecimal digits of the SHA-256 of the file.
    pub hash: String,
    /// When they were read.
    pub loaded: Seconds,
    /// Why the file that lies there now is not in force, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// A source's last state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// Whether the last read succeeded.
    pub ok: bool,
    /// When the last good read was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Seconds>,
    /// Why the last read failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One workload in `lastgood get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Which one.
    pub workload: WorkloadId,
    /// Its live template.
    pub revision: Revision,
    /// Its images.
    pub images: Vec<String>,
    /// Whether Lastgood may act on it.
    pub mode: Mode,
    /// Policy that matched.
    pub policy: String,
    /// Who else owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Why nothing would be done now: paused, frozen, opted out, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The trial, while there is one; the last judgement for a while after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
    /// When the rollout began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Seconds>,
    /// When the watch ends at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_until: Option<Seconds>,
    /// What the signals say after an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Until when it is looked at, if it neither passes nor fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until: Option<Seconds>,
    /// What is seen of it after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateWatch>,
    /// Whether a rollout or an undo is under watch now, even if nothing has been said of it yet.
    #[serde(default)]
    pub under_watch: bool,
}
