//! A message waits for things that others correct after its creation: permissions, the exchange, the
//! broker's authorization, the operator's settings.

use std::fs;
use std::time::Duration;

use rig::broker::Options;
use rig::proxy::Answer;
use rig::{Broker, Clock, Proxy};
use serde_json::json;

use e2e::cli::Cli;
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, catalog, message, message_json, numbered, shared, wait_soon};

/// Longer than the time after which a refusal is final.
const GRACE: Duration = Duration::from_mins(6);
/// The number of messages that wait together.
const COUNT: usize = 20;

#[test]
fn waits_for_permission() {
    let broker = Broker::start().expect("a broker");
    let namespace = TestNamespace::new("permission").with_certificate(&broker, "nice-app");
    let consumer = RawConsumer::start(&broker, "late.#");
    let _operator = Operator::with_broker(&broker.url(), &namespace, &[]);
    namespace.create_many(&numbered(COUNT, "m", |n| format!("late.m{n}")));
    namespace.wait_for_reasons(SOON, "TopicForbidden");
    broker
        .ctl(&["set_topic_permissions", "-p", "/pubsub", "nice-app", "amq.topic", ".*", ".*"])
        .expect("the broker changes the permissions");
    namespace.wait_for_all_sent();
    assert_eq!(consumer.take(COUNT, SOON).len(), COUNT);
}

/// The time counts from the first refusal, not from the start of the operator.
#[test]
fn refusal_is_final_after_grace_period() {
    let namespace = TestNamespace::new("refused").with_certificate(&shared().broker, "nice-app");
    let clock = Clock::new().expect("a clock");
    let operator = Operator::with_environment(clock.environment(), &namespace);
    namespace.apply(&message("evil", "evil.refused", ""));
    let status = namespace.wait_for_reason("evil", "TopicForbidden");
    let follows = status["conditions"][1]["message"].as_str().expect("a text");
    assert!(follows.contains("is the last, if the broker still refuses the message"), "{follows}");
    assert_eq!(operator.stop(), Some(0));
    assert_eq!(namespace.get("evil")["status"]["conditions"][1]["type"], "Reconciling");
    clock.set_forward(GRACE).expect("the clock is set");
    let _operator = Operator::with_environment(clock.environment(), &namespace);
    namespace.kubectl(&["wait", "fmsg/evil", "--for=condition=Stalled", "--timeout=60s"]);
    assert_eq!(namespace.get("evil")["status"]["reason"], "TopicForbidden");
}

/// `amq.rabbitmq.trace` is internal, and most users may not write to any other exchange than
/// `amq.topic`.
#[test]
fn waits_for_exchange() {
    let namespace = TestNamespace::with_publisher("exchange");
    let consumer = RawConsumer::start(&shared().broker, "exchange.#");
    let delete = ["--default-ttl-seconds-after-finished", "0"];
    for (exchange, user, text) in [
        ("amq.topics", "publisher", "may not publish to the exchange amq.topics"),
        ("amq.topics", "admin", "the exchange amq.topics does not exist"),
        ("amq.rabbitmq.trace", "admin", "the exchange amq.rabbitmq.trace at the broker"),
    ] {
        namespace.store_certificate(&shared().broker, user);
        let operator = Operator::start(&namespace, &[&["--exchange", exchange], &delete[..]].concat());
        namespace.create_many(&message(&format!("to-{exchange}-by-{user}"), "exchange.late", ""));
        wait_soon(text, || {
            let all = namespace.messages();
            all.iter().all(|it| it["status"]["message"].as_str().is_some_and(|message| message.contains(text)))
        });
        namespace.wait_for_reasons(SOON, "ExchangeNotFound");
        assert_eq!(operator.stop(), Some(0));
    }
    let _operator = Operator::start(&namespace, &[]);
    namespace.wait_for_all_sent();
    assert_eq!(consumer.take(3, SOON).len(), 3);
}

/// The broker asks a server for each permission. While that is down, it refuses everything.
#[test]
fn waits_for_authorization_backend() {
    let [users, backend] = [(); 2].map(|()| Proxy::start(0).expect("a proxy"));
    let allow = || Answer::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nallow".to_vec());
    // The broker does not say why it refuses a login.
    users.answer(allow());
    let path =
        |(name, server): (&str, &Proxy)| format!("auth_http.{name}_path = http://127.0.0.1:{}/{name}\n", server.port());
    let paths = [("user", &users), ("vhost", &backend), ("resource", &backend), ("topic", &backend)].map(path).concat();
    let config = format!("auth_backends.1.authn = internal\nauth_backends.1.authz = rabbit_auth_backend_http\n{paths}");
    let options = Options { config, plugins: vec!["rabbitmq_auth_backend_http"], ..Options::default() };
    let broker = Broker::start_with(&options).expect("a broker");
    let namespace = TestNamespace::new("backend").with_certificate(&broker, "publisher");
    let _operator = Operator::with_broker(&broker.url(), &namespace, &[]);

    for (name, reason) in [("login", "VhostRefused"), ("publish", "BrokerUnreachable")] {
        backend.answer(Answer::Close);
        namespace.apply(&message(name, &format!("backend.{name}"), ""));
        let advice = "its authorization backend fails, so ask the broker's administrators";
        namespace.expect_reason(name, reason, &["returned an error", advice]);
        backend.answer(allow());
        namespace.wait_for_reason(name, "Sent");
    }
}

/// The catalog lacks a schema at first, and another is broken.
#[test]
fn waits_for_catalog() {
    let namespace = TestNamespace::with_publisher("incomplete");
    let consumer = RawConsumer::start(&shared().broker, "incomplete.#");
    let cli = Cli::new();
    let file = cli.file("catalog.json", &catalog(&[("late.broken", json!({"type": "nothing"}))]));
    let path = file.display().to_string();
    let _operator = Operator::start(&namespace, &["--schema-catalog", &path, "--unknown-schemas", "refuse"]);
    for (name, schema) in [("broken", "late.broken"), ("missing", "late.missing")] {
        let message = json!({"topic": format!("incomplete.{name}"), "schema": schema, "body": {}});
        namespace.create_many(&message_json(name, &message).to_string());
    }
    namespace.wait_for_reasons(SOON, "Misconfigured");
    fs::write(&file, catalog(&[("late.broken", json!({})), ("late.missing", json!({}))])).expect("a file");
    namespace.wait_for_all_sent();
    assert_eq!(consumer.take(2, SOON).len(), 2);
}

/// The topic alone is short enough.
#[test]
fn waits_for_shorter_prefix() {
    let namespace = TestNamespace::with_publisher("prefix");
    let operator = Operator::start(&namespace, &["--prod-topic-prefix", "org.fedoraproject.prod"]);
    namespace.apply(&message("long", &"t".repeat(240), ""));
    let status = namespace.expect_reason("long", "Misconfigured", &["a shorter prefix"]);
    assert_eq!(status["attempts"], 0);
    assert_eq!(operator.stop(), Some(0));
    let _operator = Operator::start(&namespace, &[]);
    namespace.wait_for_reason("long", "Sent");
}
