//! A consumer that sees what is on the wire: properties, headers with their AMQP types, body bytes.

use std::time::{Duration, Instant};

use fedora_message::message::secret::{PemFiles, PemText};
use fedora_message_operator::internals::Fence;
use fedora_message_operator::internals::{Credentials, fingerprint};
use fedora_message_operator::internals::{TlsTokio, Transport};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use rig::{Broker, wait_until};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long a broker may take to be handed a message.
const HANDED_OVER_WITHIN: Duration = Duration::from_mins(1);

/// A queue of its own, bound to the topics of one test.
pub struct RawConsumer {
    runtime: Runtime,
    channel: Channel,
    queue: String,
    _connection: Connection,
}

/// A queue that keeps what comes, also while the broker is away, until it is read.
pub struct DurableQueue(String);

impl DurableQueue {
    /// Declares the queue, bound to `amq.topic` with the given key.
    pub fn declare(broker: &Broker, binding: &str) -> Self {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let name = format!("durable {binding}");
        // Said from the beginning: a limit alone would drop what is in the queue already.
        let arguments = [("x-overflow", json!("reject-publish"))];
        Runtime::new().expect("a runtime").block_on(async {
            let (_connection, channel) = connect(broker, "admin").await.expect("the broker takes a connection");
            declare(&channel, &name, binding, options, &arguments).await.expect("the queue is declared")
        });
        Self(name)
    }

    /// Lets the queue refuse whatever else comes.
    pub fn fill(&self, broker: &Broker) {
        let pattern = format!("^{}$", self.0.replace('.', "\\."));
        broker
            .ctl(&["set_policy", "-p", "/pubsub", "--apply-to", "queues", &self.0, &pattern, r#"{"max-length": 0}"#])
            .expect("the policy is set");
    }

    /// Gives the queue room again.
    pub fn make_room(&self, broker: &Broker) {
        broker.ctl(&["clear_policy", "-p", "/pubsub", &self.0]).expect("the policy is cleared");
    }

    /// Takes all that has come.
    pub fn read(&self, broker: &Broker) -> Vec<BasicGetMessage> {
        Runtime::new().expect("a runtime").block_on(async {
            let (_connection, channel) = connect(broker, "admin").await.expect("the broker takes a connection");
            let mut messages = Vec::new();
            let options = BasicGetOptions { no_ack: true };
            while let Some(message) =
                channel.basic_get(self.0.as_str().into(), options).await.expect("the queue is there")
            {
                messages.push(message);
            }
            messages
        })
    }
}

impl RawConsumer {
    /// Binds a new queue to `amq.topic` with the given key.
    pub fn start(broker: &Broker, binding: &str) -> Self {
        Self::start_with(broker, binding, &[])
    }

    /// Binds a new queue that is declared with the given arguments.
    pub fn start_with(broker: &Broker, binding: &str, arguments: &[(&str, Value)]) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let opened = runtime.block_on(open(broker, binding, arguments));
        let (connection, channel, queue) = opened.expect("the broker takes a consumer");
        Self { runtime, channel, queue, _connection: connection }
    }

    /// Waits for `count` messages in all, then takes what else is there.
    pub fn take(&self, count: usize, within: Duration) -> Vec<BasicGetMessage> {
        let start = Instant::now();
        let mut messages = Vec::new();
        loop {
            match self.runtime.block_on(self.get()) {
                Some(message) => messages.push(message),
                None if messages.len() >= count => return messages,
                None => assert!(start.elapsed() < within, "{} of {count} messages after {within:?}", messages.len()),
            }
        }
    }

    /// Lets the queue stand still, so that it confirms nothing.
    pub fn suspend(&self, broker: &Broker) {
        self.eval(broker, "ok = sys:suspend(P)");
    }

    /// Lets the queue go on.
    pub fn resume(&self, broker: &Broker) {
        self.eval(broker, "ok = sys:resume(P)");
    }

    /// Waits until a message lies before the suspended queue: the broker has it, and can't confirm it.
    pub fn wait_for_hand_over(&self, broker: &Broker) {
        wait_until(HANDED_OVER_WITHIN, "a message is handed to the broker", || self.is_handed_over(broker))
            .expect("the broker has it");
    }

    fn is_handed_over(&self, broker: &Broker) -> bool {
        let waiting = "{messages, M} = process_info(P, messages), \
                       length([1 || {'$gen_cast', {deliver, _, _}} <- M]) > 0";
        self.eval(broker, waiting).trim() == "true"
    }

    /// Runs Erlang at the broker, with the queue's process as `P`.
    fn eval(&self, broker: &Broker, code: &str) -> String {
        let find = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/pubsub\">>, queue, <<\"{}\">>)), P = amqqueue:get_pid(Q), ",
            self.queue
        );
        broker.ctl(&["eval", &format!("{find}{code}.")]).expect("the broker evaluates")
    }

    async fn get(&self) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(self.queue.as_str().into(), options).await.expect("the queue is there")
    }
}

/// Declares a queue of our own that is bound to `amq.topic`; its connection, its channel and its name.
pub async fn open(
    broker: &Broker,
    binding: &str,
    arguments: &[(&str, Value)],
) -> lapin::Result<(Connection, Channel, String)> {
    let (connection, channel) = connect(broker, "admin").await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = declare(&channel, "", binding, options, arguments).await?;
    Ok((connection, channel, queue))
}

/// A channel of a user of the broker.
pub async fn connect(broker: &Broker, user: &str) -> lapin::Result<(Connection, Channel)> {
    let certificate = broker.client(user).expect("a certificate is issued");
    let part = |text: &'static str, bytes| PemText { place: text.to_owned(), bytes };
    let material = PemFiles {
        ca: part("ca", certificate.ca.as_bytes()),
        cert: part("cert", certificate.cert.as_bytes()),
        key: part("key", certificate.key.as_bytes()),
    };
    let credentials = Credentials::from_pem(&material, fingerprint(&material)).expect("the certificate is good");
    let address = broker.url().parse().expect("the broker's URL is good");
    let (stream, _plug) = Transport::open(&address, credentials.tls, Fence::always_open())
        .await
        .expect("the broker answers")
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

/// Declares a queue, bound to `amq.topic`; its name.
async fn declare(
    channel: &Channel,
    name: &str,
    binding: &str,
    options: QueueDeclareOptions,
    arguments: &[(&str, Value)],
) -> lapin::Result<String> {
    let queue = channel.queue_declare(name.into(), options, table(arguments)).await?.name().to_string();
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

fn table(arguments: &[(&str, Value)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        let value = match value {
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().expect("an integer")),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            other => panic!("no argument of this type: {other}"),
        };
        table.insert((*key).into(), value);
    }
    table
}
