//! The vocabulary: values only, no IO, no clock.
//!
//! One word has one meaning here, in the YAML files, the command line, the metrics and the logs.
//! Everything that a decision may know is an [`Observation`]; everything that it may say is a
//! [`Judgement`].

mod buckets;
mod decision;
mod judgement;
mod observation;
mod owner;
mod revision;
mod rules;
mod workload;

pub use buckets::*;
pub use decision::*;
pub use judgement::*;
pub use observation::*;
pub use owner::*;
pub use revision::*;
pub use rules::*;
pub use workload::*;

/// A point in time: seconds since the Unix epoch (live) or since the start of a trace (replay).
pub type Seconds = f64;

/// Prefix of every label and annotation that Lastgood reads or writes.
pub const PREFIX: &str = "lastgood.dev/";
/// Label of everything that is kept of a workload: its uid.
pub const UID_LABEL: &str = "lastgood.dev/workload-uid";
/// Label of a pin: what was seen of its revision.
pub const PIN_LABEL: &str = "lastgood.dev/pin";
/// Label of a pin: its revision.
pub const REVISION_LABEL: &str = "lastgood.dev/revision";
/// Field manager of every write that Lastgood sends.
pub const FIELD_MANAGER: &str = "lastgood";
/// The annotation that an undo leaves on the workload: `<uid>/<template hash>/<undo id>`.
///
/// It embeds what it belongs to because the Deployment controller copies annotations to
/// ReplicaSets and `kubectl rollout undo` brings them back: a marker that names another object or
/// another template is not ours to believe.
pub const UNDO_ANNOTATION: &str = "lastgood.dev/undo";
