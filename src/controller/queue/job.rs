//! One job of the queue, and its result.

use std::sync::Weak;

use chrono::{DateTime, Utc};
use fedora_message::api::object::FedoraMessage;
use fedora_message::policy::outcome::{Mode, Reason};
use fedora_message::policy::retry::{Decision, decide, retry_requested};
use fedora_message::state::MessageState;
use tokio::time::Instant;

use super::fair_queue::QueueKey;
use crate::delivery::NotTried;

/// A message to work on. [`Queue::finish`](super::Queue::finish) ends the job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub message: FedoraMessage,
    /// True if its spec was left with the API server, and has to be read again.
    pub without_spec: bool,
    /// The state that its status says, or will say once it is written.
    pub state: MessageState,
    /// True if that status is still to be written.
    pub unwritten: bool,
    /// The reason that the object's status says.
    pub last_reported: Option<Reason>,
    /// The decision about it. [`Decision::Rest`] means that only the status is left to be written.
    pub decision: Decision,
    /// When this process learned of the message, or of the last change of its spec.
    pub seen: Instant,
    /// When the message is looked at again.
    pub due: Option<Instant>,
    pub(super) key: QueueKey,
    /// Tells the jobs of a message apart.
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) alive: Weak<()>,
}

impl Job {
    /// Decides again, because the fields that the message's Sender gives have changed. A status that is
    /// to be written is written first.
    pub fn decide_again(&mut self, now: DateTime<Utc>) {
        if self.key != QueueKey::Statuses {
            self.decision = decide(&self.message, &self.state, now);
        }
    }

    /// Returns how the message is sent this time.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.key == QueueKey::Pods { Mode::Pod } else { Mode::Direct }
    }

    /// Returns the reason why the last attempt failed, and when the next one is due, if the message was
    /// woken before that time. A message that its author has changed since is not woken early.
    #[must_use]
    pub fn woken_early(&self, now: Instant) -> Option<(Reason, Instant)> {
        let is_unchanged = self.state.observed_generation == self.message.metadata.generation
            && !retry_requested(&self.message, &self.state);
        self.state.reason.zip(self.due.filter(|due| *due > now && is_unchanged))
    }

    /// Returns true once the message is deleted or suspended, or was sent by another operator.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.alive.strong_count() == 0
    }
}

/// The result of a job.
#[derive(Clone, Debug)]
pub enum Next {
    /// The message has a new state.
    Settled {
        /// The state.
        state: MessageState,
        /// If the object's status says it already.
        write: Write,
        /// When to look at the message again, if nothing changes before.
        due: Option<Instant>,
    },
    /// The message was not tried, and its state is as before.
    NotTried(NotTried),
}

/// The progress of a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The object has the status, or needs none.
    Done,
    /// It waits in the queue of status writes.
    Queued,
    /// It failed, and is made again at this time.
    RetryAt(Instant),
    /// The object has no room for the status.
    Impossible,
}
