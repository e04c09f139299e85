//! One AMQP connection with its channels, on which messages are published and confirmed.
//!
//! One message is in flight on a channel at any time. lapin then can't attribute an answer to the
//! wrong message, and a refusal by the broker, which closes the channel, meets only the message
//! that caused it (docs/decisions/0003). No channel's number is used twice, as lapin would tell the second
//! what the broker said to the first (docs/decisions/0019).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, ExchangeKind};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::address::BrokerAddress;
use super::credentials::Credentials;
use super::errors::{BrokerError, ErrorContext, answer};
use super::fence::Fence;
use super::login::handshake;
use super::transport::{ShutdownHandle, Transport};
use fedora_message::message::envelope::{CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE, Envelope, HeaderValue};
use fedora_message::policy::outcome::Timing;

/// How long the AMQP handshake may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the opening of a channel may take. lapin gives no answer at all to who asks for one while the
/// connection breaks.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a polite goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many channels one connection has at most. More gain nothing (docs/performance.md).
const MAX_CHANNELS: u16 = 64;

/// How many channels one connection opens in its life at most, also where the broker sets no limit: what
/// lapin keeps of each closed one must end some time.
const MOST_NUMBERS: u16 = 2047;

/// A message that the broker confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Whether at least one queue has it; else the broker dropped it, as none is bound to its topic.
    pub routed: bool,
    /// How long that took.
    pub took: Timing,
}

/// What came of a message, where nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker confirmed it.
    Confirmed(Confirmed),
    /// It was not sent, as it was not wanted any more.
    Withdrawn,
    /// It was not sent, as the connection is used up; take another.
    UsedUp,
}

/// What a broker will say of a message that was handed to it, and when it was.
type Answer = Pin<Box<dyn Future<Output = lapin::Result<(Confirmation, Instant)>> + Send>>;

/// An open AMQP connection.
pub struct BrokerConnection {
    connection: Connection,
    shutdown_handle: ShutdownHandle,
    peers: ErrorContext,
    idle: Mutex<Vec<Channel>>,
    /// How many channels can still be opened.
    numbers: Mutex<u16>,
    /// How many there may be at a time.
    channels: u16,
    permits: Semaphore,
    /// Messages that were handed to a broker which then blocked the connection. It has them, or
    /// gets them as soon as it reads again: they must not be published once more.
    unanswered: Mutex<HashMap<Uuid, (Channel, Answer)>>,
    blocked: watch::Receiver<Option<String>>,
    events: AbortHandle,
}

impl BrokerConnection {
    /// Connects, logs in and opens the virtual host. `on_unblocked` is called whenever the broker
    /// takes messages again after an alarm.
    pub async fn open(
        address: &BrokerAddress,
        credentials: &Credentials,
        gate: Fence,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let peers = ErrorContext { broker: address.clone(), user: credentials.user.clone() };
        let transport =
            Transport::open(address, credentials.tls.clone(), gate).await.map_err(|error| peers.transport(&error))?;
        Self::log_in(peers, transport, on_unblocked).await
    }

    /// The second half of [`open`](Self::open), on a transport that is open already.
    pub async fn log_in(
        peers: ErrorContext,
        transport: Transport,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let (stream, shutdown_handle) = transport.into_parts();
        let connection = match timeout(OPEN_TIMEOUT, handshake(&peers.broker, stream)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                shutdown_handle.shut_down();
                return Err(peers.login(&error));
            }
            Err(_) => {
                shutdown_handle.shut_down();
                let detail = format!("it does not answer in AMQP for {} s", OPEN_TIMEOUT.as_secs());
                return Err(BrokerError::Unreachable { broker: peers.broker.to_string(), detail });
            }
        };
        let (sender, blocked) = watch::channel(None);
        let events = tokio::spawn(follow(connection.events_listener(), sender, on_unblocked)).abort_handle();
        let numbers = match connection.configuration().channel_max() {
            0 => MOST_NUMBERS,
            negotiated => negotiated.min(MOST_NUMBERS),
        };
        let channels = MAX_CHANNELS.min((numbers / 2).max(1));
        Ok(Self {
            connection,
            shutdown_handle,
            peers,
            idle: Mutex::default(),
            numbers: Mutex::new(numbers),
            channels,
            permits: Semaphore::new(channels.into()),
            unanswered: Mutex::default(),
            blocked,
            events,
        })
    }

    /// Whether it is connected.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether it is of use to this message: it can open a channel, or the broker has the message already.
    #[must_use]
    pub fn serves(&self, message_id: &Uuid) -> bool {
        self.is_open() && (*self.numbers.lock() > 0 || self.unanswered.lock().contains_key(message_id))
    }

    /// Publishes a message and awaits the broker's confirm, for no longer than `confirm_timeout`.
    ///
    /// Any error after the first byte means that the broker may have the message. A message that
    /// was left waiting when the broker blocked the connection is not published again: its confirm
    /// is awaited further. One that is not wanted any more once it could be handed over is not sent.
    pub async fn publish(
        &self,
        envelope: &Envelope<'_>,
        confirm_timeout: Duration,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Published, BrokerError> {
        let begun = Instant::now();
        let _permit = self.permits.acquire().await;
        self.refuse_while_blocked()?;
        let waiting = self.unanswered.lock().remove(&envelope.message_id);
        self.refuse_oversize(envelope)?;
        let (channel, mut answer) = if let Some(waiting) = waiting {
            waiting
        } else {
            match self.unless_blocked(self.channel(envelope)).await?? {
                Some(channel) if is_wanted() => (channel.clone(), hand_over(channel, envelope)),
                Some(channel) => {
                    self.idle.lock().push(channel);
                    return Ok(Published::Withdrawn);
                }
                None => return Ok(Published::UsedUp),
            }
        };
        let confirmation = match timeout(confirm_timeout, self.unless_blocked(&mut answer)).await {
            Ok(Ok(confirmation)) => confirmation,
            Ok(Err(blocked)) => {
                self.unanswered.lock().insert(envelope.message_id, (channel, answer));
                return Err(blocked);
            }
            // A late confirm must meet no other message: the channel is not used again.
            Err(_) => {
                let (broker, seconds) = (self.peers.broker.to_string(), confirm_timeout.as_secs());
                return Err(BrokerError::ConfirmTimeout { broker, seconds });
            }
        };
        if channel.status().connected() {
            self.idle.lock().push(channel);
        }
        let (confirmation, handed_over) = confirmation.map_err(|error| self.failed(&error, envelope))?;
        let took = Timing {
            // A message that was handed over before the broker blocked was so before this attempt.
            publish: handed_over.saturating_duration_since(begun),
            confirm: handed_over.elapsed(),
        };
        self.judge(&confirmation).map(|routed| Published::Confirmed(Confirmed { routed, took }))
    }

    /// How many channels are open, or about to be.
    #[must_use]
    pub fn channels(&self) -> usize {
        let in_use = usize::from(self.channels).saturating_sub(self.permits.available_permits());
        in_use + self.idle.lock().len()
    }

    /// Whether the broker has blocked the connection, by its memory or disk alarm.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Whether the exchange is there, without declaring it.
    pub async fn find_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found = async {
            let channel = self.connection.create_channel().await?;
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await
        };
        match timeout(CHANNEL_TIMEOUT, found).await {
            Ok(found) => found.map_err(|error| self.peers.publish(&error, exchange, 0)),
            Err(_) => Err(self.no_channel()),
        }
    }

    /// Says goodbye to the broker. Whoever is still publishing loses the confirm.
    pub async fn close(&self) {
        if timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await.is_err() {
            debug!(broker = %self.peers.broker, "the broker did not answer the goodbye");
        }
    }

    fn blocked(&self, detail: &str) -> BrokerError {
        BrokerError::Blocked { broker: self.peers.broker.to_string(), detail: answer(detail) }
    }

    fn refuse_while_blocked(&self) -> Result<(), BrokerError> {
        match self.blocked.borrow().as_deref() {
            Some(detail) => Err(self.blocked(detail)),
            None => Ok(()),
        }
    }

    /// Does `work`, or stops waiting for it when the broker blocks the connection.
    async fn unless_blocked<T>(&self, work: impl Future<Output = T>) -> Result<T, BrokerError> {
        let mut blocked = self.blocked.clone();
        let detail = tokio::select! {
            biased;
            done = work => return Ok(done),
            detail = blocked.wait_for(Option::is_some) => detail.ok().and_then(|detail| detail.clone()),
        };
        Err(self.blocked(detail.as_deref().unwrap_or("the connection ends")))
    }

    /// Headers that would cost everybody the connection: a frame can't be split.
    fn refuse_oversize(&self, envelope: &Envelope<'_>) -> Result<(), BrokerError> {
        let (size, most) = (envelope.properties_size(), self.connection.configuration().frame_max());
        if most == 0 || size <= most as usize {
            return Ok(());
        }
        let detail = format!("its headers need a frame of {size} bytes, and the broker takes frames of {most}");
        Err(BrokerError::Refused { broker: self.peers.broker.to_string(), detail })
    }

    fn failed(&self, error: &lapin::Error, envelope: &Envelope<'_>) -> BrokerError {
        self.peers.publish(error, envelope.exchange, envelope.payload.get().len())
    }

    fn no_channel(&self) -> BrokerError {
        let detail = format!("it opens no channel for {} s", CHANNEL_TIMEOUT.as_secs());
        BrokerError::Lost { broker: self.peers.broker.to_string(), detail }
    }

    /// A channel for one message: an idle one, or a new one, if there is one left.
    async fn channel(&self, envelope: &Envelope<'_>) -> Result<Option<Channel>, BrokerError> {
        loop {
            let Some(channel) = self.idle.lock().pop() else { break };
            if channel.status().connected() {
                return Ok(Some(channel));
            }
        }
        if !self.takes_number() {
            return Ok(None);
        }
        let opened = async {
            let channel = self.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let Ok(opened) = timeout(CHANNEL_TIMEOUT, opened).await else {
            // Such a connection opens no other channel either. What it was given before is still awaited.
            *self.numbers.lock() = 0;
            return Err(self.no_channel());
        };
        opened.map(Some).map_err(|error| self.failed(&error, envelope))
    }

    fn takes_number(&self) -> bool {
        let mut left = self.numbers.lock();
        let one = left.checked_sub(1);
        *left = one.unwrap_or_default();
        one.is_some()
    }

    /// Whether a message that the broker has answered reached a queue, if it was confirmed.
    fn judge(&self, confirmation: &Confirmation) -> Result<bool, BrokerError> {
        let broker = || self.peers.broker.to_string();
        match confirmation {
            Confirmation::Ack(None) => Ok(true),
            Confirmation::Ack(Some(_)) => Ok(false),
            Confirmation::Nack(_) => Err(BrokerError::Nacked { broker: broker() }),
            Confirmation::NotRequested => {
                Err(BrokerError::Lost { broker: broker(), detail: "the channel gives no confirms".to_owned() })
            }
        }
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.events.abort();
        if !self.is_open() {
            // The client's thread may still wait for a silent peer.
            self.shutdown_handle.shut_down();
        }
    }
}

/// Passes the broker's alarms on until the connection ends.
async fn follow(
    events: impl futures::Stream<Item = Event>,
    blocked: watch::Sender<Option<String>>,
    on_unblocked: impl Fn(),
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(detail) => {
                blocked.send_replace(Some(detail));
            }
            Event::ConnectionUnblocked => {
                blocked.send_replace(None);
                on_unblocked();
            }
            _ => {}
        }
    }
}

/// Publishes on a channel, once the answer is awaited. It owns all it needs: it may have to be
/// awaited for longer than this attempt lasts.
fn hand_over(channel: Channel, envelope: &Envelope<'_>) -> Answer {
    let (exchange, routing_key) = (envelope.exchange.into(), envelope.routing_key.into());
    let (payload, properties) = (envelope.payload.get().as_bytes().to_vec(), properties(envelope));
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    Box::pin(async move {
        let confirm = channel.basic_publish(exchange, routing_key, options, &payload, properties).await?;
        let handed_over = Instant::now();
        Ok((confirm.await?, handed_over))
    })
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
