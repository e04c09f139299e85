//! Direct delivery, or delivery by a Pod if direct delivery fails for a reason that a Pod might get
//! past.
//!
//! The pool counts the failures of each connection in a row, so all messages with the same
//! credentials share what one of them has found. Once the broker is back, the next message goes
//! directly again.

use fedora_message::policy::outcome::{Attempt, Failure, Mode, Outcome, Reason};

use super::pod::PodDelivery;
use super::{DeliveryRequest, NotTried, direct, direct_attempt};
use crate::broker::errors::BrokerError;
use crate::broker::pool::{Failures, Pool};

/// Both ways to deliver, and when to use which.
pub struct Fallback {
    /// Delivers directly.
    pub pool: Pool,
    /// Delivers by Pods.
    pub pods: PodDelivery,
    /// After so many failures in a row, Pods are tried.
    pub after: u32,
}

/// How a message is delivered next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// Directly.
    Direct,
    /// By a Pod, because direct delivery failed with this error.
    Pod(BrokerError),
}

/// Chooses the route of a message by the failures of its connection. A Pod needs the mechanism EXTERNAL
/// too.
fn route(failures: Option<&Failures>, after: u32) -> Route {
    match failures {
        Some(Failures { error: BrokerError::NoExternal { .. }, .. }) => Route::Direct,
        Some(failures) if failures.count >= after && may_help(failures.error.reason()) => {
            Route::Pod(failures.error.clone())
        }
        _ => Route::Direct,
    }
}

/// Returns true if a Pod might get past what stopped direct delivery. It never gets past a fault of
/// the message itself.
fn may_help(reason: Reason) -> bool {
    match reason {
        Reason::BrokerUnreachable | Reason::TlsFailed | Reason::AuthenticationFailed | Reason::ConfirmTimeout => true,
        Reason::Suspended
        | Reason::Sending
        | Reason::Sent
        | Reason::InvalidMessage
        | Reason::Misconfigured
        | Reason::SenderNotFound
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
    /// Makes one attempt to deliver a message, on the route that is likely to succeed.
    pub(super) async fn send(&self, request: &DeliveryRequest<'_>) -> Result<Attempt, NotTried> {
        let failures = || self.pool.failures(request.message.environment, &request.identity.login);
        let claim_probe = || self.pool.claim_probe(request.message.environment, &request.identity.login);
        let failed = match route(failures().as_ref(), self.after) {
            Route::Pod(error) if !claim_probe() => direct_attempt(error),
            Route::Pod(_) | Route::Direct => direct(&self.pool, request).await?,
        };
        // The failure that this attempt has just met may be one too many.
        let Route::Pod(error) = route(failures().as_ref(), self.after) else { return Ok(failed) };
        if !may_help(failed.outcome.reason) {
            return Ok(failed);
        }
        if request.mode != Mode::Pod {
            // A message that no Pod can send waits for the broker.
            return if self.pods.plan(request).is_ok() { Err(NotTried::SendByPod) } else { Ok(failed) };
        }
        self.pods.send(request, Some(&Outcome::from(error))).await
    }
}

#[cfg(test)]
mod tests;
