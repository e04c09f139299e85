//! The operator writes a status to the object that it sent, and changes nothing else.

use serde_json::Value;

use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, message, requests, shared, with_spec};

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
    let stored = || namespace.list(&["fmsg", "--show-managed-fields"]).remove(0);
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
    after.as_object_mut().expect("an object").remove("status");
    assert_eq!(after, before);
    assert_eq!(requests(&namespace, "update").len(), 1);
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
    let answers = |verb| -> Vec<u64> { requests(&namespace, verb).into_iter().map(|(_, code)| code).collect() };
    assert_eq!((answers("update"), answers("patch")), (vec![409], vec![200]));
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
