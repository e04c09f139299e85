//! A status is written into the very object that was sent, and changes nothing else of it.

use serde_json::Value;

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, requests, world};

/// Applies a message, and waits until the broker has it and can't confirm it yet.
fn hold(space: &Space, consumer: &RawConsumer, manifest: &str) {
    consumer.suspend(&world().broker);
    space.apply(manifest).expect("it is accepted");
    consumer.wait_for_hand_over(&world().broker);
}

/// The managed fields that are not of the status.
fn managers(object: &Value) -> Vec<Value> {
    let fields = object["metadata"]["managedFields"].as_array().expect("managed fields");
    fields.iter().filter(|field| field["subresource"] != "status").cloned().collect()
}

#[test]
fn a_status_leaves_everything_else_as_it_was() {
    let space = Space::new("whole");
    space.certificate(&world().broker, "publisher");
    let manifest = message("hello", "whole.hello", ", headers: {a: b}").replace(
        "{name: hello}\nspec",
        "{name: hello, labels: {a: b}, annotations: {c: d}, finalizers: [e.f/g]}\nspec",
    );
    space.apply(&manifest).expect("it is accepted");
    let whole = || -> Value {
        let json =
            space.kubectl(&["get", "fmsg/hello", "-o", "json", "--show-managed-fields"], "").expect("it is there");
        serde_json::from_str(&json).expect("kubectl prints JSON")
    };
    let before = whole();
    let operator = Operator::start(&space, &[]);
    space.wait_for_reason("hello", "Sent");
    let mut after = whole();
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
    assert_eq!(requests(&space, "update").len(), 1);
    assert_eq!(operator.stop(), Some(0));
    space
        .kubectl(&["patch", "fmsg/hello", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#], "")
        .expect("it may go");
}

#[test]
fn a_message_that_was_changed_while_it_was_under_way_is_marked_sent_at_once() {
    let space = Space::new("changed");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "changed.topic");
    let _operator = Operator::start(&space, &[]);
    hold(&space, &consumer, &message("hello", "changed.topic", ""));
    space.kubectl(&["label", "fmsg/hello", "seen=yes"], "").expect("it is changed");
    consumer.resume(&world().broker);
    space.wait_for_reason("hello", "Sent");
    assert_eq!(space.get("hello")["metadata"]["labels"]["seen"], "yes");
    let answers = |verb| -> Vec<u64> { requests(&space, verb).into_iter().map(|(_, code)| code).collect() };
    assert_eq!((answers("update"), answers("patch")), (vec![409], vec![200]));
    assert_eq!(consumer.take(1, SOON).len(), 1, "it was sent once");
}

#[test]
fn an_object_created_anew_under_the_same_name_is_not_marked_sent_for_the_other() {
    let space = Space::new("anew");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "anew.topic");
    let operator = Operator::start(&space, &[]);
    hold(&space, &consumer, &message("twin", "anew.topic", ""));
    space.kubectl(&["delete", "fmsg", "twin"], "").expect("the first is deleted");
    let second = message("twin", "anew.topic", "").replace("  env: prod", "  env: prod\n  suspend: true");
    space.apply(&second).expect("the second is accepted");
    consumer.resume(&world().broker);
    assert_eq!(consumer.take(1, SOON).len(), 1, "the first was sent");
    let status = space.wait_for_reason("twin", "Suspended");
    assert_eq!(status["status"], false);
    operator.wait_for_words("is gone");
    assert_eq!(space.get("twin")["status"]["reason"], "Suspended");
}
