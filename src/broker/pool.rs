//! One connection for each environment and credentials, so that no identity ever speaks for
//! another: opened when it is needed, shared by all who need it, closed when nobody does.
//!
//! A broker that can't be reached costs one attempt to connect for each step of the backoff, not
//! one for each message: all who wait for it get the same error, and the time of the next attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::address::BrokerAddress;
use super::connection::{Confirmed, Link};
use super::credentials::{Credentials, Fingerprint};
use super::errors::{BrokerError, PublishError};
use crate::message::backoff;
use crate::message::envelope::Envelope;
use crate::message::resource::Environment;

/// After this time without a message a connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// The brokers of both environments.
#[derive(Clone, Debug)]
pub struct Brokers {
    /// Production's broker.
    pub prod: BrokerAddress,
    /// Staging's broker.
    pub stg: BrokerAddress,
}

impl Brokers {
    /// The broker of an environment.
    #[must_use]
    pub fn of(&self, environment: Environment) -> &BrokerAddress {
        match environment {
            Environment::Prod => &self.prod,
            Environment::Stg => &self.stg,
        }
    }
}

/// All connections of the process.
pub struct Pool {
    brokers: Brokers,
    confirm_timeout: Duration,
    slots: Mutex<HashMap<(Environment, Fingerprint), Arc<Slot>>>,
    on_recovery: Arc<dyn Fn(Environment) + Send + Sync>,
}

/// The place of one connection. Who connects holds the lock, so that the others wait for it and
/// share what comes of it.
type Slot = tokio::sync::Mutex<State>;

#[derive(Default)]
enum State {
    #[default]
    New,
    Up(Arc<Link>),
    Down {
        error: BrokerError,
        failures: u32,
        until: DateTime<Utc>,
    },
}

impl Pool {
    /// A pool without connections. A broker has `confirm_timeout` to confirm a message. `on_recovery` is called when a broker that had failed, or had
    /// blocked its publishers, takes messages again.
    pub fn new(
        brokers: Brokers,
        confirm_timeout: Duration,
        on_recovery: impl Fn(Environment) + Send + Sync + 'static,
    ) -> Self {
        Self { brokers, confirm_timeout, slots: Mutex::default(), on_recovery: Arc::new(on_recovery) }
    }

    /// Publishes a message with the given credentials, and awaits the broker's confirm.
    pub async fn publish(
        &self,
        environment: Environment,
        credentials: &Credentials,
        envelope: &Envelope<'_>,
    ) -> Result<Confirmed, PublishError> {
        let link = self.link(environment, credentials).await?;
        Ok(link.publish(envelope, self.confirm_timeout).await?)
    }

    /// Closes connections that nobody has used for a while.
    pub async fn close_idle(&self) {
        self.close_where(|link| link.idle_for() > IDLE_TIMEOUT).await;
    }

    /// Closes all connections. Await the confirms before: an open one is lost.
    pub async fn close(&self) {
        self.close_where(|_| true).await;
    }

    async fn link(&self, environment: Environment, credentials: &Credentials) -> Result<Arc<Link>, PublishError> {
        let slot = self.slots().entry((environment, credentials.fingerprint)).or_default().clone();
        let mut state = slot.lock().await;
        let failures = match &*state {
            State::Up(link) if link.is_open() => return Ok(link.clone()),
            State::Up(_) | State::New => 0,
            State::Down { error, until, .. } if Utc::now() < *until => {
                return Err(PublishError { error: error.clone(), retry_at: Some(*until) });
            }
            State::Down { failures, .. } => *failures,
        };
        let recovered = {
            let on_recovery = self.on_recovery.clone();
            move || on_recovery(environment)
        };
        match Link::open(self.brokers.of(environment), credentials, recovered).await {
            Ok(link) => {
                let link = Arc::new(link);
                *state = State::Up(link.clone());
                if failures > 0 {
                    (self.on_recovery)(environment);
                }
                Ok(link)
            }
            Err(error) => {
                let failures = failures + 1;
                let until = Utc::now() + backoff::delay(failures, fastrand::f64());
                *state = State::Down { error: error.clone(), failures, until };
                Err(PublishError { error, retry_at: Some(until) })
            }
        }
    }

    async fn close_where(&self, unwanted: impl Fn(&Link) -> bool) {
        let mut closing = Vec::new();
        self.slots().retain(|_, slot| {
            // A slot that is locked is in use.
            let Ok(state) = slot.try_lock() else { return true };
            match &*state {
                State::Up(link) if link.is_open() && !unwanted(link) => true,
                State::Up(link) => {
                    closing.push(link.clone());
                    false
                }
                State::New => false,
                State::Down { until, .. } => Utc::now() < *until + IDLE_TIMEOUT,
            }
        });
        for link in closing {
            link.close().await;
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(Environment, Fingerprint), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
