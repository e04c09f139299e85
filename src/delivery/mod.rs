//! How a message leaves: joins what it says with how it reaches the broker, by the process itself, by a
//! Pod, or by a Pod where the process has failed.

mod fallback;
mod pod;

use std::sync::Arc;
use std::time::Instant;

pub use self::fallback::{Fallback, Route, may_help, route};
pub use self::pod::PodDelivery;
use crate::broker::credentials::Credentials;
use crate::broker::pool::{Pool, Usage};
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::{Envelope, Routing};
use fedora_message::message::secret::Secret;
use fedora_message::message::validate::{OutgoingMessage, validate};
use fedora_message::policy::outcome::{Attempt, Outcome, Reason};
use fedora_message::schema::check::{SchemaCheck, Schemas, check_schema};

/// The ways to deliver a message.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Delivery {
    /// The process publishes it itself.
    Direct(Pool),
    /// A Pod publishes it.
    Pod(PodDelivery),
    /// The process publishes it, or where that fails a Pod.
    Fallback(Fallback),
}

/// Who a message is sent as.
pub struct Identity {
    /// The credentials.
    pub credentials: Arc<Credentials>,
    /// The Secrets that they are from, in the order in which the message names them.
    pub secrets: Vec<Option<Arc<Secret>>>,
    /// What should be mended about them soon.
    pub warning: Option<String>,
}

/// Which attempt to send a message it is, and which way.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// How many attempts have been recorded.
    pub recorded: u32,
    /// Whether it is the message's turn to be sent by a Pod.
    pub by_pod: bool,
    /// Whether the message is still to be sent: its resource may be deleted at any time.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl Default for Turn<'_> {
    fn default() -> Self {
        Self { recorded: 0, by_pod: false, is_wanted: &|| true }
    }
}

/// One message, on its way.
pub(crate) struct DeliveryRequest<'a> {
    object: &'a FedoraMessage,
    message: &'a OutgoingMessage<'a>,
    exchange: &'a str,
    identity: &'a Identity,
    turn: Turn<'a>,
}

/// What becomes of a message's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It was tried, and this came of it.
    Tried(Attempt),
    /// It is to be sent by a Pod, when it is its turn there.
    NextByPod,
    /// It was not sent, as it is not wanted any more.
    Withdrawn,
}

impl Delivery {
    /// One attempt to send a message: validate, hold it against its schema, get the credentials, deliver.
    pub async fn attempt(
        &self,
        object: &FedoraMessage,
        routing: &Routing,
        schemas: &Schemas,
        turn: Turn<'_>,
        who: impl AsyncFnOnce(&OutgoingMessage<'_>) -> Result<Identity, Attempt>,
    ) -> Delivered {
        let mut outgoing = match validate(object, routing) {
            Ok(outgoing) => outgoing,
            Err(invalid) => return Delivered::Tried(invalid.into()),
        };
        let unchecked = match check_schema(&mut outgoing, schemas) {
            Ok(SchemaCheck::Yes) => None,
            Ok(SchemaCheck::Unchecked(why)) => Some(format!("It was not checked against its schema: {why}")),
            Err(invalid) => return Delivered::Tried(invalid.into()),
        };
        let delivered = match who(&outgoing).await {
            Ok(identity) => {
                let (message, exchange) = (&outgoing, &routing.exchange);
                match self.deliver(&DeliveryRequest { object, message, exchange, identity: &identity, turn }).await {
                    Delivered::Tried(attempt) if attempt.outcome.reason == Reason::Sent => {
                        let warnings = unchecked.into_iter().chain(identity.warning);
                        let outcome = warnings.fold(attempt.outcome, |sent, warning| sent.with_warning(&warning));
                        Delivered::Tried(Attempt { outcome, ..attempt })
                    }
                    Delivered::Tried(attempt) => Delivered::Tried(attempt),
                    Delivered::NextByPod => Delivered::NextByPod,
                    Delivered::Withdrawn => Delivered::Withdrawn,
                }
            }
            Err(attempt) => Delivered::Tried(attempt),
        };
        match delivered {
            Delivered::Tried(attempt) => {
                Delivered::Tried(Attempt { routing_key: Some(outgoing.routing_key.into_owned()), ..attempt })
            }
            Delivered::NextByPod | Delivered::Withdrawn => delivered,
        }
    }

    async fn deliver(&self, request: &DeliveryRequest<'_>) -> Delivered {
        match self {
            _ if !(request.turn.is_wanted)() => Delivered::Withdrawn,
            Self::Direct(pool) => direct(pool, request).await,
            // Boxed, so that a message that goes directly takes no room for a Pod's.
            Self::Pod(pods) => Delivered::Tried(Box::pin(pods.send(request, None)).await),
            Self::Fallback(fallback) => Box::pin(fallback.deliver(request)).await,
        }
    }

    /// The Pods, where messages may be sent by some.
    #[must_use]
    pub fn pods(&self) -> Option<&PodDelivery> {
        match self {
            Self::Direct(_) => None,
            Self::Pod(pods) => Some(pods),
            Self::Fallback(fallback) => Some(&fallback.pods),
        }
    }

    /// What each environment's connections are at, where the process has any.
    #[must_use]
    pub fn usage(&self) -> Option<[(Environment, Usage); 2]> {
        self.pool().map(Pool::usage)
    }

    /// Ends connections that nobody uses.
    pub async fn close_idle(&self) {
        if let Some(pool) = self.pool() {
            pool.close_idle(Instant::now()).await;
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        if let Some(pool) = self.pool() {
            pool.close().await;
        }
    }

    fn pool(&self) -> Option<&Pool> {
        match self {
            Self::Direct(pool) => Some(pool),
            Self::Pod(_) => None,
            Self::Fallback(fallback) => Some(&fallback.pool),
        }
    }
}

/// Delivers a message by this process; it is confirmed by the broker when it counts as sent.
async fn direct(pool: &Pool, request: &DeliveryRequest<'_>) -> Delivered {
    let DeliveryRequest { message, exchange, identity, turn, .. } = request;
    let envelope = Envelope::new(message, exchange);
    match pool.publish(message.environment, &identity.credentials, &envelope, turn.is_wanted).await {
        Ok(Some(confirmed)) => {
            Delivered::Tried(Attempt { took: Some(confirmed.took), ..Outcome::sent(confirmed.routed).into() })
        }
        Ok(None) => Delivered::Withdrawn,
        Err(error) => Delivered::Tried(error.into()),
    }
}
