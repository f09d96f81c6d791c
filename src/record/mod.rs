//! What must survive: Incident objects (intent before action, outcome after) and pins.
//!
//! All state lives in the cluster; there is no database. An Incident is created *before* the patch
//! and its name is derived from the workload's uid and the bad template's hash, so creating it is the
//! compare-and-swap that makes "at most one undo" true for two leaders and any crash.

mod incident;

pub use incident::*;
