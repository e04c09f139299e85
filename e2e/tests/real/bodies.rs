//! More large messages than the operator holds in memory.

use fedora_message_operator::internals::MAX_LARGE_BYTES;
use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;
use rig::wait_until;

use crate::traces::Collector;
use e2e::raw::RawConsumer;
use e2e::{Operator, SOON, TestNamespace, message, requests, shared, with_body};

/// The approximate size of each body, in bytes.
const SIZE: usize = 900_000;
const COUNT: usize = MAX_LARGE_BYTES / SIZE + 16;

/// Returns the id of the sender's trace of a message.
fn trace(n: usize) -> u128 {
    0x0af7_6519_16cd_43dd_8448_eb21_1c80_0000 | n as u128
}

/// Each message arrives once and complete, although the operator drops bodies and refetches them.
/// Each has a span in its sender's trace.
#[test]
fn refetches_large_bodies() {
    let namespace = TestNamespace::with_publisher("bodies");
    let consumer = RawConsumer::start(&shared().broker, "bodies.#");
    let text = |n: usize| format!("{n:04}").repeat(SIZE / 4);
    let large = |n: usize| {
        let headers = format!(", headers: {{number: \"{n}\", traceparent: \"00-{:032x}-{n:016x}-01\"}}", trace(n));
        let small = message(&format!("m{n}"), &format!("bodies.{n}"), &headers);
        with_body(&small, &format!("{{text: \"{}\"}}", text(n)))
    };
    for batch in (0..COUNT).collect::<Vec<_>>().chunks(16) {
        let manifests: String = batch.iter().map(|n| large(*n)).collect();
        namespace.create(&manifests);
    }
    let collector = Collector::start();
    let operator = Operator::start(&namespace, &["--trace-context", "--otlp-endpoint", &collector.url]);
    namespace.wait_for_all_sent();
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
    let refetched = requests(&namespace, "get").len();
    wait_until(SOON, "each sender's trace has the message's spans", || {
        (1..COUNT).all(|n| collector.has(&trace(n).to_be_bytes()))
    })
    .expect("the spans arrive");
    println!("{COUNT} bodies of {SIZE} bytes, {refetched} of them refetched, {} MiB at most", operator.peak() >> 20);
    assert!((16..COUNT).contains(&refetched), "{refetched}");
}
