//! What must survive: Incident objects (intent before action, outcome after) and pins.
//!
//! All state lives in the cluster; there is no database. An Incident is created *before* the patch
//! and its name is derived from the workload's uid and the bad template's hash, so creating it is the
//! compare-and-swap that makes "at most one undo" true for two leaders and any crash.

mod incident;
mod lease;
mod pins;
mod recent;
mod store;

pub use incident::*;
pub use lease::{Leadership, elect};
pub use pins::{Pin, PinState, Pins};
pub use recent::{RecentIncidents, TOLD_FOR};
pub use store::{BAD_LABEL, Incidents, RecordError, UID_LABEL, crd, incident_name};
