//! Waiting: a condition is polled until it holds or its deadline passes. Nothing here sleeps and hopes.
use crate::fail::{Result, bail};
use std::time::Duration;
use tokio::time::Instant;

/// Why a condition does not hold.
pub(crate) struct Missing {
    text: String,
    /// It never will: waiting on is useless.
    hopeless: bool,
}

impl Missing {
    pub(crate) fn for_ever(text: impl std::fmt::Display) -> Self {
        Self { text: text.to_string(), hopeless: true }
    }
}

impl From<String> for Missing {
    fn from(text: String) -> Self {
        Self { text, hopeless: false }
    }
}

impl From<&str> for Missing {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Polls `check` until it says `Ok(value)`; its `Err` says what is still missing.
pub(crate) async fn until<T, F>(what: &str, within: Duration, mut check: F) -> Result<T>
where
    F: AsyncFnMut() -> std::result::Result<T, Missing>,
{
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(100);
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(missing) if missing.hopeless => bail!("{what}: {}", missing.text),
            Err(missing) if Instant::now() >= deadline => {
                bail!("{what}: not within {} s; last seen: {}", within.as_secs(), missing.text)
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

/// Reads `90s`, `2m`, `1500ms`.
pub(crate) fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| format!("\"{text}\" is no duration such as 90s"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(format!("\"{text}\" is no duration such as 90s, 2m or 500ms")),
    }
}
