//! The latest time that was told, by which a clock is noticed that was set back.

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that goes back by more than this was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// The latest time that was told.
#[derive(Debug)]
pub(crate) struct Latest(DateTime<Utc>);

impl Latest {
    /// Nothing before `begin` was told.
    pub(crate) fn new(begin: DateTime<Utc>) -> Self {
        Self(begin)
    }

    /// Takes the time; true if the clock was set back since the last one.
    pub(crate) fn is_set_back(&mut self, now: DateTime<Utc>) -> bool {
        now + SET_BACK < std::mem::replace(&mut self.0, now)
    }
}
