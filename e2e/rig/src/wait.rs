//! Waiting for something to become true: bounded, and with words for when it doesn't.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Between two looks. Short beside everything that is waited for here.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` holds. After `within`, the error says which `what` did not come.
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(within, what, || Ok(condition().then_some(())))
}

/// Waits until `look` finds something and returns it. An error from `look` ends the waiting at once.
pub fn wait_for<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() >= within {
            return Err(anyhow!("waited {within:?} in vain: {what}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
