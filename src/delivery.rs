//! How a message leaves: joins what it says with how it reaches the broker.

use std::sync::Arc;

use crate::broker::connection::Confirmed;
use crate::broker::credentials::Credentials;
use crate::broker::errors::BrokerError;
use crate::broker::pool::Pool;
use crate::message::envelope::{Envelope, Routing};
use crate::message::incoming::FedoraMessage;
use crate::message::outcome::{Attempt, Outcome};
use crate::message::validate::{OutgoingMessage, validate};

/// The ways to deliver a message.
pub enum Delivery {
    /// The process publishes it itself.
    Direct(Pool),
}

impl Delivery {
    /// The way's name, in `status.deliveryMode`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
        }
    }

    /// One attempt to send a message: validate, get the credentials, deliver.
    pub async fn attempt(
        &self,
        message: &FedoraMessage,
        routing: &Routing,
        credentials: impl AsyncFnOnce(&OutgoingMessage<'_>) -> Result<Arc<Credentials>, Attempt>,
    ) -> Attempt {
        let outgoing = match validate(message, routing) {
            Ok(outgoing) => outgoing,
            Err(invalid) => return invalid.into(),
        };
        let result = match credentials(&outgoing).await {
            Ok(credentials) => self.deliver(&outgoing, &routing.exchange, &credentials).await.map_err(Attempt::from),
            Err(attempt) => Err(attempt),
        };
        let attempt = match result {
            Ok(confirmed) => Outcome::sent(confirmed == Confirmed::Routed).into(),
            Err(attempt) => attempt,
        };
        Attempt { routing_key: Some(outgoing.routing_key.into_owned()), ..attempt }
    }

    /// Delivers a message; it is confirmed by the broker when this returns `Ok`.
    async fn deliver(
        &self,
        message: &OutgoingMessage<'_>,
        exchange: &str,
        credentials: &Arc<Credentials>,
    ) -> Result<Confirmed, BrokerError> {
        match self {
            Self::Direct(pool) => {
                pool.publish(message.environment, credentials, &Envelope::new(message, exchange)).await
            }
        }
    }

    /// Ends connections that nobody uses.
    pub async fn close_idle(&self) {
        match self {
            Self::Direct(pool) => pool.close_idle().await,
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        match self {
            Self::Direct(pool) => pool.close().await,
        }
    }
}
