//! The state of the model: the API server's objects, each operator's memory, the Lease, messages in
//! transit, and the true history.

use crate::fault::FaultBudget;
use crate::sender::{Attempt, Envelope, SenderWatch, StoredSender};

/// The number of objects in a run: one, and the one that is created again under its name.
pub const MESSAGES: usize = 2;

/// An object's uid. All objects of the model have the same name, one after the other.
pub type ObjectUid = usize;

/// An object's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Not written yet.
    None,
    /// An attempt failed, and another follows.
    Failed,
    /// The operator stopped trying, with a reason.
    Stopped,
    /// The broker confirmed it.
    Sent,
}

impl Status {
    /// Returns true if no attempt follows.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Stopped | Self::Sent)
    }
}

/// An object at the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoredObject {
    pub uid: ObjectUid,
    /// The resourceVersion: one more with every change.
    pub version: u8,
    pub status: Status,
}

/// A status write in transit to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patch {
    pub uid: ObjectUid,
    pub status: Status,
    /// The version that the operator knew when it dequeued the status write.
    pub version: u8,
}

/// A Pod at the API server. A failed one is not kept: its message's next attempt has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pod {
    pub uid: ObjectUid,
    /// Part of the Pod's name: true if an attempt had failed before.
    pub retries: bool,
    /// The version of the Sender that it was planned with.
    pub sender: u8,
    /// True if it has ended, and sent the message.
    pub sent: bool,
}

/// An event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchedChange {
    Seen(StoredObject),
    Gone(ObjectUid),
    Complete,
}

/// The state of an entry's status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteState {
    Written,
    /// The next job writes it.
    Next,
    /// Another client changed the object. The write waits until the watch delivers the change.
    AfterWatch,
}

/// The wait of an entry for its Sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SenderWait {
    No,
    /// The last attempt found no Sender. The next one follows when the Sender changes.
    Waits,
    /// The Sender has changed while an attempt without it is in flight.
    Woken,
}

/// A message in the work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueEntry {
    pub status: Status,
    pub write_state: WriteState,
    pub version: u8,
    pub busy: bool,
    /// True if the latest list contained it.
    pub listed: bool,
    pub sender_wait: SenderWait,
}

impl QueueEntry {
    /// Returns true if the message was sent, and the API server does not have that status yet.
    pub fn is_unrecorded(self) -> bool {
        self.status == Status::Sent && self.write_state != WriteState::Written
    }
}

/// A job in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActiveJob {
    /// Dequeued, and not published yet.
    Attempt(Attempt),
    /// The broker has the message, and its confirm is in transit.
    Published(ObjectUid),
    /// The message has no Pod yet.
    CreatingPod(Attempt),
    /// The message has a Pod.
    AwaitingPod(ObjectUid),
    /// The status write is in flight.
    Recording(Patch),
}

impl ActiveJob {
    pub fn uid(self) -> ObjectUid {
        match self {
            Self::Attempt(attempt) | Self::CreatingPod(attempt) => attempt.uid,
            Self::Published(uid) | Self::AwaitingPod(uid) => uid,
            Self::Recording(patch) => patch.uid,
        }
    }

    /// Returns true if it is an attempt that found no Sender.
    pub fn lacks_sender(self) -> bool {
        matches!(self, Self::Attempt(attempt) if attempt.sender.is_none())
    }

    /// Returns true if it is a status write for a sent message.
    pub fn records_sent(self) -> bool {
        matches!(self, Self::Recording(patch) if patch.status == Status::Sent)
    }
}

/// The role in the operator's loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends nothing.
    #[default]
    Follower,
    /// Sends while its term is valid.
    Leader,
    /// Received SIGTERM: it records all sent messages, and ends.
    Stopping,
}

/// The watch of an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WatchState {
    /// It starts with a list.
    #[default]
    Ended,
    Running,
    /// It runs over a dead connection.
    Silent,
}

/// The term of an operator. Only time ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TermState {
    #[default]
    Over,
    /// The operator's clock stood still while the term ended, so that it does not know.
    OverUnnoticed,
    Valid,
}

/// The process of one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OperatorState {
    pub entries: [Option<QueueEntry>; MESSAGES],
    /// Sorted, so the same jobs are the same state.
    pub jobs: Vec<ActiveJob>,
    /// The events that the watch has not delivered yet, in the API server's order.
    pub events: Vec<WatchedChange>,
    pub watch: WatchState,
    /// True if the Secret was read before.
    pub knows_secret: bool,
    /// The Sender of the first attempt. Only a design without `ReadSender` has one.
    pub first_sender: Option<u8>,
    pub senders: SenderWatch,
    pub role: Role,
    pub term: TermState,
    /// True if a term has begun and the loop has not started it.
    pub new_term: bool,
}

impl OperatorState {
    /// Returns true if no job is in flight and all sent messages are recorded.
    pub fn is_at_rest(&self) -> bool {
        self.jobs.is_empty() && !self.entries.iter().flatten().any(|entry| entry.is_unrecorded())
    }

    /// Returns true if only this operator knows that it published this message.
    fn alone_knows(&self, uid: ObjectUid) -> bool {
        let has_published = |job: &ActiveJob| match job {
            ActiveJob::Attempt(_) | ActiveJob::CreatingPod(_) | ActiveJob::AwaitingPod(_) => false,
            ActiveJob::Published(other) => *other == uid,
            ActiveJob::Recording(patch) => patch.uid == uid && patch.status == Status::Sent,
        };
        self.jobs.iter().any(has_published) || self.entries[uid].is_some_and(QueueEntry::is_unrecorded)
    }
}

/// The true history of a message, which no operator can read. The properties use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// The number of times the broker received the message.
    pub published: u8,
    /// True if the broker confirmed the message.
    pub confirmed: bool,
    /// The number of events that lost the knowledge that the message was published.
    pub excuses: u8,
    /// True if its status changed back from "sent".
    pub went_back: bool,
    /// True if an operator published it as another version of the Sender than the one that it knew
    /// when the attempt started.
    pub as_old_sender: bool,
}

/// The state of all parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelState {
    pub object: Option<StoredObject>,
    pub created: usize,
    /// The holder in the Lease.
    pub holder: Option<usize>,
    pub operators: Vec<OperatorState>,
    /// Writes that timed out and may still take effect.
    pub late: Vec<Patch>,
    /// Sorted.
    pub pods: Vec<Pod>,
    /// Requests for Pods that timed out and may still take effect.
    pub late_pods: Vec<Pod>,
    /// True while operators may read the Secret.
    pub secret_allowed: bool,
    pub sender: StoredSender,
    /// The number of versions of the Sender so far.
    pub sender_versions: u8,
    /// The faults that may still happen.
    pub faults: FaultBudget,
    pub truth: [Truth; MESSAGES],
    /// The different envelopes that the broker received, if messages name a Sender. Sorted.
    pub envelopes: Vec<Envelope>,
    /// True if an operator published after its term.
    pub published_after_term: bool,
    /// True if an operator published with a Secret that it may not read.
    pub published_without_secret: bool,
}

impl ModelState {
    /// Sends an event to all watches.
    pub fn notify(&mut self, event: WatchedChange) {
        for operator in self.operators.iter_mut().filter(|operator| operator.watch == WatchState::Running) {
            operator.events.push(event);
        }
    }

    /// Changes the Sender, and sends the event to all watches on Senders.
    pub fn set_sender(&mut self, sender: StoredSender) {
        self.sender = sender;
        for operator in self.operators.iter_mut().filter(|operator| operator.senders.watch == WatchState::Running) {
            operator.senders.events.push(sender);
        }
    }

    /// Creates a Pod, unless there is one of that name.
    pub fn create_pod(&mut self, pod: Pod) {
        if !self.pods.iter().any(|other| (other.uid, other.retries) == (pod.uid, pod.retries)) {
            self.pods.push(pod);
            self.pods.sort_unstable();
        }
    }

    /// Excuses a second publish of the messages that only this operator knows to be published.
    pub fn excuse(&mut self, operator: usize) {
        for uid in 0..MESSAGES {
            let recorded = self.object.is_some_and(|object| object.uid == uid && object.status == Status::Sent);
            let proven = self.pods.iter().any(|pod| pod.uid == uid && pod.sent);
            if !recorded && !proven && self.operators[operator].alone_knows(uid) {
                self.truth[uid].excuses += 1;
            }
        }
    }
}
