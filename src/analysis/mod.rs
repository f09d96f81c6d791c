//! The decision: observations and a time go in, verdicts come out.
//!
//! Pure: no IO, no clock, no logging, no panic. The daemon, a replay of a trace and the benchmark
//! call the same [`Docket`]; they only differ in where observations come from.
//!
//! One rollout, top to bottom: `docket` routes observations to its `trial`; `roster` and `counter`
//! turn them into what happened since the tick before; `facts` and `health` need no counting;
//! `family` feeds errors and slow requests to the same test (`evidence`), against what `baseline`
//! says was normal; `gates` ask whether it is this rollout's doing; `verdict` decides, `bake` says
//! when it was good for long enough, `explain` and `findings` say why. After an undo `recovery`
//! says whether it helped. Every constant is in `tuning`, with its source.

mod bake;
mod baseline;
mod bounds;
mod callers;
mod counter;
mod docket;
mod evidence;
mod explain;
mod facts;
mod family;
mod findings;
mod gates;
mod health;
mod histogram;
#[cfg(test)]
mod random;
mod recovery;
mod roster;
mod split;
pub mod succession;
#[cfg(test)]
mod tests;
mod trial;
mod tuning;
mod verdict;

pub use bounds::{Interval, clopper_pearson, wilson};
pub use docket::Docket;
