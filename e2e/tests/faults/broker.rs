//! The broker is killed, frozen, stopped or blocked, or closes connections and channels, while
//! messages flow.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rig::proxy::Answer;
use rig::{Broker, Proxy};

use crate::ledger::{IN_FLIGHT, Ledger};
use e2e::raw::RawConsumer;
use e2e::{
    Operator, SOON, Summary, TestNamespace, let_fault_last, message, message_count, numbered, shared, wait_soon,
    with_spec,
};

/// Starts a broker and an operator for one test, and waits until messages flow.
fn in_flow(title: &'static str) -> (Broker, Ledger<'static>, Operator) {
    let broker = Broker::start().expect("a broker");
    let (ledger, operator) = Ledger::in_flow(&shared().kube, &broker, title, &[]);
    (broker, ledger, operator)
}

/// Breaks and repairs the broker while messages flow.
fn survives<E: Debug>(title: &'static str, fault: fn(&Broker) -> Result<(), E>, repair: fn(&Broker) -> Result<(), E>) {
    let (broker, ledger, _operator) = in_flow(title);
    fault(&broker).expect("a signal");
    ledger.wait_for_reason("BrokerUnreachable");
    repair(&broker).expect("the broker is back");
    ledger.close(&broker, IN_FLIGHT);
}

/// The queue survives.
#[test]
fn killed() {
    survives("broker-killed", Broker::kill, Broker::restart);
}

#[test]
fn stopped() {
    survives("broker-stopped", Broker::stop, Broker::restart);
}

/// The broker is frozen for longer than its heartbeat.
#[test]
fn frozen() {
    survives("broker-frozen", Broker::freeze, Broker::thaw);
}

/// The broker raises its memory alarm. It receives no message twice.
#[test]
fn blocked() {
    let (broker, mut ledger, operator) = in_flow("broker-blocked");
    broker.set_memory_alarm(true).expect("the alarm is raised");
    ledger.wait_for_reason("BrokerBlocked");
    ledger.wait_until_created();
    wait_soon("each message is sent or blocked", || {
        let reported = |message: &Summary| matches!(message.status["reason"].as_str(), Some("Sent" | "BrokerBlocked"));
        ledger.namespace.summaries().is_ok_and(|messages| messages.iter().all(reported))
    });
    let sent = || ledger.namespace.sent().expect("the API server answers");
    let before = sent();
    let_fault_last(Duration::from_secs(3));
    assert_eq!(sent(), before, "no message is marked as sent meanwhile");
    assert!(operator.resident() < 64 << 20, "no backlog in memory: {} bytes", operator.resident());
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    ledger.close(&broker, 0);
}

/// The limits of a message that would be given up soon.
const LIMITS: &str = "backoffLimit: 0\n  activeDeadlineSeconds: 5";

/// A message that a broker was handed, and has not answered because of its alarm.
struct HandedOver {
    namespace: TestNamespace<'static>,
    consumer: RawConsumer,
    _operator: Operator,
    broker: Broker,
}

impl HandedOver {
    /// Brings the message `handed-over` into this state. Its topic is the title and `first`.
    fn during_alarm(title: &str) -> Self {
        let broker = Broker::start().expect("a broker");
        let namespace = TestNamespace::new(title).with_certificate(&broker, "publisher");
        let consumer = RawConsumer::start(&broker, &format!("{title}.#"));
        let operator = Operator::with_broker(&broker.url(), &namespace, &[]);
        broker.set_memory_alarm(true).expect("the alarm is raised");
        // The broker blocks a connection when it publishes.
        namespace.apply(&with_spec(&message("handed-over", &format!("{title}.first"), ""), LIMITS));
        let status = namespace.expect_reason("handed-over", "BrokerBlocked", &["was handed this one before"]);
        assert_eq!(status["attempts"], 0, "it has no answer yet");
        Self { namespace, consumer, _operator: operator, broker }
    }
}

/// The broker is handed a message, and raises its alarm before it answers. The message is neither
/// counted as failed nor given up, because nobody can recall it. Another one is given up, and never
/// delivered.
#[test]
fn blocked_before_answer() {
    let HandedOver { broker, namespace, consumer, _operator } = HandedOver::during_alarm("unanswered");
    namespace.apply(&with_spec(&message("too-late", "unanswered.second", ""), LIMITS));
    namespace.wait_for_reason("too-late", "BackoffLimitExceeded");
    // The deadline of this one is later than that of the first.
    let late = message("late", "unanswered.third", "");
    namespace.apply(&with_spec(&late, "activeDeadlineSeconds: 5"));
    namespace.wait_for_reason("late", "DeadlineExceeded");
    assert_eq!(namespace.get("handed-over")["status"]["reason"], "BrokerBlocked", "also after the deadline");
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    assert_eq!(namespace.wait_for_reason("handed-over", "Sent")["attempts"], 1);
    let topics: Vec<_> = consumer.take(1, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    assert_eq!(topics, ["unanswered.first"]);
}

/// The certificate is withdrawn while the broker has not answered. The answer counts all the same.
#[test]
fn answer_outlives_certificate() {
    let HandedOver { broker, namespace, consumer, _operator } = HandedOver::during_alarm("withdrawn");
    namespace.kubectl(&["delete", "secret", "certs"]);
    namespace.apply(&message("other", "withdrawn.other", ""));
    namespace.wait_for_reason("other", "SecretNotFound");
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    namespace.wait_for_reason("handed-over", "Sent");
    let topics: Vec<_> = consumer.take(1, SOON).iter().map(|message| message.routing_key.to_string()).collect();
    assert_eq!(topics, ["withdrawn.first"]);
}

/// The alarm ends for one namespace. Messages of another one, whose user the broker does not know, are
/// not tried before their time, because that would use up their `backoffLimit`.
#[test]
fn recovery_of_others_is_no_attempt() {
    let broker = Broker::start().expect("a broker");
    let refused = TestNamespace::new("refused").with_certificate(&broker, "nobody");
    let others = TestNamespace::new("others").with_certificate(&broker, "publisher");
    let namespaces = format!("{},{}", refused.name, others.name);
    let _operator = Operator::with_broker(&broker.url(), &refused, &["--watch-namespaces", &namespaces]);
    refused.create_many(&numbered(20, "m", |n| format!("refused.{n}")));
    let mut messages = Vec::new();
    wait_soon("some messages wait for long", || {
        messages = refused.summaries().expect("the API server answers");
        let later = Utc::now() + TimeDelta::seconds(15);
        messages.iter().filter(|message| next_attempt(message) > Some(later)).count() > 5
    });
    broker.set_memory_alarm(true).expect("the alarm is raised");
    others.apply(&message("blocked", "others.first", ""));
    others.wait_for_reason("blocked", "BrokerBlocked");
    broker.set_memory_alarm(false).expect("the alarm is cleared");
    others.wait_for_reason("blocked", "Sent");
    let_fault_last(Duration::from_secs(2));
    let later = refused.summaries().expect("the API server answers");
    messages.retain(|message| next_attempt(message) > Some(Utc::now()));
    assert!(!messages.is_empty(), "the test was too slow");
    for message in messages {
        let now = later.iter().find(|other| other.name() == message.name()).expect("the same messages");
        assert_eq!(now.status, message.status, "it was not tried before its time");
    }
}

/// Returns when a message is tried again.
fn next_attempt(message: &Summary) -> Option<DateTime<Utc>> {
    message.status["nextAttemptTime"].as_str().map(|time| time.parse().expect("a time"))
}

/// An administrator closes all connections.
#[test]
fn connections_closed() {
    const TIMES: usize = 2;
    let (broker, ledger, _operator) = in_flow("broker-closing");
    for _ in 0..TIMES {
        broker.ctl(&["close_all_connections", "by the test"]).expect("the broker closes its connections");
    }
    ledger.close(&broker, TIMES * IN_FLIGHT);
}

/// The queue accepts messages again later.
#[test]
fn queue_full() {
    let (ledger, _operator) = Ledger::in_flow(&shared().kube, &shared().broker, "full", &[]);
    ledger.queue.fill(&shared().broker);
    ledger.wait_for_reason("Nacked");
    ledger.queue.accept(&shared().broker);
    ledger.close(&shared().broker, 0);
}

/// The operator uses a broker that comes back at once, with one connection.
#[test]
fn reconnects_once() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&shared().kube, &broker, "back");
    ledger.wait_until_created();
    broker.stop().expect("a signal");
    let operator = Operator::with_broker(&broker.url(), &ledger.namespace, &[]);
    let waiting = || operator.count_in_log("reason=\"BrokerUnreachable\"") >= ledger.count;
    wait_soon("all messages wait for the broker", waiting);
    let connections = || broker.log().expect("the log is read").matches("accepting AMQP connection").count();
    let before = connections();
    broker.restart().expect("the broker starts again");
    let back = Instant::now();
    ledger.wait_until_sent();
    let (took, opened) = (back.elapsed(), connections() - before);
    println!("{} messages, {opened} connections, all sent {took:.1?} after the restart", ledger.count);
    assert_eq!(opened, 1, "connections");
    assert!(took < SOON, "all sent {took:?} after the restart");
    ledger.close(&broker, 0);
}

/// The broker closes a channel because of one message. All others are sent.
#[test]
fn channel_closed() {
    let broker = Broker::start().expect("a broker");
    let mut ledger = Ledger::open(&shared().kube, &broker, "channels");
    let nice = broker.client("nice-app").expect("a certificate");
    let forbidden = ledger.count / 10;
    let evil = TestNamespace::new("evil");
    evil.store_secret("certs", &nice);
    // Both namespaces have the same certificate, and so share a connection.
    ledger.namespace.store_secret("certs", &nice);
    broker
        .ctl(&["set_topic_permissions", "-p", "/pubsub", "nice-app", "amq.topic", "^channels.*", ".*"])
        .expect("the broker changes the permissions");
    evil.create_many(&numbered(forbidden, "evil", |n| format!("evil.{n}")));
    ledger.wait_until_created();
    let namespaces = format!("{},{}", ledger.namespace.name, evil.name);
    let _operator = Operator::with_broker(&broker.url(), &ledger.namespace, &["--watch-namespaces", &namespaces]);
    ledger.close(&broker, 0);
    evil.wait_for_reasons(SOON, "TopicForbidden");
}

/// All messages that wait for a broker share its connection attempts.
#[test]
fn shares_connection_attempts() {
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    proxy.answer(Answer::Close);
    let namespace = TestNamespace::with_publisher("away");
    let waiting = message_count(200);
    namespace.create_many(&numbered(waiting, "m", |_| "away.topic".to_owned()));
    let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
    let attempts =
        || operator.count_in_log("reason=\"TlsFailed\"") + operator.count_in_log("reason=\"BrokerUnreachable\"");
    wait_soon("several attempts for each message", || attempts() > 3 * waiting);
    let accepted = proxy.accepted();
    println!("{waiting} messages, {} attempts, {accepted} connections", attempts());
    assert!(accepted < 20, "{accepted} connections for {waiting} messages");
}
