//! What the queue knows of a message.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::Scope;
use super::fair_queue::QueueKey;
use fedora_message::compact::{CompactMessage, CompactStatus};
use fedora_message::message::authentication::SecretName;
use fedora_message::policy::outcome::{Reason, Then};

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: CompactMessage,
    /// The room that it takes, if it is large and whole.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// What the status says, or will say once it could be written.
    pub(crate) status: CompactStatus,
    /// Whether the object does not have this status yet.
    pub(crate) unwritten: bool,
    /// The reason that the object's own status tells.
    pub(crate) last_reported: Option<Reason>,
    /// When the message is to be looked at again, if nothing changes before.
    pub(crate) due: Option<DateTime<Utc>>,
    pub(crate) state: EntryState,
    pub(crate) scope: Scope,
    pub(crate) seen: u64,
    /// Ends with the entry; who works on it sees so.
    pub(crate) life: Arc<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// In this lane, for the next free hand.
    Ready(QueueKey),
    /// In somebody's hands. `again`: something changed meanwhile.
    Busy { again: bool },
    /// Nothing to do before this time, or before something changes.
    Waiting { due: Option<DateTime<Utc>> },
}

impl Entry {
    pub(crate) fn new(
        message: CompactMessage,
        room: Option<OwnedSemaphorePermit>,
        status: CompactStatus,
        scope: Scope,
        seen: u64,
    ) -> Self {
        Self {
            message,
            room,
            last_reported: status.reason(),
            status,
            unwritten: false,
            due: None,
            state: EntryState::Waiting { due: None },
            scope,
            seen,
            life: Arc::default(),
        }
    }

    /// Whether it is not finished, and names the Secret.
    pub(crate) fn needs(&self, secret: &SecretName) -> bool {
        !self.status.is_finished() && self.message.origin().secrets.contains(secret)
    }

    /// Whether the message was sent, and its object does not say so yet.
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.unwritten && self.status.is_sent()
    }

    /// Whether somebody is at work on it.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, EntryState::Busy { .. })
    }

    /// Whether what is to happen after its reason is this.
    pub(crate) fn awaits(&self, then: Then) -> bool {
        self.status.reason().is_some_and(|reason| reason.then() == then)
    }
}
