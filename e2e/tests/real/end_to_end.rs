//! From `kubectl apply` to a consumer, with the status and the output of kubectl.

use rig::Consumer;
use serde_json::json;

use e2e::raw::{RawConsumer, assert_arrived};
use e2e::{Operator, SOON, TestNamespace, audited, numbered, read, shared, write_verb};

/// The example and the expected status are those of the proposal.
#[test]
fn sends_example() {
    let namespace = TestNamespace::with_publisher("example");
    let consumer = Consumer::start(&shared().broker, "example.nice.message").expect("a consumer");
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", "example"]);
    let example = read("docs/examples/hello-world.yaml")
        .replace("fedora-messaging-certs", "certs")
        .replace("namespace: default", &format!("namespace: {}", namespace.name));
    namespace.try_kubectl(&["apply", "-f", "-"], &example).expect("the API server accepts the example");
    namespace.kubectl(&["wait", "--for=condition=FedoraMessageSent", "fmsg/hello-world", "--timeout=60s"]);

    let object = namespace.get("hello-world");
    let status = &object["status"];
    assert_eq!(status["type"], "FedoraMessageSent");
    assert_eq!(status["status"], true);
    assert_eq!(status["reason"], "Sent");
    assert_eq!(status["message"], "Message was sent successfully");
    assert_eq!(status["messageId"], object["metadata"]["uid"]);
    assert_eq!(status["routingKey"], "example.nice.message");
    assert_eq!(status["attempts"], 1);
    assert_eq!(status["deliveryMode"], "direct");
    assert_eq!(status["observedGeneration"], 1);
    let conditions: Vec<_> =
        status["conditions"].as_array().expect("conditions").iter().map(|c| (&c["type"], &c["status"])).collect();
    assert_eq!(conditions, [(&json!("FedoraMessageSent"), &json!("True"))]);

    let received = consumer.wait_for(1, SOON).expect("it is received");
    assert_eq!(received[0]["id"], object["metadata"]["uid"]);
    assert_eq!(received[0]["body"], json!({"encouragement": "You're doing great!"}));
    assert_eq!(received[0]["headers"]["niceness"], "very");

    let table = namespace.kubectl(&["get", "fmsg"]);
    let columns: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "ENV", "TOPIC", "SENT", "REASON", "AGE"]);
    assert!(table.contains("hello-world   prod   nice.message   true   Sent"), "{table}");
    let wide = namespace.kubectl(&["get", "fmsg", "-o", "wide"]);
    for column in ["MESSAGE-ID", "SENT-TIME", "ATTEMPTS"] {
        assert!(wide.contains(column), "{wide}");
    }
}

/// A thousand messages arrive once each. After a restart, the operator sends none of them again.
#[test]
fn sends_once_across_restart() {
    const COUNT: usize = 1000;
    let namespace = TestNamespace::with_publisher("thousand");
    let consumer = RawConsumer::start(&shared().broker, "thousand.#");
    namespace.create_many(&numbered(COUNT, "m", |n| format!("thousand.{n}")));
    let operator = Operator::start(&namespace, &[]);
    namespace.wait_for_all_sent();
    let received = consumer.take(COUNT, SOON);
    assert_eq!(received.len(), COUNT, "each message once");
    assert_arrived(&namespace.messages(), &received);

    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&namespace, &[]);
    namespace.send("after", "thousand.after");
    assert_eq!(consumer.take(1, SOON).len(), 1, "the restarted operator sends only the new message");
    assert_eq!(operator.stop(), Some(0));
    assert_requests(&namespace, COUNT + 1);
}

/// Asserts from the API server's audit log that the operators made one write for each message, few
/// writes at a time, and no reads.
fn assert_requests(namespace: &TestNamespace, messages: usize) {
    let (mut writes, mut edges) = (0, Vec::new());
    let mut reads = Vec::new();
    for request in audited(namespace) {
        match request["verb"].as_str() {
            Some(verb) if verb == write_verb() => {
                writes += 1;
                // The timestamps have one length and one time zone, so they sort as texts.
                edges.push((request["requestReceivedTimestamp"].to_string(), 1));
                edges.push((request["stageTimestamp"].to_string(), -1));
            }
            Some("watch") => {}
            _ => reads.push(format!("{} {}", request["verb"], request["requestURI"])),
        }
    }
    assert_eq!(writes, messages);
    edges.sort();
    let concurrent = edges.iter().scan(0, |number, (_, change)| {
        *number += change;
        Some(*number)
    });
    let most = concurrent.max();
    // The operator writes 8 at a time. The log may show requests that are already answered.
    assert!(most < Some(24), "{most:?} at a time");
    assert!(reads.len() <= 2 * (2 + messages / 50 + 1), "lists at start only: {reads:#?}");
}
