//! Proof that a loop still turns (I16).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Beaten by a loop, looked at by `/livez`. Copies of one heartbeat agree. Monotonic time only.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    name: &'static str,
    stale_after: Duration,
    born: Instant,
    /// Milliseconds from birth to the last beat.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heartbeat that has just beaten; it is stale after `stale_after` without a beat.
    pub fn new(name: &'static str, stale_after: Duration) -> Self {
        Self { name, stale_after, born: Instant::now(), last: Arc::default() }
    }

    /// The loop turns.
    pub fn beat(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Whose it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// The time since the last beat, when that is too long.
    pub fn stale(&self) -> Option<Duration> {
        Some(self.age()).filter(|age| *age > self.stale_after)
    }
}
