//! Compares statuses with received messages: no message is missing, none is falsely marked as sent,
//! and none arrives twice without need.

use std::collections::BTreeSet;

use lapin::message::BasicGetMessage;
use rig::wait_for;

use e2e::raw::{RawConsumer, assert_arrived, id};
use e2e::{SOON, TestNamespace, message, uid};

/// The messages of one namespace with one topic, and their consumer.
pub struct Ledger<'a> {
    namespace: &'a TestNamespace<'static>,
    consumer: &'a RawConsumer,
    topic: String,
    received: Vec<BasicGetMessage>,
}

impl<'a> Ledger<'a> {
    /// Creates a ledger without messages.
    pub fn new(namespace: &'a TestNamespace<'static>, consumer: &'a RawConsumer, topic: &str) -> Self {
        Self { namespace, consumer, topic: topic.to_owned(), received: Vec::new() }
    }

    /// Creates messages with these names.
    pub fn create(&self, names: &[String]) {
        let manifests: String = names.iter().map(|name| message(name, &self.topic, "")).collect();
        self.namespace.create(&manifests);
    }

    /// Asserts that each message that is marked as sent has arrived.
    pub fn assert_no_false_success(&mut self) {
        let sent: BTreeSet<String> =
            self.namespace.messages().iter().filter(|item| item["status"]["status"] == true).map(uid).collect();
        self.received.extend(self.consumer.take(0, SOON));
        let received: BTreeSet<String> = self.received.iter().map(id).collect();
        assert!(sent.is_subset(&received), "marked as sent, but not received");
    }

    /// Waits until all messages are marked as sent, and asserts that each arrives. At most
    /// `in_flight` messages arrive twice, with equal copies. Returns the number of copies.
    pub fn wait_for_all(&mut self, in_flight: usize) -> usize {
        let all = wait_for(2 * SOON, "all messages are sent", || {
            let stored = self.namespace.messages();
            Ok(stored.iter().all(|item| item["status"]["status"] == true).then_some(stored))
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", self.namespace.reasons()));
        let missing = all.len().saturating_sub(self.received.len());
        self.received.extend(self.consumer.take(missing, SOON));
        let copies = assert_arrived(&all, &self.received);
        assert!(copies <= in_flight, "{copies} messages arrived twice, and {in_flight} were in flight");
        copies
    }
}

/// Returns names for messages: `prefix-0`, `prefix-1` and so on.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}
