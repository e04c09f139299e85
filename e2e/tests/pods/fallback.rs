//! Delivery mode `fallback`: direct delivery, or Pods while direct delivery fails.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rig::network::NODE;
use rig::proxy::{Answer, Direction, Proxy};
use rig::wait_until;
use serde_json::Value;

use crate::cluster::{POD_DEADLINE, cluster, namespace, operator_at, wait_for_all_sent, wait_for_reason};
use e2e::raw::{RawConsumer, id};
use e2e::{Operator, TestNamespace, message, numbered, wait_soon};

/// Starts a proxy before the broker. It fails only for the operator, because Pods have their own
/// addresses.
fn proxy() -> Proxy {
    Proxy::against(IpAddr::V4(NODE), cluster().broker.port()).expect("a proxy")
}

fn start(namespace: &TestNamespace, proxy: &Proxy, arguments: &[&str]) -> Operator {
    let url = format!("amqps://{NODE}:{}/%2Fpubsub", proxy.port());
    operator_at(&url, namespace, "fallback", &[&["--max-pods", "6"], arguments].concat())
}

/// Creates messages with this prefix of their names, and waits until they are sent. Returns their
/// statuses by uid.
fn send(namespace: &TestNamespace, names: &str, topic: &str, number: usize) -> BTreeMap<String, Value> {
    namespace.apply(&numbered(number, &format!("{names}-"), |_| topic.to_owned()));
    wait_for_all_sent(namespace);
    let objects = namespace.messages();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let chosen = objects.into_iter().filter(|object| text(&object["metadata"]["name"]).starts_with(names));
    chosen.map(|mut object| (text(&object["metadata"]["uid"]), object["status"].take())).collect()
}

fn assert_all_by(mode: &str, statuses: &BTreeMap<String, Value>) {
    for (uid, status) in statuses {
        assert_eq!(status["deliveryMode"], mode, "{uid}: {status:#}");
    }
}

fn ids(consumer: &RawConsumer, at_least: usize) -> Vec<String> {
    consumer.take(at_least, POD_DEADLINE).iter().map(id).collect()
}

/// Pods deliver while the direct connection is cut, and direct delivery resumes afterwards. No
/// message arrives twice.
#[test]
fn falls_back_while_connection_is_cut() {
    const TOPIC: &str = "pods.fallback";
    let namespace = namespace("fallback", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, TOPIC);
    let proxy = proxy();
    let operator = start(&namespace, &proxy, &[]);
    let before = send(&namespace, "before", TOPIC, 5);
    assert_all_by("direct", &before);

    proxy.answer(Answer::Close);
    proxy.cut();
    let during = send(&namespace, "during", TOPIC, 30);
    assert_all_by("pod", &during);
    for (uid, status) in &during {
        let text = status["message"].as_str().expect("a message");
        let prefix = format!("Message was sent successfully by Pod {}/fedora-message-{uid}-", namespace.name);
        assert!(text.starts_with(&prefix) && text.contains("direct delivery failed with "), "{text}");
    }

    proxy.answer(Answer::Forward);
    wait_soon("a direct connection", || proxy.open() > 0);
    let after = send(&namespace, "after", TOPIC, 10);
    assert_all_by("direct", &after);
    operator.stop();

    let all: Vec<&String> = before.keys().chain(during.keys()).chain(after.keys()).collect();
    let mut received = ids(&consumer, all.len());
    received.sort();
    let mut expected: Vec<String> = all.into_iter().cloned().collect();
    expected.sort();
    assert_eq!(received, expected, "each message once");
}

/// The broker receives messages, and its confirms are lost. The messages that detect this go both
/// ways with the same id. All others go by Pods only.
#[test]
fn falls_back_after_lost_confirms() {
    const TOPIC: &str = "pods.unconfirmed";
    let namespace = namespace("unconfirmed", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, TOPIC);
    let proxy = proxy();
    let operator = start(&namespace, &proxy, &["--confirm-timeout", "3", "--fallback-after", "2"]);
    let before = send(&namespace, "before", TOPIC, 1);
    assert_all_by("direct", &before);

    proxy.stall(&[Direction::Down]);
    let first = send(&namespace, "first", TOPIC, 2);
    assert_all_by("pod", &first);
    let during = send(&namespace, "during", TOPIC, 10);
    assert_all_by("pod", &during);
    proxy.stall(&[]);
    wait_until(POD_DEADLINE, "direct delivery works again", || {
        let probe = send(&namespace, "probe", TOPIC, 1);
        let direct = probe.values().all(|status| status["deliveryMode"] == "direct");
        namespace.kubectl(&["delete", "fmsg", "probe-0"]);
        direct
    })
    .expect("direct delivery works again");
    let log = operator.log();
    operator.stop();

    let mut times = BTreeMap::<String, usize>::new();
    for id in ids(&consumer, before.len() + first.len() + during.len()) {
        *times.entry(id).or_default() += 1;
    }
    for (uid, status) in before.iter().chain(&first).chain(&during) {
        let times = times.get(uid).copied().unwrap_or_default();
        let attempts = log.lines().filter(|line| line.contains(uid) && line.contains("ConfirmTimeout")).count();
        assert!((1..=1 + attempts).contains(&times), "{uid} was received {times} times: {status:#}\n{log}");
    }
    // Only one message at a time tests direct delivery.
    let twice = during.keys().filter(|uid| times[*uid] > 1).count();
    assert!(twice <= during.len() / 2, "{twice} of {} went both ways", during.len());
}

/// The refusal of a message is no reason for a Pod.
#[test]
fn refused_message_gets_no_pod() {
    let namespace = namespace("own-fault", "nice-app");
    let proxy = proxy();
    let _operator = start(&namespace, &proxy, &["--fallback-after", "1"]);
    namespace.apply(&message("forbidden", "evil.topic", ""));
    let status = wait_for_reason(&namespace, "forbidden", "TopicForbidden");
    assert_eq!(status["deliveryMode"], "direct");
    assert_eq!(crate::cluster::pods(&namespace), Vec::<Value>::new());
}
