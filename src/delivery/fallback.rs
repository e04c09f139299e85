//! Delivery by the process, or, where that fails for a reason that a Pod might get past, by a Pod.
//!
//! The pool knows of each connection how often in a row it has failed, so what one message has found out
//! serves all with the same credentials; and once it is back, the next message goes directly again.

use super::pod::PodDelivery;
use super::{Delivered, DeliveryRequest, direct};
use crate::broker::errors::BrokerError;
use crate::broker::pool::{Health, Pool};
use fedora_message::policy::outcome::{Attempt, Failure, Outcome, Reason};

/// Both ways, and when to take which.
pub struct Fallback {
    /// The direct way.
    pub pool: Pool,
    /// The way by Pods.
    pub pods: PodDelivery,
    /// How often in a row the direct way has to fail before Pods are tried.
    pub after: u32,
}

/// The next step of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
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
pub fn route(health: Option<&Health>, after: u32) -> Route {
    match health {
        Some(health) if health.failures >= after && may_help(health.error.reason()) && !health.probe_due => {
            Route::Pod(health.error.clone())
        }
        _ => Route::Direct,
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
    pub(crate) async fn deliver(&self, request: &DeliveryRequest<'_>) -> Delivered {
        let health = || self.pool.health(request.message.environment, &request.identity.credentials);
        let failed = match route(health().as_ref(), self.after) {
            Route::Pod(error) => Attempt::from(error),
            Route::Direct => match direct(&self.pool, request).await {
                Delivered::Tried(attempt) => attempt,
                other => return other,
            },
        };
        // Whether the failure that it has just met was one too many.
        let Route::Pod(error) = route(health().as_ref(), self.after) else { return Delivered::Tried(failed) };
        if !may_help(failed.outcome.reason) {
            return Delivered::Tried(failed);
        }
        if !request.turn.by_pod {
            // A message that no Pod can carry waits for the direct way.
            return if self.pods.plan(request).is_ok() { Delivered::NextByPod } else { Delivered::Tried(failed) };
        }
        let direct = Outcome::from(error);
        Delivered::Tried(self.pods.send(request, Some(&direct)).await)
    }
}

#[cfg(test)]
mod tests;
