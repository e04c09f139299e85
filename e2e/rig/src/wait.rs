//! Waits for a condition with a time limit and an error message.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// The shortest and the longest time between two checks. It is a tenth of the time waited, because a
/// check may cost more than a small machine can spare.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Waits until `condition` is true. After the time limit `within`, the error names `what`.
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(within, what, || Ok(condition().then_some(())))
}

/// Waits until `check` returns a value, and returns it. An error from `check` ends the wait at
/// once.
pub fn wait_for<T>(within: Duration, what: &str, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = check()? {
            return Ok(found);
        }
        if start.elapsed() >= within {
            return Err(anyhow!("timed out after {within:?}: {what}"));
        }
        std::thread::sleep((start.elapsed() / 10).clamp(POLL.0, POLL.1));
    }
}
