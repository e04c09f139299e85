//! The operator writes a status to the object that it sent, and changes nothing else.

use rig::Proxy;
use rig::proxy::Direction;
use serde_json::Value;

use e2e::raw::RawConsumer;
use e2e::{
    MESSAGES, Operator, SOON, TestNamespace, message, shared, wait_for_requests, wait_soon, with_secret, with_spec,
    write_verb,
};

/// Applies a message, and waits until the broker has it and can't confirm it.
fn hold(namespace: &TestNamespace, consumer: &RawConsumer, manifest: &str) {
    consumer.suspend(&shared().broker);
    namespace.apply(manifest);
    consumer.wait_for_hand_over(&shared().broker);
}

/// Returns the managed fields without those of the status.
fn managers(object: &Value) -> Vec<Value> {
    let fields = object["metadata"]["managedFields"].as_array().expect("managed fields");
    fields.iter().filter(|field| field["subresource"] != "status").cloned().collect()
}

#[test]
fn status_changes_nothing_else() {
    let namespace = TestNamespace::with_publisher("whole");
    let manifest = message("hello", "whole.hello", ", headers: {a: b}").replace(
        "{name: hello}\nspec",
        "{name: hello, labels: {a: b}, annotations: {c: d}, finalizers: [e.f/g]}\nspec",
    );
    namespace.apply(&manifest);
    let stored = || namespace.try_list::<Value>(MESSAGES, "fedoramessages").expect("a list").remove(0);
    let before = stored();
    let operator = Operator::start(&namespace, &[]);
    namespace.wait_for_reason("hello", "Sent");
    let mut after = stored();
    assert_eq!(managers(&after), managers(&before));
    let statuses: Vec<_> = after["metadata"]["managedFields"].as_array().into_iter().flatten().collect();
    assert!(
        statuses.iter().any(|it| it["manager"] == "fedora-message-operator" && it["subresource"] == "status"),
        "{statuses:#?}"
    );
    for field in ["managedFields", "resourceVersion"] {
        after["metadata"][field] = before["metadata"][field].clone();
    }
    after["status"] = before["status"].clone();
    assert_eq!(after, before);
    assert_eq!(wait_for_requests(&namespace, write_verb(), 1).len(), 1);
    assert_eq!(operator.stop(), Some(0));
    namespace.patch("hello", r#"{"metadata": {"finalizers": null}}"#);
}

/// The message changes while it is in flight.
#[test]
fn marks_changed_message_sent() {
    let namespace = TestNamespace::with_publisher("changed");
    let consumer = RawConsumer::start(&shared().broker, "changed.topic");
    let _operator = Operator::start(&namespace, &[]);
    hold(&namespace, &consumer, &message("hello", "changed.topic", ""));
    namespace.kubectl(&["label", "fmsg/hello", "seen=yes"]);
    consumer.resume(&shared().broker);
    namespace.wait_for_reason("hello", "Sent");
    assert_eq!(namespace.get("hello")["metadata"]["labels"]["seen"], "yes");
    let (updates, patches): (Vec<u64>, Vec<u64>) =
        if write_verb() == "update" { (vec![409], vec![200]) } else { (vec![], vec![422, 200]) };
    for (verb, expected) in [("patch", patches), ("update", updates)] {
        let found = wait_for_requests(&namespace, verb, expected.len());
        assert_eq!(found.into_iter().map(|(_, code)| code).collect::<Vec<_>>(), expected, "{verb}");
    }
    assert_eq!(consumer.take(1, SOON).len(), 1, "the message once");
}

/// The first message is deleted in flight, and another one with its name is created.
#[test]
fn does_not_mark_namesake_sent() {
    let namespace = TestNamespace::with_publisher("anew");
    let consumer = RawConsumer::start(&shared().broker, "anew.topic");
    let operator = Operator::start(&namespace, &[]);
    hold(&namespace, &consumer, &message("twin", "anew.topic", ""));
    namespace.kubectl(&["delete", "fmsg", "twin"]);
    namespace.apply(&with_spec(&message("twin", "anew.topic", ""), "suspend: true"));
    consumer.resume(&shared().broker);
    assert_eq!(consumer.take(1, SOON).len(), 1, "the first message");
    let status = namespace.wait_for_reason("twin", "Suspended");
    assert_eq!(status["status"], false);
    operator.wait_for_log("is gone");
    assert_eq!(namespace.get("twin")["status"]["reason"], "Suspended");
}

/// Asserts that tools that wait for the status of its generation are not kept waiting.
fn assert_wait_ends(namespace: &TestNamespace, name: &str, condition: &str) {
    let condition = format!("--for=condition={condition}");
    namespace.kubectl(&["wait", &format!("fmsg/{name}"), &condition, "--timeout=20s"]);
    let object = namespace.get(name);
    let generation = &object["metadata"]["generation"];
    assert_eq!(&object["status"]["observedGeneration"], generation, "{object:#}");
    assert_eq!(&object["status"]["conditions"][0]["observedGeneration"], generation, "{object:#}");
}

/// The message can't be suspended any more once its status says how it ended.
#[test]
fn suspension_ends_with_message() {
    let namespace = TestNamespace::with_publisher("ended");
    let consumer = RawConsumer::start(&shared().broker, "ended.#");
    let _operator = Operator::start(&namespace, &[]);
    let invalid = message("invalid", "ended.invalid", "").replace("{name: invalid}, topic", "{deep: BODY}, topic");
    namespace.create(&invalid.replace("BODY", &format!("{}{}", "[".repeat(200), "]".repeat(200))));
    namespace.apply(&with_spec(&message("sent", "ended.sent", ""), "suspend: true"));
    namespace.wait_for_reason("sent", "Suspended");
    namespace.patch("sent", r#"{"spec": {"suspend": false}}"#);
    namespace.wait_for_reason("sent", "Sent");
    namespace.kubectl(&["wait", "fmsg/invalid", "--for=condition=Stalled", "--timeout=60s"]);
    for (name, condition) in [("sent", "FedoraMessageSent"), ("invalid", "Stalled")] {
        for suspend in ["true", "null"] {
            let change = format!(r#"{{"spec": {{"suspend": {suspend}}}}}"#);
            let answer = namespace.try_kubectl(&["patch", "fmsg", name, "--type=merge", "-p", &change], "");
            let unchanged = answer.as_ref().is_ok_and(|output| output.contains("(no change)"));
            let refused = answer.as_ref().is_err_and(|error| {
                error.contains("spec.suspend can't be changed any more, because the message was sent or given up")
            });
            assert!(refused || unchanged, "{name} {suspend}: {answer:?}");
        }
        assert_wait_ends(&namespace, name, condition);
    }
    // All else may still change.
    namespace.kubectl(&["annotate", "fmsg", "--all", "apps.fedoraproject.org/retry=1"]);
    namespace.kubectl(&["label", "fmsg", "--all", "a=b"]);
    assert_eq!(consumer.take(1, SOON).len(), 1);
}

/// The message is suspended after it was handed over to the broker.
#[test]
fn status_has_latest_generation() {
    let namespace = TestNamespace::with_publisher("latest");
    let consumer = RawConsumer::start(&shared().broker, "latest.topic");
    let _operator = Operator::start(&namespace, &[]);
    hold(&namespace, &consumer, &message("hello", "latest.topic", ""));
    namespace.patch("hello", r#"{"spec": {"suspend": true}}"#);
    consumer.resume(&shared().broker);
    assert_wait_ends(&namespace, "hello", "FedoraMessageSent");
    assert_eq!(consumer.take(1, SOON).len(), 1);
}

/// The message is suspended while it waits for the connection.
#[test]
fn suspension_stops_hand_over() {
    let namespace = TestNamespace::with_publisher("last-moment");
    let consumer = RawConsumer::start(&shared().broker, "last-moment.#");
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let _operator = Operator::with_broker(&proxy.url(), &namespace, &[]);
    proxy.stall(&[Direction::Up, Direction::Down]);
    namespace.apply(&message("held", "last-moment.held", ""));
    wait_soon("a connection begins", || proxy.accepted() > 0);
    namespace.patch("held", r#"{"spec": {"suspend": true}}"#);
    namespace.apply(&with_secret(&message("watched", "last-moment.watched", ""), "absent"));
    namespace.wait_for_reason("watched", "SecretNotFound");
    proxy.stall(&[]);
    let status = namespace.wait_for_reason("held", "Suspended");
    assert_eq!(status["attempts"], 0);
    namespace.send("first", "last-moment.first");
    namespace.patch("held", r#"{"spec": {"suspend": false}}"#);
    namespace.wait_for_reason("held", "Sent");
    let received = consumer.take(2, SOON);
    let topics: Vec<_> = received.iter().map(|message| message.delivery.routing_key.to_string()).collect();
    assert_eq!(topics, ["last-moment.first", "last-moment.held"]);
}
