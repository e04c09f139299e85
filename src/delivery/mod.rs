//! How a message leaves: directly to the broker, by a Pod, or by a Pod where direct delivery fails.

mod fallback;
mod pod;

use std::sync::Arc;

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Envelope;
use fedora_message::message::outgoing::OutgoingMessage;
use fedora_message::message::secret::Secret;
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::fallback::Fallback;
pub use self::pod::PodDelivery;
use crate::broker::connection::Confirmed;
use crate::broker::login::Login;
use crate::broker::pool::{Pool, Usage};

/// The ways to deliver a message.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Delivery {
    /// The process publishes it.
    Direct(Pool),
    /// A Pod publishes it.
    Pod(PodDelivery),
    /// The process publishes it, or a Pod if that fails.
    Fallback(Fallback),
}

/// The identity that a message is sent as.
pub struct Identity {
    /// The credentials and the application.
    pub login: Login,
    /// The Secrets that hold the credentials, in the order in which the message names them.
    pub secrets: Vec<Option<Arc<Secret>>>,
    /// A warning of something to fix soon.
    pub warning: Option<String>,
}

/// One message to deliver.
pub struct DeliveryRequest<'a> {
    /// The resource.
    pub object: &'a FedoraMessage,
    /// The message that was made of it.
    pub message: &'a OutgoingMessage,
    /// The exchange to publish to.
    pub exchange: &'a str,
    /// The identity to send it as.
    pub identity: &'a Identity,
    /// The number of recorded attempts.
    pub attempts: u32,
    /// How it is sent this time, if there is a choice.
    pub mode: Mode,
    /// The reason of the last failure, and when the next attempt is due, if something has woken the
    /// message before.
    pub woken_early: Option<(Reason, Instant)>,
    /// Returns true once the message must not be sent any more. Its resource may be deleted at any
    /// time.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Why a message was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTried {
    /// It must not be sent any more.
    Cancelled,
    /// A Pod has to send it, once one may start.
    SendByPod,
    /// It is tried at this time. Its spec could not be read, or it was woken before its time and would
    /// fail as before.
    RetryAt(Instant),
}

impl Delivery {
    /// Awaits the broker's answer to a message that it was handed before. Returns `None` if it was not.
    ///
    /// Its Sender or Secret may have changed since, but the broker has the message as it was.
    #[must_use]
    pub fn answer(&self, message_id: Uuid) -> Option<BoxFuture<'_, Attempt>> {
        let answer = self.pool()?.answer(message_id)?;
        Some(answer.map(|answer| answer.map_or_else(direct_attempt, confirmed_attempt)).boxed())
    }

    /// Makes one attempt to deliver a message.
    pub async fn send(&self, request: &DeliveryRequest<'_>) -> Result<Attempt, NotTried> {
        if (request.is_cancelled)() {
            return Err(NotTried::Cancelled);
        }
        let mut attempt = match self {
            Self::Direct(pool) => direct(pool, request).await?,
            // Boxed, to keep the future of a direct delivery small.
            Self::Pod(pods) => Box::pin(pods.send(request, None)).await?,
            Self::Fallback(fallback) => Box::pin(fallback.send(request)).await?,
        };
        if attempt.outcome.reason == Reason::Sent {
            let warnings = request.message.warning.iter().chain(&request.identity.warning);
            attempt.outcome = warnings.fold(attempt.outcome, |sent, warning| sent.with_warning(warning));
        }
        attempt.routing_key = Some(request.message.routing_key.clone());
        Ok(attempt)
    }

    /// Returns the delivery by Pods, if there is one.
    #[must_use]
    pub fn pods(&self) -> Option<&PodDelivery> {
        match self {
            Self::Direct(_) => None,
            Self::Pod(pods) => Some(pods),
            Self::Fallback(fallback) => Some(&fallback.pods),
        }
    }

    /// Returns the use of each environment's connections, if the process has any.
    #[must_use]
    pub fn usage(&self) -> Option<[(Environment, Usage); 2]> {
        self.pool().map(Pool::usage)
    }

    /// Closes unused connections.
    pub async fn close_idle(&self) {
        if let Some(pool) = self.pool() {
            pool.close_idle(Instant::now().into_std()).await;
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        if let Some(pool) = self.pool() {
            pool.close().await;
        }
    }

    /// Returns the connections to brokers, if the process has any.
    #[must_use]
    pub fn pool(&self) -> Option<&Pool> {
        match self {
            Self::Direct(pool) => Some(pool),
            Self::Pod(_) => None,
            Self::Fallback(fallback) => Some(&fallback.pool),
        }
    }
}

/// Publishes a message. It counts as sent once the broker has confirmed it.
async fn direct(pool: &Pool, request: &DeliveryRequest<'_>) -> Result<Attempt, NotTried> {
    let &DeliveryRequest { message, exchange, identity, is_cancelled, .. } = request;
    // The recovery of other connections must not use up the message's backoffLimit.
    if let Some((reason, due)) = request.woken_early
        && pool.standing_failure(message.environment, &identity.login) == Some(reason)
    {
        return Err(NotTried::RetryAt(due));
    }
    let envelope = Envelope::new(message, exchange);
    match pool.publish(&message.owner, message.environment, &identity.login, &envelope, is_cancelled).await {
        Ok(Some(confirmed)) => Ok(confirmed_attempt(confirmed)),
        Ok(None) => Err(NotTried::Cancelled),
        Err(error) => Ok(direct_attempt(error)),
    }
}

fn confirmed_attempt(confirmed: Confirmed) -> Attempt {
    Attempt { took: Some(confirmed.took), ..direct_attempt(Outcome::sent(confirmed.routed)) }
}

/// Returns an attempt of direct delivery that ended like this.
fn direct_attempt(end: impl Into<Attempt>) -> Attempt {
    Attempt { mode: Some(Mode::Direct), ..end.into() }
}
