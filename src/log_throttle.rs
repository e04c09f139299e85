//! What was complained of lately, so that what is tried again and again does not fill the log with the same
//! words.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the same words are not said again.
const QUIET: Duration = Duration::from_mins(5);

/// The words that were said lately.
#[derive(Debug, Default)]
pub struct LogThrottle {
    said: HashMap<String, Instant>,
}

impl LogThrottle {
    /// Whether these words are to be said now: they have not been for a while.
    pub fn are_due(&mut self, detail: &str, now: Instant) -> bool {
        self.said.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        let due = !self.said.contains_key(detail);
        if due {
            self.said.insert(detail.to_owned(), now);
        }
        due
    }

    /// All is well: whatever comes next is news.
    pub fn forget(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_again_after_a_while_or_once_all_was_well() {
        let (mut log_throttle, start) = (LogThrottle::default(), Instant::now());
        assert!(log_throttle.are_due("a", start));
        assert!(log_throttle.are_due("b", start));
        assert!(!log_throttle.are_due("a", start + QUIET / 2));
        assert!(log_throttle.are_due("a", start + QUIET));
        log_throttle.forget();
        assert!(log_throttle.are_due("a", start + QUIET));
    }
}
