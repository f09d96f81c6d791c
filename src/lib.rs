//! Lastgood watches every rollout of plain Deployments, StatefulSets and DaemonSets, and puts a bad
//! revision back to the last one that is known to be good.
//!
//! # Map
//!
//! ```text
//! cluster ──┐                                            ┌──▶ report  (Events, notices, incident report)
//!           ├─ observations ─▶ watchdog ── decisions ──▶ executor ─ outcomes ─┤
//! sources ──┘                    │   ▲                                        └──▶ record  (Incidents, pins)
//!                   observations ▼   │ verdicts
//!                            analysis (pure)
//! ```
//!
//! Follow one rollout: [`cluster`] sees that a template's hash changed ([`cluster`] `detect`, pure);
//! [`watchdog`] opens a trial and reads every source once a tick for all live trials; [`analysis`]
//! turns observations and a time into verdicts; a conviction goes over one bounded channel to
//! [`executor`], the only code that writes to workloads; it stores the intent as an Incident
//! ([`record`]) before it patches, verifies, hands the fields back; [`report`] tells people and
//! never stands in the way.
//!
//! # Invariants
//!
//! - Only `executor` patches or evicts; nothing else names a write on a workload (`tests/architecture.rs`).
//! - `domain`, `analysis` and every file headed "Pure" have no IO, no clock, no logging.
//! - `unknown` and `hold` never undo anything (I3). Missing, stale, partial or NaN is *no data*, never zero.
//! - A template travels as raw JSON from the API server and back (I6); it is never a typed struct.
//! - At most one applied undo per workload uid and bad template (I1), to a revision known good or
//!   chosen by a person (I2), and only while the judged template is still live (I4).
//! - An undo changes `spec.template`, Lastgood's own annotation and the template inside a present
//!   last-applied annotation, and nothing else (I5).
//! - Observe mode, the default, writes nothing to workloads (I14).
//! - "Verified" comes from observations made after the change (I13).
//! - Every external call has a deadline (I16).
//! - Secrets have no `Debug`, no `Serialize`, and never reach an error text (I12).

pub mod analysis;
pub mod app;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod domain;
pub mod executor;
#[cfg(test)]
mod fuzz_tests;
pub mod record;
pub mod replay;
pub mod report;
pub mod serve;
pub mod sim;
pub mod sources;
pub mod telemetry;
pub mod watchdog;
pub mod wire;
