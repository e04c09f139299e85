//! One connection for each environment and credentials, so that no identity ever speaks for
//! another: opened when it is needed, shared by all who need it, closed when nobody does.
//!
//! A broker that can't be reached is probed by one task, however many messages wait for it: they
//! get its last error at once, and are woken when it is back (docs/decisions/0008).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::address::BrokerAddress;
use super::connection::{BrokerConnection, Confirmed, Published};
use super::credentials::{Credentials, Fingerprint};
use super::errors::BrokerError;
use super::fence::Fence;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::envelope::Envelope;
use fedora_message::policy::backoff;

/// After this time without a message a connection is closed. Longer than any backoff, so that who
/// waits for a broker keeps its probe alive.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(6);
/// A broker that is only away is probed as often as after this many failures, at the least: every
/// eight seconds. One that refuses is asked ever more seldom.
const MOST_FAILURES_WHILE_AWAY: u32 = 4;
/// How many connections to an environment's broker are opened at a time. Each has buffers of 8 MiB, and
/// a silent broker holds it for ten seconds.
const MOST_OPENING: usize = 8;

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
    gate: Fence,
    entries: Mutex<HashMap<(Environment, Fingerprint), Arc<PoolEntry>>>,
    opening: Opening,
    on_recovery: Arc<dyn Fn(Environment) + Send + Sync>,
}

/// Permits to open a connection to each environment's broker.
struct Opening {
    prod: Arc<Semaphore>,
    stg: Arc<Semaphore>,
}

impl Opening {
    fn of(&self, environment: Environment) -> &Arc<Semaphore> {
        match environment {
            Environment::Prod => &self.prod,
            Environment::Stg => &self.stg,
        }
    }
}

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How often in a row it could not be had, or a message was not confirmed.
    pub failures: u32,
    /// How it failed last.
    pub error: BrokerError,
    /// Whether nobody has asked for a while, or is asking: then somebody should. Whoever is told so
    /// counts as asking.
    pub ask_again: bool,
}

/// What an environment's connections are at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many are open.
    pub connections: usize,
    /// How many of these the broker blocks, by its memory or disk alarm.
    pub blocked: usize,
    /// How many channels they have.
    pub channels: usize,
}

impl Usage {
    fn add(&mut self, connection: &BrokerConnection) {
        if connection.is_open() {
            self.connections += 1;
            self.blocked += usize::from(connection.is_blocked());
            self.channels += connection.channels();
        }
    }
}

/// What a connection has failed with, since it worked last.
#[derive(Debug)]
struct Failures {
    number: u32,
    error: BrokerError,
    last: Instant,
}

/// The place of one connection.
struct PoolEntry {
    /// Who connects holds the lock, so that the others wait for it and share what comes of it.
    state: tokio::sync::Mutex<ConnectionState>,
    used: Mutex<Instant>,
    failures: Mutex<Option<Failures>>,
}

enum ConnectionState {
    /// Nothing is known: the first who comes connects.
    New,
    /// Connected, unless it has ended since.
    Up(Arc<BrokerConnection>),
    /// Not to be had. A probe is under way.
    Down(BrokerError),
}

impl Pool {
    /// A pool without connections. A broker has `confirm_timeout` to confirm a message.
    /// Nothing leaves while the `gate` is closed. `on_recovery` is called when a broker that had failed, or had blocked its publishers, takes
    /// messages again.
    pub fn new(
        brokers: Brokers,
        confirm_timeout: Duration,
        gate: Fence,
        on_recovery: impl Fn(Environment) + Send + Sync + 'static,
    ) -> Self {
        let permits = || Arc::new(Semaphore::new(MOST_OPENING));
        let opening = Opening { prod: permits(), stg: permits() };
        Self { brokers, confirm_timeout, gate, entries: Mutex::default(), opening, on_recovery: Arc::new(on_recovery) }
    }

    /// Publishes a message with the given credentials, and awaits the broker's confirm; `None` if it was not
    /// wanted any more before it was handed over.
    pub async fn publish(
        &self,
        environment: Environment,
        credentials: &Arc<Credentials>,
        envelope: &Envelope<'_>,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<Confirmed>, BrokerError> {
        let entry = self.entry(environment, credentials);
        let result = loop {
            // A failure was counted by who tried to connect.
            let connection = self.connection(&entry, environment, credentials, &envelope.message_id).await?;
            match connection.publish(envelope, self.confirm_timeout, &is_wanted).await {
                Ok(Published::Confirmed(confirmed)) => break Ok(confirmed),
                Ok(Published::Withdrawn) => return Ok(None),
                Ok(Published::UsedUp) => {}
                Err(error) => break Err(error),
            }
        };
        match &result {
            Ok(_) => entry.works(),
            Err(error @ (BrokerError::ConfirmTimeout { .. } | BrokerError::Lost { .. })) => entry.fails(error),
            // The broker answered.
            Err(_) => {}
        }
        result.map(Some)
    }

    /// What is wrong with the connection for these credentials, if it did not work last.
    pub fn health(&self, environment: Environment, credentials: &Credentials) -> Option<Health> {
        let entry = self.entries.lock().get(&(environment, credentials.fingerprint))?.clone();
        let mut failures = entry.failures.lock();
        let failures = failures.as_mut()?;
        // The pool itself tries to connect again; but whether messages are confirmed, only one can tell.
        let ask_again = matches!(failures.error, BrokerError::ConfirmTimeout { .. } | BrokerError::Lost { .. })
            && failures.last.elapsed() > self.confirm_timeout;
        if ask_again {
            failures.last = Instant::now();
        }
        Some(Health { failures: failures.number, error: failures.error.clone(), ask_again })
    }

    /// What each environment's connections are at.
    pub fn usage(&self) -> [(Environment, Usage); 2] {
        let mut usage = [Environment::Prod, Environment::Stg].map(|environment| (environment, Usage::default()));
        for ((environment, _), entry) in self.entries.lock().iter() {
            // Who connects holds the lock: that is no connection yet.
            let Ok(state) = entry.state.try_lock() else { continue };
            if let (ConnectionState::Up(connection), Some((_, usage))) =
                (&*state, usage.iter_mut().find(|(other, _)| other == environment))
            {
                usage.add(connection);
            }
        }
        usage
    }

    fn entry(&self, environment: Environment, credentials: &Credentials) -> Arc<PoolEntry> {
        self.entries.lock().entry((environment, credentials.fingerprint)).or_default().clone()
    }

    /// Closes connections that, at `now`, nobody has used for a while.
    pub async fn close_idle(&self, now: Instant) {
        self.close_where(|entry| entry.is_idle(now)).await;
    }

    /// Closes all connections. Await the confirms before: an open one is lost.
    pub async fn close(&self) {
        self.close_where(|_| true).await;
    }

    async fn connection(
        &self,
        entry: &Arc<PoolEntry>,
        environment: Environment,
        credentials: &Arc<Credentials>,
        message_id: &Uuid,
    ) -> Result<Arc<BrokerConnection>, BrokerError> {
        *entry.used.lock() = Instant::now();
        let mut state = entry.state.lock().await;
        match &*state {
            ConnectionState::Up(connection) if connection.serves(message_id) => return Ok(connection.clone()),
            ConnectionState::Down(error) => return Err(error.clone()),
            ConnectionState::Up(_) | ConnectionState::New => {}
        }
        let connector = Connector {
            broker: self.brokers.of(environment).clone(),
            credentials: credentials.clone(),
            gate: self.gate.clone(),
            opening: self.opening.of(environment).clone(),
            on_recovery: {
                let on_recovery = self.on_recovery.clone();
                Arc::new(move || on_recovery(environment))
            },
        };
        match connector.open().await {
            Ok(connection) => {
                *state = ConnectionState::Up(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                entry.fails(&error);
                *state = ConnectionState::Down(error.clone());
                tokio::spawn(probe(connector, entry.clone()));
                Err(error)
            }
        }
    }

    async fn close_where(&self, unwanted: impl Fn(&PoolEntry) -> bool) {
        let mut closing = Vec::new();
        self.entries.lock().retain(|_, entry| {
            // A slot that is locked is in use.
            let Ok(state) = entry.state.try_lock() else { return true };
            match &*state {
                _ if !unwanted(entry) => true,
                ConnectionState::Up(connection) => {
                    closing.push(connection.clone());
                    false
                }
                ConnectionState::New | ConnectionState::Down(_) => false,
            }
        });
        join_all(closing.iter().map(|connection| connection.close())).await;
    }
}

impl Default for PoolEntry {
    fn default() -> Self {
        let state = tokio::sync::Mutex::new(ConnectionState::New);
        Self { state, used: Mutex::new(Instant::now()), failures: Mutex::default() }
    }
}

impl PoolEntry {
    fn works(&self) {
        let mut failures = self.failures.lock();
        if failures.is_some() {
            *failures = None;
        }
    }

    fn fails(&self, error: &BrokerError) {
        let mut failures = self.failures.lock();
        let number = failures.as_ref().map_or(0, |failures| failures.number).saturating_add(1);
        *failures = Some(Failures { number, error: error.clone(), last: Instant::now() });
    }

    /// Whether nobody has asked for its connection for a while.
    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(*self.used.lock()) > IDLE_TIMEOUT
    }
}

/// All it takes to connect.
struct Connector {
    broker: BrokerAddress,
    credentials: Arc<Credentials>,
    gate: Fence,
    opening: Arc<Semaphore>,
    on_recovery: Arc<dyn Fn() + Send + Sync>,
}

impl Connector {
    async fn open(&self) -> Result<Arc<BrokerConnection>, BrokerError> {
        let _permit = self.opening.acquire().await;
        let on_unblocked = {
            let on_recovery = self.on_recovery.clone();
            move || on_recovery()
        };
        BrokerConnection::open(&self.broker, &self.credentials, self.gate.clone(), on_unblocked).await.map(Arc::new)
    }
}

/// Tries to connect until it succeeds, or until nobody waits for it any more.
async fn probe(connector: Connector, entry: Arc<PoolEntry>) {
    let mut failures = 1;
    loop {
        let pause = backoff::delay(failures, fastrand::f64()).to_std().unwrap_or_default();
        tokio::time::sleep(pause).await;
        if entry.is_idle(Instant::now()) {
            *entry.state.lock().await = ConnectionState::New;
            return;
        }
        match connector.open().await {
            Ok(connection) => {
                entry.works();
                *entry.state.lock().await = ConnectionState::Up(connection);
                return (connector.on_recovery)();
            }
            Err(error) => {
                failures += 1;
                entry.fails(&error);
                if matches!(error, BrokerError::Unreachable { .. }) {
                    failures = failures.min(MOST_FAILURES_WHILE_AWAY);
                }
                *entry.state.lock().await = ConnectionState::Down(error);
            }
        }
    }
}
