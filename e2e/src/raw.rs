//! A consumer that receives messages as they are on the wire: properties, headers with their AMQP
//! types, body bytes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message_operator::internals::{Credentials, Fence, TlsTokio, Transport};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use rig::{Broker, ClientCert, wait_until};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::namespace::uid;

/// The deadline for a message to reach the broker.
const HAND_OVER: Duration = Duration::from_mins(1);

/// A consumer of an exclusive queue, bound to the topics of one test.
pub struct RawConsumer {
    runtime: Runtime,
    channel: Channel,
    queue: String,
    _connection: Connection,
}

/// A queue that keeps its messages until a test reads them, also while the broker is down.
pub struct DurableQueue(String);

impl DurableQueue {
    /// Declares the queue, bound to `amq.topic` with this key.
    pub fn declare(broker: &Broker, binding: &str) -> Self {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let name = format!("durable {binding}");
        // Declared from the start: a limit alone would drop the messages that are in the queue.
        let mut arguments = FieldTable::default();
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        Runtime::new().expect("a runtime").block_on(async {
            let (_connection, channel) = connect(broker, "admin").await.expect("the broker takes a connection");
            declare(&channel, &name, binding, options, arguments).await.expect("the queue is declared")
        });
        Self(name)
    }

    /// Lets the queue refuse new messages.
    pub fn fill(&self, broker: &Broker) {
        let pattern = format!("^{}$", self.0.replace('.', "\\."));
        broker
            .ctl(&["set_policy", "-p", "/pubsub", "--apply-to", "queues", &self.0, &pattern, r#"{"max-length": 0}"#])
            .expect("the policy is set");
    }

    /// Lets the queue accept messages again.
    pub fn accept(&self, broker: &Broker) {
        broker.ctl(&["clear_policy", "-p", "/pubsub", &self.0]).expect("the policy is cleared");
    }

    /// Removes all messages from the queue, and returns them.
    pub fn read(&self, broker: &Broker) -> Vec<BasicGetMessage> {
        Runtime::new().expect("a runtime").block_on(async {
            let (_connection, channel) = connect(broker, "admin").await.expect("the broker takes a connection");
            drain(&channel, &self.0).await
        })
    }
}

impl RawConsumer {
    /// Binds a new queue to `amq.topic` with this key.
    pub fn start(broker: &Broker, binding: &str) -> Self {
        Self::start_with(broker, binding, FieldTable::default())
    }

    /// Like [`RawConsumer::start`], with these arguments of the queue.
    pub fn start_with(broker: &Broker, binding: &str, arguments: FieldTable) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let opened = runtime.block_on(open(broker, binding, arguments));
        let (connection, channel, queue) = opened.expect("the broker takes a consumer");
        Self { runtime, channel, queue, _connection: connection }
    }

    /// Waits for `count` messages. Returns them and all others that are in the queue.
    pub fn take(&self, count: usize, within: Duration) -> Vec<BasicGetMessage> {
        let mut messages = Vec::new();
        let all_arrived = || {
            messages.extend(self.runtime.block_on(drain(&self.channel, &self.queue)));
            messages.len() >= count
        };
        wait_until(within, "messages arrive", all_arrived)
            .unwrap_or_else(|error| panic!("{error}: {} of {count}", messages.len()));
        messages
    }

    /// Suspends the queue, so that the broker confirms no message.
    pub fn suspend(&self, broker: &Broker) {
        self.eval(broker, "ok = sys:suspend(P)");
    }

    /// Resumes the queue.
    pub fn resume(&self, broker: &Broker) {
        self.eval(broker, "ok = sys:resume(P)");
    }

    /// Waits until the suspended queue has a message in its mailbox, so that the broker has the
    /// message and can't confirm it.
    pub fn wait_for_hand_over(&self, broker: &Broker) {
        wait_until(HAND_OVER, "the broker has a message", || self.is_handed_over(broker)).expect("the broker has it");
    }

    fn is_handed_over(&self, broker: &Broker) -> bool {
        let waiting = "{messages, M} = process_info(P, messages), \
                       length([1 || {'$gen_cast', {deliver, _, _}} <- M]) > 0";
        self.eval(broker, waiting).trim() == "true"
    }

    /// Evaluates Erlang code in the broker, with the queue's process as `P`.
    fn eval(&self, broker: &Broker, code: &str) -> String {
        let find = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/pubsub\">>, queue, <<\"{}\">>)), P = amqqueue:get_pid(Q), ",
            self.queue
        );
        broker.ctl(&["eval", &format!("{find}{code}.")]).expect("the broker evaluates")
    }
}

/// Removes all messages from a queue, and returns them.
async fn drain(channel: &Channel, queue: &str) -> Vec<BasicGetMessage> {
    let mut messages = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.into(), options).await.expect("the queue is there") {
        messages.push(message);
    }
    messages
}

/// Declares an exclusive queue, bound to `amq.topic`. Returns its connection, channel and name.
pub async fn open(
    broker: &Broker,
    binding: &str,
    arguments: FieldTable,
) -> lapin::Result<(Connection, Channel, String)> {
    let (connection, channel) = connect(broker, "admin").await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = declare(&channel, "", binding, options, arguments).await?;
    Ok((connection, channel, queue))
}

/// Returns the id of a message.
pub fn id(message: &BasicGetMessage) -> String {
    message.properties.message_id().as_ref().expect("an id").to_string()
}

/// Returns the first copy of each message by its id. Asserts that all other copies are equal to it.
pub fn unique(messages: &[BasicGetMessage]) -> HashMap<String, &BasicGetMessage> {
    let mut unique = HashMap::new();
    for message in messages {
        let first: &BasicGetMessage = unique.entry(id(message)).or_insert(message);
        assert_eq!(
            (&message.properties, &message.routing_key, &message.data),
            (&first.properties, &first.routing_key, &first.data),
            "copies of a message are equal"
        );
    }
    unique
}

/// Asserts that each of these stored messages was received, and no other, with equal copies. Returns the
/// number of additional copies.
#[track_caller]
pub fn assert_arrived(messages: &[Value], received: &[BasicGetMessage]) -> usize {
    let stored: BTreeSet<String> = messages.iter().map(uid).collect();
    let arrived: BTreeSet<String> = unique(received).into_keys().collect();
    let missing: Vec<_> = stored.difference(&arrived).collect();
    let unknown: Vec<_> = arrived.difference(&stored).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not received: {missing:?}; received, but not expected: {unknown:?}"
    );
    received.len() - arrived.len()
}

/// Reads the credentials of a certificate.
pub fn credentials(certificate: &ClientCert) -> Credentials {
    let part = |name: &str, pem| PemText { place: name.to_owned(), bytes: pem };
    let files = PemFiles {
        ca: part("ca", certificate.ca.as_bytes()),
        cert: part("cert", certificate.cert.as_bytes()),
        key: part("key", certificate.key.as_bytes()),
    };
    Credentials::from_pem(&files).expect("the certificate is valid")
}

/// Opens a connection and a channel of a user of the broker.
pub async fn connect(broker: &Broker, user: &str) -> lapin::Result<(Connection, Channel)> {
    let credentials = credentials(&broker.client(user).expect("a certificate"));
    let address = broker.url().parse().expect("the broker's URL is good");
    let (stream, _shutdown) = Transport::open(&address, credentials.tls, Fence::always_open())
        .await
        .expect("the broker answers")
        .for_consumers()
        .into_parts();
    let mut uri: AMQPUri = broker.url().parse().expect("the broker's URL is good");
    uri.query.auth_mechanism = Some(SASLMechanism::External);
    let stream = std::sync::Mutex::new(Some(stream));
    let connect =
        async move |_, _| Ok(AsyncTcpStream::Plain(stream.lock().expect("no panic").take().expect("one connection")));
    let connection = Connection::connector(uri, TlsTokio::current(), connect, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Declares a queue, bound to `amq.topic`, and returns its name.
async fn declare(
    channel: &Channel,
    name: &str,
    binding: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<String> {
    let queue = channel.queue_declare(name.into(), options, arguments).await?.name().to_string();
    channel
        .queue_bind(
            queue.as_str().into(),
            "amq.topic".into(),
            binding.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(queue)
}
