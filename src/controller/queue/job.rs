//! What the queue gives out, and what it is told of it.

use std::sync::Weak;

use chrono::{DateTime, Utc};

use super::fair_queue::QueueKey;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::policy::outcome::Reason;
use fedora_message::policy::retry::Decision;

/// A message that somebody is to work on; [`Queue::finish`](super::Queue::finish) ends it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub message: FedoraMessage,
    /// Whether its body was left with the API server, and what else of it may be large.
    pub without_body: bool,
    /// What its status says, or will say once it could be written.
    pub status: FedoraMessageStatus,
    /// Whether that status is still to be written.
    pub unwritten: bool,
    /// The reason that the object's own status tells.
    pub last_reported: Option<Reason>,
    /// What to do: an attempt, or a report. [`Decision::Rest`] means that only the status is left
    /// to be written.
    pub decision: Decision,
    /// When the message is to be looked at again.
    pub due: Option<DateTime<Utc>>,
    pub(crate) lane: QueueKey,
    pub(crate) size: usize,
    pub(crate) life: Weak<()>,
}

impl Job {
    /// Whether the message is to be sent by a Pod.
    #[must_use]
    pub fn by_pod(&self) -> bool {
        self.lane == QueueKey::Pods
    }

    /// Whether the message is still there: neither deleted, nor sent by somebody else.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.life.strong_count() > 0
    }
}

/// What became of a [`Job`].
#[derive(Clone, Debug)]
pub struct JobResult {
    /// The status that follows.
    pub status: FedoraMessageStatus,
    /// Whether it has been written.
    pub record: Next,
    /// When to look at the message again, if nothing changes before.
    pub due: Option<DateTime<Utc>>,
}

impl JobResult {
    /// It was not tried.
    #[must_use]
    pub fn without_attempt(job: &Job, record: Next) -> Self {
        Self { status: job.status.clone(), record, due: None }
    }
}

/// Whether a status has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The object has it.
    Written,
    /// It is to be written, once it is its turn.
    Next,
    /// Nothing is to be written: the message is to be sent by a Pod, once it is its turn there.
    NextByPod,
    /// Nothing is to be written: the message is not known any more.
    Withdrawn,
    /// It could not be written, and is to be written again at this time.
    Again(DateTime<Utc>),
    /// Nothing is to be written: the message could not be tried, and is to be at this time.
    Later(DateTime<Utc>),
}
