//! Every metric and every log field, typed: one place to read what Lastgood says about itself.

pub mod log;
pub mod metrics;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The recorder for metrics is there already, or a bucket list is empty.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    /// The log filter cannot be read.
    #[error("log.level \"{level}\" is not a filter: {why}; write for example info or lastgood=debug,info")]
    Filter {
        /// The filter.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// A logger is there already.
    #[error("cannot set up logging: {0}")]
    Log(String),
}
