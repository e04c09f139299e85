//! One AMQP connection with its channels, on which messages are published and confirmed.
//!
//! One message is in flight on a channel at any time. lapin then can't attribute an answer to the
//! wrong message, and a refusal by the broker, which closes the channel, meets only the message
//! that caused it (docs/decisions/0003).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_compat::Compat;
use futures::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event, ExchangeKind,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::address::BrokerAddress;
use super::credentials::Credentials;
use super::errors::{BrokerError, Peers};
use super::transport::{Plug, TlsSocket, TlsTokio, Transport};
use crate::message::envelope::{CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE, Envelope, HeaderValue};

/// How long the AMQP handshake may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a polite goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Seconds of silence after which a peer counts as gone.
const HEARTBEAT: u16 = 10;
/// How many channels one connection has at most. More gain nothing (docs/performance.md).
const MAX_CHANNELS: u16 = 64;

/// Whether a confirmed message reached a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// At least one queue has it.
    Routed,
    /// No queue is bound to its topic; the broker dropped it.
    Unroutable,
}

/// What a broker will say of a message that was handed to it.
type Answer = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// An open AMQP connection.
pub struct Link {
    connection: Connection,
    plug: Plug,
    peers: Peers,
    idle: Mutex<Vec<Channel>>,
    permits: Semaphore,
    /// Messages that were handed to a broker which then blocked the connection. It has them, or
    /// gets them as soon as it reads again: they must not be published once more.
    unanswered: Mutex<HashMap<Uuid, (Channel, Answer)>>,
    blocked: watch::Receiver<Option<String>>,
    events: AbortHandle,
}

impl Link {
    /// Connects, logs in and opens the virtual host. `on_unblocked` is called whenever the broker
    /// takes messages again after an alarm.
    pub async fn open(
        address: &BrokerAddress,
        credentials: &Credentials,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let peers = Peers { broker: address.clone(), user: credentials.user.clone() };
        let transport =
            Transport::open(address, credentials.tls.clone()).await.map_err(|error| peers.transport(&error))?;
        Self::log_in(peers, transport, on_unblocked).await
    }

    /// The second half of [`open`](Self::open), on a transport that is open already.
    pub async fn log_in(
        peers: Peers,
        transport: Transport,
        on_unblocked: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let (stream, plug) = transport.into_parts();
        let connection = match timeout(OPEN_TIMEOUT, handshake(&peers.broker, stream)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                plug.pull();
                return Err(peers.login(&error));
            }
            Err(_) => {
                plug.pull();
                let words = format!("it does not answer in AMQP for {} s", OPEN_TIMEOUT.as_secs());
                return Err(BrokerError::Unreachable { broker: peers.broker.to_string(), words });
            }
        };
        let (sender, blocked) = watch::channel(None);
        let events = tokio::spawn(follow(connection.events_listener(), sender, on_unblocked)).abort_handle();
        let channels = match connection.configuration().channel_max() {
            0 => MAX_CHANNELS,
            negotiated => MAX_CHANNELS.min((negotiated / 2).max(1)),
        };
        Ok(Self {
            connection,
            plug,
            peers,
            idle: Mutex::default(),
            permits: Semaphore::new(channels.into()),
            unanswered: Mutex::default(),
            blocked,
            events,
        })
    }

    /// Whether messages can be handed to it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Publishes a message and awaits the broker's confirm, for no longer than `confirm_timeout`.
    ///
    /// Any error after the first byte means that the broker may have the message. A message that
    /// was left waiting when the broker blocked the connection is not published again: its confirm
    /// is awaited further.
    pub async fn publish(&self, envelope: &Envelope<'_>, confirm_timeout: Duration) -> Result<Confirmed, BrokerError> {
        let _permit = self.permits.acquire().await;
        self.refuse_while_blocked()?;
        let waiting = self.unanswered.lock().remove(&envelope.message_id);
        self.refuse_oversize(envelope)?;
        let (channel, mut answer) = if let Some(waiting) = waiting {
            waiting
        } else {
            let channel = self.unless_blocked(self.channel()).await?.map_err(|error| self.failed(&error, envelope))?;
            (channel.clone(), hand_over(channel, envelope))
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
        self.judge(confirmation, envelope)
    }

    /// Whether the exchange is there, without declaring it.
    pub async fn find_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        let failed = |error: lapin::Error| self.peers.publish(&error, exchange, 0);
        let channel = self.connection.create_channel().await.map_err(failed)?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default())
            .await
            .map_err(failed)
    }

    /// Says goodbye to the broker. Whoever is still publishing loses the confirm.
    pub async fn close(&self) {
        if timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await.is_err() {
            debug!(broker = %self.peers.broker, "the broker did not answer the goodbye");
        }
    }

    fn blocked(&self, words: &str) -> BrokerError {
        BrokerError::Blocked { broker: self.peers.broker.to_string(), words: words.to_owned() }
    }

    fn refuse_while_blocked(&self) -> Result<(), BrokerError> {
        match self.blocked.borrow().as_deref() {
            Some(words) => Err(self.blocked(words)),
            None => Ok(()),
        }
    }

    /// Does `work`, or stops waiting for it when the broker blocks the connection.
    async fn unless_blocked<T>(&self, work: impl Future<Output = T>) -> Result<T, BrokerError> {
        let mut blocked = self.blocked.clone();
        let words = tokio::select! {
            biased;
            done = work => return Ok(done),
            words = blocked.wait_for(Option::is_some) => words.ok().and_then(|words| words.clone()),
        };
        Err(self.blocked(words.as_deref().unwrap_or("the connection ends")))
    }

    /// Headers that would cost everybody the connection: a frame can't be split.
    fn refuse_oversize(&self, envelope: &Envelope<'_>) -> Result<(), BrokerError> {
        let (size, most) = (envelope.properties_size(), self.connection.configuration().frame_max());
        if most == 0 || size <= most as usize {
            return Ok(());
        }
        let words = format!("its headers need a frame of {size} bytes, and the broker takes frames of {most}");
        Err(BrokerError::Refused { broker: self.peers.broker.to_string(), words })
    }

    fn failed(&self, error: &lapin::Error, envelope: &Envelope<'_>) -> BrokerError {
        self.peers.publish(error, envelope.exchange, envelope.payload.get().len())
    }

    /// A channel for one message: an idle one, or a new one.
    async fn channel(&self) -> lapin::Result<Channel> {
        loop {
            let Some(channel) = self.idle.lock().pop() else { break };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    fn judge(
        &self,
        confirmation: lapin::Result<Confirmation>,
        envelope: &Envelope<'_>,
    ) -> Result<Confirmed, BrokerError> {
        let broker = || self.peers.broker.to_string();
        match confirmation {
            Ok(Confirmation::Ack(None)) => Ok(Confirmed::Routed),
            Ok(Confirmation::Ack(Some(_))) => Ok(Confirmed::Unroutable),
            Ok(Confirmation::Nack(_)) => Err(BrokerError::Nacked { broker: broker() }),
            Ok(Confirmation::NotRequested) => {
                Err(BrokerError::Lost { broker: broker(), words: "the channel gives no confirms".to_owned() })
            }
            Err(error) => Err(self.failed(&error, envelope)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.events.abort();
        if !self.is_open() {
            // The client's thread may still wait for a silent peer.
            self.plug.pull();
        }
    }
}

async fn handshake(address: &BrokerAddress, stream: Compat<TlsSocket>) -> lapin::Result<Connection> {
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQPS,
        authority: AMQPAuthority { host: address.host.clone(), port: address.port, ..AMQPAuthority::default() },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT),
            auth_mechanism: Some(SASLMechanism::External),
            ..AMQPQueryString::default()
        },
    };
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| match stream.lock().take() {
        Some(stream) => Ok(AsyncTcpStream::Plain(stream)),
        None => Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
    };
    Connection::connector(uri, TlsTokio::current(), connect, client_properties()).await
}

/// How the connection presents itself to the broker's administrators. fedora-messaging requires
/// `app` and suggests the others.
fn client_properties() -> ConnectionProperties {
    let property = |properties: ConnectionProperties, (key, value): (&str, &str)| {
        properties.with_client_property(key.into(), value.into())
    };
    [
        ("app", env!("CARGO_PKG_NAME")),
        ("app_version", env!("CARGO_PKG_VERSION")),
        ("app_url", env!("CARGO_PKG_REPOSITORY")),
        ("product", env!("CARGO_PKG_NAME")),
    ]
    .into_iter()
    .fold(ConnectionProperties::default().with_connection_name(env!("CARGO_PKG_NAME").into()), property)
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
            Event::ConnectionBlocked(words) => {
                blocked.send_replace(Some(words));
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
    Box::pin(async move { channel.basic_publish(exchange, routing_key, options, &payload, properties).await?.await })
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
