//! A pool with one connection per environment, credentials and application, so no identity publishes
//! for another.
//!
//! The pool opens a connection for its first message, shares it, and closes it when it is idle, or when
//! another one needs its slot (docs/decisions/0045).
//!
//! One task probes an unreachable broker, however many messages wait for it. These messages fail at
//! once with the probe's last error. The pool wakes them when the broker is back
//! (docs/decisions/0008).

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, Shared, join_all};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use uuid::Uuid;

use super::address::BrokerAddress;
use super::connection::{BrokerConnection, Confirmed, InFlight, MAX_CHANNELS, Published};
use super::credentials::Fingerprint;
use super::errors::BrokerError;
use super::frames::UnconfirmedBytes;
use super::login::Login;
use super::slots::{Namespace, Slot, Slots};
use crate::fence::Fence;
use fedora_message::api::v1alpha1::{Environment, PerEnvironment};
use fedora_message::bounds::{CONNECTION_WAIT, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_NAMESPACE, MAX_UNANSWERED_BYTES};
use fedora_message::message::envelope::Envelope;
use fedora_message::policy::backoff;
use fedora_message::policy::outcome::{Failure, Reason};

/// A connection without a message for this time is closed. It is longer than any backoff, so
/// waiting messages keep the probe of their broker alive.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(6);
/// The backoff for an unreachable broker stops growing after this many failures, so the pool probes
/// it at least every eight seconds. The backoff for a broker that refuses keeps growing.
const MAX_FAILURES_WHILE_UNREACHABLE: u32 = 4;
/// The number of connections to an environment's broker that open at the same time. Each has
/// buffers of 8 MiB, and a silent broker holds it for ten seconds.
const MAX_OPENING: usize = 8;

/// An answer is kept for this time. Its message is tried again long before, unless it is suspended or gone.
const KEEP_ANSWER: Duration = Duration::from_hours(1);

/// The brokers of both environments.
pub type Brokers = PerEnvironment<BrokerAddress>;

/// The connections of the process.
pub struct Pool {
    brokers: Brokers,
    confirm_timeout: Duration,
    fence: Fence,
    entries: Mutex<HashMap<(Environment, Fingerprint), Arc<PoolEntry>>>,
    slots: Slots,
    /// The messages that a broker was handed, and whose answers nobody has fetched yet.
    unanswered: Mutex<HashMap<Uuid, Unanswered>>,
    /// The bytes of those that are not answered, by environment.
    unanswered_bytes: PerEnvironment<UnconfirmedBytes>,
    /// Limits how many connections open at the same time.
    permits: PerEnvironment<Arc<Semaphore>>,
    on_recovery: Arc<dyn Fn(Environment) + Send + Sync>,
}

/// A message that a broker was handed before it blocked the connection.
struct Unanswered {
    /// The task keeps it open.
    connection: Weak<BrokerConnection>,
    answer: Shared<BoxFuture<'static, Result<Confirmed, BrokerError>>>,
    /// Awaits the answer.
    task: AbortHandle,
    /// The time when an answer is forgotten.
    expires: Option<Instant>,
}

/// The open connections of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of open connections.
    pub connections: usize,
    /// The number of these that the broker blocks because of a memory or disk alarm.
    pub blocked: usize,
    /// The number of their channels.
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

/// The failures of a connection since it last worked.
#[derive(Clone, Debug)]
pub struct Failures {
    /// The number of consecutive failures to connect, or to get a confirm.
    pub count: u32,
    /// The last error.
    pub error: BrokerError,
    /// The time of the last failure, or of the message that tests the connection since.
    pub last: Instant,
}

impl Failures {
    /// Returns true to one caller, if the broker did not confirm and no message tested it for
    /// longer than `pause`. The pool itself tests if it can connect.
    fn claim_probe(&mut self, pause: Duration, now: Instant) -> bool {
        let unconfirmed = matches!(self.error, BrokerError::ConfirmTimeout { .. } | BrokerError::Lost { .. });
        let due = unconfirmed && now.saturating_duration_since(self.last) > pause;
        if due {
            self.last = now;
        }
        due
    }
}

/// The pool's entry for one environment and one login.
pub struct PoolEntry {
    /// Keeps the parsed credentials until the entry is idle.
    login: Login,
    slot: Slot,
    /// The task that connects holds the lock. The others wait for it and share the result.
    state: tokio::sync::Mutex<ConnectionState>,
    used: Mutex<Instant>,
    failures: Mutex<Option<Failures>>,
}

enum ConnectionState {
    /// Not tried yet: the next message connects.
    New,
    /// Connected, unless the connection has ended since.
    Up(Arc<BrokerConnection>),
    /// Failed with this error. A probe is running.
    Down(BrokerError),
}

impl Pool {
    /// Creates a pool without connections.
    ///
    /// A broker has `confirm_timeout` to confirm a message. The pool writes nothing to a broker
    /// while the `fence` is closed. It calls `on_recovery` when a broker that failed, or that
    /// blocked its publishers, accepts messages again.
    pub fn new(
        brokers: Brokers,
        confirm_timeout: Duration,
        fence: Fence,
        on_recovery: impl Fn(Environment) + Send + Sync + 'static,
    ) -> Self {
        let semaphore = || Arc::new(Semaphore::new(MAX_OPENING));
        let permits = PerEnvironment { prod: semaphore(), stg: semaphore() };
        Self {
            brokers,
            confirm_timeout,
            fence,
            entries: Mutex::default(),
            slots: Slots::new(),
            unanswered: Mutex::default(),
            unanswered_bytes: PerEnvironment::default(),
            permits,
            on_recovery: Arc::new(on_recovery),
        }
    }

    /// Publishes a message on behalf of a namespace with the given login and awaits the broker's confirm.
    /// If the broker was handed it before, only awaits the answer.
    ///
    /// Returns `None` if the message is cancelled: `is_cancelled` returned true before the broker
    /// received it.
    pub async fn publish(
        &self,
        namespace: &str,
        environment: Environment,
        login: &Login,
        envelope: &Envelope<'_>,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Option<Confirmed>, BrokerError> {
        if let Some(answer) = self.answer(envelope.message_id) {
            return answer.await.map(Some);
        }
        if self.unanswered_bytes.of(environment).get() > MAX_UNANSWERED_BYTES {
            let broker = self.broker(environment).to_string();
            let detail = format!("more than {} MiB wait for its answers", MAX_UNANSWERED_BYTES >> 20);
            return Err(BrokerError::Blocked { broker, detail });
        }
        let entry = self.entry(namespace, environment, login).await?;
        let result = loop {
            // `connection` has recorded its own failures.
            let connection = self.connection(&entry, environment).await?;
            match connection.publish(envelope, self.confirm_timeout, &is_cancelled).await {
                Ok(Published::Confirmed(confirmed)) => break Ok(confirmed),
                Ok(Published::Cancelled) => return Ok(None),
                Ok(Published::Exhausted) => {}
                Ok(Published::Unanswered(message, detail)) => {
                    let error = connection.unanswered(&detail);
                    self.hold(entry, connection, environment, message, envelope);
                    return Err(error);
                }
                Err(error) => break Err(error),
            }
        };
        entry.record(&result);
        result.map(Some)
    }

    /// Awaits the answer to a message that the broker was handed before it blocked the connection. Returns
    /// `None` if there is no such message. During an alarm the error is [`BrokerError::Unanswered`].
    #[must_use]
    pub fn answer(&self, message_id: Uuid) -> Option<BoxFuture<'_, Result<Confirmed, BrokerError>>> {
        let (connection, answer) = {
            let unanswered = self.unanswered.lock();
            let message = unanswered.get(&message_id)?;
            (message.connection.upgrade(), message.answer.clone())
        };
        let fetch = async move {
            let answer = match connection {
                Some(connection) => {
                    connection.unless_blocked(answer).await.map_err(|detail| connection.unanswered(&detail))?
                }
                // It was answered, or the connection has ended.
                None => answer.await,
            };
            self.unanswered.lock().remove(&message_id);
            answer
        };
        Some(fetch.boxed())
    }

    /// Awaits the answer to a message in the background, also while its job rests.
    fn hold(
        &self,
        entry: Arc<PoolEntry>,
        connection: Arc<BrokerConnection>,
        environment: Environment,
        message: Box<InFlight>,
        envelope: &Envelope<'_>,
    ) {
        let (id, exchange, confirm_timeout) = (envelope.message_id, envelope.exchange.to_owned(), self.confirm_timeout);
        let counted = self.unanswered_bytes.of(environment).count(envelope.payload.get().len());
        let broker = self.broker(environment).to_string();
        let weak = Arc::downgrade(&connection);
        let task = tokio::spawn(async move {
            let _counted = counted;
            let answer = connection.answer(message, &exchange, confirm_timeout).await;
            entry.record(&answer);
            answer
        });
        let handle = task.abort_handle();
        let lost = move |_| Err(BrokerError::Lost { broker, detail: "the connection was closed".to_owned() });
        let answer = task.map(|answer| answer.unwrap_or_else(lost)).boxed().shared();
        self.unanswered.lock().insert(id, Unanswered { connection: weak, answer, task: handle, expires: None });
    }

    /// Checks that the broker accepts the login and has the exchange. Opens a connection for that, which
    /// counts for no namespace, so the caller limits their number.
    pub async fn check(&self, environment: Environment, login: &Login, exchange: &str) -> Result<(), BrokerError> {
        let connector = self.connector(environment, login, 1, || {});
        let connection = connector.open().await?;
        let found = connection.find_exchange(exchange).await;
        connection.close().await;
        found
    }

    /// Returns the failures of the connection for this login if its last use failed.
    pub fn failures(&self, environment: Environment, login: &Login) -> Option<Failures> {
        self.known(environment, login)?.failures.lock().clone()
    }

    /// Returns the reason why each message with this login fails at once: the probe's last error, or the
    /// broker's alarm.
    pub fn standing_failure(&self, environment: Environment, login: &Login) -> Option<Reason> {
        let entry = self.known(environment, login)?;
        // A locked entry is connecting.
        match &*entry.state.try_lock().ok()? {
            ConnectionState::Down(error) => Some(error.reason()),
            ConnectionState::Up(connection) if connection.is_blocked() => Some(Reason::BrokerBlocked),
            ConnectionState::Up(_) | ConnectionState::New => None,
        }
    }

    /// Returns true if the caller should publish a message directly to test whether the broker
    /// confirms again. It does so once in the time of a confirm, because that message may have been
    /// sent.
    pub fn claim_probe(&self, environment: Environment, login: &Login) -> bool {
        let Some(entry) = self.known(environment, login) else {
            return false;
        };
        let mut failures = entry.failures.lock();
        failures.as_mut().is_some_and(|failures| failures.claim_probe(self.confirm_timeout, Instant::now()))
    }

    /// Returns the open connections of each environment.
    pub fn usage(&self) -> [(Environment, Usage); 2] {
        let mut usage = [Environment::Prod, Environment::Stg].map(|environment| (environment, Usage::default()));
        for ((environment, _), entry) in self.entries.lock().iter() {
            // A locked entry has no open connection yet.
            let Ok(state) = entry.state.try_lock() else { continue };
            if let (ConnectionState::Up(connection), Some((_, usage))) =
                (&*state, usage.iter_mut().find(|(other, _)| other == environment))
            {
                usage.add(connection);
            }
        }
        usage
    }

    fn known(&self, environment: Environment, login: &Login) -> Option<Arc<PoolEntry>> {
        self.entries.lock().get(&(environment, login.fingerprint())).cloned()
    }

    async fn entry(
        &self,
        namespace: &str,
        environment: Environment,
        login: &Login,
    ) -> Result<Arc<PoolEntry>, BrokerError> {
        if let Some(entry) = self.known(environment, login) {
            return Ok(entry);
        }
        let payer = self.slots.of(namespace);
        let new_entry = async {
            let _turn = payer.turn().await;
            // Another message may have come first.
            if let Some(entry) = self.known(environment, login) {
                return entry;
            }
            let slot = self.slots.take(payer.clone(), |payer| self.free_slot(payer)).await;
            let new = || Arc::new(PoolEntry::new(login.clone(), slot));
            self.entries.lock().entry((environment, login.fingerprint())).or_insert_with(new).clone()
        };
        timeout(CONNECTION_WAIT, Box::pin(new_entry)).await.map_err(|_| {
            let (who, bound) = if payer.is_full() {
                (format!("the messages of namespace {}", payer.name), MAX_CONNECTIONS_PER_NAMESPACE)
            } else {
                ("the messages of all namespaces".to_owned(), MAX_CONNECTIONS)
            };
            BrokerError::TooManyConnections { who, bound, seconds: CONNECTION_WAIT.as_secs() }
        })
    }

    /// Closes the connection that no message has used for the longest time, of those that this
    /// namespace pays for, or of all. Its slot is free once it is closed.
    fn free_slot(&self, payer: Option<&Namespace>) -> Option<JoinHandle<()>> {
        let mut entries = self.entries.lock();
        let is_payer =
            |entry: &PoolEntry| payer.is_none_or(|payer| std::ptr::eq(Arc::as_ptr(&entry.slot.namespace), payer));
        let unused = entries.iter().filter(|(_, entry)| is_payer(entry) && entry.is_unused());
        let oldest = unused.min_by_key(|(_, entry)| *entry.used.lock()).map(|(key, _)| *key);
        let entry = entries.remove(&oldest?)?;
        Some(tokio::spawn(async move {
            if let ConnectionState::Up(connection) = &*entry.state.lock().await {
                connection.close().await;
            }
        }))
    }

    /// Closes the connections that are idle at `now`, and forgets answers that nobody fetches.
    pub async fn close_idle(&self, now: Instant) {
        self.unanswered.lock().retain(|_, message| {
            if message.expires.is_none() && message.task.is_finished() {
                message.expires = Some(now + KEEP_ANSWER);
            }
            message.expires.is_none_or(|expires| now < expires)
        });
        self.close_where(|entry| entry.is_idle(now) && entry.is_unused()).await;
    }

    /// Closes all connections. Await the confirms first: closing loses the open ones.
    pub async fn close(&self) {
        self.unanswered.lock().retain(|_, message| {
            message.task.abort();
            message.task.is_finished()
        });
        self.close_where(|_| true).await;
    }

    async fn connection(
        &self,
        entry: &Arc<PoolEntry>,
        environment: Environment,
    ) -> Result<Arc<BrokerConnection>, BrokerError> {
        *entry.used.lock() = Instant::now();
        let mut state = entry.state.lock().await;
        // The broker closes a connection with too many channels. The next one keeps to the limit.
        // Only the one after that tests whether the limit still holds.
        let channel_limit = match &*state {
            ConnectionState::Up(connection) if connection.serves() => return Ok(connection.clone()),
            ConnectionState::Up(connection) => connection.channel_limit().await,
            ConnectionState::Down(error) => return Err(error.clone()),
            ConnectionState::New => None,
        };
        let on_recovery = self.on_recovery.clone();
        let max_channels = channel_limit.unwrap_or(MAX_CHANNELS);
        let connector = self.connector(environment, &entry.login, max_channels, move || on_recovery(environment));
        // Few messages open a connection (docs/decisions/0056).
        match Box::pin(connector.open()).await {
            Ok(connection) => {
                *state = ConnectionState::Up(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                entry.record_failure(&error);
                *state = ConnectionState::Down(error.clone());
                tokio::spawn(probe(connector, Arc::downgrade(entry)));
                Err(error)
            }
        }
    }

    fn connector(
        &self,
        environment: Environment,
        login: &Login,
        max_channels: u16,
        on_recovery: impl Fn() + Send + Sync + 'static,
    ) -> Connector {
        Connector {
            broker: self.brokers.of(environment).clone(),
            login: login.clone(),
            max_channels,
            fence: self.fence.clone(),
            permits: self.permits.of(environment).clone(),
            on_recovery: Arc::new(on_recovery),
        }
    }

    /// Returns the broker of an environment.
    #[must_use]
    pub fn broker(&self, environment: Environment) -> &BrokerAddress {
        self.brokers.of(environment)
    }

    async fn close_where(&self, should_close: impl Fn(&Arc<PoolEntry>) -> bool) {
        let mut closing = Vec::new();
        self.entries.lock().retain(|_, entry| {
            if !should_close(entry) {
                return true;
            }
            // A locked entry is in use.
            let Ok(state) = entry.state.try_lock() else { return true };
            match &*state {
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

impl PoolEntry {
    fn new(login: Login, slot: Slot) -> Self {
        let state = tokio::sync::Mutex::new(ConnectionState::New);
        Self { login, slot, state, used: Mutex::new(Instant::now()), failures: Mutex::default() }
    }

    /// Returns true if no task uses it, and no message waits for its confirm. Only the pool creates
    /// references, so the caller must hold its lock.
    fn is_unused(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    /// Records what a broker's answer says about the connection.
    fn record(&self, answer: &Result<Confirmed, BrokerError>) {
        match answer {
            Ok(_) => self.clear_failures(),
            Err(error @ (BrokerError::ConfirmTimeout { .. } | BrokerError::Lost { .. })) => self.record_failure(error),
            // The broker answered.
            Err(_) => {}
        }
    }

    fn clear_failures(&self) {
        *self.failures.lock() = None;
    }

    fn record_failure(&self, error: &BrokerError) {
        let mut failures = self.failures.lock();
        let count = failures.as_ref().map_or(0, |failures| failures.count).saturating_add(1);
        *failures = Some(Failures { count, error: error.clone(), last: Instant::now() });
    }

    /// Returns true if no message has used the entry for [`IDLE_TIMEOUT`].
    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(*self.used.lock()) > IDLE_TIMEOUT
    }
}

/// Opens connections to one broker with one login.
struct Connector {
    broker: BrokerAddress,
    login: Login,
    max_channels: u16,
    fence: Fence,
    permits: Arc<Semaphore>,
    on_recovery: Arc<dyn Fn() + Send + Sync>,
}

impl Connector {
    async fn open(&self) -> Result<Arc<BrokerConnection>, BrokerError> {
        let _permit = self.permits.acquire().await;
        let on_unblocked = {
            let on_recovery = self.on_recovery.clone();
            move || on_recovery()
        };
        let opened =
            BrokerConnection::open(&self.broker, &self.login, self.max_channels, self.fence.clone(), on_unblocked);
        opened.await.map(Arc::new)
    }
}

/// Retries to connect until it succeeds, or the entry is idle or gone.
async fn probe(connector: Connector, entry: Weak<PoolEntry>) {
    let mut failures = 1;
    loop {
        let pause = backoff::delay(failures, fastrand::f64()).to_std().unwrap_or_default();
        tokio::time::sleep(pause).await;
        let Some(entry) = entry.upgrade() else { return };
        if entry.is_idle(Instant::now()) {
            *entry.state.lock().await = ConnectionState::New;
            return;
        }
        match connector.open().await {
            Ok(connection) => {
                entry.clear_failures();
                *entry.state.lock().await = ConnectionState::Up(connection);
                return (connector.on_recovery)();
            }
            Err(error) => {
                failures += 1;
                entry.record_failure(&error);
                if matches!(error, BrokerError::Unreachable { .. }) {
                    failures = failures.min(MAX_FAILURES_WHILE_UNREACHABLE);
                }
                *entry.state.lock().await = ConnectionState::Down(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_tests_a_broker_that_does_not_confirm() {
        let (pause, broker) = (Duration::from_secs(30), || "rabbitmq.example:5671".to_owned());
        let error = BrokerError::ConfirmTimeout { broker: broker(), seconds: 30 };
        let mut failures = Failures { count: 5, error, last: Instant::now() };
        let later = failures.last + 2 * pause;
        assert!(!failures.claim_probe(pause, failures.last + pause), "a message has just tested it");
        assert!(failures.claim_probe(pause, later));
        assert!(!failures.claim_probe(pause, later + pause), "another message tests it");
        failures.error = BrokerError::Unreachable { broker: broker(), detail: String::new() };
        assert!(!failures.claim_probe(pause, later + 2 * pause), "the pool tests it");
    }
}
