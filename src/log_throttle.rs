//! Suppresses repeated log lines, so retries do not fill the log with the same message.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// The log throttle suppresses a message for this long.
const INTERVAL: Duration = Duration::from_mins(5);

/// The recently logged messages.
#[derive(Debug, Default)]
pub struct LogThrottle {
    logged: HashMap<String, Instant>,
}

impl LogThrottle {
    /// Returns true if the caller should log the message, because it was not logged recently.
    pub fn is_due(&mut self, detail: &str, now: Instant) -> bool {
        self.logged.retain(|_, at| now.saturating_duration_since(*at) < INTERVAL);
        let due = !self.logged.contains_key(detail);
        if due {
            self.logged.insert(detail.to_owned(), now);
        }
        due
    }

    /// Forgets all messages after a success, so the next failure is logged.
    pub fn clear(&mut self) {
        self.logged.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_repeats_after_interval_or_clear() {
        let (mut throttle, start) = (LogThrottle::default(), Instant::now());
        assert!(throttle.is_due("a", start));
        assert!(throttle.is_due("b", start));
        assert!(!throttle.is_due("a", start + INTERVAL / 2));
        assert!(throttle.is_due("a", start + INTERVAL));
        throttle.clear();
        assert!(throttle.is_due("a", start + INTERVAL));
    }
}
