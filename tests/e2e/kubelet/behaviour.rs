//! What a pod does, read from its image tag: `shop/web:errors-12-v2` fails 12 % of its requests.
use std::time::Duration;

/// How a pod starts and how it answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Behaviour {
    pub(crate) start: Start,
    /// Time from running to Ready; `None`: never.
    pub(crate) ready_after: Option<Duration>,
    /// Share of requests answered with 500.
    pub(crate) errors: f64,
    /// Factor on latency.
    pub(crate) slow: f64,
    /// Whether `/health` passes.
    pub(crate) healthy: bool,
}

/// What becomes of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Runs,
    /// Exits with 1 a second after each start.
    Crashes,
    /// Is killed for memory a second after each start.
    OutOfMemory,
    /// Its image does not exist.
    PullError,
    /// It names a ConfigMap that does not exist.
    ConfigError,
}

impl Default for Behaviour {
    fn default() -> Self {
        let ready_after = Some(Duration::from_millis(500));
        Self { start: Start::Runs, ready_after, errors: 0.0, slow: 1.0, healthy: true }
    }
}

impl Behaviour {
    /// Reads a tag: words joined by `_`, then an optional `-v<number>`; unknown words are an error.
    pub(crate) fn parse(tag: &str) -> Result<Self, String> {
        let words = match tag.rsplit_once("-v") {
            Some((words, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => words,
            _ => tag,
        };
        let mut behaviour = Self::default();
        for word in words.split('_') {
            let number = |prefix: &str, suffix: &str| -> Option<f64> {
                word.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok()
            };
            match word {
                "ok" => {}
                "crash" => behaviour.start = Start::Crashes,
                "oom" => behaviour.start = Start::OutOfMemory,
                "pull-error" => behaviour.start = Start::PullError,
                "config-error" => behaviour.start = Start::ConfigError,
                "never-ready" => behaviour.ready_after = None,
                "unhealthy" => behaviour.healthy = false,
                _ => {
                    if let Some(percent) = number("errors-", "") {
                        behaviour.errors = percent / 100.0;
                    } else if let Some(factor) = number("slow-", "x") {
                        behaviour.slow = factor;
                    } else if let Some(seconds) = number("ready-after-", "s") {
                        behaviour.ready_after = Some(Duration::from_secs_f64(seconds));
                    } else {
                        return Err(format!("image tag \"{tag}\": \"{word}\" is no behaviour"));
                    }
                }
            }
        }
        Ok(behaviour)
    }

    /// Of an image reference; foreign images just run.
    pub(crate) fn of_image(image: &str) -> Self {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        Self::parse(tag).unwrap_or_default()
    }
}
