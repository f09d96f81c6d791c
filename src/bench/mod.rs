//! The open benchmark of rollback decisions (decision.md, "The decision benchmark").
//!
//! A seeded generator makes the observations of scenarios whose truth is known; the decision code, and the rules
//! that people use today, judge them; what they decided is held against what is true. Nothing here is part of the
//! daemon. Fails: a run cannot fail; a judge that decides wrongly is what is being counted.
//!
//! One run, top to bottom: a [`Scenario`] makes a [`World`] of a seed; `rolling` plays its rollouts, `flow` and
//! `traffic` its requests, `faults` what goes wrong; [`Feed`] shows it as observations; a [`Judge`] says what it
//! would do; [`Tally`] keeps the score; [`run()`] does that many times.

mod faults;
mod feed;
mod flow;
mod judge;
mod line;
mod random;
mod report;
mod rivals;
mod rolling;
mod run;
mod scenarios;
mod score;
mod sweep;
mod tape;
#[cfg(test)]
mod tests;
mod traffic;
mod world;

pub use feed::{Feed, Ledger};
pub use judge::{Judge, LASTGOOD, Lastgood, Said, What};
pub use random::Random;
pub use report::REPORTING;
pub use report::{Further, Report, Row, Share, Summary, TROUBLE, delays, document, recall_against_false_undos, text};
pub use rivals::{NAMES as RIVALS, Rivals};
pub use rolling::Look;
pub use run::{Judges, NEVER, ORACLE, Shared, Tallies, everyone, lastgood, run};
pub use scenarios::{Scenario, all, find};
pub use score::{Tally, quantile, share};
pub use sweep::{Cell, sweep};
pub use tape::{PodTape, Sample, Tape};
pub use world::*;
