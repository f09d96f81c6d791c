//! The one clock. Wall time is read once at start; afterwards durations come from tokio's monotonic
//! clock, so that steps of the wall clock move nothing and whole stories run in paused time.
//!
//! A machine that sleeps stops the monotonic clock, and a wall clock that was set right is right: then the two
//! go apart, and all that is known is of another time than this clock tells. [`Clock::astray`] finds out.

use crate::domain::Seconds;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Further apart than this, the clocks tell different times. Sources must agree with us to within two minutes, so
/// that this speaks first.
const TOLERATED: SignedDuration = SignedDuration::from_secs(60);

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

    /// How far the wall clock, which shows `wall` now, is ahead of this one (behind: negative), if that is more
    /// than the slewing of a clock explains.
    pub fn astray(&self, wall: Timestamp) -> Option<SignedDuration> {
        let ahead = wall.duration_since(self.timestamp());
        (ahead.abs() > TOLERATED).then_some(ahead)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_39_a_machine_that_slept_is_noticed() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        tokio::time::advance(std::time::Duration::from_secs(600)).await;
        let wall = |seconds| start + SignedDuration::from_secs(seconds);
        for agrees in [600, 630, 545] {
            assert_eq!(clock.astray(wall(agrees)), None, "{agrees}");
        }
        assert_eq!(clock.astray(wall(7800)), Some(SignedDuration::from_hours(2)), "two hours asleep");
        assert_eq!(clock.astray(wall(0)), Some(SignedDuration::from_mins(-10)), "set back");
        assert_eq!(clock.timestamp(), wall(600), "whatever the wall clock says, durations stay what they are");
    }
}
