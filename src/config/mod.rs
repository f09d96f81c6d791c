//! Text to validated values, all faults at once.

mod decode;
mod fault;
mod secret;
mod settings;
mod tree;
mod units;

pub use fault::{Fault, Faults};
pub use secret::*;
pub use settings::*;
pub use units::*;
