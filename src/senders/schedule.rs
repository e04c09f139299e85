//! Decides when each Sender is checked, and when its messages are woken. Pure, but for random delays:
//! the time is an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::Utc;
use fedora_message::api::names::SenderName;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::policy::backoff;
use fedora_message::policy::outcome::{Reason, Then};
use fedora_message::policy::retry::EXPIRY_RECHECK;
use fedora_message::sender_check::Finding;
use tokio::time::Instant;

use crate::cluster::secrets::pacer::WakePacer;
use crate::round_robin::RoundRobin;

/// A Sender that the broker accepts is checked again after this time: a little less than the day for
/// which its certificate then counts as in use.
const DAY: Duration = Duration::from_hours(23);
/// A Sender whose Secrets are not watched, because too many are, is checked again after this time.
const UNWATCHED: Duration = Duration::from_hours(1);
/// If a message fails, its Sender is checked this long after the last check at the earliest.
const DOUBT_GAP: Duration = Duration::from_secs(30);
/// The pacers of so many Senders are kept, although they may not be needed any more.
const MAX_PACERS: usize = 1000;

/// All Senders that are held, by name.
#[derive(Default)]
pub(super) struct Schedule {
    entries: HashMap<SenderName, Entry>,
    /// The checks, by time.
    due: BTreeSet<(Instant, SenderName)>,
    /// The checks whose time has come.
    ready: RoundRobin<SenderName>,
    /// The Senders whose messages are woken, by time.
    wakes: BTreeSet<(Instant, SenderName)>,
    /// The Senders in `wakes`.
    waking: HashSet<SenderName>,
    /// The pace of wakes. It outlives a Sender that is deleted and created again.
    pacers: HashMap<SenderName, WakePacer>,
}

struct Entry {
    object: FedoraMessageSender,
    scope: usize,
    progress: Progress,
    /// The pace of checks because of changes.
    pacer: WakePacer,
    last_check: Option<Instant>,
    /// Failed checks in a row.
    failures: u32,
}

/// The progress of the next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting { due: Option<Instant> },
    Ready,
    InFlight { again: bool },
}

/// The end of a check.
pub(super) struct End<P> {
    pub(super) finding: Finding,
    pub(super) written: StatusWrite,
    /// True if changes of its Secrets are noticed.
    pub(super) watched: bool,
    /// Says when to look at Secrets again whose changes are not noticed.
    pub(super) poll: P,
}

/// What became of the status after a check.
#[derive(Debug)]
pub(super) enum StatusWrite {
    /// The Sender has it.
    Done(Box<FedoraMessageSender>),
    /// The Sender is gone.
    Gone,
    /// It has to be written again.
    Failed,
}

impl Schedule {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A Sender is new, has changed, or was listed again. `changed` is true if its messages are sent in
    /// another way now.
    pub(super) fn observe(&mut self, scope: usize, object: FedoraMessageSender, changed: bool, now: Instant) {
        let name = object.name();
        if changed {
            self.wake(&name, now);
        }
        let is_new = match self.entries.get_mut(&name) {
            None => {
                let progress = Progress::Waiting { due: None };
                let (pacer, last_check) = (WakePacer::default(), None);
                self.entries.insert(name.clone(), Entry { object, scope, progress, pacer, last_check, failures: 0 });
                true
            }
            Some(entry) => {
                let is_new = entry.object.metadata.uid != object.metadata.uid
                    || entry.object.metadata.generation != object.metadata.generation;
                (entry.object, entry.scope) = (object, scope);
                is_new
            }
        };
        if is_new {
            self.check_after_change(&name, now);
        }
    }

    /// Returns true if the held Sender of this name is the same object.
    pub(super) fn is_same(&self, object: &FedoraMessageSender) -> bool {
        self.entries.get(&object.name()).is_some_and(|entry| entry.object.metadata.uid == object.metadata.uid)
    }

    /// Returns the Senders of a watch that its list did not have.
    pub(super) fn missing(&self, scope: usize, listed: &HashSet<SenderName>) -> Vec<SenderName> {
        let entries = self.entries.iter().filter(|(name, entry)| entry.scope == scope && !listed.contains(*name));
        entries.map(|(name, _)| name.clone()).collect()
    }

    /// A Sender is gone.
    pub(super) fn remove(&mut self, name: &SenderName, now: Instant) {
        if let Some(Entry { progress: Progress::Waiting { due: Some(due) }, .. }) = self.entries.remove(name) {
            self.due.remove(&(due, name.clone()));
        }
        self.wake(name, now);
    }

    /// Checks all Senders at this time.
    pub(super) fn check_all(&mut self, at: Instant) {
        for name in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.check_at(&name, at);
        }
    }

    /// Checks these Senders, because something that they depend on has changed. The predicate is told
    /// whether the last check failed.
    pub(super) fn check_where(&mut self, now: Instant, wanted: impl Fn(&SenderName, bool) -> bool) {
        let wanted = self.entries.iter().filter(|(name, entry)| wanted(name, entry.failures > 0));
        for name in wanted.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.check_after_change(&name, now);
        }
    }

    /// Checks the Senders of messages that failed, unless they failed in the last check too.
    pub(super) fn doubt(&mut self, names: &BTreeSet<SenderName>, now: Instant) {
        for name in names {
            let Some(entry) = self.entries.get(name).filter(|entry| entry.failures == 0) else { continue };
            let at = entry.last_check.map_or(now, |last| now.max(last + DOUBT_GAP));
            self.check_at(name, at);
        }
    }

    /// Returns a Sender whose check may begin.
    pub(super) fn next_check(&mut self, now: Instant) -> Option<FedoraMessageSender> {
        while let Some((due, name)) = self.due.first().cloned()
            && due <= now
        {
            self.due.remove(&(due, name.clone()));
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.progress = Progress::Ready;
                self.ready.push(&name.namespace, name.clone());
            }
        }
        loop {
            let name = self.ready.pop()?;
            // It may have been deleted since.
            if let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.progress == Progress::Ready) {
                entry.progress = Progress::InFlight { again: false };
                return Some(entry.object.clone());
            }
        }
    }

    /// A check has ended.
    pub(super) fn finish(&mut self, name: &SenderName, end: End<impl FnOnce() -> Option<Instant>>, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        // If its progress is another, the Sender was deleted and created again while it was checked.
        let Progress::InFlight { again } = entry.progress else { return };
        entry.progress = Progress::Waiting { due: None };
        entry.last_check = Some(now);
        let failure = end.finding.result.failure();
        let is_written = !matches!(end.written, StatusWrite::Failed);
        entry.failures = if failure.is_none() && is_written { 0 } else { entry.failures.saturating_add(1) };
        let backoff = || backoff::delay(entry.failures, fastrand::f64()).to_std().unwrap_or_default();
        let delay = match failure {
            _ if !is_written => backoff(),
            None => {
                let expires = end.finding.expires.and_then(|at| (at - Utc::now()).to_std().ok());
                let longest = if end.watched { DAY } else { UNWATCHED };
                longest.min(expires.unwrap_or(longest) + Duration::from_secs(1))
            }
            // Only a change of the Sender helps.
            Some(Reason::Misconfigured) => DAY,
            Some(reason) => match reason.then() {
                Then::Backoff | Then::BackoffThenStop => backoff(),
                Then::AwaitSecret => {
                    let poll = (end.poll)().map_or(DAY, |at| at.saturating_duration_since(now));
                    let recheck = EXPIRY_RECHECK.to_std().unwrap_or(DAY);
                    if reason == Reason::CertificateExpired { poll.min(recheck) } else { poll }
                }
                Then::Done | Then::Stop | Then::AwaitSender | Then::AwaitResume => DAY,
            },
        };
        if let StatusWrite::Done(object) = end.written
            && entry.object.metadata.uid == object.metadata.uid
        {
            entry.object.status = object.status;
        }
        if again {
            self.check_after_change(name, now);
        } else {
            self.check_at(name, now + delay);
        }
    }

    /// Returns the Senders whose messages are to be woken.
    pub(super) fn take_wakes(&mut self, now: Instant) -> HashSet<SenderName> {
        let mut woken = HashSet::new();
        while let Some((at, name)) = self.wakes.first().cloned()
            && at <= now
        {
            self.wakes.remove(&(at, name.clone()));
            self.waking.remove(&name);
            self.pacers.entry(name.clone()).or_default().woke(now, fastrand::f64());
            woken.insert(name);
        }
        if self.pacers.len() > MAX_PACERS {
            self.pacers.retain(|_, pacer| !pacer.is_quiet(now));
        }
        woken
    }

    /// Returns when there may be something to do. Checks begin only while this process `leads`.
    pub(super) fn next_time(&self, leads: bool) -> Option<Instant> {
        let check = self.due.first().filter(|_| leads);
        check.into_iter().chain(self.wakes.first()).map(|(at, _)| *at).min()
    }

    /// Wakes the messages of a Sender, at once or as soon as its pace allows.
    fn wake(&mut self, name: &SenderName, now: Instant) {
        if self.waking.insert(name.clone()) {
            let at = self.pacers.get(name).map_or(now, |pacer| pacer.next(now));
            self.wakes.insert((at, name.clone()));
        }
    }

    /// Checks a Sender at once, or as soon as its pace allows.
    fn check_after_change(&mut self, name: &SenderName, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let at = match entry.progress {
            Progress::Waiting { .. } => {
                let at = entry.pacer.next(now);
                entry.pacer.woke(at, fastrand::f64());
                at
            }
            Progress::Ready | Progress::InFlight { .. } => now,
        };
        self.check_at(name, at);
    }

    fn check_at(&mut self, name: &SenderName, at: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        match entry.progress {
            Progress::Ready => {}
            Progress::InFlight { .. } => entry.progress = Progress::InFlight { again: true },
            Progress::Waiting { due } if due.is_some_and(|due| due <= at) => {}
            Progress::Waiting { due } => {
                if let Some(due) = due {
                    self.due.remove(&(due, name.clone()));
                }
                entry.progress = Progress::Waiting { due: Some(at) };
                self.due.insert((at, name.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
