//! The decision: observations and a time go in, verdicts come out.
//!
//! Pure: no IO, no clock, no logging, no panic. The daemon, a replay of a trace and the benchmark
//! call the same [`Docket`]; they only differ in where observations come from.
//!
//! One rollout, top to bottom: `docket` routes observations to its `trial`; `roster` and `counter`
//! turn them into what happened since the tick before; `facts` and `health` need no counting;
//! `family` feeds errors and slow requests to the same test (`evidence`; of each pod, `arm`; of the last minutes, `lately`), against what `baseline`
//! says was normal; `monitoring` says when nothing of that can be believed; `gates` ask its own old pods
//! whether it is this rollout's doing, and `draft` says what the workload says by itself. Then the others are
//! heard: `peers` remembers workloads without a trial, `graph` who calls whom; `scene` asks them, and `blame`
//! chooses among several. `verdict` decides, `bake` says when it was good for long enough, `explain` and
//! `findings` say why. After an undo `recovery` says whether it helped; after a pass `late` watches on, lightly.
//! Every constant is in `tuning`, with its source.

mod arm;
mod bake;
mod baseline;
mod blame;
mod bounds;
mod callers;
mod counter;
mod docket;
mod draft;
mod evidence;
mod explain;
mod facts;
mod family;
mod findings;
mod gates;
mod graph;
mod health;
mod histogram;
mod hypothesis;
mod issues;
mod late;
mod lately;
mod leak;
mod monitoring;
mod owners;
mod peers;
#[cfg(test)]
mod random;
mod recovery;
mod roster;
mod scene;
mod series;
mod split;
mod starts;
pub mod succession;
#[cfg(test)]
mod tests;
mod trial;
mod tuning;
mod verdict;

pub use baseline::seasons;
pub use bounds::{Interval, clopper_pearson, wilson};
pub use docket::Docket;
pub use late::next_late_look;
pub use tuning::LATE_EVERY;
