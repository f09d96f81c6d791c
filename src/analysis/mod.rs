//! The decision: observations and a time go in, verdicts come out.
//!
//! Pure: no IO, no clock, no logging, no panic. The daemon, a replay of a trace and the benchmark
//! call the same [`Docket`]; they only differ in where observations come from.
#![allow(dead_code)]
mod bounds;
mod counter;
mod evidence;
mod histogram;
#[cfg(test)]
mod random;
mod split;
mod tuning;

pub use bounds::{Interval, clopper_pearson, wilson};
