//! From `kubectl apply` to a consumer, and what the user sees on the way.

use rig::Consumer;
use serde_json::{Value, json};

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, project, wait_for_all_sent, world};

#[test]
fn the_proposals_example_is_sent_and_its_status_is_the_proposals() {
    let space = Space::new("example");
    space.certificate(&world().broker, "publisher");
    let consumer = Consumer::start(&world().broker, "example.nice.message").expect("a consumer");
    let _operator = Operator::start(&space, &["--prod-topic-prefix", "example"]);
    let example = std::fs::read_to_string(project("docs/examples/hello-world.yaml")).expect("the example is there");
    let example = example
        .replace("fedora-messaging-certs", "certs")
        .replace("namespace: default", &format!("namespace: {}", space.name));
    space.kubectl(&["apply", "-f", "-"], &example).expect("the example is accepted");
    space
        .kubectl(&["wait", "--for=condition=FedoraMessageSent", "fmsg/hello-world", "--timeout=60s"], "")
        .expect("it is sent");

    let object = space.get("hello-world");
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

    let table = space.kubectl(&["get", "fmsg"], "").expect("kubectl prints a table");
    let columns: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "ENV", "TOPIC", "SENT", "REASON", "AGE"]);
    assert!(table.contains("hello-world   prod   nice.message   true   Sent"), "{table}");
    let wide = space.kubectl(&["get", "fmsg", "-o", "wide"], "").expect("kubectl prints a table");
    for column in ["MESSAGE-ID", "SENT-TIME", "ATTEMPTS"] {
        assert!(wide.contains(column), "{wide}");
    }
}

#[test]
fn a_message_that_reaches_no_queue_says_so() {
    let space = Space::new("unroutable");
    space.certificate(&world().broker, "publisher");
    let _operator = Operator::start(&space, &[]);
    space.apply(&message("lonely", "nobody.listens.to.this", "")).expect("it is accepted");
    let status = space.wait_for_reason("lonely", "Sent");
    assert_eq!(status["status"], true);
    assert!(status["message"].as_str().is_some_and(|words| words.contains("reached nobody")), "{status:#}");
}

#[test]
fn a_thousand_messages_arrive_once_each_and_a_restart_sends_none_again() {
    const COUNT: usize = 1000;
    let space = Space::new("thousand");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "thousand.#");
    let manifests: String = (0..COUNT).map(|n| message(&format!("m{n}"), &format!("thousand.{n}"), "")).collect();
    space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    let operator = Operator::start(&space, &[]);
    wait_for_all_sent(&space);
    let mut received: Vec<String> = ids(&consumer.take(COUNT, SOON));
    received.sort_unstable();
    let mut stored = uids(&space);
    stored.sort_unstable();
    assert_eq!(received, stored);

    assert_eq!(operator.stop(), Some(0));
    let operator = Operator::start(&space, &[]);
    space.apply(&message("after", "thousand.after", "")).expect("it is accepted");
    space.wait_for_reason("after", "Sent");
    assert_eq!(consumer.take(1, SOON).len(), 1, "only the new one was sent after the restart");
    assert_eq!(operator.stop(), Some(0));
    assert_one_write_and_no_read_a_message(&space, COUNT + 1);
}

#[test]
fn an_operator_killed_at_work_loses_nothing_and_what_is_sent_again_is_the_same() {
    const COUNT: usize = 400;
    let space = Space::new("killed");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "killed.#");
    let manifests: String = (0..COUNT).map(|n| message(&format!("m{n}"), &format!("killed.{n}"), "")).collect();
    space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    let operator = Operator::start(&space, &[]);
    let mut received = consumer.take(COUNT / 8, SOON);
    operator.kill();
    let _operator = Operator::start(&space, &[]);
    wait_for_all_sent(&space);
    received.extend(consumer.take(COUNT - received.len(), SOON));

    let mut firsts = std::collections::HashMap::new();
    for message in &received {
        let id = message.properties.message_id().as_ref().expect("an id").to_string();
        let first = firsts.entry(id).or_insert(message);
        assert_eq!((message.properties.headers(), &message.data), (first.properties.headers(), &first.data));
    }
    let mut received: Vec<String> = firsts.into_keys().collect();
    received.sort_unstable();
    let mut stored = uids(&space);
    stored.sort_unstable();
    assert_eq!(received, stored);
}

/// Looks at the operators' requests in the API server's audit log: how many there were, and how many writes at a time.
fn assert_one_write_and_no_read_a_message(space: &Space, messages: usize) {
    let events = world().kube.audit_events().expect("the audit log is read");
    let requests = events.iter().filter(|event| {
        event["stage"] == "ResponseComplete"
            && event["objectRef"]["namespace"] == space.name.as_str()
            && event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("fedora-message-operator/"))
    });
    let (mut writes, mut edges) = (0, Vec::new());
    let mut reads = Vec::new();
    for request in requests {
        match request["verb"].as_str() {
            Some("update") => {
                writes += 1;
                // Of the same length and in the same time zone, so texts are in the order of times.
                edges.push((request["requestReceivedTimestamp"].to_string(), 1));
                edges.push((request["stageTimestamp"].to_string(), -1));
            }
            Some("watch") => {}
            _ => reads.push(format!("{} {}", request["verb"], request["requestURI"])),
        }
    }
    assert_eq!(writes, messages);
    edges.sort();
    let under_way = edges.iter().scan(0, |number, (_, change)| {
        *number += change;
        Some(*number)
    });
    let most = under_way.max();
    // 8, and those that are answered already when the log says so.
    assert!(most < Some(24), "{most:?} at a time");
    assert!(reads.len() <= 2 * (2 + messages / 50 + 1), "lists at start only: {reads:#?}");
}

fn uids(space: &Space) -> Vec<String> {
    let json = space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists");
    let list: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
    list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["metadata"]["uid"].as_str().map(str::to_owned))
        .collect()
}

fn ids(messages: &[lapin::message::BasicGetMessage]) -> Vec<String> {
    messages.iter().filter_map(|message| message.properties.message_id().as_ref().map(ToString::to_string)).collect()
}
