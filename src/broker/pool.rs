//! One connection for each environment and credentials, so that no identity ever speaks for
//! another: opened when it is needed, shared by all who need it, closed when nobody does.
//!
//! A broker that can't be reached is probed by one task, however many messages wait for it: they
//! get its last error at once, and are woken when it is back (docs/decisions/0008).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::address::BrokerAddress;
use super::connection::{Confirmed, Link};
use super::credentials::{Credentials, Fingerprint};
use super::errors::BrokerError;
use crate::message::backoff;
use crate::message::envelope::Envelope;
use crate::message::resource::Environment;

/// After this time without a message a connection is closed. Longer than any backoff, so that who
/// waits for a broker keeps its probe alive.
const IDLE_TIMEOUT: Duration = Duration::from_mins(6);
/// A broker that is only away is probed as often as after this many failures, at the least: every
/// eight seconds. One that refuses is asked ever more seldom.
const MOST_FAILURES_WHILE_AWAY: u32 = 4;

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

/// The place of one connection.
struct Slot {
    /// Who connects holds the lock, so that the others wait for it and share what comes of it.
    state: tokio::sync::Mutex<State>,
    used: Mutex<Instant>,
}

enum State {
    /// Nothing is known: the first who comes connects.
    New,
    /// Connected, unless it has ended since.
    Up(Arc<Link>),
    /// Not to be had. A probe is under way.
    Down(BrokerError),
}

impl Pool {
    /// A pool without connections. A broker has `confirm_timeout` to confirm a message.
    /// `on_recovery` is called when a broker that had failed, or had blocked its publishers, takes
    /// messages again.
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
        credentials: &Arc<Credentials>,
        envelope: &Envelope<'_>,
    ) -> Result<Confirmed, BrokerError> {
        self.link(environment, credentials).await?.publish(envelope, self.confirm_timeout).await
    }

    /// Closes connections that nobody has used for a while.
    pub async fn close_idle(&self) {
        self.close_where(|slot| slot.idle_for() > IDLE_TIMEOUT).await;
    }

    /// Closes all connections. Await the confirms before: an open one is lost.
    pub async fn close(&self) {
        self.close_where(|_| true).await;
    }

    async fn link(&self, environment: Environment, credentials: &Arc<Credentials>) -> Result<Arc<Link>, BrokerError> {
        let slot = self.slots.lock().entry((environment, credentials.fingerprint)).or_default().clone();
        *slot.used.lock() = Instant::now();
        let mut state = slot.state.lock().await;
        match &*state {
            State::Up(link) if link.is_open() => return Ok(link.clone()),
            State::Down(error) => return Err(error.clone()),
            State::Up(_) | State::New => {}
        }
        let way = Way {
            broker: self.brokers.of(environment).clone(),
            credentials: credentials.clone(),
            on_recovery: {
                let on_recovery = self.on_recovery.clone();
                Arc::new(move || on_recovery(environment))
            },
        };
        match way.open().await {
            Ok(link) => {
                *state = State::Up(link.clone());
                Ok(link)
            }
            Err(error) => {
                *state = State::Down(error.clone());
                tokio::spawn(probe(way, slot.clone()));
                Err(error)
            }
        }
    }

    async fn close_where(&self, unwanted: impl Fn(&Slot) -> bool) {
        let mut closing = Vec::new();
        self.slots.lock().retain(|_, slot| {
            // A slot that is locked is in use.
            let Ok(state) = slot.state.try_lock() else { return true };
            match &*state {
                _ if !unwanted(slot) => true,
                State::Up(link) => {
                    closing.push(link.clone());
                    false
                }
                State::New | State::Down(_) => false,
            }
        });
        for link in closing {
            link.close().await;
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self { state: tokio::sync::Mutex::new(State::New), used: Mutex::new(Instant::now()) }
    }
}

impl Slot {
    /// Since when nobody has asked for its connection.
    fn idle_for(&self) -> Duration {
        self.used.lock().elapsed()
    }
}

/// All it takes to connect.
struct Way {
    broker: BrokerAddress,
    credentials: Arc<Credentials>,
    on_recovery: Arc<dyn Fn() + Send + Sync>,
}

impl Way {
    async fn open(&self) -> Result<Arc<Link>, BrokerError> {
        let on_unblocked = {
            let on_recovery = self.on_recovery.clone();
            move || on_recovery()
        };
        Link::open(&self.broker, &self.credentials, on_unblocked).await.map(Arc::new)
    }
}

/// Tries to connect until it succeeds, or until nobody waits for it any more.
async fn probe(way: Way, slot: Arc<Slot>) {
    let mut failures = 1;
    loop {
        let pause = backoff::delay(failures, fastrand::f64()).to_std().unwrap_or_default();
        tokio::time::sleep(pause).await;
        if slot.idle_for() > IDLE_TIMEOUT {
            *slot.state.lock().await = State::New;
            return;
        }
        match way.open().await {
            Ok(link) => {
                *slot.state.lock().await = State::Up(link);
                return (way.on_recovery)();
            }
            Err(error) => {
                failures += 1;
                if matches!(error, BrokerError::Unreachable { .. }) {
                    failures = failures.min(MOST_FAILURES_WHILE_AWAY);
                }
                *slot.state.lock().await = State::Down(error);
            }
        }
    }
}
