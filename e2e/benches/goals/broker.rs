//! Bare clients of the broker: lapin on the program's own TLS stream, and nothing around it.

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

/// Channels of a bare client that is to be as fast as the program: as many as that has.
pub const CHANNELS: usize = 64;
/// A delivery or a confirm takes no longer.
const SOON: Duration = Duration::from_mins(1);

/// A connection with channels, each of which has one message in flight at most.
pub struct BarePublisher {
    channels: Vec<Channel>,
    /// Those on which nothing is in flight, for [`publish`](Self::publish).
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

    /// Publishes a message on whichever channel is idle, and awaits its confirm; no more may call it at a time than
    /// there are channels.
    pub async fn publish(&self, topic: &str, body: &[u8]) -> Result<()> {
        let channel = self.idle.lock().pop().ok_or("no channel is idle")?;
        publish(&channel, topic, body).await?;
        self.idle.lock().push(channel);
        Ok(())
    }

    /// Publishes all, on all channels.
    pub async fn publish_all(&self, topic: &str, bodies: &[Vec<u8>]) -> Result<()> {
        let width = self.channels.len();
        let each = self.channels.iter().enumerate().map(async |(first, channel)| {
            for body in bodies.iter().skip(first).step_by(width) {
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
        other => Err(format!("the broker does not take the message: {other:?}").into()),
    }
}

/// What the program gives to a message that sets nothing itself.
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

/// A queue of our own, bound to a topic. It keeps what comes until somebody looks.
pub struct Inbox {
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl Inbox {
    pub async fn bind(broker: &Broker, topic: &str) -> Result<Self> {
        let (connection, channel, queue) = open(broker, topic, &[]).await?;
        Ok(Self { channel, queue, _connection: connection })
    }

    /// Takes one message, and throws the others away.
    pub async fn take_one(&self) -> Result<Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let message = self.channel.basic_get(self.queue.as_str().into(), options).await?;
        self.channel.queue_purge(self.queue.as_str().into(), QueuePurgeOptions::default()).await?;
        Ok(message.ok_or("nothing has come")?.delivery)
    }

    /// Lets the broker hand over what comes.
    pub async fn consume(&self) -> Result<Receipts> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let (queue, tag) = (self.queue.as_str().into(), "".into());
        Ok(Receipts(self.channel.basic_consume(queue, tag, options, FieldTable::default()).await?))
    }
}

/// What an inbox is handed, as it comes.
pub struct Receipts(Consumer);

impl Receipts {
    pub async fn next(&mut self) -> Result<Delivery> {
        Ok(timeout(SOON, self.0.next()).await?.ok_or("the broker has ended the consumer")??)
    }
}
