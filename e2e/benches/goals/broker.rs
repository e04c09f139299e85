//! Bare clients of the broker: only lapin on the program's TLS stream.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use fedora_message::message::envelope::{CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE};
use futures::StreamExt;
use futures::future::try_join_all;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use parking_lot::Mutex;
use rig::Broker;
use tokio::time::timeout;
use uuid::Uuid;

use e2e::bench::Result;
use e2e::raw::{connect, open};

/// The number of channels of a bare client, which is that of the program.
pub const CHANNELS: usize = 64;
/// The time limit for a delivery or a confirm.
const SOON: Duration = Duration::from_mins(1);

/// A connection with channels. Each channel has at most one message in flight.
pub struct BarePublisher {
    channels: Vec<Channel>,
    /// The channels without a message in flight, for [`publish`](Self::publish).
    idle: Mutex<Vec<Channel>>,
    _connection: Connection,
}

impl BarePublisher {
    pub async fn open(broker: &Broker, channels: usize) -> Result<Self> {
        let (connection, _) = connect(broker, "publisher").await?;
        let opened = (0..channels).map(|_| async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            lapin::Result::Ok(channel)
        });
        let channels = try_join_all(opened).await?;
        Ok(Self { idle: Mutex::new(channels.clone()), channels, _connection: connection })
    }

    /// Publishes a message on an idle channel, and awaits its confirm.
    ///
    /// The number of concurrent calls must not exceed the number of channels.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<()> {
        let channel = self.idle.lock().pop().ok_or("no channel is idle")?;
        publish(&channel, topic, body).await?;
        self.idle.lock().push(channel);
        Ok(())
    }

    /// Publishes all messages on all channels.
    pub async fn publish_all(&self, topic: &str, bodies: &[Vec<u8>]) -> Result<()> {
        let concurrency = self.channels.len();
        let each = self.channels.iter().enumerate().map(async |(first, channel)| {
            for body in bodies.iter().skip(first).step_by(concurrency) {
                publish(channel, topic, body).await?;
            }
            Result::Ok(())
        });
        try_join_all(each).await.map(drop)
    }
}

async fn publish(channel: &Channel, topic: &str, body: &[u8]) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let confirm = channel.basic_publish("amq.topic".into(), topic.into(), options, body, properties()).await?;
    match timeout(SOON, confirm).await?? {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("the broker did not accept the message: {other:?}").into()),
    }
}

/// Returns the properties that the program sets by default.
fn properties() -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let sent_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, false);
    let mut headers = FieldTable::default();
    headers.insert("fedora_messaging_schema".into(), text("base.message"));
    headers.insert("fedora_messaging_schema_package".into(), text("fedora_messaging"));
    headers.insert("fedora_messaging_severity".into(), AMQPValue::LongInt(20));
    headers.insert("priority".into(), AMQPValue::LongInt(0));
    headers.insert("sent-at".into(), text(&sent_at));
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding(CONTENT_ENCODING.into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_priority(0)
        .with_message_id(Uuid::new_v4().to_string().into())
        .with_headers(headers)
}

/// An exclusive queue that is bound to a topic.
pub struct Inbox {
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl Inbox {
    pub async fn bind(broker: &Broker, topic: &str) -> Result<Self> {
        let (connection, channel, queue) = open(broker, topic, FieldTable::default()).await?;
        Ok(Self { channel, queue, _connection: connection })
    }

    /// Takes one message and discards the others.
    pub async fn take_one(&self) -> Result<Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let message = self.channel.basic_get(self.queue.as_str().into(), options).await?;
        self.channel.queue_purge(self.queue.as_str().into(), QueuePurgeOptions::default()).await?;
        Ok(message.ok_or("the queue is empty")?.delivery)
    }

    /// Starts to consume.
    pub async fn consume(&self) -> Result<Receipts> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let (queue, tag) = (self.queue.as_str().into(), "".into());
        Ok(Receipts(self.channel.basic_consume(queue, tag, options, FieldTable::default()).await?))
    }
}

/// The deliveries of an inbox.
pub struct Receipts(Consumer);

impl Receipts {
    pub async fn next(&mut self) -> Result<Delivery> {
        Ok(timeout(SOON, self.0.next()).await?.ok_or("the broker has ended the consumer")??)
    }
}
