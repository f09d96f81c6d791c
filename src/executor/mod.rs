//! The only code that writes to workloads: read → gate → plan → rehearse → intent → patch → hand back →
//! verify → outcome.
//!
//! It may use the write client, the record and reads of the cluster; it decides nothing about
//! verdicts. Fails: every step before the patch leaves the workload untouched; an unclear answer to the
//! patch is looked up by the undo's mark, never sent again blindly. Recovers: `resume` takes up any
//! incident that a crash left open, with its original deadline.

mod deliver;
mod drive;
mod gate;
mod handback;
mod plan;
mod prepare;
mod references;
mod resume;
mod send;
mod target;
mod verify;
mod writeup;

pub use drive::{Executor, UndoError, workload_of};
pub use gate::{Blocked, Gate, PastUndo, Situation, gate};
pub use plan::Plan;
pub use prepare::{Choice, Prepared, UndoRequest};
pub use target::{Known, NoTarget, Target, choose};
