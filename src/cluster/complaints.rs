//! What was complained of lately, so that what is tried again and again does not fill the log with the same
//! words.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the same words are not said again.
const QUIET: Duration = Duration::from_mins(5);

/// The words that were said lately.
#[derive(Debug, Default)]
pub struct Complaints {
    said: HashMap<String, Instant>,
}

impl Complaints {
    /// Whether these words are to be said now: they have not been for a while.
    pub fn are_due(&mut self, words: &str, now: Instant) -> bool {
        self.said.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        let due = !self.said.contains_key(words);
        if due {
            self.said.insert(words.to_owned(), now);
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
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        assert!(complaints.are_due("a", start));
        assert!(complaints.are_due("b", start));
        assert!(!complaints.are_due("a", start + QUIET / 2));
        assert!(complaints.are_due("a", start + QUIET));
        complaints.forget();
        assert!(complaints.are_due("a", start + QUIET));
    }
}
