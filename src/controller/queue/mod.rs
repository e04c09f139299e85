//! The work queue: every message that is not known to be sent, its state, and when its next job
//! starts. A pure state machine: the time is an argument.
//!
//! Messages are known by their uid, so a message that was deleted and created again under the same
//! name is another message. A confirmed message stays here until the watch reports it gone, so it is
//! not sent twice, however much the watch lags (docs/decisions/0007).
//!
//! The job that sends a message also writes its status. All other statuses go through a queue of
//! their own with a low concurrency. So failures don't take the API server away from messages that
//! can be sent (docs/decisions/0010 and 0026).

mod compactor;
mod entry;
mod fair_queue;
mod interner;
mod job;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::object::{FedoraMessage, SummaryFields};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::compact::CompactMessage;
use fedora_message::policy::outcome::Reason;
use fedora_message::policy::retry::{Decision, decide};
use fedora_message::state::MessageState;
use tokio::time::Instant;

use self::compactor::Compactor;
pub use self::compactor::MAX_LARGE_BYTES;
use self::entry::{Again, Change, Entry, Progress};
use self::fair_queue::{FairQueue, QueueKey, QueueLimits};
use self::interner::FEW;
pub use self::job::{Job, Next, Write};
use crate::delivery::NotTried;

/// A message's identity: its resource's uid.
pub type Uid = Arc<str>;

/// The number of a watch, where several watches feed the queue.
pub type Scope = usize;

/// All messages that are not known to be sent.
#[derive(Debug)]
pub struct Queue {
    /// Each entry has an allocation of its own, because a map reserves space for up to twice as many
    /// entries as it holds.
    entries: HashMap<Uid, Box<Entry>>,
    compactor: Compactor,
    queues: BTreeMap<QueueKey, FairQueue>,
    due: BTreeSet<(Instant, Uid)>,
    syncs: HashMap<Scope, u64>,
    /// The number of jobs so far.
    jobs: u64,
    concurrency: usize,
    pods: PodLimits,
    /// True while messages may be sent.
    leading: bool,
}

/// The limits of delivery by Pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodLimits {
    /// The number of Pods at a time.
    pub concurrency: usize,
    /// True if every message is sent by a Pod. Otherwise, only messages that could not be sent
    /// directly are.
    pub always: bool,
}

impl Queue {
    /// Returns an empty queue. It starts at most `concurrency` jobs at a time for each environment,
    /// and none before [`lead`](Self::lead) is called.
    #[must_use]
    pub fn new(concurrency: usize, pods: PodLimits) -> Self {
        Self {
            entries: HashMap::new(),
            compactor: Compactor::default(),
            queues: BTreeMap::new(),
            due: BTreeSet::new(),
            syncs: HashMap::new(),
            jobs: 0,
            concurrency: concurrency.max(1),
            pods,
            leading: false,
        }
    }

    /// Returns true if the only jobs in flight are status writes for sent messages.
    ///
    /// A term begins once all other jobs have ended, because another operator may have sent their
    /// messages since they started.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        let sends = |(key, queue): (&QueueKey, &FairQueue)| *key != QueueKey::Statuses && queue.in_flight > 0;
        let reports_failure = |entry: &Entry| entry.is_in_flight() && !entry.is_unrecorded();
        !self.queues.iter().any(sends) && !self.entries.values().any(|entry| reports_failure(entry))
    }

    /// Starts sending messages. Drops all entries except jobs in flight and unrecorded messages,
    /// because a new list follows.
    pub fn lead(&mut self) {
        self.leading = true;
        self.entries.retain(|_, entry| entry.is_in_flight() || entry.is_unrecorded());
        self.due.retain(|(_, uid)| self.entries.contains_key(uid));
        self.queues.iter_mut().for_each(|(key, queue)| queue.clean(is_ready(&self.entries, *key)));
        self.release();
    }

    /// Stops sending messages. Sent messages are still recorded.
    pub fn follow(&mut self) {
        self.leading = false;
    }

    /// Returns true if no job is in flight, and every sent message is recorded. Jobs that wait for
    /// a Pod don't count: the next operator takes over their Pods.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let idle = |(key, queue): (&QueueKey, &FairQueue)| *key == QueueKey::Pods || queue.in_flight == 0;
        !self.entries.values().any(|entry| entry.is_unrecorded()) && self.queues.iter().all(idle)
    }

    /// Returns the uids of all messages whose status does not say that they are sent.
    #[must_use]
    pub fn unsent(&self) -> HashSet<Uid> {
        let unsent = self.entries.iter().filter(|(_, entry)| !entry.state.is_sent() || entry.unwritten);
        unsent.map(|(uid, _)| uid.clone()).collect()
    }

    /// A watch begins a new list.
    pub fn begin_sync(&mut self, scope: Scope) {
        *self.syncs.entry(scope).or_default() += 1;
    }

    /// A watch has listed all messages. Messages that the list did not have are gone.
    pub fn end_sync(&mut self, scope: Scope) {
        let sync = self.sync(scope);
        let gone = self.entries.iter().filter(|(_, entry)| entry.scope == scope && entry.sync != sync);
        for uid in gone.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
            self.forget(&uid);
        }
    }

    /// A watch has now seen a message that is new or has changed. One that is being deleted is gone.
    pub fn observe(&mut self, scope: Scope, mut message: FedoraMessage, now: Instant) {
        if message.deleting {
            return self.forget(message.uid());
        }
        let uid: Uid =
            self.entries.get_key_value(message.uid()).map_or_else(|| message.uid().into(), |(uid, _)| uid.clone());
        let (sync, status) = (self.sync(scope), message.status.take());
        let (mut changed, mut permit) = (false, None);
        if let Some(entry) = self.entries.get_mut(&uid) {
            (entry.scope, entry.sync) = (scope, sync);
            if entry.message.update(&message) {
                return;
            }
            (changed, permit) = (entry.message.differs(&message), entry.permit.take());
        }
        let (message, permit) = self.compactor.message(message, &uid, permit);
        let Some(entry) = self.entries.get_mut(&uid) else {
            let state = self.compactor.state(status.map(|status| MessageState::from(*status)).unwrap_or_default());
            self.entries.insert(uid.clone(), Box::new(Entry::new(message, permit, state, now, scope, sync)));
            return self.make_ready(&uid);
        };
        (entry.message, entry.permit) = (message, permit);
        if entry.message.summary().suspend {
            // A job that is in flight must not send it any more.
            entry.alive = Arc::default();
        }
        if changed {
            entry.seen = now;
            self.make_ready(&uid);
        }
    }

    /// A message is gone: it was deleted, is being deleted, or is known to be sent.
    pub fn forget(&mut self, uid: &str) {
        let Some((uid, entry)) = self.entries.remove_entry(uid) else { return };
        match entry.progress {
            Progress::Ready(key) => self.leave(key),
            Progress::Waiting { due: Some(due) } => drop(self.due.remove(&(due, uid))),
            Progress::Waiting { due: None } | Progress::InFlight { .. } => {}
        }
        drop(entry);
        self.release();
    }

    /// Gives back the memory of messages that are gone, once they were most.
    fn release(&mut self) {
        let left = self.entries.len();
        if self.entries.capacity() > 8 * (left + FEW) {
            self.entries.shrink_to(2 * left);
        }
        self.compactor.release(left);
    }

    /// Ends the backoff of all messages of an environment that waited for its broker, because that is
    /// back.
    pub fn wake_environment(&mut self, environment: Environment) {
        self.wake_after(Change::Broker, |entry| entry.message.summary().environment() == Some(environment));
    }

    /// Tries all messages that name a Secret, because it has appeared or changed. Messages of other
    /// namespaces than those that it `concerns` don't learn of it.
    pub fn wake_secret(&mut self, secret: &SourceName, concerns: impl Fn(&str) -> bool) {
        self.wake(|entry| entry.needs(secret) && concerns(entry.message.summary().owner()));
    }

    /// Tries all messages of these Senders, because a Sender has appeared, changed or disappeared.
    /// `fields` returns the fields that a Sender gives now to messages of a namespace. Messages that may
    /// not use the Sender, now or before, don't learn of it.
    pub fn wake_senders(
        &mut self,
        senders: &HashSet<SenderName>,
        fields: impl Fn(&SenderName, &str) -> Option<Arc<SummaryFields>>,
    ) {
        let mut changed = Vec::new();
        for (uid, entry) in &mut self.entries {
            let summary = entry.message.summary();
            let Some(sender) = summary.sender.as_ref().filter(|sender| senders.contains(*sender)) else { continue };
            let (before, now) = (summary.sender_fields(), fields(sender, &summary.namespace));
            if before.is_none() && now.is_none() && sender.namespace != summary.namespace {
                continue;
            }
            if before != now.as_ref() {
                let mut summary = summary.clone();
                summary.set_sender_fields(now);
                entry.message.set_summary(self.compactor.summary(summary));
            }
            changed.push(uid.clone());
        }
        for uid in changed {
            self.make_ready(&uid);
        }
    }

    /// Tries all messages whose Sender was not found, because the Senders could not be read before.
    pub fn wake_without_sender(&mut self) {
        self.wake_after(Change::Senders, |_| true);
    }

    /// Tries all messages that the operator's settings stand against, because a setting has changed.
    pub fn wake_misconfigured(&mut self) {
        self.wake_after(Change::Settings, |_| true);
    }

    /// Looks again at all messages that the time concerns, because the wall clock was set, to `now`. These
    /// could not be sent because of the time, or are too late now.
    pub fn wake_after_clock_change(&mut self, now: DateTime<Utc>) {
        self.wake(|entry| match entry.state.reason {
            Some(Reason::CertificateExpired | Reason::DeadlineExceeded) => true,
            _ => entry.is_late(now),
        });
    }

    /// Gives up the messages that wait for a Pod and are too late. Others may keep all Pods for long.
    pub fn give_up_late(&mut self, now: DateTime<Utc>) {
        let late = self.entries.iter().filter(|(_, entry)| entry.progress == Progress::Ready(QueueKey::Pods));
        let late: Vec<Uid> = late.filter(|(_, entry)| entry.is_late(now)).map(|(uid, _)| uid.clone()).collect();
        for uid in late {
            // The outcome needs no Pod.
            self.enqueue(&uid, QueueKey::NoEnvironment);
        }
    }

    /// Returns the Secrets that messages name which are not finished. None is needed while another
    /// process sends the messages.
    #[must_use]
    pub fn needed_secrets(&self) -> HashSet<SourceName> {
        let unfinished = self.entries.values().filter(|entry| self.leading && !entry.state.is_finished());
        let mut needed = HashSet::new();
        for secret in unfinished.flat_map(|entry| entry.message.summary().sources()) {
            if !needed.contains(secret) {
                needed.insert(secret.clone());
            }
        }
        needed
    }

    /// Returns the time at which [`take`](Self::take) may find a job that it does not find now.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the next job, if there is one that may start. `now` is the time on both clocks:
    /// backoffs use the first, and deadlines the second.
    pub fn take(&mut self, now: Instant, wall_clock: DateTime<Utc>) -> Option<Job> {
        self.wake_due(now);
        loop {
            // Jobs that wait for a Pod do not block status writes.
            let is_direct = |key: &QueueKey| !matches!(key, QueueKey::Statuses | QueueKey::Pods);
            let backlog = self.leading && self.queues.iter().any(|(key, queue)| is_direct(key) && queue.has_backlog());
            let limits =
                QueueLimits { direct: self.concurrency, pods: self.pods.concurrency, backlog, leading: self.leading };
            let (&key, queue) = self.queues.iter_mut().find(|(key, queue)| queue.may_start(**key, limits))?;
            let uid = queue.pop()?;
            // The message may have left the queue since it was pushed.
            let Some(entry) = self.entries.get_mut(&uid).filter(|entry| entry.progress == Progress::Ready(key)) else {
                queue.skip();
                continue;
            };
            if !self.leading && !entry.is_unrecorded() {
                entry.progress = Progress::Waiting { due: None };
                continue;
            }
            let message = entry.message.expand();
            let decision = match key {
                QueueKey::Statuses => Decision::Rest,
                QueueKey::Environment(_) | QueueKey::Pods | QueueKey::NoEnvironment => {
                    decide(&message, &entry.state, wall_clock)
                }
            };
            if decision == Decision::Rest && !entry.unwritten {
                entry.progress = Progress::Waiting { due: None };
                continue;
            }
            self.jobs += 1;
            entry.progress = Progress::InFlight { job: self.jobs, again: Again::No };
            let size = entry.message.size();
            queue.start(size);
            return Some(Job {
                message,
                without_spec: entry.message.is_without_spec(),
                state: entry.state.clone(),
                unwritten: entry.unwritten,
                last_reported: entry.last_reported,
                decision,
                seen: entry.seen,
                due: entry.due,
                key,
                number: self.jobs,
                size,
                alive: Arc::downgrade(&entry.alive),
            });
        }
    }

    /// Ends a job that [`take`](Self::take) returned.
    pub fn finish(&mut self, job: &Job, next: Next) {
        if let Some(queue) = self.queues.get_mut(&job.key) {
            queue.end(job.size);
        }
        // If the message was deleted while its job ran, there is nothing more to do for it. If it was also
        // added again, its next job may run.
        let is_latest = |entry: &Entry| entry.job().is_none_or(|number| number == job.number);
        let known = self.entries.get_key_value(job.message.uid()).filter(|(_, entry)| is_latest(entry));
        let Some((uid, entry)) = known else { return };
        let (uid, again) = (uid.clone(), entry.again());
        let (state, write, entry_due) = match next {
            Next::NotTried(not_tried) => return self.put_back(&uid, not_tried, again.after(None)),
            Next::Settled { state, write, due } => (self.compactor.state(state), write, due),
        };
        let Some(entry) = self.entries.get_mut(&uid) else { return };
        entry.state = state;
        entry.due = entry_due;
        entry.unwritten = matches!(write, Write::Queued | Write::RetryAt(_));
        if write == Write::Done {
            entry.last_reported = entry.state.reason;
        }
        let due = match write {
            Write::RetryAt(at) => Some(entry.due.map_or(at, |due| due.min(at))),
            Write::Done | Write::Queued | Write::Impossible => entry.due,
        };
        entry.progress = Progress::Waiting { due };
        match (again.after(entry.state.reason), write) {
            (true, _) => self.make_ready(&uid),
            (false, Write::Queued) => self.enqueue(&uid, QueueKey::Statuses),
            (false, Write::Done | Write::RetryAt(_) | Write::Impossible) => self.due.extend(due.map(|due| (due, uid))),
        }
    }

    /// Puts back a message whose job did not try it.
    fn put_back(&mut self, uid: &Uid, not_tried: NotTried, again: bool) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.progress = Progress::Waiting { due: None };
        match not_tried {
            // While the job ran, the message was suspended, or removed and added again.
            NotTried::Cancelled => self.make_ready(uid),
            _ if again => self.make_ready(uid),
            NotTried::SendByPod => self.enqueue(uid, QueueKey::Pods),
            NotTried::RetryAt(at) => {
                entry.due = Some(at);
                if entry.unwritten {
                    return self.enqueue(uid, QueueKey::Statuses);
                }
                entry.progress = Progress::Waiting { due: entry.due };
                self.due.insert((at, uid.clone()));
            }
        }
    }

    /// Returns the number of known messages that are not finished.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.values().filter(|entry| !entry.state.is_finished()).count()
    }

    /// Returns for each environment the number of messages that have waited for
    /// longer than each of the `ages`. `None` stands for messages that can't be read. Suspended messages don't wait.
    #[must_use]
    pub fn pending_by_age<const N: usize>(
        &self,
        now: DateTime<Utc>,
        ages: [TimeDelta; N],
    ) -> Vec<(Option<Environment>, [usize; N])> {
        let mut counts =
            [Some(Environment::Prod), Some(Environment::Stg), None].map(|environment| (environment, [0; N]));
        for entry in self.entries.values().filter(|entry| entry.is_pending()) {
            let (environment, age) = (entry.message.summary().environment(), entry.message.age(now));
            let Some((_, counts)) = counts.iter_mut().find(|(other, _)| *other == environment) else { continue };
            for (count, _) in counts.iter_mut().zip(ages).filter(|(_, than)| age >= *than) {
                *count += 1;
            }
        }
        counts.into()
    }

    /// Returns the age of the oldest waiting message of each namespace. Beyond the `limit`, only those
    /// namespaces whose messages are the oldest.
    #[must_use]
    pub fn oldest_by_namespace(&self, now: DateTime<Utc>, limit: usize) -> Vec<(String, TimeDelta)> {
        if limit == 0 {
            return Vec::new();
        }
        let mut oldest = HashMap::new();
        for entry in self.entries.values().filter(|entry| entry.is_pending()) {
            let age = entry.message.age(now);
            let known = oldest.entry(entry.message.summary().namespace.as_ref()).or_insert(age);
            *known = age.max(*known);
        }
        let mut oldest: Vec<(&str, TimeDelta)> = oldest.into_iter().collect();
        oldest.sort_unstable_by_key(|(namespace, age)| (Reverse(*age), *namespace));
        oldest.into_iter().take(limit).map(|(namespace, age)| (namespace.to_owned(), age)).collect()
    }

    fn sync(&self, scope: Scope) -> u64 {
        self.syncs.get(&scope).copied().unwrap_or_default()
    }

    /// Tries the messages that waited for this change. Those whose job is in flight are tried once more
    /// if it ends with a reason to wait for the change.
    fn wake_after(&mut self, change: Change, concerns: impl Fn(&Entry) -> bool) {
        self.wake(|entry| {
            if !concerns(entry) {
                return false;
            }
            if let Progress::InFlight { again, .. } = &mut entry.progress {
                *again = again.or_if(change);
                return false;
            }
            !entry.state.is_finished() && entry.state.reason.is_some_and(|reason| change.may_end(reason))
        });
    }

    fn wake(&mut self, wanted: impl Fn(&mut Entry) -> bool) {
        let wanted = self.entries.iter_mut().filter_map(|(uid, entry)| wanted(entry).then(|| uid.clone()));
        let uids: Vec<Uid> = wanted.collect();
        for uid in uids {
            self.make_ready(&uid);
        }
    }

    /// Moves due entries to their queues.
    fn wake_due(&mut self, now: Instant) {
        while let Some((due, uid)) = self.due.first().cloned()
            && due <= now
        {
            self.due.remove(&(due, uid.clone()));
            let Some(entry) = self.entries.get(&uid) else { continue };
            let only_write = entry.unwritten && entry.due.is_none_or(|due| due > now);
            if only_write { self.enqueue(&uid, QueueKey::Statuses) } else { self.make_ready(&uid) }
        }
    }

    /// Returns the queue from which a message is sent first.
    fn key_of(&self, message: &CompactMessage) -> QueueKey {
        match message.summary().environment() {
            _ if self.pods.always && message.summary().readable => QueueKey::Pods,
            Some(environment) => QueueKey::Environment(environment),
            None => QueueKey::NoEnvironment,
        }
    }

    /// Puts a message into the queue of its next job.
    fn make_ready(&mut self, uid: &Uid) {
        if let Some(entry) = self.entries.get(uid) {
            let key = if entry.is_unrecorded() { QueueKey::Statuses } else { self.key_of(&entry.message) };
            self.enqueue(uid, key);
        }
    }

    fn enqueue(&mut self, uid: &Uid, key: QueueKey) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.progress {
            Progress::Ready(other) if other == key => return,
            Progress::Ready(_) | Progress::Waiting { due: None } => {}
            Progress::InFlight { job, .. } => {
                entry.progress = Progress::InFlight { job, again: Again::Yes };
                return;
            }
            Progress::Waiting { due: Some(due) } => {
                self.due.remove(&(due, uid.clone()));
            }
        }
        let before = std::mem::replace(&mut entry.progress, Progress::Ready(key));
        self.queues.entry(key).or_default().push(&entry.message.summary().namespace, uid.clone());
        if let Progress::Ready(other) = before {
            self.leave(other);
        }
    }

    /// A message has left a queue before its job started.
    fn leave(&mut self, key: QueueKey) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.leave(is_ready(&self.entries, key));
        }
    }
}

/// Returns which messages are ready in this queue.
fn is_ready(entries: &HashMap<Uid, Box<Entry>>, key: QueueKey) -> impl Fn(&Uid) -> bool {
    move |uid| entries.get(uid).is_some_and(|entry| entry.progress == Progress::Ready(key))
}
