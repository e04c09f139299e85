//! Large messages: more than there is room for in the operator.

use fedora_message_operator::internals::MAX_LARGE_BYTES;

use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;

use e2e::raw::RawConsumer;
use e2e::world::{Operator, SOON, Space, message, requests, wait_for_all_sent, world};

/// Bytes of each body, about.
const SIZE: usize = 900_000;
const COUNT: usize = MAX_LARGE_BYTES / SIZE + 16;

#[test]
fn more_large_messages_than_there_is_room_for_arrive_once_each_as_they_are() {
    let space = Space::new("bodies");
    space.certificate(&world().broker, "publisher");
    let consumer = RawConsumer::start(&world().broker, "bodies.#");
    let text = |n: usize| format!("{n:04}").repeat(SIZE / 4);
    let large = |n: usize| {
        let small = message(&format!("m{n}"), &format!("bodies.{n}"), &format!(", headers: {{number: \"{n}\"}}"));
        small.replace(&format!("body: {{name: m{n}}}"), &format!("body: {{text: \"{}\"}}", text(n)))
    };
    for some in (0..COUNT).collect::<Vec<_>>().chunks(16) {
        let manifests: String = some.iter().map(|n| large(*n)).collect();
        space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    }
    let operator = Operator::start(&space, &[]);
    wait_for_all_sent(&space);
    let mut received = consumer.take(COUNT, SOON);
    let number = |message: &BasicGetMessage| -> usize {
        message.routing_key.as_str().trim_start_matches("bodies.").parse().expect("a number")
    };
    received.sort_by_key(number);
    assert_eq!(received.iter().map(number).collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
    for (n, message) in received.iter().enumerate() {
        assert!(message.data == format!("{{\"text\":\"{}\"}}", text(n)).into_bytes(), "{n}");
        let headers = message.properties.headers().as_ref().expect("headers").inner();
        let number = headers.get("number").and_then(AMQPValue::as_long_string).expect("the header");
        assert_eq!(number.to_string(), n.to_string());
    }
    let again = requests(&space, "list").iter().filter(|(uri, _)| uri.contains("metadata.name")).count();
    println!("{COUNT} bodies of {SIZE} bytes, {again} of them read again, {} MiB at most", operator.peak() >> 20);
    assert!((16..COUNT).contains(&again), "{again}");
}
