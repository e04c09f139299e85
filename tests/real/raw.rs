//! A consumer that sees what is on the wire: properties, headers with their AMQP types, body bytes.

use std::time::{Duration, Instant};

use fedora_message_operator::broker::credentials::{Credentials, fingerprint};
use fedora_message_operator::broker::transport::{TlsTokio, Transport};
use fedora_message_operator::message::secret::{Material, Part};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use rig::Broker;
use tokio::runtime::Runtime;

/// A queue of its own, bound to the topics of one test.
pub struct RawConsumer {
    runtime: Runtime,
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl RawConsumer {
    /// Binds a new queue to `amq.topic` with the given key.
    pub fn start(broker: &Broker, binding: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (connection, channel, queue) = runtime
            .block_on(open(broker, binding))
            .expect("the broker takes a consumer");
        Self {
            runtime,
            channel,
            queue,
            _connection: connection,
        }
    }

    /// Waits for `count` messages in all, then takes what else is there.
    pub fn take(&self, count: usize, within: Duration) -> Vec<BasicGetMessage> {
        let start = Instant::now();
        let mut messages = Vec::new();
        loop {
            match self.runtime.block_on(self.get()) {
                Some(message) => messages.push(message),
                None if messages.len() >= count => return messages,
                None => assert!(
                    start.elapsed() < within,
                    "{} of {count} messages after {within:?}",
                    messages.len()
                ),
            }
        }
    }

    async fn get(&self) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel
            .basic_get(self.queue.as_str().into(), options)
            .await
            .expect("the queue is there")
    }
}

async fn open(broker: &Broker, binding: &str) -> lapin::Result<(Connection, Channel, String)> {
    let certificate = broker.client("admin").expect("a certificate is issued");
    let part = |text: &'static str, bytes| Part {
        place: text.to_owned(),
        bytes,
    };
    let material = Material {
        ca: part("ca", certificate.ca.as_bytes()),
        cert: part("cert", certificate.cert.as_bytes()),
        key: part("key", certificate.key.as_bytes()),
    };
    let credentials = Credentials::from_pem(&material, fingerprint(&material)).expect("the certificate is good");
    let address = broker.url().parse().expect("the broker's URL is good");
    let (stream, _plug) = Transport::open(&address, credentials.tls)
        .await
        .expect("the broker answers")
        .into_parts();
    let mut uri: AMQPUri = broker.url().parse().expect("the broker's URL is good");
    uri.query.auth_mechanism = Some(SASLMechanism::External);
    let stream = std::sync::Mutex::new(Some(stream));
    let connect = async move |_, _| {
        Ok(AsyncTcpStream::Plain(
            stream.lock().expect("no panic").take().expect("one connection"),
        ))
    };
    let connection = Connection::connector(uri, TlsTokio::current(), connect, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?
        .name()
        .to_string();
    channel
        .queue_bind(
            queue.as_str().into(),
            "amq.topic".into(),
            binding.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((connection, channel, queue))
}
