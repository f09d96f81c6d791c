//! Text to validated values, all faults at once.

mod annotations;
mod check;
mod decode;
mod environment;
mod fault;
mod load;
mod raw;
mod reload;
mod resolve;
mod schema;
mod secret;
mod settings;
mod show;
mod thresholds;
mod tree;
mod units;
mod values;
mod wrong;

pub use annotations::RULE_ANNOTATIONS;
pub use environment::OPTION_VARIABLES;
pub(crate) use fault::nearest;
pub use fault::{Fault, Faults};
pub use load::{DEFAULT_FOLDER, Loaded, SETTINGS_FILE, faults_of_thresholds_beside};
pub use reload::{ActiveThresholds, RELOAD_EVERY, Reload, Reloaded, watch_thresholds};
pub use schema::{Explanation, explain, schema_json};
pub use secret::*;
pub use settings::*;
pub use show::{Notation, rules_shown};
pub use thresholds::{API_VERSION, Facts, Policy, RulesFor, THRESHOLDS_KIND, Thresholds};
pub use units::*;
