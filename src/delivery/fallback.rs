//! Delivery by the process, or, where that fails for a reason that a Pod might get past, by a Pod.
//!
//! The pool knows of each connection how often in a row it has failed, so what one message has found out
//! serves all with the same credentials; and once it is back, the next message goes directly again.

use super::by_pod::ByPod;
use super::{Delivered, Parcel, direct};
use crate::broker::errors::BrokerError;
use crate::broker::pool::{Pool, Trouble};
use crate::message::outcome::{Attempt, Failure, Outcome, Reason};

/// Both ways, and when to take which.
pub struct Fallback {
    /// The direct way.
    pub pool: Pool,
    /// The way by Pods.
    pub pods: ByPod,
    /// How often in a row the direct way has to fail before Pods are tried.
    pub after: u32,
}

/// The next step of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Try to send it directly.
    Direct,
    /// Send it by a Pod, because direct delivery failed so.
    Pod(BrokerError),
}

/// Which way a message goes, given the trouble that its connection has, after so many failures in a row.
///
/// A connection that can't be had is tried by the pool, so it costs nothing to ask for it. A broker that
/// does not confirm is asked by one message at a time: whoever asks may have sent its message.
#[must_use]
pub fn way(trouble: Option<&Trouble>, after: u32) -> Way {
    match trouble {
        Some(trouble) if trouble.failures >= after && may_help(trouble.error.reason()) && !trouble.ask_again => {
            Way::Pod(trouble.error.clone())
        }
        _ => Way::Direct,
    }
}

/// Whether a Pod might get past what stopped direct delivery: never a message's own fault.
#[must_use]
pub fn may_help(reason: Reason) -> bool {
    match reason {
        Reason::BrokerUnreachable | Reason::TlsFailed | Reason::AuthenticationFailed | Reason::ConfirmTimeout => true,
        Reason::Suspended
        | Reason::Sent
        | Reason::InvalidMessage
        | Reason::SecretNotFound
        | Reason::SecretInvalid
        | Reason::CertificateExpired
        | Reason::VhostRefused
        | Reason::BrokerBlocked
        | Reason::Nacked
        | Reason::TopicForbidden
        | Reason::ExchangeNotFound
        | Reason::MessageTooLarge
        | Reason::DeadlineExceeded
        | Reason::BackoffLimitExceeded
        | Reason::PodFailed => false,
    }
}

impl Fallback {
    /// Delivers a message the one way or the other.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Delivered {
        let trouble = || self.pool.trouble(parcel.message.environment, &parcel.identity.credentials);
        let failed = match way(trouble().as_ref(), self.after) {
            Way::Pod(error) => Attempt::from(error),
            Way::Direct => match direct(&self.pool, parcel).await {
                Delivered::Tried(attempt) => attempt,
                other => return other,
            },
        };
        // Whether the failure that it has just met was one too many.
        let Way::Pod(error) = way(trouble().as_ref(), self.after) else { return Delivered::Tried(failed) };
        if !may_help(failed.outcome.reason) {
            return Delivered::Tried(failed);
        }
        if !parcel.turn.by_pod {
            // A message that no Pod can carry waits for the direct way.
            return if self.pods.plan(parcel).is_ok() { Delivered::NextByPod } else { Delivered::Tried(failed) };
        }
        let direct = Outcome::from(error);
        Delivered::Tried(self.pods.send(parcel, Some(&direct)).await)
    }
}
