//! Text to validated values, all faults at once.

mod annotations;
mod decode;
mod fault;
mod raw;
mod resolve;
mod schema;
mod secret;
mod settings;
mod thresholds;
mod tree;
mod units;
mod values;

pub use annotations::RULE_ANNOTATIONS;
pub use fault::{Fault, Faults};
pub use schema::{Explanation, explain, schema_json};
pub use secret::*;
pub use settings::*;
pub use thresholds::{API_VERSION, Facts, Policy, RulesFor, THRESHOLDS_KIND, Thresholds};
pub use units::*;
