//! A wait for a time that may never come.

use tokio::time::{Instant, sleep_until};

/// Waits until this time, or forever if there is none.
pub async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
