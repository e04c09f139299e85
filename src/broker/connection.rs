//! One AMQP connection with its channels, on which messages are published and confirmed.
//!
//! A channel has one message in flight at a time. So lapin cannot assign a confirm to the wrong
//! message. If the broker refuses a message, it closes the channel, which affects only that message
//! (docs/decisions/0003). Channel numbers are not reused, because lapin would report the first
//! channel's errors to the second (docs/decisions/0019).

use std::future::{Future, pending, ready};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all, try_join_all};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, ExchangeKind, PublisherConfirm};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::address::BrokerAddress;
use super::errors::{BrokerError, ErrorContext, allowed_channels, is_refused_channel, reply};
use super::frames::{CountedBytes, PublishCounts, UnconfirmedBytes};
use super::login::{Login, handshake};
use super::transport::{ShutdownHandle, Transport};
use crate::fence::Fence;
use crate::wake_pacer::WakePacer;
use fedora_message::message::envelope::{CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE, Envelope};
use fedora_message::message::outgoing::HeaderValue;
use fedora_message::message::sender::Application;
use fedora_message::policy::outcome::Timing;

/// The time limit for the AMQP handshake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit to open a channel. lapin never answers a request for a channel that is made while
/// the connection breaks.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit to close a connection cleanly.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of channels on one connection. More do not publish faster
/// (docs/measurements.md).
pub const MAX_CHANNELS: u16 = 64;
/// New channels wait for this time at most until no message is in flight.
const QUIET_TIMEOUT: Duration = Duration::from_millis(100);

/// The maximum number of channels that one connection opens in its lifetime, also if the broker
/// sets no limit. lapin keeps some memory for each closed channel, which must not grow forever.
const MAX_OPENED: u16 = 2047;

/// A message that the broker confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// True if at least one queue has it. Otherwise the broker dropped it, because no queue is
    /// bound to its topic.
    pub routed: bool,
    /// The durations of publish and confirm.
    pub took: Timing,
}

/// The result of a publish without an error.
pub enum Published {
    /// The broker confirmed the message.
    Confirmed(Confirmed),
    /// The message was not sent, because it is cancelled.
    Cancelled,
    /// The message was not sent because the connection has no channel for it. Use a new connection.
    Exhausted,
    /// The broker blocked the connection, for this reason, while the message was in flight. The broker
    /// has it, or gets it when it reads again, so it must not be published a second time.
    Unanswered(Box<InFlight>, String),
}

/// A message on its way to the broker.
pub struct InFlight {
    progress: Progress,
    channel: OpenChannel,
    size: usize,
    started: Instant,
    _counted: CountedBytes,
    _permit: OwnedSemaphorePermit,
    _guard: OwnedRwLockReadGuard<()>,
}

enum Progress {
    /// The client writes it.
    Writing(BoxFuture<'static, lapin::Result<PublisherConfirm>>),
    /// The client had written it at this time.
    Written(PublisherConfirm, Instant),
}

impl InFlight {
    /// Awaits the broker's answer. Returns with it the time when the client had written the message.
    async fn answer(&mut self) -> lapin::Result<(Confirmation, Instant)> {
        loop {
            match &mut self.progress {
                Progress::Writing(writing) => self.progress = Progress::Written(writing.await?, Instant::now()),
                Progress::Written(confirm, at) => return Ok((confirm.await?, *at)),
            }
        }
    }

    /// Gives it up. Drops its channel, so a late confirm can't reach another message. The message must be
    /// written before the client closes the channel, or the broker closes the connection.
    fn give_up(self) {
        if let Progress::Writing(writing) = self.progress {
            // Nobody uses it again, so it does not count as open.
            let channel = self.channel.channel;
            tokio::spawn(async move {
                let _ = writing.await;
                drop(channel);
            });
        }
    }
}

/// An open AMQP connection.
pub struct BrokerConnection {
    connection: Connection,
    shutdown_handle: ShutdownHandle,
    context: ErrorContext,
    idle: Mutex<Vec<OpenChannel>>,
    /// Counts the open channels: each holds a reference.
    open: Arc<()>,
    /// The number of channels that this connection can still open.
    channels_left: Mutex<usize>,
    /// The number of channels that the broker allowed, once it has refused another one.
    channel_limit: OnceLock<u16>,
    /// Held for reading by each message in flight, also by one without an answer. A broker that refuses a channel closes the
    /// connection. Confirms would be lost, so channels are opened while no message is in flight.
    in_flight: Arc<RwLock<()>>,
    /// The maximum number of channels at a time.
    max_channels: u16,
    /// One for each message in flight.
    permits: Arc<Semaphore>,
    unconfirmed_bytes: UnconfirmedBytes,
    published: PublishCounts,
    blocked: watch::Receiver<Option<String>>,
    events: AbortHandle,
}

/// A channel, which counts as open until it is dropped.
struct OpenChannel {
    channel: Channel,
    _counted: Arc<()>,
}

impl BrokerConnection {
    /// Connects, logs in, and opens the virtual host and a first channel. It never has more than
    /// `max_channels` of them. 0 means one, too.
    ///
    /// The connection calls `on_unblocked` when the broker accepts messages again after an alarm, less
    /// and less often while that goes on.
    pub async fn open(
        address: &BrokerAddress,
        login: &Login,
        max_channels: u16,
        fence: Fence,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let context = ErrorContext { broker: address.clone(), user: login.credentials.user.clone() };
        let transport = Transport::open(address, login.credentials.tls.clone(), fence)
            .await
            .map_err(|error| context.transport(&error))?;
        let mut connection = Self::log_in(context, transport, &login.application, on_unblocked).await?;
        // A broker that refused the only channel may accept one now. Without any, messages would wait forever.
        connection.max_channels = connection.max_channels.min(max_channels.max(1));
        connection.permits = Arc::new(Semaphore::new(connection.max_channels.into()));
        // A connection without any channel is no use. If the broker blocks it, that is for the
        // message to say.
        if let Ok(Err(error)) = connection.unless_blocked(connection.open_channels(1)).await {
            connection.shutdown_handle.shut_down();
            return Err(error);
        }
        Ok(connection)
    }

    /// Does the second half of [`open`](Self::open): logs in over an open transport.
    pub async fn log_in(
        context: ErrorContext,
        transport: Transport,
        application: &Application,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let (greeting, unconfirmed_bytes, published) =
            (transport.greeting.clone(), transport.unconfirmed.clone(), transport.published.clone());
        let (stream, shutdown_handle) = transport.into_parts();
        let opened = timeout(OPEN_TIMEOUT, handshake(&context.broker, application, stream)).await.map_or_else(
            |_| {
                let detail = format!("it does not answer in AMQP for {} s", OPEN_TIMEOUT.as_secs());
                Err(BrokerError::Unreachable { broker: context.broker.to_string(), detail })
            },
            |opened| opened.map_err(|error| context.login(&error)),
        );
        let connection = opened.map_err(|error| {
            shutdown_handle.shut_down();
            // Such a broker closes the connection without a word.
            greeting.without_external().map_or(error, |offered| context.without_external(offered))
        })?;
        let events = connection.events_listener();
        // An alarm before that is no event.
        let alarm = connection.status().blocked().then(|| "the broker had an alarm at the login".to_owned());
        let (sender, blocked) = watch::channel(alarm);
        let events = tokio::spawn(forward_alarms(events, sender, on_unblocked)).abort_handle();
        let channels_left = match connection.configuration().channel_max() {
            0 => MAX_OPENED,
            negotiated => negotiated.min(MAX_OPENED),
        };
        let max_channels = MAX_CHANNELS.min((channels_left / 2).max(1));
        Ok(Self {
            connection,
            shutdown_handle,
            context,
            idle: Mutex::default(),
            open: Arc::default(),
            channels_left: Mutex::new(channels_left.into()),
            channel_limit: OnceLock::new(),
            in_flight: Arc::default(),
            max_channels,
            permits: Arc::new(Semaphore::new(max_channels.into())),
            unconfirmed_bytes,
            published,
            blocked,
            events,
        })
    }

    /// Returns true if it is connected.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Returns true if it is open, and has a channel or can open one.
    #[must_use]
    pub fn serves(&self) -> bool {
        let has_channels = || self.channel_limit.get().is_none() && *self.channels_left.lock() > 0;
        self.is_open() && (has_channels() || !self.idle.lock().is_empty())
    }

    /// Returns the number of channels that the broker allows, if it has refused another one. Waits
    /// until the channels that open now are open or refused.
    pub async fn channel_limit(&self) -> Option<u16> {
        // Held for writing while channels open.
        let _opened = timeout(QUIET_TIMEOUT, self.in_flight.read()).await;
        self.channel_limit.get().copied()
    }

    /// Publishes a message and awaits the broker's confirm for at most `confirm_timeout`.
    ///
    /// After an error, the broker may have the message, unless the error came before its first
    /// byte. The message is not sent if `is_cancelled` returns true once a channel is free.
    pub async fn publish(
        &self,
        envelope: &Envelope<'_>,
        confirm_timeout: Duration,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Published, BrokerError> {
        let started = Instant::now();
        self.check_frame_size(envelope)?;
        let channel = self.unless_blocked(async {
            // It fails only once the semaphore is closed, which it never is.
            let permit = self.permits.clone().acquire_owned().await.map_err(|_| self.no_channel())?;
            self.check_not_blocked()?;
            Ok(self.channel().await?.map(|(guard, channel)| (guard, channel, permit)))
        });
        let channel = channel.await.map_err(|detail| self.blocked(&detail))??;
        let Some((guard, channel, permit)) = channel else { return Ok(Published::Exhausted) };
        if is_cancelled() {
            self.idle.lock().push(channel);
            return Ok(Published::Cancelled);
        }
        let size = envelope.payload.get().len();
        self.published.count(channel.channel.id());
        let mut message = InFlight {
            progress: Progress::Writing(publish_on(channel.channel.clone(), envelope)),
            channel,
            size,
            started,
            _counted: self.unconfirmed_bytes.count(size),
            _permit: permit,
            _guard: guard,
        };
        match timeout(confirm_timeout, self.unless_blocked(message.answer())).await {
            Ok(Ok(answer)) => self.settle(message, answer, envelope.exchange).map(Published::Confirmed),
            Ok(Err(detail)) => Ok(Published::Unanswered(Box::new(message), detail)),
            Err(_) => Err(self.confirm_timeout(message, confirm_timeout)),
        }
    }

    /// Awaits the broker's answer to a message that was in flight when the broker blocked the connection.
    /// After the alarm the broker has `confirm_timeout` for it.
    pub async fn answer(
        &self,
        mut message: Box<InFlight>,
        exchange: &str,
        confirm_timeout: Duration,
    ) -> Result<Confirmed, BrokerError> {
        let mut blocked = self.blocked.clone();
        loop {
            tokio::select! {
                biased;
                answer = message.answer() => return self.settle(*message, answer, exchange),
                () = until(&mut blocked, Option::is_none) => {}
            }
            tokio::select! {
                biased;
                answer = timeout(confirm_timeout, message.answer()) => return match answer {
                    Ok(answer) => self.settle(*message, answer, exchange),
                    Err(_) => Err(self.confirm_timeout(*message, confirm_timeout)),
                },
                () = until(&mut blocked, Option::is_some) => {}
            }
        }
    }

    /// Frees the channel of a message that was answered, and interprets the answer.
    fn settle(
        &self,
        message: InFlight,
        answer: lapin::Result<(Confirmation, Instant)>,
        exchange: &str,
    ) -> Result<Confirmed, BrokerError> {
        let InFlight { channel, size, started, .. } = message;
        if channel.channel.status().connected() {
            self.idle.lock().push(channel);
        }
        let (confirmation, handed_over) = answer.map_err(|error| self.context.publish(&error, exchange, size))?;
        let took = Timing { publish: handed_over.saturating_duration_since(started), confirm: handed_over.elapsed() };
        self.interpret(&confirmation).map(|routed| Confirmed { routed, took })
    }

    fn confirm_timeout(&self, message: InFlight, confirm_timeout: Duration) -> BrokerError {
        message.give_up();
        BrokerError::ConfirmTimeout { broker: self.context.broker.to_string(), seconds: confirm_timeout.as_secs() }
    }

    /// Returns the number of open channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    /// Returns true if the broker blocks the connection because of a memory or disk alarm.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Returns an error if the exchange does not exist. Does not declare it.
    pub async fn find_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found = async {
            let channel = self.connection.create_channel().await.map_err(|error| self.context.channel(&error))?;
            let found = channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default());
            found.await.map_err(|error| self.context.publish(&error, exchange, 0))
        };
        timeout(CHANNEL_TIMEOUT, found).await.unwrap_or_else(|_| Err(self.no_channel()))
    }

    /// Closes the connection cleanly. Messages in flight lose their confirms.
    pub async fn close(&self) {
        if timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await.is_err() {
            debug!(broker = %self.context.broker, "the broker did not answer connection.close in time");
        }
    }

    /// Says that the broker was handed a message, and has not answered because of this alarm.
    pub fn unanswered(&self, detail: &str) -> BrokerError {
        BrokerError::Unanswered { broker: self.context.broker.to_string(), detail: reply(detail) }
    }

    fn blocked(&self, detail: &str) -> BrokerError {
        BrokerError::Blocked { broker: self.context.broker.to_string(), detail: reply(detail) }
    }

    fn check_not_blocked(&self) -> Result<(), BrokerError> {
        match self.blocked.borrow().as_deref() {
            Some(detail) => Err(self.blocked(detail)),
            None => Ok(()),
        }
    }

    /// Awaits `work`. If the broker blocks the connection first, its reason is the error.
    pub async fn unless_blocked<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        let mut blocked = self.blocked.clone();
        let detail = tokio::select! {
            biased;
            done = work => return Ok(done),
            detail = blocked.wait_for(Option::is_some) => detail.ok().and_then(|detail| detail.clone()),
        };
        Err(detail.unwrap_or_else(|| "the connection is closing".to_owned()))
    }

    /// Refuses headers larger than a frame. They cannot be split, and the broker would close the
    /// connection for all messages.
    fn check_frame_size(&self, envelope: &Envelope<'_>) -> Result<(), BrokerError> {
        let (size, limit) = (envelope.properties_size(), self.connection.configuration().frame_max());
        if limit == 0 || size <= limit as usize {
            return Ok(());
        }
        let detail = format!("its headers need a frame of {size} bytes, and the broker accepts at most {limit}");
        Err(BrokerError::Refused { broker: self.context.broker.to_string(), detail })
    }

    fn no_channel(&self) -> BrokerError {
        let detail = format!("it opened no channel within {} s", CHANNEL_TIMEOUT.as_secs());
        BrokerError::Lost { broker: self.context.broker.to_string(), detail }
    }

    /// Returns a channel for one message, and a guard to hold while the message is in flight. Returns
    /// `None` if the connection has no channel for it.
    async fn channel(&self) -> Result<Option<(OwnedRwLockReadGuard<()>, OpenChannel)>, BrokerError> {
        loop {
            let in_flight = self.in_flight.clone().read_owned().await;
            if let Some(channel) = self.idle_channel() {
                return Ok(Some((in_flight, channel)));
            }
            drop(in_flight);
            if !self.add_channels().await? {
                return Ok(None);
            }
        }
    }

    fn idle_channel(&self) -> Option<OpenChannel> {
        let mut idle = self.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(|open| open.channel.status().connected())
    }

    /// Opens channels for the messages that wait for one. Returns false if the connection cannot open
    /// any.
    async fn add_channels(&self) -> Result<bool, BrokerError> {
        let quiet = timeout(QUIET_TIMEOUT, self.in_flight.write()).await;
        let missing = if quiet.is_ok() {
            // A message with a permit has an open channel, or waits for one.
            let messages = usize::from(self.max_channels).saturating_sub(self.permits.available_permits());
            messages.saturating_sub(self.channels())
        } else {
            // A confirm takes long. It must not delay other messages.
            1
        };
        if missing == 0 { Ok(true) } else { self.open_channels(missing).await }
    }

    /// Opens up to `count` channels. Returns false if the connection cannot open any.
    async fn open_channels(&self, count: usize) -> Result<bool, BrokerError> {
        let count = self.reserve_channels(count);
        if count == 0 || self.channel_limit.get().is_some() {
            return Ok(false);
        }
        match timeout(CHANNEL_TIMEOUT, self.create_channels(count)).await {
            Ok(Ok(channels)) => {
                self.idle.lock().extend(channels);
                Ok(true)
            }
            Ok(Err(_)) if self.channel_limit.get().is_some_and(|limit| *limit > 0) => Ok(false),
            Ok(Err(error)) => Err(self.context.channel(&error)),
            Err(_) => {
                // The connection opens no other channel either. Messages in flight still await
                // confirms.
                *self.channels_left.lock() = 0;
                Err(self.no_channel())
            }
        }
    }

    async fn create_channels(&self, count: usize) -> lapin::Result<Vec<OpenChannel>> {
        let created = join_all((0..count).map(|_| self.connection.create_channel())).await;
        let counted = |channel| OpenChannel { channel, _counted: self.open.clone() };
        let created: Vec<_> = created.into_iter().map(|channel| channel.map(counted)).collect();
        let mut errors = created.iter().filter_map(|channel| channel.as_ref().err());
        if let Some(error) = errors.find(|error| is_refused_channel(error)) {
            // The broker counts late: it opens more than it allows if they are requested at once.
            let allowed = allowed_channels(error).unwrap_or(MAX_CHANNELS);
            let limit = u16::try_from(self.channels()).unwrap_or(MAX_CHANNELS).min(allowed);
            info!(broker = %self.context.broker, user = self.context.user, limit, "the broker allows no more channels: {}", reply(&error.to_string()));
            self.channel_limit.get_or_init(|| limit);
            return Err(error.clone());
        }
        let channels = created.into_iter().collect::<lapin::Result<Vec<_>>>()?;
        try_join_all(channels.iter().map(|open| open.channel.confirm_select(ConfirmSelectOptions::default()))).await?;
        Ok(channels)
    }

    /// Returns how many of `count` channels the connection can still open in its lifetime.
    fn reserve_channels(&self, count: usize) -> usize {
        let mut left = self.channels_left.lock();
        let count = count.min(*left);
        *left -= count;
        count
    }

    /// Returns true if the confirmed message reached a queue.
    fn interpret(&self, confirmation: &Confirmation) -> Result<bool, BrokerError> {
        let broker = || self.context.broker.to_string();
        match confirmation {
            Confirmation::Ack(None) => Ok(true),
            Confirmation::Ack(Some(_)) => Ok(false),
            Confirmation::Nack(_) => Err(BrokerError::Nacked { broker: broker() }),
            Confirmation::NotRequested => {
                Err(BrokerError::Lost { broker: broker(), detail: "the channel is not in confirm mode".to_owned() })
            }
        }
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.events.abort();
        // lapin closes the connection, and its thread waits for the broker's answers. A broker that
        // stays silent must not keep both.
        match Handle::try_current() {
            Ok(runtime) if self.is_open() => {
                let handle = self.shutdown_handle.clone();
                runtime.spawn(async move {
                    sleep(CLOSE_TIMEOUT).await;
                    handle.shut_down();
                });
            }
            _ => self.shutdown_handle.shut_down(),
        }
    }
}

/// Waits until the broker's alarm is as wanted. Never returns if the connection ends before.
async fn until(blocked: &mut watch::Receiver<Option<String>>, is_wanted: fn(&Option<String>) -> bool) {
    if blocked.wait_for(is_wanted).await.is_err() {
        pending::<()>().await;
    }
}

/// Forwards the broker's alarms until the connection ends. Calls `on_unblocked` after an alarm, at the
/// pace of a [`WakePacer`], because each call looks at all pending messages.
async fn forward_alarms(
    events: impl futures::Stream<Item = Event>,
    blocked: watch::Sender<Option<String>>,
    on_unblocked: impl Fn(),
) {
    let unblocked = &Notify::new();
    let receive = events.for_each(|event| {
        match event {
            Event::ConnectionBlocked(detail) => drop(blocked.send_replace(Some(detail))),
            Event::ConnectionUnblocked => {
                let was_blocked = blocked.send_replace(None).is_some();
                if was_blocked {
                    unblocked.notify_one();
                }
            }
            _ => {}
        }
        ready(())
    });
    let report = async move {
        let mut pacer = WakePacer::default();
        loop {
            // All alarms that end meanwhile cause one call.
            sleep_until(pacer.next(Instant::now())).await;
            unblocked.notified().await;
            on_unblocked();
            pacer.woke(Instant::now(), fastrand::f64());
        }
    };
    // An end of the stream ends the reports too.
    tokio::select! {
        () = receive => {}
        () = report => {}
    }
}

/// Writes a message to a channel when the returned future is polled. The future owns its data because
/// it may outlive this attempt.
fn publish_on(channel: Channel, envelope: &Envelope<'_>) -> BoxFuture<'static, lapin::Result<PublisherConfirm>> {
    let (exchange, routing_key) = (envelope.exchange.into(), envelope.routing_key.into());
    let (payload, properties) = (envelope.payload.get().as_bytes().to_vec(), properties(envelope));
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    Box::pin(async move { channel.basic_publish(exchange, routing_key, options, &payload, properties).await })
}

fn properties(envelope: &Envelope<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &envelope.headers {
        headers.insert((*name).into(), field(value));
    }
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding(CONTENT_ENCODING.into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_priority(envelope.priority)
        .with_message_id(envelope.message_id.to_string().into())
        .with_headers(headers)
}

fn field(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::String(text) => AMQPValue::LongString(text.as_str().into()),
        HeaderValue::Integer(number) => match i32::try_from(*number) {
            Ok(number) => AMQPValue::LongInt(number),
            Err(_) => AMQPValue::LongLongInt(*number),
        },
        HeaderValue::Boolean(value) => AMQPValue::Boolean(*value),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::channel::mpsc::unbounded;
    use tokio::time::sleep;

    use super::*;

    /// Each call looks at all pending messages, so a broker can't cause many of them.
    #[tokio::test(start_paused = true)]
    async fn few_alarms_wake_messages() {
        let (events, received) = unbounded();
        let (blocked, is_blocked) = watch::channel(None);
        let (calls, send) = (Cell::new(0), |event| events.unbounded_send(event).expect("a receiver"));
        let forward = forward_alarms(received, blocked, || calls.set(calls.get() + 1));
        let scenario = async {
            let wait = async |seconds| sleep(Duration::from_secs(seconds)).await;
            let alarm = || {
                send(Event::ConnectionBlocked("memory".into()));
                send(Event::ConnectionUnblocked);
            };
            send(Event::ConnectionUnblocked);
            wait(1).await;
            assert_eq!(calls.get(), 0, "there was no alarm");
            alarm();
            wait(1).await;
            assert_eq!(calls.get(), 1, "the end of the first alarm is reported at once");
            for _ in 0..100 {
                alarm();
                wait(1).await;
            }
            assert!((2..8).contains(&calls.get()), "{}", calls.get());
            alarm();
            let before = calls.get();
            wait(100).await;
            assert_eq!((calls.get(), is_blocked.borrow().clone()), (before + 1, None), "the last end is not lost");
        };
        tokio::select! {
            () = forward => panic!("it forwards as long as there are events"),
            () = scenario => {}
        }
    }
}
