//! Messages that are so large that the API server may have no room for their status.

use std::time::{Duration, Instant};

use e2e::raw::{RawConsumer, assert_arrived};
use e2e::{Operator, SOON, TestNamespace, message_json, wait_soon};
use rig::Broker;
use rig::broker::Options;
use serde_json::{Value, json};

/// Body sizes between which the API server begins to refuse.
const SEARCH: [usize; 2] = [1_560_000, 1_573_000];
/// The bodies are smaller than the largest by so many bytes.
const SMALLER_BY: [usize; 5] = [0, 300, 900, 1_800, 4_000];
const RESTARTS: usize = 1;
/// An operator without jobs in flight stops within this time.
const STOP: Duration = Duration::from_secs(5);
/// The warning of a message without room for a status.
const NO_ROOM: &str = "can't store the object together with a status";

fn large(name: &str, size: usize) -> String {
    let text = "x".repeat(size - r#"{"text":""}"#.len());
    message_json(name, &json!({"topic": format!("large.{name}"), "body": {"text": text}})).to_string()
}

/// Returns the size of the largest body that the API server stores.
fn largest(namespace: &TestNamespace<'_>) -> usize {
    let [mut fits, mut too_large] = SEARCH;
    while too_large - fits > 1 {
        let size = usize::midpoint(fits, too_large);
        match namespace.post(&large("probe-0000", size)) {
            Ok(_) => {
                namespace.kubectl(&["delete", "fmsg", "probe-0000"]);
                fits = size;
            }
            Err(error) => {
                assert!(error.contains("request is too large"), "{error}");
                too_large = size;
            }
        }
    }
    fits
}

/// Every message is sent once and recorded, or refused and never sent, also after a restart.
#[test]
fn sends_only_what_can_be_recorded() {
    let options = Options { config: "max_message_size = 134217728".to_owned(), ..Options::default() };
    let broker = Broker::start_with(&options).expect("a broker that takes large messages");
    let namespace = TestNamespace::new("large").with_certificate(&broker, "publisher");
    let consumer = RawConsumer::start(&broker, "large.#");
    let largest = largest(&namespace);
    for less in SMALLER_BY {
        namespace.post(&large(&format!("less-{less:05}"), largest - less)).expect("it is stored");
    }
    let sent = || namespace.sent().expect("the API server answers");
    for _ in 0..=RESTARTS {
        let operator = Operator::with_broker(&broker.url(), &namespace, &[]);
        operator.wait_until(SOON, "each message is sent or refused", || {
            let (sent, log) = (sent(), operator.log());
            let refuses = |line: &str, name: &str| line.contains(name) && line.contains(NO_ROOM);
            let is_settled = |it: &Value| {
                let name = it["metadata"]["name"].as_str().unwrap_or_default();
                sent.iter().any(|other| other == name)
                    || it["status"]["reason"] == "InvalidMessage"
                    || log.lines().any(|line| refuses(line, name))
            };
            namespace.messages().iter().all(is_settled)
        });
        let begin = Instant::now();
        assert_eq!(operator.stop(), Some(0));
        assert!(begin.elapsed() < STOP, "{:?}", begin.elapsed());
        assert_eq!(operator.count_in_log("will be written again"), 0, "no endless retries\n{}", operator.log());
    }
    let sent = sent();
    println!("bodies up to {largest} bytes are stored; sent: {sent:?}");
    assert!((1..SMALLER_BY.len()).contains(&sent.len()), "some are sent, and some refused: {sent:?}");
    let recorded: Vec<_> = namespace.messages().into_iter().filter(|it| it["status"]["status"] == true).collect();
    let copies = assert_arrived(&recorded, &consumer.take(sent.len(), SOON));
    assert_eq!(copies, 0, "each recorded message arrived once");
    let warned = || namespace.events("less-00000").iter().any(|event| event.to_string().contains(NO_ROOM));
    wait_soon("an Event says why the largest message is not sent", warned);
}
