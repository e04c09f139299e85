//! `fallback`: the direct way while it works, Pods while it does not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lapin::message::BasicGetMessage;
use rig::network::NODE;
use rig::proxy::{Answer, Direction, Proxy};
use rig::wait_until;
use serde_json::Value;

use crate::cluster::{LATER, cluster, operator_at, space, wait_for_all_sent, wait_for_reason};
use e2e::fidelity::cases::parse;
use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message};

/// In front of the broker; it fails for the operator alone, as Pods have addresses of their own.
fn proxy() -> Proxy {
    Proxy::against(IpAddr::V4(NODE), cluster().broker.port()).expect("a proxy")
}

fn start(space: &Space, proxy: &Proxy, arguments: &[&str]) -> Operator {
    let url = format!("amqps://{NODE}:{}/%2Fpubsub", proxy.port());
    operator_at(&url, space, "fallback", &[&["--max-pods", "6"], arguments].concat())
}

/// Creates messages whose names begin so, and waits until they are sent; their statuses, by uid.
fn send(space: &Space, names: &str, topic: &str, number: usize) -> BTreeMap<String, Value> {
    let all: String = (0..number).map(|number| message(&format!("{names}-{number}"), topic, "")).collect();
    space.apply(&all).expect("all are accepted");
    wait_for_all_sent(space);
    let objects = parse(&space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists"));
    let objects = objects["items"].as_array().expect("a list").clone();
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
    let received = consumer.take(at_least, LATER);
    let id = |message: &BasicGetMessage| message.properties.message_id().as_ref().map(ToString::to_string);
    received.iter().map(|message| id(message).expect("an id")).collect()
}

/// Direct delivery is cut off, Pods deliver; it comes back, and the next go directly.
#[test]
fn pods_deliver_while_the_direct_way_is_cut_off_and_no_message_goes_both_ways() {
    const TOPIC: &str = "pods.fallback";
    let space = space("fallback", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, TOPIC);
    let proxy = proxy();
    let operator = start(&space, &proxy, &[]);
    let before = send(&space, "before", TOPIC, 5);
    assert_all_by("direct", &before);

    proxy.answer(Answer::Close);
    proxy.cut();
    let during = send(&space, "during", TOPIC, 30);
    assert_all_by("pod", &during);
    for (uid, status) in &during {
        let words = status["message"].as_str().expect("a message");
        let begin = format!("Message was sent successfully by Pod {}/fedora-message-{uid}-", space.name);
        assert!(words.starts_with(&begin) && words.contains("direct delivery failed with "), "{words}");
    }

    proxy.answer(Answer::Forward);
    wait_until(SOON, "the direct way is back", || proxy.open() > 0).expect("the operator finds it");
    let after = send(&space, "after", TOPIC, 10);
    assert_all_by("direct", &after);
    operator.stop();

    let all: Vec<&String> = before.keys().chain(during.keys()).chain(after.keys()).collect();
    let mut received = ids(&consumer, all.len());
    received.sort();
    let mut expected: Vec<String> = all.into_iter().cloned().collect();
    expected.sort();
    assert_eq!(received, expected, "each once, under its id");
}

/// The broker gets what is sent directly, and its confirms are lost: the messages that find it out go both
/// ways, under the same id, and the others by Pods alone.
#[test]
fn after_lost_confirms_pods_deliver_and_only_what_was_not_confirmed_goes_both_ways() {
    const TOPIC: &str = "pods.unconfirmed";
    let space = space("unconfirmed", "publisher");
    let consumer = RawConsumer::start(&cluster().broker, TOPIC);
    let proxy = proxy();
    let operator = start(&space, &proxy, &["--confirm-timeout", "3", "--fallback-after", "2"]);
    let before = send(&space, "before", TOPIC, 1);
    assert_all_by("direct", &before);

    proxy.stall(&[Direction::Down]);
    let first = send(&space, "first", TOPIC, 2);
    assert_all_by("pod", &first);
    let during = send(&space, "during", TOPIC, 10);
    assert_all_by("pod", &during);
    proxy.stall(&[]);
    wait_until(LATER, "messages go directly again", || {
        let probe = send(&space, "probe", TOPIC, 1);
        let direct = probe.values().all(|status| status["deliveryMode"] == "direct");
        space.kubectl(&["delete", "fmsg", "probe-0"], "").expect("it is deleted");
        direct
    })
    .expect("they do");
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
    // Whoever asks whether confirms are back does so alone.
    let twice = during.keys().filter(|uid| times[*uid] > 1).count();
    assert!(twice <= during.len() / 2, "{twice} of {} went both ways", during.len());
}

/// A message's own fault is no reason for a Pod.
#[test]
fn a_message_that_is_refused_is_not_given_to_a_pod() {
    let space = space("own-fault", "nice-app");
    let proxy = proxy();
    let _operator = start(&space, &proxy, &["--fallback-after", "1"]);
    space.apply(&message("forbidden", "evil.topic", "")).expect("it is accepted");
    let status = wait_for_reason(&space, "forbidden", "TopicForbidden");
    assert_eq!(status["deliveryMode"], "direct");
    assert_eq!(crate::cluster::pods(&space), Vec::<Value>::new());
}
