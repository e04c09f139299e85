//! Detects that the wall clock has gone backwards.

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that goes back by more than this was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// The time of the last look at the clock.
#[derive(Debug)]
pub(crate) struct Latest(DateTime<Utc>);

impl Latest {
    /// Begins with this time.
    pub(crate) fn new(begin: DateTime<Utc>) -> Self {
        Self(begin)
    }

    /// Returns true if the clock was set back since the last call.
    pub(crate) fn is_set_back(&mut self, now: DateTime<Utc>) -> bool {
        now + SET_BACK < std::mem::replace(&mut self.0, now)
    }
}
