//! The work queue: every message that is not known to be sent, what was last found out about it,
//! and when it is its turn. A pure state machine; the time is an argument.
//!
//! Messages are known by their uid, so one that was deleted and created again under the same name
//! is another. What was confirmed stays here until the watch reports it gone: however long that
//! takes, it is not sent twice (docs/decisions/0007).
//!
//! A sent message's status is written by the hand that sent it. All other statuses go through a
//! narrow lane of their own, so that failures don't take the API server away from the messages that
//! can be sent (docs/decisions/0010).

mod compactor;
mod entry;
mod fair_queue;
mod interner;
mod job;
pub(crate) mod latest;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use self::compactor::Compactor;
pub use self::compactor::{ROOM, SMALL};
use self::entry::{Entry, EntryState};
use self::fair_queue::{FairQueue, QueueKey};
pub use self::job::{Job, JobResult, Next};
use self::latest::Latest;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::compact::{CompactMessage, CompactStatus};
use fedora_message::message::authentication::SecretName;
use fedora_message::policy::outcome::{Reason, Then};
use fedora_message::policy::retry::{Decision, deadline, decide};

/// A message's identity: its resource's uid.
pub type Uid = Arc<str>;

/// All messages that are not known to be sent.
#[derive(Debug)]
pub struct Queue {
    /// Each in a place of its own: a map has room for up to twice as many as it holds.
    entries: HashMap<Uid, Box<Entry>>,
    packer: Compactor,
    lanes: BTreeMap<QueueKey, FairQueue>,
    due: BTreeSet<(DateTime<Utc>, Uid)>,
    syncs: HashMap<Scope, u64>,
    width: usize,
    pods: Pods,
    /// Whether messages may be sent. What was sent may be recorded in any case.
    sending: bool,
    /// Tells whether the clock was set back.
    latest: Latest,
}

/// How messages are sent by Pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pods {
    /// At most so many at a time.
    pub width: usize,
    /// Every message, not only those for which the direct way has failed.
    pub always: bool,
}

/// Which of several watches an event came from.
pub type Scope = usize;

impl Queue {
    /// An empty queue, which gives out at most `width` messages of an environment at a time, and as many
    /// for Pods as these allow, as soon
    /// as [`lead`](Self::lead) was called.
    #[must_use]
    pub fn new(width: usize, pods: Pods) -> Self {
        Self {
            entries: HashMap::new(),
            packer: Compactor::default(),
            lanes: BTreeMap::new(),
            due: BTreeSet::new(),
            syncs: HashMap::new(),
            width: width.max(1),
            pods,
            sending: false,
            latest: Latest::new(DateTime::<Utc>::MIN_UTC),
        }
    }

    /// Whether nobody is at work but those who record what was sent. What others hold in their hands
    /// may have been sent by another operator since they took it: a term begins once they have ended.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        let sends = |(name, lane): (&QueueKey, &FairQueue)| *name != QueueKey::Statuses && lane.busy > 0;
        let tells = |entry: &Entry| entry.is_busy() && !entry.is_unrecorded();
        !self.lanes.iter().any(sends) && !self.entries.values().any(|entry| tells(entry))
    }

    /// From now on messages are sent. What is pending is to be listed anew: only what somebody is at
    /// work on, or was sent and not recorded, is still known.
    pub fn lead(&mut self) {
        self.sending = true;
        self.entries.retain(|_, entry| entry.is_busy() || entry.is_unrecorded());
        self.due.retain(|(_, uid)| self.entries.contains_key(uid));
    }

    /// From now on nothing is sent. What was sent is still recorded.
    pub fn follow(&mut self) {
        self.sending = false;
    }

    /// Whether nobody is at work, and all that was sent is recorded. Who waits for a Pod is not at work:
    /// the next operator takes up the Pod.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let idle = |(name, lane): (&QueueKey, &FairQueue)| *name == QueueKey::Pods || lane.busy == 0;
        !self.entries.values().any(|entry| entry.is_unrecorded()) && self.lanes.iter().all(idle)
    }

    /// The uids of all messages whose status does not say that they are sent.
    #[must_use]
    pub fn known(&self) -> HashSet<Uid> {
        let open = self.entries.iter().filter(|(_, entry)| !entry.status.is_sent() || entry.unwritten);
        open.map(|(uid, _)| uid.clone()).collect()
    }

    /// A watch begins to list anew.
    pub fn begin_sync(&mut self, scope: Scope) {
        *self.syncs.entry(scope).or_default() += 1;
    }

    /// A watch has listed all there is: what it did not list is gone.
    pub fn end_sync(&mut self, scope: Scope) {
        let sync = self.sync(scope);
        self.entries.retain(|_, entry| entry.scope != scope || entry.seen == sync);
    }

    /// A watch has seen a message, new or changed.
    pub fn observe(&mut self, scope: Scope, mut message: FedoraMessage) {
        let uid: Uid =
            self.entries.get_key_value(message.uid()).map_or_else(|| message.uid().into(), |(uid, _)| uid.clone());
        let (seen, status) = (self.sync(scope), message.status.take());
        let (mut changed, mut room) = (false, None);
        if let Some(entry) = self.entries.get_mut(&uid) {
            (entry.scope, entry.seen) = (scope, seen);
            if entry.message.update(&message) {
                return;
            }
            (changed, room) = (entry.message.differs(&message), entry.room.take());
        }
        let (message, room) = self.packer.message(message, &uid, room);
        let Some(entry) = self.entries.get_mut(&uid) else {
            let status = self.packer.status(&status.unwrap_or_default(), &uid);
            self.entries.insert(uid.clone(), Box::new(Entry::new(message, room, status, scope, seen)));
            return self.make_ready(&uid);
        };
        (entry.message, entry.room) = (message, room);
        if changed {
            self.make_ready(&uid);
        }
    }

    /// A message is gone: deleted, or known to be sent.
    pub fn forget(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// Something that messages of this environment waited for has come: their backoff is cut short,
    /// also of those that are about to begin it.
    pub fn wake_environment(&mut self, environment: Environment) {
        self.wake(|entry| {
            let waits = entry.is_busy() || entry.awaits(Then::Backoff);
            waits && entry.message.origin().environment == Some(environment)
        });
    }

    /// A Secret has appeared or changed: whoever names it is tried again.
    pub fn wake_secret(&mut self, secret: &SecretName) {
        self.wake(|entry| entry.needs(secret));
    }

    /// Whether any message that is not finished names the Secret.
    #[must_use]
    pub fn needs(&self, secret: &SecretName) -> bool {
        self.entries.values().any(|entry| entry.needs(secret))
    }

    /// When [`take`](Self::take) may find something that it does not find now.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next message to work on, if there is one and a hand is free for it.
    pub fn take(&mut self, now: DateTime<Utc>) -> Option<Job> {
        self.wake_due(now);
        loop {
            let (sending, widths) = (self.sending, [self.width, self.pods.width]);
            // Who waits for a Pod does not wait for the API server.
            let is_direct = |name: &QueueKey| !matches!(name, QueueKey::Statuses | QueueKey::Pods);
            let crowded = sending && self.lanes.iter().any(|(name, lane)| is_direct(name) && lane.is_crowded());
            let has_work = |(name, lane): &(&QueueKey, &mut FairQueue)| lane.has_work(**name, sending, crowded, widths);
            let (&name, lane) = self.lanes.iter_mut().find(has_work)?;
            let uid = lane.pop()?;
            let Some(entry) = self.entries.get_mut(&uid).filter(|entry| entry.state == EntryState::Ready(name)) else {
                continue;
            };
            if !sending && !entry.is_unrecorded() {
                entry.state = EntryState::Waiting { due: None };
                continue;
            }
            let (message, status) = (entry.message.unpack(), entry.status.unpack());
            let decision = match name {
                QueueKey::Statuses => Decision::Rest,
                QueueKey::Environment(_) | QueueKey::Pods | QueueKey::Unreadable => decide(&message, &status, now),
            };
            if decision == Decision::Rest && !entry.unwritten {
                entry.state = EntryState::Waiting { due: None };
                continue;
            }
            entry.state = EntryState::Busy { again: false };
            let size = entry.message.size();
            lane.add(size);
            return Some(Job {
                message,
                without_body: entry.message.is_without_body(),
                status,
                unwritten: entry.unwritten,
                last_reported: entry.last_reported,
                decision,
                due: entry.due,
                lane: name,
                size,
                life: Arc::downgrade(&entry.life),
            });
        }
    }

    /// Somebody has done what [`take`](Self::take) gave out.
    pub fn finish(&mut self, job: &Job, done: &JobResult, now: DateTime<Utc>) {
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.remove(job.size);
        }
        // Deleted meanwhile: there is nothing more to do for it.
        let Some((uid, _)) = self.entries.get_key_value(job.message.uid()) else {
            return;
        };
        let uid = uid.clone();
        if matches!(done.record, Next::NextByPod | Next::Withdrawn | Next::Later(_)) {
            return self.put_back(&uid, done.record);
        }
        let status = self.packer.status(&done.status, &uid);
        let Some(entry) = self.entries.get_mut(&uid) else { return };
        entry.status = status;
        entry.unwritten = done.record != Next::Written;
        if !entry.unwritten {
            entry.last_reported = entry.status.reason();
        }
        let finished = entry.status.is_finished();
        let deadline = if finished { None } else { deadline(&job.message, &done.status, now) };
        entry.due = [done.due, deadline].into_iter().flatten().min();
        let again = entry.state == EntryState::Busy { again: true };
        let due = match done.record {
            Next::Again(at) => Some(entry.due.map_or(at, |due| due.min(at))),
            _ => entry.due,
        };
        entry.state = EntryState::Waiting { due };
        match (again, done.record) {
            (true, _) => self.make_ready(&uid),
            (false, Next::Next) => self.enter(&uid, QueueKey::Statuses),
            _ => self.due.extend(due.map(|due| (due, uid))),
        }
    }

    /// A message that was given out was not tried.
    fn put_back(&mut self, uid: &Uid, record: Next) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        // Whoever was forgotten and is here has come back.
        let again = entry.state == EntryState::Busy { again: true } || record == Next::Withdrawn;
        entry.state = EntryState::Waiting { due: None };
        match record {
            _ if again => self.make_ready(uid),
            Next::Later(at) => {
                entry.due = Some(at);
                entry.state = EntryState::Waiting { due: entry.due };
                self.due.insert((at, uid.clone()));
            }
            _ => self.enter(uid, QueueKey::Pods),
        }
    }

    /// How many messages are known and not finished.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.values().filter(|entry| !entry.status.is_finished()).count()
    }

    /// How many messages of each environment, or of none as they can't be read, wait for longer than each of
    /// the `ages`. Who is suspended does not wait.
    #[must_use]
    pub fn pending_by_age<const N: usize>(
        &self,
        now: DateTime<Utc>,
        ages: [TimeDelta; N],
    ) -> Vec<(Option<Environment>, [usize; N])> {
        let mut counts =
            [Some(Environment::Prod), Some(Environment::Stg), None].map(|environment| (environment, [0; N]));
        let waits = |status: &CompactStatus| !status.is_finished() && status.reason() != Some(Reason::Suspended);
        for entry in self.entries.values().filter(|entry| waits(&entry.status)) {
            let (environment, age) = (entry.message.origin().environment, entry.message.age(now));
            let Some((_, counts)) = counts.iter_mut().find(|(other, _)| *other == environment) else { continue };
            for (count, _) in counts.iter_mut().zip(ages).filter(|(_, than)| age >= *than) {
                *count += 1;
            }
        }
        counts.into()
    }

    fn sync(&self, scope: Scope) -> u64 {
        self.syncs.get(&scope).copied().unwrap_or_default()
    }

    fn wake(&mut self, wanted: impl Fn(&Entry) -> bool) {
        let uids: Vec<Uid> =
            self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.make_ready(&uid);
        }
    }

    /// Makes ready whose time has come. If the clock was set back, nobody knows what times mean that
    /// were found out before: all are made ready who wait for one, or are about to.
    fn wake_due(&mut self, now: DateTime<Utc>) {
        if self.latest.is_set_back(now) {
            self.wake(|entry| entry.state != EntryState::Waiting { due: None });
        }
        while let Some((due, uid)) = self.due.first().cloned()
            && due <= now
        {
            self.due.remove(&(due, uid.clone()));
            let Some(entry) = self.entries.get(&uid) else { continue };
            let only_record = entry.unwritten && entry.due.is_none_or(|due| due > now);
            if only_record { self.enter(&uid, QueueKey::Statuses) } else { self.make_ready(&uid) }
        }
    }

    /// The lane from which a message is sent first.
    fn lane_of(&self, message: &CompactMessage) -> QueueKey {
        match message.origin().environment {
            Some(_) if self.pods.always => QueueKey::Pods,
            Some(environment) => QueueKey::Environment(environment),
            None => QueueKey::Unreadable,
        }
    }

    /// Puts a message into the lane that it has to go through next.
    fn make_ready(&mut self, uid: &Uid) {
        if let Some(entry) = self.entries.get(uid) {
            let lane = if entry.is_unrecorded() { QueueKey::Statuses } else { self.lane_of(&entry.message) };
            self.enter(uid, lane);
        }
    }

    fn enter(&mut self, uid: &Uid, name: QueueKey) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.state {
            EntryState::Ready(lane) if lane == name => return,
            // It leaves its lane when it comes out there.
            EntryState::Ready(_) | EntryState::Waiting { due: None } => {}
            EntryState::Busy { .. } => {
                entry.state = EntryState::Busy { again: true };
                return;
            }
            EntryState::Waiting { due: Some(due) } => {
                self.due.remove(&(due, uid.clone()));
            }
        }
        entry.state = EntryState::Ready(name);
        self.lanes.entry(name).or_default().push(&entry.message.origin().namespace, uid.clone());
    }
}
