//! Traces reach a collector and consumers. The collector of the tests keeps the bytes that it
//! receives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rig::Consumer;
use serde_json::{Value, json};

use e2e::{Operator, SOON, TestNamespace, message_json, shared, uid, wait_soon};

const SENDERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Accepts OTLP requests over HTTP, and keeps their bodies.
pub struct Collector {
    pub url: String,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let bodies = Arc::<Mutex<Vec<u8>>>::default();
        let kept = bodies.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || while serve(&client, &kept).is_some() {});
            }
        });
        Self { url, bodies }
    }

    /// Returns true if a body has these bytes.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.bodies.lock().expect("no panic").windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Reads one request and answers it. Returns `None` at the end of the connection.
fn serve(mut client: &TcpStream, kept: &Mutex<Vec<u8>>) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None if line.is_empty() => break,
            None => assert_eq!(line, "post /v1/traces http/1.1"),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    kept.lock().expect("no panic").extend(body);
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n").ok()
}

/// Creates a message with the topic of its namespace, waits until it is sent, and returns its uid.
fn create(namespace: &TestNamespace, name: &str, headers: &Value) -> String {
    let message = json!({"topic": namespace.name, "body": {"name": name}, "headers": headers});
    namespace.create(&message_json(name, &message).to_string());
    namespace.wait_for_reason(name, "Sent");
    uid(&namespace.get(name))
}

#[test]
fn passes_traces_on() {
    let namespace = TestNamespace::with_publisher("traces");
    let consumer = Consumer::start(&shared().broker, &namespace.name).expect("a consumer");
    let collector = Collector::start();
    let operator = Operator::start(&namespace, &["--trace-context", "--otlp-endpoint", &collector.url]);
    let alone = create(&namespace, "alone", &json!({})).replace('-', "");
    let within = create(&namespace, "within", &json!({"traceparent": SENDERS})).replace('-', "");
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());

    let received = consumer.wait_for(2, SOON).expect("both arrive");
    let header = |name: &str| {
        let message = received.iter().find(|message| message["body"]["name"] == name).expect("a message");
        message["headers"]["traceparent"].as_str().expect("a header").to_owned()
    };
    assert_eq!(header("alone"), format!("00-{alone}-{}-01", &alone[16..]));
    assert_eq!(header("within"), format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", &within[16..]));

    // The operator sends the remaining spans when it ends.
    let bytes = |hex: &str| u128::from_str_radix(hex, 16).expect("hexadecimal").to_be_bytes();
    let (trace, parent) = (bytes(&SENDERS[3..35]), 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let (alone, within) = (bytes(&alone), &bytes(&within)[8..]);
    wait_soon("the collector has the spans", || {
        let texts = ["send amq.topic", "attempt", "fedora-message-operator", "fedora_message.reason"];
        texts.iter().all(|text| collector.has(text.as_bytes()))
            && [&alone[..], &alone[8..], &trace, &parent, within].iter().all(|id| collector.has(id))
    });
}

#[test]
fn sends_without_collector() {
    let namespace = TestNamespace::with_publisher("no-collector");
    let operator = Operator::start(&namespace, &["--otlp-endpoint", "http://127.0.0.1:9"]);
    create(&namespace, "alone", &json!({"traceparent": SENDERS}));
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
}
