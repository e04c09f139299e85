//! What the queue knows of a message.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::super::lanes::LaneName;
use super::Scope;
use crate::message::authentication::SecretName;
use crate::message::outcome::{Reason, Then};
use crate::message::packed::{PackedMessage, PackedStatus};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: PackedMessage,
    /// The room that it takes, if it is large and whole.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// What the status says, or will say once it could be written.
    pub(super) status: PackedStatus,
    /// Whether the object does not have this status yet.
    pub(super) unwritten: bool,
    /// The reason that the object's own status tells.
    pub(super) told: Option<Reason>,
    /// When the message is to be looked at again, if nothing changes before.
    pub(super) due: Option<DateTime<Utc>>,
    pub(super) state: State,
    pub(super) scope: Scope,
    pub(super) seen: u64,
    /// Ends with the entry; who works on it sees so.
    pub(super) life: Arc<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In this lane, for the next free hand.
    Ready(LaneName),
    /// In somebody's hands. `again`: something changed meanwhile.
    Busy { again: bool },
    /// Nothing to do before this time, or before something changes.
    Waiting { due: Option<DateTime<Utc>> },
}

impl Entry {
    pub(super) fn new(
        message: PackedMessage,
        room: Option<OwnedSemaphorePermit>,
        status: PackedStatus,
        scope: Scope,
        seen: u64,
    ) -> Self {
        Self {
            message,
            room,
            told: status.reason(),
            status,
            unwritten: false,
            due: None,
            state: State::Waiting { due: None },
            scope,
            seen,
            life: Arc::default(),
        }
    }

    /// Whether it is not finished, and names the Secret.
    pub(super) fn needs(&self, secret: &SecretName) -> bool {
        !self.status.is_finished() && self.message.origin().secrets.contains(secret)
    }

    /// Whether the message was sent, and its object does not say so yet.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.unwritten && self.status.is_sent()
    }

    /// Whether somebody is at work on it.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy { .. })
    }

    /// Whether what is to happen after its reason is this.
    pub(super) fn awaits(&self, then: Then) -> bool {
        self.status.reason().is_some_and(|reason| reason.then() == then)
    }
}
