//! What was created, what was received and what the statuses say, compared at the end.

use std::cell::Cell;
use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rig::{Broker, Kube, wait_until};
use serde_json::Value;

use e2e::raw::DurableQueue;
use e2e::world::{Operator, SOON, Space, message, messages, run_again};

/// How many messages an operator has under way at a time, and so at most how many are sent twice
/// when it or the broker dies.
pub const UNDER_WAY: usize = 64;
/// How long it may take until all is sent, once everything works again.
const IN_THE_END: Duration = Duration::from_mins(3);
/// In how many parts the messages are created that come while something is broken.
const PARTS: usize = 10;

/// The random numbers of the suite: `FAULTS_SEED` makes the same ones again.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
        println!("FAULTS_SEED={seed}");
        seed
    })
}

/// The messages of one test.
pub struct Ledger<'a> {
    /// Their namespace.
    pub space: Space<'a>,
    /// How many there are.
    pub count: usize,
    /// All that is received.
    pub queue: DurableQueue,
    /// When it is time for the fault.
    random: Rng,
    title: &'static str,
    start: Instant,
    /// The second half, until it is begun.
    second: Option<Vec<String>>,
    /// One that is created when the fault is there for sure: however fast the others went, it meets it.
    last: Cell<Option<String>>,
    /// Creates the second half.
    creator: Option<JoinHandle<()>>,
}

impl<'a> Ledger<'a> {
    /// Declares a queue that will keep all that is received, and creates half of the messages. The
    /// others come when messages flow: while something is broken.
    pub fn open(kube: &'a Kube, broker: &Broker, title: &'static str) -> Self {
        let space = Space::on(kube, title);
        space.certificate(broker, "publisher");
        let queue = DurableQueue::declare(broker, &format!("{title}.#"));
        let count = messages(200);
        let mut first: Vec<String> = (0..count)
            .map(|n| message(&format!("m{n}"), &format!("{title}.{n}"), &format!(", headers: {{number: {n}}}")))
            .collect();
        let last = Cell::new(first.pop());
        let second = Some(first.split_off(count / 2));
        create(space.kubectl_command(), &first);
        let salt = title.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let (random, start) = (Rng::with_seed(seed() ^ salt), Instant::now());
        Self { space, count, random, queue, title, start, second, last, creator: None }
    }

    /// Begins to create the second half bit by bit, whatever the API server says meanwhile.
    pub fn go_on_creating(&mut self) {
        if let Some(second) = self.second.take() {
            let kubectl = self.space.kubectl_command();
            self.creator = Some(std::thread::spawn(move || create(kubectl, &second)));
        }
    }

    fn create_last(&self) {
        create(self.space.kubectl_command(), self.last.take().as_slice());
    }

    /// Waits until all messages are created.
    pub fn wait_until_created(&mut self) {
        self.create_last();
        self.go_on_creating();
        if let Some(creator) = self.creator.take() {
            creator.join().expect("all are accepted");
        }
    }

    /// Waits until a random share of the messages, at most the given one, went through this operator;
    /// more are created from then on.
    pub fn wait_for_flow(&mut self, operator: &Operator, most: usize) {
        let wanted = self.random.usize(1..=most.max(1));
        let sent = || operator.log().matches("reason=\"Sent\"").count();
        wait_until(IN_THE_END, "messages flow", || sent() >= wanted)
            .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
        self.go_on_creating();
    }

    /// Waits until some message's status tells this reason.
    pub fn wait_for_reason(&self, reason: &str) {
        self.create_last();
        wait_until(SOON, &format!("a status tells {reason}"), || {
            let reasons = self.space.kubectl(&["get", "fmsg", "-o", "jsonpath={.items[*].status.reason}"], "");
            reasons.is_ok_and(|reasons| reasons.split(' ').any(|other| other == reason))
        })
        .expect("people are told");
    }

    /// Waits until all messages are sent, as their statuses say.
    pub fn wait_until_sent(&self) {
        wait_until(IN_THE_END, "all is sent", || self.pending() == Some(0))
            .unwrap_or_else(|error| panic!("{error}: {:?} are pending", self.pending()));
    }

    /// Waits until all is sent, and compares. At most `most` were received twice, each of these the
    /// same message again.
    pub fn close(mut self, broker: &Broker, most: usize) {
        self.wait_until_created();
        self.wait_until_sent();
        let stored = self.stored();
        assert_eq!(stored.len(), self.count, "messages that were stored");
        let mut received = HashMap::new();
        let mut duplicates = 0;
        for message in self.queue.read(broker) {
            let id = message.properties.message_id().as_ref().expect("an id").to_string();
            assert!(stored.contains_key(&id), "{id} was received and never created");
            let same = (message.properties.clone(), message.routing_key.clone(), message.data.clone());
            match received.get(&id) {
                Some(first) => {
                    assert_eq!(*first, same, "sent again, it is the same message");
                    duplicates += 1;
                }
                None => drop(received.insert(id, same)),
            }
        }
        for (uid, status) in &stored {
            assert_eq!(status["reason"], "Sent", "{uid}: {status:#}");
            assert!(received.contains_key(uid), "{uid} is marked as sent and was not received");
        }
        println!(
            "{}: seed {}, {} messages, {duplicates} duplicates, {:.1} s",
            self.title,
            seed(),
            self.count,
            self.start.elapsed().as_secs_f32()
        );
        assert!(duplicates <= most, "{duplicates} messages were received twice, more than {most}");
    }

    /// How many messages are not sent; none if the API server does not answer.
    pub fn pending(&self) -> Option<usize> {
        self.selected("status.status!=true")
    }

    /// How many messages are said to be sent; none if the API server does not answer.
    pub fn sent(&self) -> Option<usize> {
        self.selected("status.status=true")
    }

    fn selected(&self, selector: &str) -> Option<usize> {
        let selected = ["get", "fmsg", "--field-selector", selector, "-o", "name", "--request-timeout=10s"];
        Some(self.space.kubectl(&selected, "").ok()?.lines().count())
    }

    /// The status of each message, by uid.
    fn stored(&self) -> HashMap<String, Value> {
        let json = self.space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists");
        let mut list: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
        let items = list["items"].as_array_mut().expect("a list");
        items
            .iter_mut()
            .map(|item| (item["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), item["status"].take()))
            .collect()
    }
}

/// Creates messages in several parts, each again and again until the API server has all of it.
fn create(mut kubectl: Command, manifests: &[String]) {
    kubectl.args(["create", "--validate=false", "--request-timeout=10s", "-f", "-"]);
    for part in manifests.chunks(manifests.len().div_ceil(PARTS).max(1)) {
        let part = part.concat();
        let mut words = String::new();
        let mut created = || match run_again(&mut kubectl, &part) {
            Ok(_) => true,
            Err(error) => {
                words = error;
                words.lines().all(|line| line.ends_with(" created") || line.contains("(AlreadyExists)"))
            }
        };
        wait_until(IN_THE_END, "messages are created", &mut created).unwrap_or_else(|error| panic!("{error}: {words}"));
    }
}
