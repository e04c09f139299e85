//! What the API server says of a test's messages beside what consumers got: none is missing, none is
//! called sent that is not, and none came twice without need.

use std::collections::{BTreeMap, BTreeSet};

use lapin::message::BasicGetMessage;
use rig::wait_for;
use serde_json::Value;

use e2e::raw::RawConsumer;
use e2e::world::{SOON, Space, message};

/// The messages of one namespace, all with topics that begin with `title.`, and their consumer.
pub struct Ledger<'a> {
    space: &'a Space<'static>,
    consumer: &'a RawConsumer,
    topic: String,
    received: Vec<BasicGetMessage>,
}

impl<'a> Ledger<'a> {
    /// Nothing is sent yet.
    pub fn new(space: &'a Space<'static>, consumer: &'a RawConsumer, topic: &str) -> Self {
        Self { space, consumer, topic: topic.to_owned(), received: Vec::new() }
    }

    /// Stores messages with these names.
    pub fn send(&self, names: &[String]) {
        let manifests: String = names.iter().map(|name| message(name, &self.topic, "")).collect();
        self.space.kubectl(&["create", "-f", "-"], &manifests).expect("all are accepted");
    }

    /// Takes what the consumer has got so far, and checks that all that is called sent is among it.
    pub fn no_false_success(&mut self) {
        let called_sent: BTreeSet<String> =
            self.stored().iter().filter(|item| item["status"]["status"] == true).map(uid).collect();
        self.received.extend(self.consumer.take(0, SOON));
        let received: BTreeSet<String> = self.received.iter().map(id).collect();
        assert!(called_sent.is_subset(&received), "called sent, but not received");
    }

    /// Waits until all messages are called sent, and checks that each was received, that no more than
    /// `in_flight` came twice, and that these came as the same bytes. Returns how many came twice.
    pub fn all_arrive(&mut self, in_flight: usize) -> usize {
        let all: BTreeSet<String> = wait_for(2 * SOON, "all messages are sent", || {
            let stored = self.stored();
            Ok(stored.iter().all(|item| item["status"]["status"] == true).then(|| stored.iter().map(uid).collect()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", self.reasons()));
        let missing = all.len().saturating_sub(self.received.len());
        self.received.extend(self.consumer.take(missing, SOON));
        let mut firsts: BTreeMap<String, &BasicGetMessage> = BTreeMap::new();
        for message in &self.received {
            let first = firsts.entry(id(message)).or_insert(message);
            assert_eq!((message.properties.headers(), &message.data), (first.properties.headers(), &first.data));
        }
        assert_eq!(firsts.keys().cloned().collect::<BTreeSet<_>>(), all, "each message, and no other");
        let twice = self.received.len() - all.len();
        assert!(twice <= in_flight, "{twice} came twice, and {in_flight} were in flight");
        twice
    }

    /// The reason of each message.
    pub fn reasons(&self) -> Vec<String> {
        self.stored().iter().map(|item| item["status"]["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn stored(&self) -> Vec<Value> {
        let json = self.space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists");
        let mut list: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
        list["items"].as_array_mut().map(std::mem::take).expect("a list")
    }
}

/// Names for messages: `prefix-0`, `prefix-1` and so on.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn uid(item: &Value) -> String {
    item["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn id(message: &BasicGetMessage) -> String {
    message.properties.message_id().as_ref().expect("an id").to_string()
}
