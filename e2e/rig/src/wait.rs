//! Waits for a condition with a time limit and an error message.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// The time between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

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
        std::thread::sleep(POLL_INTERVAL);
    }
}
