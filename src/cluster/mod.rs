//! The edge that observes Kubernetes: trimmed views, open watches, history on demand.
//!
//! Nothing here writes. `detect` and `template` are pure.

mod connect;
mod detect;
mod freeze;
mod history;
mod pod_watch;
mod pods;
mod recent;
mod template;
mod view;
mod watch;

pub use connect::{Cluster, ClusterOptions, ConnectError, Contact, READ_DEADLINE, WRITE_DEADLINE, connect};
pub use detect::{Change, Tracker, ended_recently};
pub use freeze::{Freeze, Freezes, PAUSE_CONFIG_MAP, PAUSE_REASON, PAUSE_UNTIL, watch_freezes};
pub use history::{ReadError, RevisionEntry, before, get_raw, get_view, raw_api, revisions, within};
pub use pod_watch::{PodWatch, PodWatches};
pub use pods::{Members, PodSeen};
pub use recent::{Recent, recent_revisions};
pub use template::{TemplateMark, restorable};
pub use view::{Progress, RawDaemonSet, RawDeployment, RawStatefulSet, UndoMark, WorkloadView, of_raw};
pub(crate) use watch::watch_said;
pub use watch::{Seen, WATCH_SECONDS, guarded, watch_workloads};
