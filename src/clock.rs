//! The one clock. Wall time is read once at start; afterwards durations come from tokio's monotonic
//! clock, so that steps of the wall clock move nothing and whole stories run in paused time.

use crate::domain::Seconds;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time. Copies of one clock agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that agrees with the machine's wall clock at this moment.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that shows `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { wall, started: Instant::now() }
    }

    /// The time.
    pub fn timestamp(&self) -> Timestamp {
        let gone = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall.checked_add(gone).unwrap_or(Timestamp::MAX)
    }

    /// The time in seconds since the Unix epoch.
    pub fn now(&self) -> Seconds {
        seconds(self.timestamp())
    }
}

/// A timestamp in seconds since the Unix epoch.
pub fn seconds(t: Timestamp) -> Seconds {
    t.as_nanosecond() as f64 / 1e9
}

/// Seconds since the Unix epoch as a timestamp, to the millisecond; out of range becomes the nearest end.
pub fn timestamp(t: Seconds) -> Timestamp {
    Timestamp::from_millisecond((t * 1e3).round() as i64).unwrap_or(if t > 0.0 {
        Timestamp::MAX
    } else {
        Timestamp::MIN
    })
}
