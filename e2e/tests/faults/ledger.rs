//! Compares created messages, received messages and statuses at the end of a test.

use std::cell::Cell;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rig::{Broker, Kube, wait_until};

use e2e::raw::{DurableQueue, assert_arrived};
use e2e::{Operator, TestNamespace, message, message_count, run, wait_soon};

/// The messages that an operator has in flight. At most this number is sent twice when the operator
/// or the broker dies.
pub const IN_FLIGHT: usize = 64;
/// The deadline for all messages after the fault has ended.
const RECOVERY: Duration = Duration::from_mins(3);
/// The number of parts in which messages are created during the fault.
const PARTS: usize = 10;

/// Returns the seed of the random numbers. `FAULTS_SEED` sets it.
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
    pub namespace: TestNamespace<'a>,
    /// The number of messages.
    pub count: usize,
    /// The queue with all received messages.
    pub queue: DurableQueue,
    /// Chooses the moment of the fault.
    random: Rng,
    title: &'static str,
    start: Instant,
    /// The second half of the messages, until their creation begins.
    rest: Option<Vec<String>>,
    /// A message that is created during the fault, so that it always meets the fault.
    last: Cell<Option<String>>,
    /// The thread that creates the second half.
    creator: Option<JoinHandle<()>>,
}

impl<'a> Ledger<'a> {
    /// Declares the queue, and creates half of the messages. The others follow when messages flow,
    /// and so during the fault.
    pub fn open(kube: &'a Kube, broker: &Broker, title: &'static str) -> Self {
        let namespace = TestNamespace::on(kube, title).with_certificate(broker, "publisher");
        let queue = DurableQueue::declare(broker, &format!("{title}.#"));
        let count = message_count(200);
        let mut first: Vec<String> = (0..count)
            .map(|n| message(&format!("m{n}"), &format!("{title}.{n}"), &format!(", headers: {{number: {n}}}")))
            .collect();
        let last = Cell::new(first.pop());
        let rest = Some(first.split_off(count / 2));
        create(namespace.kubectl_command(), &first);
        let salt = title.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let (random, start) = (Rng::with_seed(seed() ^ salt), Instant::now());
        Self { namespace, count, random, queue, title, start, rest, last, creator: None }
    }

    /// Opens a ledger, starts an operator for it, and waits until messages flow.
    pub fn in_flow(kube: &'a Kube, broker: &Broker, title: &'static str, arguments: &[&str]) -> (Self, Operator) {
        let mut ledger = Self::open(kube, broker, title);
        let operator = Operator::with_broker(&broker.url(), &ledger.namespace, arguments);
        ledger.wait_for_flow(&operator, ledger.count / 4);
        (ledger, operator)
    }

    /// Starts to create the second half in parts, and retries all errors.
    pub fn create_rest(&mut self) {
        if let Some(rest) = self.rest.take() {
            let kubectl = self.namespace.kubectl_command();
            self.creator = Some(std::thread::spawn(move || create(kubectl, &rest)));
        }
    }

    fn create_last(&self) {
        create(self.namespace.kubectl_command(), self.last.take().as_slice());
    }

    /// Waits until all messages are created.
    pub fn wait_until_created(&mut self) {
        self.create_last();
        self.create_rest();
        if let Some(creator) = self.creator.take() {
            creator.join().expect("the API server accepts all messages");
        }
    }

    /// Waits until this operator has sent a random number of messages, at most `most`. Then starts
    /// to create the rest.
    pub fn wait_for_flow(&mut self, operator: &Operator, most: usize) {
        let wanted = self.random.usize(1..=most.max(1));
        operator.wait_until(RECOVERY, "messages flow", || operator.count_in_log("reason=\"Sent\"") >= wanted);
        self.create_rest();
    }

    /// Waits until a message has this reason.
    pub fn wait_for_reason(&self, reason: &str) {
        self.create_last();
        wait_soon(&format!("a message has reason {reason}"), || {
            let messages = self.namespace.summaries();
            messages.is_ok_and(|messages| messages.iter().any(|message| message.status["reason"] == reason))
        });
    }

    /// Waits until all messages are marked as sent.
    pub fn wait_until_sent(&self) {
        wait_until(RECOVERY, "all messages are sent", || {
            self.namespace.pending().is_some_and(|names| names.is_empty())
        })
        .unwrap_or_else(|error| panic!("{error}: {:?} are pending", self.namespace.pending()));
    }

    /// Waits until all messages are sent, and compares. At most `most` messages arrive twice, with
    /// equal copies.
    pub fn close(mut self, broker: &Broker, most: usize) {
        self.wait_until_created();
        self.wait_until_sent();
        let stored = self.namespace.messages();
        assert_eq!(stored.len(), self.count, "stored messages");
        for message in &stored {
            assert_eq!(message["status"]["reason"], "Sent", "{message:#}");
        }
        let duplicates = assert_arrived(&stored, &self.queue.read(broker));
        println!(
            "{}: seed {}, {} messages, {duplicates} duplicates, {:.1} s",
            self.title,
            seed(),
            self.count,
            self.start.elapsed().as_secs_f32()
        );
        assert!(duplicates <= most, "{duplicates} duplicates, more than {most}");
    }
}

/// Creates messages in parts. Repeats each part until the API server has all of it.
fn create(mut kubectl: Command, manifests: &[String]) {
    kubectl.args(["create", "--validate=false", "--request-timeout=10s", "-f", "-"]);
    for part in manifests.chunks(manifests.len().div_ceil(PARTS).max(1)) {
        let part = part.concat();
        let mut error = String::new();
        let mut created = || match run(&mut kubectl, &part) {
            Ok(_) => true,
            Err(output) => {
                error = output;
                error.lines().all(|line| line.ends_with(" created") || line.contains("(AlreadyExists)"))
            }
        };
        wait_until(RECOVERY, "messages are created", &mut created)
            .unwrap_or_else(|timeout| panic!("{timeout}: {error}"));
    }
}
