//! The wait between attempts: exponential, from one second to five minutes, with full jitter, so
//! that messages that failed together are not tried again together.

use chrono::TimeDelta;

/// The longest wait after the first failure.
const FIRST: TimeDelta = TimeDelta::seconds(1);
/// The longest wait after any failure.
pub const LONGEST: TimeDelta = TimeDelta::minutes(5);

/// Returns the wait after `failures` failures in a row, counted from one. `random` is evenly
/// distributed from 0 to 1.
#[must_use]
pub fn delay(failures: u32, random: f64) -> TimeDelta {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (FIRST * (1 << doublings)).min(LONGEST);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most 300,000 ms")]
    let milliseconds = (longest.num_milliseconds() as f64 * random.clamp(0.0, 1.0)) as i64;
    TimeDelta::milliseconds(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_doubles_up_to_five_minutes() {
        let longest = |failures| delay(failures, 1.0).num_seconds();
        assert_eq!([1, 2, 3, 8, 9, 10, 11, u32::MAX].map(longest), [1, 2, 4, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn jitter_takes_the_whole_range() {
        assert_eq!(delay(4, 0.0), TimeDelta::zero());
        assert_eq!(delay(4, 0.5), TimeDelta::seconds(4));
    }
}
