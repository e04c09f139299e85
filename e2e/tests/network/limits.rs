//! A broker limits the channels and connections of a user. Each message is sent once as soon as that
//! is possible, and the status names the limit.

use std::time::Instant;

use e2e::cli::Cli;
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, certificate, message, shared};
use rig::Proxy;

use crate::ledger::{Ledger, names};

/// Creates a user of the shared broker who may publish everything.
fn add_user(user: &str) {
    let broker = &shared().broker;
    for arguments in
        [&["add_user", user, "unused"][..], &["set_permissions", "-p", "/pubsub", user, "^$", "^amq[.]topic$", "^$"]]
    {
        broker.ctl(arguments).expect("the user is created");
    }
}

fn set_limits(user: &str, limits: &str) {
    shared().broker.ctl(&["set_user_limits", user, limits]).expect("the limits are set");
}

/// The broker closes a connection that opens one channel too many. No message is in flight then. It
/// counts channels late, and sometimes after all messages are sent. So several operators try.
#[test]
fn keeps_to_limit_of_channels() {
    let (title, broker) = ("few-channels", &shared().broker);
    add_user(title);
    set_limits(title, r#"{"max-channels": 4}"#);
    let namespace = TestNamespace::new(title).with_certificate(broker, title);
    let consumer = RawConsumer::start(broker, title);
    let mut ledger = Ledger::new(&namespace, &consumer, title);
    let reaches_limit = |round: usize| {
        // All are tried at once, so that they need more channels.
        ledger.create(&names(&format!("many{round}"), 200));
        let proxy = Proxy::start(broker.port()).expect("a proxy");
        let operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
        assert_eq!(ledger.wait_for_all(0), 0);
        let retried: Vec<_> =
            namespace.messages().into_iter().filter(|message| message["status"]["attempts"] != 1).collect();
        assert!(retried.is_empty(), "{retried:#?}");
        assert!(proxy.accepted() <= 3, "{} connections for 200 messages: {}", proxy.accepted(), operator.log());
        let reached = operator.log().contains("the broker allows no more channels");
        assert_eq!(operator.stop(), Some(0));
        reached
    };
    let begin = Instant::now();
    let reached = (0..100).take_while(|_| begin.elapsed() < 2 * SOON).any(reaches_limit);
    assert!(reached, "the broker refused no channel");
}

#[test]
fn names_reached_limits() {
    let (user, broker, cli) = ("limited", &shared().broker, Cli::new());
    add_user(user);
    let certificate = certificate(user);
    let namespace = TestNamespace::new(user);
    namespace.store_secret("certs", &certificate);
    for (limit, what, step, reply) in [
        ("max-connections", "connection", "login", "connection limit (0) is reached"),
        ("max-channels", "channel", "exchange", "maximum allowed user limit of (0)"),
    ] {
        set_limits(user, &format!("{{\"{limit}\": 0}}"));
        let refused = format!("refuses another {what} to the user {user} (NOT_ALLOWED - ");
        let advice = "ask the broker's administrators to raise the limit";
        cli.check(&broker.url(), &certificate, &[]).expect(1, &[&format!("{step} failed: "), &refused, reply, advice]);
        let _operator = Operator::start(&namespace, &[]);
        namespace.apply(&message(what, "limits", ""));
        namespace.expect_reason(what, "VhostRefused", &[&refused, reply, advice]);
        broker.ctl(&["clear_user_limits", user, limit]).expect("the limit is cleared");
        namespace.wait_for_reason(what, "Sent");
    }
}

/// The broker closes the only channel of a connection, and refuses the next one. That ends the
/// connection, and the next connection has a channel as soon as the broker allows one.
#[test]
fn connection_without_channel_gets_one_later() {
    let (user, broker) = ("last-channel", &shared().broker);
    add_user(user);
    broker.ctl(&["set_topic_permissions", "-p", "/pubsub", user, "amq.topic", "allowed", "^$"]).expect("it is allowed");
    let namespace = TestNamespace::new(user).with_certificate(broker, user);
    let _operator = Operator::start(&namespace, &[]);
    namespace.send("first", "allowed");
    namespace.apply(&message("forbidden", "other", ""));
    namespace.wait_for_reason("forbidden", "TopicForbidden");
    set_limits(user, r#"{"max-channels": 0}"#);
    namespace.apply(&message("second", "allowed", ""));
    namespace.wait_for_reason("second", "VhostRefused");
    broker.ctl(&["clear_user_limits", user, "max-channels"]).expect("the limit is cleared");
    namespace.wait_for_reason("second", "Sent");
}
