//! When which resource is to be deleted, and when to look for more: a pure state machine; the time is an argument.
//!
//! It holds the resources whose time is over first, up to a number. Where there are more, it knows from when on it
//! does not know all, and has them listed anew when it gets there: whatever is kept, for however long, takes up no
//! memory here (docs/decisions/0016).

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use strum::{IntoStaticStr, VariantNames};

use super::latest::Latest;
use fedora_message::policy::backoff;

/// How many resources are held: by name, namespace and uid.
const CAPACITY: usize = 10_000;
/// How often all are listed at least, for what nobody has noticed.
const REFRESH: TimeDelta = TimeDelta::hours(1);
/// The least time between two lists.
const REST: TimeDelta = TimeDelta::seconds(10);
/// The name of [`Deletion::Later`].
const LATER: &str = "later";

/// A resource whose message is finished, and whose time is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity: another with its name is not meant.
    pub uid: String,
    /// Whether the message was sent, which stays so. What was given up may be tried once more.
    pub sent: bool,
}

/// What became of the attempt to delete a resource.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Deletion {
    /// It is deleted.
    #[strum(to_string = "deleted")]
    Done,
    /// Somebody else has deleted it; another may have its name.
    Gone,
    /// It is not to be deleted any more: it was asked to try the message once more.
    Kept,
    /// Not before this time, when its end is looked at again.
    Later(DateTime<Utc>),
    /// There is no right to, in its namespace.
    Denied(String),
    /// The API server can't do it now.
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

/// A time in which nothing is tried, because it failed so often in a row.
#[derive(Clone, Copy, Debug)]
struct Pause {
    failures: u32,
    until: DateTime<Utc>,
}

/// What is to be deleted when.
#[derive(Debug)]
pub struct Schedule {
    entries: BTreeMap<(DateTime<Utc>, String), Expired>,
    capacity: usize,
    /// From when on not all are held.
    horizon: Option<DateTime<Utc>>,
    /// When all are to be listed.
    list_at: DateTime<Utc>,
    listing: bool,
    /// When the last list ended.
    listed: DateTime<Utc>,
    unlisted: u32,
    health: Option<Pause>,
    /// By namespace.
    denied: HashMap<String, Pause>,
    /// Tells whether the clock was set back.
    latest: Latest,
}

impl Default for Schedule {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Schedule {
    /// One that holds at most so many resources.
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
            latest: Latest::new(begin),
        }
    }

    /// From now on resources are deleted here. What others know is to be listed first.
    pub fn begin(&mut self) {
        *self = Self::with_capacity(self.capacity);
    }

    /// A resource is to be deleted at this time.
    pub fn add(&mut self, doomed: Expired, end: DateTime<Utc>) {
        let paused = self.denied.get(&doomed.namespace).map(|pause| pause.until);
        let at = paused.map_or(end, |until| until.max(end));
        self.entries.insert((at, doomed.uid.clone()), doomed);
        if self.entries.len() > self.capacity
            && let Some(((last, _), _)) = self.entries.pop_last()
        {
            self.horizon = Some(self.horizon.map_or(last, |horizon| horizon.min(last)));
        }
    }

    /// Whether all are to be listed now. Whoever is told so does it, [`add`](Self::add)s what is found, and ends it
    /// with [`listed`](Self::listed).
    pub fn begin_list(&mut self, now: DateTime<Utc>) -> bool {
        self.heed(now);
        if self.listing || now < self.next_list() {
            return false;
        }
        self.horizon = None;
        self.listing = true;
        true
    }

    /// All were listed, or could not be; true if that is to be told, because it did not fail before.
    pub fn listed(&mut self, success: bool, now: DateTime<Utc>, chance: f64) -> bool {
        self.listing = false;
        self.listed = now;
        // Namespaces that are no more.
        self.denied.retain(|_, pause| now < pause.until + REFRESH);
        self.unlisted = if success { 0 } else { self.unlisted.saturating_add(1) };
        self.list_at = now + if success { REFRESH } else { backoff::delay(self.unlisted, chance) };
        self.unlisted == 1
    }

    /// The next resource to delete, if its time has come; [`finish`](Self::finish) ends it.
    pub fn take(&mut self, now: DateTime<Utc>) -> Option<Expired> {
        self.heed(now);
        if self.health.is_some_and(|pause| now < pause.until) {
            return None;
        }
        loop {
            let first = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
            let doomed = first.remove();
            match self.denied.get(&doomed.namespace) {
                Some(pause) if now < pause.until => self.add(doomed, now),
                _ => return Some(doomed),
            }
        }
    }

    /// Somebody has tried to delete what [`take`](Self::take) gave out; true if a failure is to be told, because
    /// none came before it.
    pub fn finish(&mut self, doomed: Expired, deletion: &Deletion, now: DateTime<Utc>, chance: f64) -> bool {
        let before = match deletion {
            Deletion::Done | Deletion::Gone | Deletion::Kept | Deletion::Later(_) => {
                self.health = None;
                self.denied.remove(&doomed.namespace);
                if let Deletion::Later(at) = deletion {
                    self.add(doomed, *at);
                }
                return false;
            }
            Deletion::Failed(_) => self.health,
            Deletion::Denied(_) => self.denied.get(&doomed.namespace).copied(),
        };
        let pause = longer(before, now, chance);
        match deletion {
            Deletion::Denied(_) => drop(self.denied.insert(doomed.namespace.clone(), pause)),
            _ => self.health = Some(pause),
        }
        self.add(doomed, pause.until);
        before.is_none()
    }

    /// When [`take`](Self::take) or [`begin_list`](Self::begin_list) may find something that they don't find now.
    #[must_use]
    pub fn next(&self) -> DateTime<Utc> {
        let delete = self.next_deletion();
        let list = if self.listing { None } else { Some(self.next_list()) };
        [delete, list].into_iter().flatten().min().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// When [`take`](Self::take) may find something.
    #[must_use]
    pub fn next_deletion(&self) -> Option<DateTime<Utc>> {
        let (first, _) = self.entries.first_key_value()?.0;
        Some(self.health.map_or(*first, |pause| pause.until.max(*first)))
    }

    /// The number of resources that are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// When all are to be listed: what is held before the horizon comes first.
    fn next_list(&self) -> DateTime<Utc> {
        let first = self.entries.first_key_value().map(|((first, _), _)| *first);
        match self.horizon {
            Some(horizon) if self.unlisted == 0 && first.is_none_or(|first| horizon <= first) => {
                self.list_at.min(horizon.max(self.listed + REST))
            }
            _ => self.list_at,
        }
    }

    /// If the clock was set back, nobody knows what the times mean that were found out before.
    fn heed(&mut self, now: DateTime<Utc>) {
        if self.latest.is_set_back(now) {
            (self.health, self.list_at) = (None, now);
            self.denied.clear();
        }
    }
}

/// The pause after one more failure. Of several at the same time one counts.
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
