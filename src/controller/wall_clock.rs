//! Detects that the wall clock was set, or went on while the machine slept.

use chrono::{DateTime, TimeDelta, Utc};
use fedora_message::policy::retry::CLOCK_TOLERANCE;
use tokio::time::Instant;

/// The wall clock beside a monotonic one.
#[derive(Debug)]
pub(super) struct WallClock {
    start: Instant,
    /// The time of the start, by the wall clock as it was last set.
    start_time: DateTime<Utc>,
}

impl WallClock {
    /// Begins to observe the wall clock, which says `wall_clock` now.
    pub(super) fn new(now: Instant, wall_clock: DateTime<Utc>) -> Self {
        Self { start: now, start_time: wall_clock }
    }

    /// Returns true if the wall clock was set since the last call, or the machine slept.
    pub(super) fn was_set(&mut self, now: Instant, wall_clock: DateTime<Utc>) -> bool {
        let elapsed = TimeDelta::from_std(now - self.start).unwrap_or(TimeDelta::MAX);
        let start_time = wall_clock.checked_sub_signed(elapsed).unwrap_or(self.start_time);
        let was_set = (self.start_time - start_time).abs() > CLOCK_TOLERANCE;
        self.start_time = start_time;
        was_set
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_change_is_reported_once() {
        let (start, time) = (Instant::now(), Utc::now());
        let mut clock = WallClock::new(start, time);
        let mut look = |minutes: u64, ahead: i64| {
            let now = start + Duration::from_mins(minutes);
            clock.was_set(now, time + TimeDelta::minutes(i64::try_from(minutes).unwrap() + ahead))
        };
        assert!(!look(1, 0));
        assert!(look(2, 600), "it was set forward");
        assert!(!look(60, 600));
        assert!(look(61, 0), "it was set right");
        assert!(!look(62, 0), "it was reported before");
        assert!(look(63, -2));
    }
}
