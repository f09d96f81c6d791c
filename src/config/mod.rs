//! Text to validated values, all faults at once.

mod secret;
mod settings;
mod units;

pub use secret::*;
pub use settings::*;
pub use units::*;
