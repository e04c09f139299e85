//! The work queue: every message that is not known to be sent, what was last found out about it,
//! and when it is its turn. A pure state machine; the time is an argument.
//!
//! Messages are known by their uid, so one that was deleted and created again under the same name
//! is another. What was confirmed stays here until the watch reports it gone: however long that
//! takes, it is not sent twice (docs/decisions/0007).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::message::authentication::SecretName;
use crate::message::decide::{Decision, deadline, decide};
use crate::message::incoming::FedoraMessage;
use crate::message::outcome::{Reason, Then};
use crate::message::resource::{Environment, FedoraMessageStatus};
use crate::message::status::is_stalled;

/// A message's identity: its resource's uid.
type Uid = Arc<str>;

/// All messages that are not known to be sent.
#[derive(Debug)]
pub struct Queue {
    entries: HashMap<Uid, Entry>,
    lanes: HashMap<Option<Environment>, Lane>,
    due: BTreeSet<(DateTime<Utc>, Uid)>,
    syncs: HashMap<Scope, u64>,
    width: usize,
}

/// Which of several watches an event came from.
pub type Scope = usize;

#[derive(Debug)]
struct Entry {
    message: Arc<FedoraMessage>,
    /// What the status says, or will say once it could be written.
    status: FedoraMessageStatus,
    /// Whether the last write of the status failed.
    unwritten: bool,
    state: State,
    scope: Scope,
    seen: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In its lane, for the next free hand.
    Ready,
    /// In somebody's hands. `again`: something changed meanwhile.
    Busy { again: bool },
    /// Nothing to do before this time, or before something changes.
    Waiting { due: Option<DateTime<Utc>> },
}

/// The messages of one environment that are ready, fairly: each namespace in turn.
#[derive(Debug, Default)]
struct Lane {
    busy: usize,
    turns: VecDeque<String>,
    ready: HashMap<String, VecDeque<Uid>>,
}

/// A message that somebody is to work on; [`Queue::finish`] ends it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub message: Arc<FedoraMessage>,
    /// What its status says.
    pub status: FedoraMessageStatus,
    /// Whether the status has to be written even if nothing changes in it.
    pub unwritten: bool,
    /// What to do: an attempt, or a report. [`Decision::Rest`] means that only the status is left
    /// to be written.
    pub decision: Decision,
}

/// What became of a [`Job`].
#[derive(Clone, Debug)]
pub struct Done {
    /// The status that follows.
    pub status: FedoraMessageStatus,
    /// Whether it has been written.
    pub written: bool,
    /// When to look at the message again, if nothing changes before.
    pub due: Option<DateTime<Utc>>,
}

impl Queue {
    /// An empty queue, which gives out at most `width` messages of an environment at a time.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            entries: HashMap::new(),
            lanes: HashMap::new(),
            due: BTreeSet::new(),
            syncs: HashMap::new(),
            width: width.max(1),
        }
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
    pub fn observe(&mut self, scope: Scope, message: impl Into<Arc<FedoraMessage>>) {
        let message = message.into();
        let uid: Uid = message.uid().into();
        let seen = self.sync(scope);
        let Some(entry) = self.entries.get_mut(&uid) else {
            let status = message.status.as_deref().cloned().unwrap_or_default();
            let state = State::Waiting { due: None };
            self.entries.insert(uid.clone(), Entry { message, status, unwritten: false, state, scope, seen });
            return self.make_ready(&uid);
        };
        let changed =
            entry.message.metadata.generation != message.metadata.generation || entry.message.retry != message.retry;
        (entry.message, entry.scope, entry.seen) = (message, scope, seen);
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
            let waits = matches!(entry.state, State::Busy { .. }) || awaits(entry, Then::Backoff);
            waits && lane_of(&entry.message) == Some(environment)
        });
    }

    /// A Secret has appeared or changed: whoever names it is tried again.
    pub fn wake_secret(&mut self, secret: &SecretName) {
        self.wake(|entry| !is_finished(entry) && names(&entry.message, secret));
    }

    /// Whether any message that is not finished names the Secret.
    #[must_use]
    pub fn needs(&self, secret: &SecretName) -> bool {
        self.entries.values().any(|entry| !is_finished(entry) && names(&entry.message, secret))
    }

    /// When [`take`](Self::take) may find something that it does not find now.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next message to work on, if there is one and a hand is free for its environment.
    pub fn take(&mut self, now: DateTime<Utc>) -> Option<Job> {
        while let Some((due, uid)) = self.due.first().cloned()
            && due <= now
        {
            self.due.remove(&(due, uid.clone()));
            self.make_ready(&uid);
        }
        loop {
            let lane = self.lanes.values_mut().find(|lane| lane.busy < self.width && !lane.turns.is_empty())?;
            let uid = lane.pop()?;
            let Some(entry) = self.entries.get_mut(&uid).filter(|entry| entry.state == State::Ready) else {
                continue;
            };
            let decision = decide(&entry.message, &entry.status, now);
            if decision == Decision::Rest && !entry.unwritten {
                entry.state = State::Waiting { due: None };
                continue;
            }
            entry.state = State::Busy { again: false };
            lane.busy += 1;
            let Entry { message, status, unwritten, .. } = entry;
            return Some(Job { message: message.clone(), status: status.clone(), unwritten: *unwritten, decision });
        }
    }

    /// Somebody has done what [`take`](Self::take) gave out.
    pub fn finish(&mut self, job: &Job, done: Done, now: DateTime<Utc>) {
        if let Some(lane) = self.lanes.get_mut(&lane_of(&job.message)) {
            lane.busy = lane.busy.saturating_sub(1);
        }
        let uid: Uid = job.message.uid().into();
        // Deleted meanwhile: there is nothing more to do for it.
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        entry.status = done.status;
        entry.unwritten = !done.written;
        let again = entry.state == State::Busy { again: true };
        let deadline = if is_finished(entry) { None } else { deadline(&entry.message, &entry.status, now) };
        let due = [done.due, deadline].into_iter().flatten().min();
        entry.state = State::Waiting { due };
        if let Some(due) = due {
            self.due.insert((due, uid.clone()));
        }
        if again {
            self.make_ready(&uid);
        }
    }

    /// How many messages are known and not finished.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.values().filter(|entry| !is_finished(entry)).count()
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

    fn make_ready(&mut self, uid: &Uid) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.state {
            State::Ready => return,
            State::Busy { .. } => {
                entry.state = State::Busy { again: true };
                return;
            }
            State::Waiting { due: Some(due) } => {
                self.due.remove(&(due, uid.clone()));
            }
            State::Waiting { due: None } => {}
        }
        entry.state = State::Ready;
        let lane = self.lanes.entry(lane_of(&entry.message)).or_default();
        lane.push(entry.message.namespace(), uid.clone());
    }
}

impl Lane {
    fn push(&mut self, namespace: &str, uid: Uid) {
        let queue = self.ready.entry(namespace.to_owned()).or_default();
        if queue.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        queue.push_back(uid);
    }

    fn pop(&mut self) -> Option<Uid> {
        let namespace = self.turns.pop_front()?;
        let queue = self.ready.get_mut(&namespace)?;
        let uid = queue.pop_front();
        if queue.is_empty() {
            self.ready.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        uid
    }
}

/// An unreadable message has a lane of its own: it names no environment, and needs no broker.
fn lane_of(message: &FedoraMessage) -> Option<Environment> {
    message.spec.as_ref().ok().map(|spec| spec.env)
}

/// Whether the message was sent, or given up.
fn is_finished(entry: &Entry) -> bool {
    entry.status.status == Some(true) || is_stalled(&entry.status)
}

fn awaits(entry: &Entry, then: Then) -> bool {
    let reason = Reason::ALL.into_iter().find(|reason| Some(reason.name()) == entry.status.reason.as_deref());
    reason.is_some_and(|reason| reason.then() == then)
}

fn names(message: &FedoraMessage, secret: &SecretName) -> bool {
    let Ok(spec) = &message.spec else { return false };
    let authentication = &spec.authentication;
    let whole = [&authentication.secret_ref, &authentication.secret_ref_camel].into_iter().flatten();
    let keys = [&authentication.ca_secret_ref, &authentication.cert_secret_ref, &authentication.key_secret_ref]
        .into_iter()
        .flatten();
    whole
        .map(|reference| (&reference.name, &reference.namespace))
        .chain(keys.map(|reference| (&reference.name, &reference.namespace)))
        .any(|(name, namespace)| {
            *name == secret.name && namespace.as_deref().unwrap_or(message.namespace()) == secret.namespace
        })
}
