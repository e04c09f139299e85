//! The queue's knowledge of a message.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fedora_message::api::names::SourceName;
use fedora_message::compact::CompactMessage;
use fedora_message::policy::outcome::Reason;
use fedora_message::policy::retry::{Decision, decide};
use fedora_message::state::MessageState;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Scope;
use super::fair_queue::QueueKey;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: CompactMessage,
    /// The permit for the bytes of a large message that waits here with its spec.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// The state that the status says, or will say once it is written.
    pub(super) state: MessageState,
    /// When this process learned of the message, or of the last change of its spec.
    pub(super) seen: Instant,
    /// True while the object's status does not say this state yet.
    pub(super) unwritten: bool,
    /// The reason that the object's status says.
    pub(super) last_reported: Option<Reason>,
    /// When the message is looked at again, if nothing changes before.
    pub(super) due: Option<Instant>,
    pub(super) progress: Progress,
    pub(super) scope: Scope,
    /// The number of the list that last had the message.
    pub(super) sync: u64,
    /// Is dropped with the entry, or when the message is suspended, so that a job in flight sees that
    /// it must not send the message.
    pub(super) alive: Arc<()>,
}

/// Where a message is in the work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits in this queue for its job to start.
    Ready(QueueKey),
    /// The job of this number is in flight.
    InFlight { job: u64, again: Again },
    /// There is nothing to do before this time, or before something changes.
    Waiting { due: Option<Instant> },
}

/// If a message is tried again once its job in flight has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing has changed since the job started.
    No,
    /// Something has changed that only some failures waited for.
    If(Change),
    /// The message has changed, or something that any attempt needs.
    Yes,
}

/// A change that ends the wait of all messages that failed for certain reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A broker is back.
    Broker,
    /// The Senders can be read now.
    Senders,
    /// The operator has other settings.
    Settings,
}

impl Change {
    /// Returns true if a message that failed for this reason may be sent now.
    pub(super) fn may_end(self, reason: Reason) -> bool {
        match self {
            Self::Broker => reason.may_end_with_recovery(),
            Self::Senders => reason == Reason::SenderNotFound,
            Self::Settings => reason == Reason::Misconfigured,
        }
    }
}

impl Again {
    /// Returns the answer after one more change.
    pub(super) fn or_if(self, change: Change) -> Self {
        match self {
            Self::No => Self::If(change),
            Self::If(other) if other == change => self,
            Self::If(_) | Self::Yes => Self::Yes,
        }
    }

    /// Returns the answer for a job that ended with this reason, or without a result.
    pub(super) fn after(self, reason: Option<Reason>) -> bool {
        match self {
            Self::No => false,
            Self::If(change) => reason.is_none_or(|reason| change.may_end(reason)),
            Self::Yes => true,
        }
    }
}

impl Entry {
    pub(super) fn new(
        message: CompactMessage,
        permit: Option<OwnedSemaphorePermit>,
        state: MessageState,
        seen: Instant,
        scope: Scope,
        sync: u64,
    ) -> Self {
        Self {
            message,
            permit,
            last_reported: state.reason,
            state,
            seen,
            unwritten: false,
            due: None,
            progress: Progress::Waiting { due: None },
            scope,
            sync,
            alive: Arc::default(),
        }
    }

    /// Returns true if the message names the Secret, and is not finished or in flight once more.
    pub(super) fn needs(&self, secret: &SourceName) -> bool {
        (self.is_in_flight() || !self.state.is_finished()) && self.message.summary().sources().contains(secret)
    }

    /// Returns true if the message is not finished, and nobody has suspended it.
    pub(super) fn is_pending(&self) -> bool {
        !self.state.is_finished() && self.state.reason != Some(Reason::Suspended)
    }

    /// Returns true if the message has to be given up, because its deadline has passed.
    pub(super) fn is_late(&self, now: DateTime<Utc>) -> bool {
        let has_deadline = self.is_pending() && self.message.summary().active_deadline_seconds().is_some();
        has_deadline && decide(&self.message.expand(), &self.state, now) != Decision::Attempt
    }

    /// Returns true if the message was sent, and its object does not say so yet.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.unwritten && self.state.is_sent()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.job().is_some()
    }

    /// Returns the number of the job in flight.
    pub(super) fn job(&self) -> Option<u64> {
        match self.progress {
            Progress::InFlight { job, .. } => Some(job),
            Progress::Ready(_) | Progress::Waiting { .. } => None,
        }
    }

    /// Returns when another job follows the one in flight: [`Again::No`] if there is none.
    pub(super) fn again(&self) -> Again {
        match self.progress {
            Progress::InFlight { again, .. } => again,
            Progress::Ready(_) | Progress::Waiting { .. } => Again::No,
        }
    }
}
