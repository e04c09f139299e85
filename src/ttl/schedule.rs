//! Decides when to delete which resource, and when to list more: a pure state machine. The time is an argument.
//!
//! The schedule holds a bounded number of resources, those that expire first. If there are more, it remembers the time
//! from which on it does not hold all, and asks for a new list at that time. So resources that are kept for a long time
//! take no memory here (docs/decisions/0016).

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use strum::{IntoStaticStr, VariantNames};

use fedora_message::policy::backoff;

/// The maximum number of resources in the schedule: each has a name, a namespace and a uid.
const CAPACITY: usize = 10_000;
/// The longest time between two lists, which find resources that were not noted.
const REFRESH: TimeDelta = TimeDelta::hours(1);
/// The shortest time between two lists.
const REST: TimeDelta = TimeDelta::seconds(10);
/// A clock that goes back by more than this was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);
/// The name of [`Deletion::Later`].
const LATER: &str = "later";

/// A resource whose message is finished, and whose time to live is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity: another resource may have the same name later.
    pub uid: String,
    /// True if nothing can prolong its time to live. A message that was given up may be retried, and a
    /// Sender that gives the time may change.
    pub is_final: bool,
}

/// The result of an attempt to delete a resource.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Deletion {
    /// The resource is deleted.
    #[strum(to_string = "deleted")]
    Done,
    /// Another client has deleted it. Another resource may have its name.
    Gone,
    /// It stays, because a retry of the message was requested, or its Sender gives no time any more.
    Kept,
    /// There was no attempt. The next one may be made at this time.
    Later(DateTime<Utc>),
    /// The operator is not allowed to delete it in its namespace.
    Denied(String),
    /// The request failed, and may succeed later.
    Failed(String),
}

impl Deletion {
    /// The results that the metric counts: all except [`Deletion::Later`], which is no attempt.
    pub fn results() -> impl Iterator<Item = &'static str> {
        Self::VARIANTS.iter().copied().filter(|result| *result != LATER)
    }

    /// Returns the result as the metric names it, if there was an attempt.
    #[must_use]
    pub fn result(&self) -> Option<&'static str> {
        Some(self.into()).filter(|result| *result != LATER)
    }
}

/// A pause after consecutive failures.
#[derive(Clone, Copy, Debug)]
struct Pause {
    failures: u32,
    until: DateTime<Utc>,
}

/// Holds resources by the time when they are deleted.
#[derive(Debug)]
pub struct Schedule {
    entries: BTreeMap<(DateTime<Utc>, String), Expired>,
    capacity: usize,
    /// The time from which on the schedule does not hold all resources.
    horizon: Option<DateTime<Utc>>,
    /// The time of the next list.
    list_at: DateTime<Utc>,
    listing: bool,
    /// The end of the last list.
    listed: DateTime<Utc>,
    unlisted: u32,
    health: Option<Pause>,
    /// Pauses after denied deletions, by namespace.
    denied: HashMap<String, Pause>,
    /// The time of the last look at the clock.
    latest: DateTime<Utc>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Schedule {
    /// Creates a schedule that holds at most this number of resources.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let begin = DateTime::<Utc>::MIN_UTC;
        Self {
            entries: BTreeMap::new(),
            capacity,
            horizon: None,
            list_at: begin,
            listing: false,
            listed: begin,
            unlisted: 0,
            health: None,
            denied: HashMap::new(),
            latest: begin,
        }
    }

    /// Begins a term: forgets everything, so that a list comes first.
    pub fn begin(&mut self) {
        *self = Self::with_capacity(self.capacity);
    }

    /// Adds a resource that is deleted at this time.
    pub fn add(&mut self, expired: Expired, end: DateTime<Utc>) {
        let paused = self.denied.get(&expired.namespace).map(|pause| pause.until);
        let at = paused.map_or(end, |until| until.max(end));
        self.entries.insert((at, expired.uid.clone()), expired);
        if self.entries.len() > self.capacity
            && let Some(((last, _), _)) = self.entries.pop_last()
        {
            self.horizon = Some(self.horizon.map_or(last, |horizon| horizon.min(last)));
        }
    }

    /// Returns true if the caller should list all resources now, [`add`](Self::add) them, and call
    /// [`listed`](Self::listed) at the end.
    pub fn begin_list(&mut self, now: DateTime<Utc>) -> bool {
        self.check_clock(now);
        if self.listing || now < self.next_list() {
            return false;
        }
        self.horizon = None;
        self.listing = true;
        true
    }

    /// Ends a list. Returns true if it is the first failure in a row, which should be logged.
    pub fn listed(&mut self, success: bool, now: DateTime<Utc>, chance: f64) -> bool {
        self.listing = false;
        self.listed = now;
        // Old pauses may belong to namespaces that no longer exist.
        self.denied.retain(|_, pause| now < pause.until + REFRESH);
        self.unlisted = if success { 0 } else { self.unlisted.saturating_add(1) };
        self.list_at = now + if success { REFRESH } else { backoff::delay(self.unlisted, chance) };
        self.unlisted == 1
    }

    /// Removes and returns the next resource to delete, if one is due. [`finish`](Self::finish) takes the result.
    pub fn take(&mut self, now: DateTime<Utc>) -> Option<Expired> {
        self.check_clock(now);
        if self.health.is_some_and(|pause| now < pause.until) {
            return None;
        }
        loop {
            let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
            let expired = first.remove();
            match self.denied.get(&expired.namespace) {
                Some(pause) if now < pause.until => self.add(expired, now),
                _ => return Some(expired),
            }
        }
    }

    /// Records the result of deleting a resource that [`take`](Self::take) returned. Returns true if it is the first
    /// failure in a row, which should be logged.
    pub fn finish(&mut self, expired: Expired, deletion: &Deletion, now: DateTime<Utc>, chance: f64) -> bool {
        let before = match deletion {
            Deletion::Done | Deletion::Gone | Deletion::Kept | Deletion::Later(_) => {
                self.health = None;
                self.denied.remove(&expired.namespace);
                if let Deletion::Later(at) = deletion {
                    self.add(expired, *at);
                }
                return false;
            }
            Deletion::Failed(_) => self.health,
            Deletion::Denied(_) => self.denied.get(&expired.namespace).copied(),
        };
        let pause = longer(before, now, chance);
        match deletion {
            Deletion::Denied(_) => drop(self.denied.insert(expired.namespace.clone(), pause)),
            _ => self.health = Some(pause),
        }
        self.add(expired, pause.until);
        before.is_none()
    }

    /// Returns the time when [`take`](Self::take) or [`begin_list`](Self::begin_list) may have work.
    #[must_use]
    pub fn next(&self) -> DateTime<Utc> {
        let delete = self.next_deletion();
        let list = if self.listing { None } else { Some(self.next_list()) };
        [delete, list].into_iter().flatten().min().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Returns the time when [`take`](Self::take) may return a resource.
    #[must_use]
    pub fn next_deletion(&self) -> Option<DateTime<Utc>> {
        let (first, _) = self.entries.first_key_value()?.0;
        Some(self.health.map_or(*first, |pause| pause.until.max(*first)))
    }

    /// Returns the number of resources in the schedule.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the time of the next list. Resources before the horizon are deleted first.
    fn next_list(&self) -> DateTime<Utc> {
        let first = self.entries.first_key_value().map(|((first, _), _)| *first);
        match self.horizon {
            Some(horizon) if self.unlisted == 0 && first.is_none_or(|first| horizon <= first) => {
                self.list_at.min(horizon.max(self.listed + REST))
            }
            _ => self.list_at,
        }
    }

    /// Discards all times from before the clock was set back: they mean nothing now.
    fn check_clock(&mut self, now: DateTime<Utc>) {
        if now + SET_BACK < std::mem::replace(&mut self.latest, now) {
            (self.health, self.list_at) = (None, now);
            self.denied.clear();
        }
    }
}

/// Returns the pause after one more failure. Failures during a pause do not make it longer.
fn longer(before: Option<Pause>, now: DateTime<Utc>, chance: f64) -> Pause {
    match before {
        Some(pause) if now < pause.until => pause,
        _ => {
            let failures = before.map_or(1, |pause| pause.failures.saturating_add(1));
            Pause { failures, until: now + backoff::delay(failures, chance) }
        }
    }
}

#[cfg(test)]
mod tests;
