//! Decides when each Sender is checked, and when its messages are woken. Pure, except for random delays:
//! the time is an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use fedora_message::api::names::SenderName;
use fedora_message::api::sender::{FedoraMessageSender, FedoraMessageSenderStatus};
use fedora_message::bounds::{MAX_SENDERS_PER_NAMESPACE, MIN_NEW_SENDER_GAP};
use fedora_message::policy::backoff;
use fedora_message::policy::outcome::{Reason, Then};
use fedora_message::policy::retry::EXPIRY_RECHECK;
use fedora_message::sender_check::SenderFinding;
use tokio::time::Instant;

use crate::round_robin::RoundRobin;
use crate::wake_pacer::WakePacer;

/// A Sender that the broker accepts is checked again after this time, or when its certificate expires.
const DAY: Duration = Duration::from_hours(24);
/// In between, the operator looks this often if it still watches the Sender's Secrets. If it does not,
/// because there are too many, it checks the Sender.
const LOOK: Duration = Duration::from_hours(1);
/// If a message fails, its Sender is checked this long after the last check at the earliest.
const REQUEST_GAP: Duration = Duration::from_secs(30);
/// Checks wait this long at the beginning of a term, so that pending messages go first.
const HEAD_START: Duration = Duration::from_millis(500);
/// Messages are woken this often at most, for all Senders that have changed meanwhile. A wake looks at
/// each pending message.
const WAKE_GAP: Duration = Duration::from_millis(100);
/// So many pacers are kept, although they may not be needed any more.
const MAX_PACERS: usize = 1000;

/// All Senders that are held, by name.
#[derive(Default)]
pub(super) struct CheckSchedule {
    senders: HashMap<SenderName, ScheduledSender>,
    /// The checks, by time.
    due: BTreeSet<(Instant, SenderName)>,
    /// The checks whose time has come.
    ready: RoundRobin<SenderName>,
    /// No check begins before this time.
    not_before: Option<Instant>,
    /// The Senders whose messages are woken, by time.
    wakes: BTreeSet<(Instant, SenderName)>,
    /// The Senders in `wakes`.
    waking: HashSet<SenderName>,
    last_wake: Option<Instant>,
    /// The pace of wakes. It outlives a Sender that is deleted and created again.
    pacers: HashMap<SenderName, WakePacer>,
    /// When the next new Senders of a namespace may be checked at once.
    newcomers: HashMap<String, Instant>,
}

struct ScheduledSender {
    object: FedoraMessageSender,
    scope: usize,
    progress: CheckProgress,
    /// True if the next check only looks if changes of the Secrets are noticed.
    only_look: bool,
    /// The pace of checks because of changes.
    pacer: WakePacer,
    last_check: Option<Instant>,
    /// The next check is due then, whatever is noticed.
    check_by: Option<Instant>,
    /// Failed checks in a row.
    failures: u32,
}

/// The progress of the next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckProgress {
    Waiting { due: Option<Instant> },
    Ready,
    InFlight { again: bool },
}

/// A check whose time has come.
#[derive(Debug)]
pub(super) enum DueCheck {
    /// Check the Sender.
    Check(Box<FedoraMessageSender>),
    /// Look if changes of its Secrets are still noticed. If so, put it back.
    Look(Box<FedoraMessageSender>),
}

/// The end of a check.
pub(super) struct CheckEnd<P> {
    /// The uid of the Sender that was checked.
    pub(super) uid: Option<String>,
    pub(super) finding: SenderFinding,
    pub(super) status: StatusWrite,
    /// Says when to look at Secrets again whose changes are not noticed.
    pub(super) poll: P,
}

/// The result of the status write after a check.
#[derive(Debug)]
pub(super) enum StatusWrite {
    /// The Sender has it already.
    Same,
    /// The Sender has it now.
    Done(Box<FedoraMessageSenderStatus>),
    /// The Sender is gone.
    Gone,
    /// It has to be written again, because of this error, or because this process did not lead any more.
    Failed(Option<String>),
}

impl CheckSchedule {
    pub(super) fn len(&self) -> usize {
        self.senders.len()
    }

    /// A Sender is new, has changed, or was listed again. `changed` is true if its messages are sent in
    /// another way now.
    pub(super) fn observe(&mut self, scope: usize, object: FedoraMessageSender, changed: bool, now: Instant) {
        let name = object.name();
        if changed {
            self.wake(&name, now);
        }
        if self.senders.contains_key(&name) && !self.is_same(&object) {
            // A list shows only the new Sender. The end of a check of the old one plans nothing.
            self.remove(&name, now);
        }
        let Some(known) = self.senders.get_mut(&name) else {
            let new = ScheduledSender {
                object,
                scope,
                progress: CheckProgress::Waiting { due: None },
                only_look: false,
                pacer: WakePacer::default(),
                last_check: None,
                check_by: None,
                failures: 0,
            };
            self.senders.insert(name.clone(), new);
            let at = self.newcomer(&name.namespace, now);
            return self.check_at(&name, at);
        };
        let is_changed = known.object.metadata.generation != object.metadata.generation;
        (known.object, known.scope) = (object, scope);
        if is_changed {
            self.check_after_change(&name, now);
        }
    }

    /// Returns true if the held Sender of this name is the same object.
    pub(super) fn is_same(&self, object: &FedoraMessageSender) -> bool {
        self.senders.get(&object.name()).is_some_and(|known| known.object.metadata.uid == object.metadata.uid)
    }

    /// Returns the Senders of a watch that its list did not have.
    pub(super) fn missing(&self, scope: usize, listed: &HashSet<SenderName>) -> Vec<SenderName> {
        let missing = self.senders.iter().filter(|(name, known)| known.scope == scope && !listed.contains(*name));
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// A Sender is gone.
    pub(super) fn remove(&mut self, name: &SenderName, now: Instant) {
        if let Some(gone) = self.senders.remove(name)
            && let CheckProgress::Waiting { due: Some(due) } = gone.progress
        {
            self.due.remove(&(due, name.clone()));
        }
        self.wake(name, now);
    }

    /// Checks all Senders, because a term begins.
    pub(super) fn begin_term(&mut self, now: Instant) {
        let begin = now + HEAD_START;
        self.not_before = Some(begin);
        for name in self.senders.keys().cloned().collect::<Vec<_>>() {
            self.check_at(&name, begin);
        }
    }

    /// Checks these Senders, because something that they depend on has changed. The predicate gets the
    /// name, and true if the last check failed.
    pub(super) fn check_where(&mut self, now: Instant, wanted: impl Fn(&SenderName, bool) -> bool) {
        let wanted = self.senders.iter().filter(|(name, known)| wanted(name, known.failures > 0));
        for name in wanted.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.check_after_change(&name, now);
        }
    }

    /// Checks the Senders of messages that failed, unless they failed in the last check too.
    pub(super) fn request(&mut self, names: &BTreeSet<SenderName>, now: Instant) {
        for name in names {
            let Some(known) = self.senders.get(name).filter(|known| known.failures == 0) else { continue };
            let at = known.last_check.map_or(now, |last| now.max(last + REQUEST_GAP));
            self.check_at(name, at);
        }
    }

    /// Returns the next check that may begin.
    pub(super) fn next_check(&mut self, now: Instant) -> Option<DueCheck> {
        if self.not_before.is_some_and(|begin| now < begin) {
            return None;
        }
        while let Some((due, name)) = self.due.first().cloned()
            && due <= now
        {
            self.due.remove(&(due, name.clone()));
            if let Some(known) = self.senders.get_mut(&name) {
                known.progress = CheckProgress::Ready;
                self.ready.push(&name.namespace, name.clone());
            }
        }
        loop {
            let name = self.ready.pop()?;
            // It may have been deleted since.
            if let Some(known) = self.senders.get_mut(&name).filter(|known| known.progress == CheckProgress::Ready) {
                known.progress = CheckProgress::InFlight { again: false };
                let object = Box::new(known.object.clone());
                let is_recent = known.check_by.is_some_and(|by| now < by);
                let only_look = std::mem::take(&mut known.only_look) && is_recent;
                return Some(if only_look { DueCheck::Look(object) } else { DueCheck::Check(object) });
            }
        }
    }

    /// Puts a Sender back that need not be checked now.
    pub(super) fn put_back(&mut self, name: &SenderName, now: Instant) {
        if let Some(known) = self.senders.get_mut(name) {
            known.progress = CheckProgress::Waiting { due: None };
            self.look_at(name, now + LOOK);
        }
    }

    /// A check has ended. `wall_clock` is the same time as `now`.
    pub(super) fn finish(
        &mut self,
        name: &SenderName,
        end: CheckEnd<impl FnOnce() -> Option<Instant>>,
        now: Instant,
        wall_clock: DateTime<Utc>,
    ) {
        // The Sender may have been deleted and created again while it was checked.
        let Some(known) = self.senders.get_mut(name).filter(|known| known.object.metadata.uid == end.uid) else {
            return;
        };
        let CheckProgress::InFlight { again } = known.progress else { return };
        known.progress = CheckProgress::Waiting { due: None };
        known.last_check = Some(now);
        let failure = end.finding.result.failure();
        let is_written = !matches!(end.status, StatusWrite::Failed(_));
        known.failures = if failure.is_none() && is_written { 0 } else { known.failures.saturating_add(1) };
        if let StatusWrite::Done(status) = end.status {
            known.object.status = *status;
        }
        let valid = end.finding.expires.and_then(|at| (at - wall_clock).to_std().ok()).filter(|_| failure.is_none());
        known.check_by = Some(now + valid.map_or(DAY, |valid| DAY.min(valid + Duration::from_millis(1))));
        let backoff = backoff::delay(known.failures, fastrand::f64()).to_std().unwrap_or_default();
        let delay = match failure {
            _ if !is_written => Some(backoff),
            // Only a change of the Sender helps one that is misconfigured.
            None | Some(Reason::Misconfigured) => None,
            Some(reason) => match reason.then() {
                Then::Backoff | Then::BackoffThenStop => Some(backoff),
                Then::AwaitSecret => {
                    let poll = (end.poll)().map(|at| at.saturating_duration_since(now));
                    let expired = reason == Reason::CertificateExpired;
                    let recheck = EXPIRY_RECHECK.to_std().ok().filter(|_| expired);
                    poll.into_iter().chain(recheck).min()
                }
                Then::Done | Then::Stop | Then::AwaitSender | Then::AwaitResume => None,
            },
        };
        match delay {
            _ if again => self.check_after_change(name, now),
            Some(delay) => self.check_at(name, now + delay + Duration::from_millis(1)),
            None => self.look_at(name, now + LOOK),
        }
    }

    /// Returns the Senders whose messages are to be woken.
    pub(super) fn take_wakes(&mut self, now: Instant) -> HashSet<SenderName> {
        let mut woken = HashSet::new();
        if self.last_wake.is_some_and(|last| now < last + WAKE_GAP) {
            return woken;
        }
        while let Some((at, name)) = self.wakes.first().cloned()
            && at <= now
        {
            self.wakes.remove(&(at, name.clone()));
            self.waking.remove(&name);
            self.pacers.entry(name.clone()).or_default().woke(now, fastrand::f64());
            woken.insert(name);
        }
        if !woken.is_empty() {
            self.last_wake = Some(now);
        }
        if self.pacers.len() > MAX_PACERS {
            self.pacers.retain(|_, pacer| !pacer.is_quiet(now));
        }
        woken
    }

    /// Returns when there may be something to do. `may_check` is true if a check may begin.
    pub(super) fn next_time(&self, may_check: bool) -> Option<Instant> {
        let check = self.due.first().filter(|_| may_check).map(|(at, _)| (*at).max(self.not_before.unwrap_or(*at)));
        let wake = self.wakes.first().map(|(at, _)| (*at).max(self.last_wake.map_or(*at, |last| last + WAKE_GAP)));
        check.into_iter().chain(wake).min()
    }

    /// Returns when a new Sender of a namespace is checked. As many as are held are checked at once, but
    /// who creates and deletes them again and again waits.
    fn newcomer(&mut self, namespace: &str, now: Instant) -> Instant {
        let burst = MIN_NEW_SENDER_GAP * u32::try_from(MAX_SENDERS_PER_NAMESPACE).unwrap_or(u32::MAX);
        if self.newcomers.len() > MAX_PACERS {
            self.newcomers.retain(|_, used| *used > now);
        }
        let used = self.newcomers.entry(namespace.to_owned()).or_insert(now);
        *used = (*used).max(now) + MIN_NEW_SENDER_GAP;
        now.max(*used - burst.min(*used - now))
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
        let Some(known) = self.senders.get_mut(name) else { return };
        let at = match known.progress {
            CheckProgress::Waiting { due } => {
                let at = known.pacer.next(now);
                if !known.only_look && due.is_some_and(|due| due <= at) {
                    return;
                }
                known.pacer.woke(at, fastrand::f64());
                at
            }
            CheckProgress::Ready | CheckProgress::InFlight { .. } => now,
        };
        self.check_at(name, at);
    }

    /// Checks a Sender at this time at the latest.
    fn check_at(&mut self, name: &SenderName, at: Instant) {
        if let Some(known) = self.senders.get_mut(name) {
            let planned = match known.progress {
                CheckProgress::Waiting { due } if !known.only_look => due,
                CheckProgress::Waiting { .. } | CheckProgress::Ready | CheckProgress::InFlight { .. } => None,
            };
            known.only_look = false;
            self.plan(name, planned.map_or(at, |due| due.min(at)));
        }
    }

    /// Looks at this time if changes of a Sender's Secrets are noticed, if no check is due before.
    fn look_at(&mut self, name: &SenderName, at: Instant) {
        if let Some(known) = self.senders.get_mut(name) {
            known.only_look = true;
            let at = known.check_by.map_or(at, |by| at.min(by));
            self.plan(name, at);
        }
    }

    fn plan(&mut self, name: &SenderName, at: Instant) {
        let Some(known) = self.senders.get_mut(name) else { return };
        match known.progress {
            CheckProgress::Ready => {}
            CheckProgress::InFlight { .. } => known.progress = CheckProgress::InFlight { again: true },
            CheckProgress::Waiting { due } => {
                if let Some(due) = due {
                    self.due.remove(&(due, name.clone()));
                }
                known.progress = CheckProgress::Waiting { due: Some(at) };
                self.due.insert((at, name.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
