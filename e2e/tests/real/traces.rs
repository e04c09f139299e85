//! What a collector of traces gets, and what consumers get of a trace. The collector here keeps the bytes that come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rig::{Consumer, wait_until};
use serde_json::{Value, json};

use e2e::world::{Operator, SOON, Space, world};

const TOPIC: &str = "traced";
const SENDERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Takes requests as OTLP over HTTP has them, and keeps their bodies.
struct Collector {
    url: String,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let got = Arc::<Mutex<Vec<u8>>>::default();
        let kept = got.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || while serve(&client, &kept).is_some() {});
            }
        });
        Self { url, got }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.got.lock().expect("nobody panics").windows(bytes.len()).any(|window| window == bytes)
    }
}

/// One request; nothing at the end of the connection.
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
    kept.lock().expect("nobody panics").extend(body);
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n").ok()
}

fn create(space: &Space, name: &str, headers: &Value) -> String {
    let manifest = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {"name": name},
        "spec": {
            "env": "prod",
            "message": {"topic": TOPIC, "body": {"name": name}, "headers": headers},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    space.kubectl(&["create", "-f", "-"], &manifest.to_string()).expect("it is accepted");
    space.wait_for_reason(name, "Sent");
    space.kubectl(&["get", "fmsg", name, "-o", "jsonpath={.metadata.uid}"], "").expect("kubectl gets it")
}

#[test]
fn a_trace_goes_from_the_sender_through_the_operator_to_consumers() {
    let consumer = Consumer::start(&world().broker, TOPIC).expect("it consumes");
    let space = Space::new("traces");
    space.certificate(&world().broker, "publisher");
    let collector = Collector::start();
    let operator = Operator::start(&space, &["--trace-context", "--otlp-endpoint", &collector.url]);
    let alone = create(&space, "alone", &json!({})).replace('-', "");
    let within = create(&space, "within", &json!({"traceparent": SENDERS})).replace('-', "");
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());

    let received = consumer.wait_for(2, SOON).expect("both arrive");
    let header = |name: &str| {
        let message = received.iter().find(|message| message["body"]["name"] == name).expect("it has arrived");
        message["headers"]["traceparent"].as_str().expect("a header").to_owned()
    };
    assert_eq!(header("alone"), format!("00-{alone}-{}-01", &alone[16..]));
    assert_eq!(header("within"), format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", &within[16..]));

    // What was not sent before went at the end of the process.
    let bytes = |hex: &str| u128::from_str_radix(hex, 16).expect("hexadecimal").to_be_bytes();
    let (trace, parent) = (bytes(&SENDERS[3..35]), 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let (alone, within) = (bytes(&alone), &bytes(&within)[8..]);
    wait_until(SOON, "the collector has the spans", || {
        let texts = ["send amq.topic", "attempt", "fedora-message-operator", "fedora_message.reason"];
        texts.iter().all(|text| collector.has(text.as_bytes()))
            && [&alone[..], &alone[8..], &trace, &parent, within].iter().all(|id| collector.has(id))
    })
    .expect("they have come");
}

#[test]
fn a_collector_that_is_away_holds_up_no_message() {
    let space = Space::new("no-collector");
    space.certificate(&world().broker, "publisher");
    let operator = Operator::start(&space, &["--otlp-endpoint", "http://127.0.0.1:9"]);
    create(&space, "alone", &json!({"traceparent": SENDERS}));
    assert_eq!(operator.stop(), Some(0), "{}", operator.log());
}
