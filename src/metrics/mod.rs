//! The metrics that the program serves at `/metrics`.
//!
//! Labels come from closed lists, except those of certificates, of which there are at most a thousand, and those of
//! Senders, of which there are at most five thousand. A flag bounds the number of namespaces with metrics of their
//! own. So the content of messages never creates a series.

mod namespaces;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use strum::VariantArray;
use tokio::time::Instant;

use self::namespaces::NamespaceMetrics;
use crate::VERSION;
use crate::broker::pool::Usage;
use crate::cluster::status::Written;
use crate::cluster::watch::WatchMonitor;
use crate::ttl::schedule::Deletion;
use fedora_message::api::names::{SenderName, SourceName};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::policy::outcome::{Mode, Reason, Timing};

/// The prefix of every metric's name.
const PREFIX: &str = "fedora_message_operator";
/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The ages by which pending messages are counted, with their labels.
pub const AGES: [(&str, TimeDelta); 5] = [
    ("0s", TimeDelta::zero()),
    ("1m", TimeDelta::minutes(1)),
    ("10m", TimeDelta::minutes(10)),
    ("1h", TimeDelta::hours(1)),
    ("1d", TimeDelta::days(1)),
];
/// The buckets for a broker's time: a confirm takes milliseconds, and at most 30 seconds.
const BROKER_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];
/// The buckets for the time from a watch event to the end of the message: milliseconds, and hours with retries.
const SEND_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];
/// The buckets for the time from a message's creation, which is a whole second.
const DELIVERY_SECONDS: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0];

/// The label of a message whose environment can't be read.
const UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct EnvLabels {
    env: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct DeliveryLabels {
    env: &'static str,
    mode: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct AttemptLabels {
    env: &'static str,
    mode: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct PendingLabels {
    env: &'static str,
    older_than: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SecretLabels {
    namespace: String,
    secret: String,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SenderLabels {
    namespace: String,
    sender: String,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct WatchLabels {
    watch: &'static str,
}

/// The description of deletions.
const DELETIONS: &str = "Attempts to delete a FedoraMessage whose time to live is over: deleted, gone (another client \
    deleted it), kept (its time is not over any more), denied (not allowed) or failed";
/// The description of the readiness of Senders.
const SENDER_READY: &str = "1 if the broker accepts the FedoraMessageSender, 0 if messages can't be sent as it. Only \
    the replica that sends has it";
/// The description of the age of watches.
const WATCH_AGE: &str = "Time since a watch on the API server last heard something, of the most silent watch of each \
    kind. Below 90 s is normal";

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Counts and measures.
pub struct Metrics {
    registry: Registry,
    attempts: Family<AttemptLabels, Counter>,
    finished: Family<AttemptLabels, Counter>,
    publish: Histograms<EnvLabels>,
    confirm: Histograms<EnvLabels>,
    send: Histograms<DeliveryLabels>,
    delivery: Histograms<DeliveryLabels>,
    namespaces: NamespaceMetrics,
    status_writes: Family<ResultLabels, Counter>,
    deletions: Family<ResultLabels, Counter>,
    schemas: Gauge,
    schemas_in_step: Gauge,
    leader: Gauge,
    pending: Family<PendingLabels, Gauge>,
    connections: Family<EnvLabels, Gauge>,
    channels: Family<EnvLabels, Gauge>,
    blocked: Family<EnvLabels, Gauge>,
    certificates: Family<SecretLabels, Gauge>,
    senders_ready: Family<SenderLabels, Gauge>,
    watches: WatchMonitor,
    watch_age: Family<WatchLabels, Gauge<f64, AtomicU64>>,
}

/// The operator's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// True if it sends messages.
    pub leads: bool,
    /// The number of pending messages of an environment that are older than each of the [`AGES`]. `None` stands
    /// for messages that can't be read.
    pub pending: Vec<(Option<Environment>, [usize; AGES.len()])>,
    /// The age of the oldest waiting message of each namespace that has metrics of its own.
    pub oldest: Vec<(String, TimeDelta)>,
    /// The use of each environment's connections.
    pub connections: Vec<(Environment, Usage)>,
    /// The number of schemas, and true if they are those in their file. `None` without a file.
    pub schemas: Option<(usize, bool)>,
    /// When the client certificates in use expire.
    pub certificates: Vec<(SourceName, DateTime<Utc>)>,
    /// The Senders that were checked, each with true if the broker accepted it.
    pub senders: Vec<(SenderName, bool)>,
}

/// One attempt to send a message, and its result.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRecord<'a> {
    /// The message's environment, if it can be read.
    pub environment: Option<Environment>,
    /// How it was sent.
    pub mode: Mode,
    /// The result.
    pub reason: Reason,
    /// True if the message was sent or given up.
    pub finished: bool,
    /// The broker's time, if it confirmed the message to this process.
    pub took: Option<Timing>,
    /// The message's namespace.
    pub namespace: &'a str,
    /// The time since this process learned of the message, or of its last change.
    pub since_seen: Duration,
    /// The message's age.
    pub age: Duration,
}

impl Metrics {
    /// Registers all metrics, each with its description. They stand in `docs/metrics.md` in this order. The age of
    /// watches comes from this monitor. At most so many namespaces have metrics of their own.
    #[must_use]
    pub fn new(watches: WatchMonitor, max_namespaces: usize) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let mut metrics = Self {
            attempts: registered(r, "attempts", "Attempts to send a message, by result", Family::default()),
            finished: registered(r, "messages_finished", "Messages that were sent or given up", Family::default()),
            pending: registered(
                r,
                "messages_pending",
                "Messages that are not sent, given up or suspended, and are older than the label says. Only the \
                 replica that sends has them",
                Family::default(),
            ),
            publish: registered_in_seconds(
                r,
                "publish_duration",
                "Time until a sent message was handed to the connection: the wait for a channel, and for space in it",
                Histograms::new_with_constructor(broker_histogram),
            ),
            confirm: registered_in_seconds(
                r,
                "confirm_duration",
                "Time that the broker then took to confirm the message",
                Histograms::new_with_constructor(broker_histogram),
            ),
            send: registered_in_seconds(
                r,
                "send_duration",
                "Time until a message was sent, since the operator learned of it or of its last change: with all waits \
                 and attempts",
                Histograms::new_with_constructor(|| Histogram::new(SEND_SECONDS)),
            ),
            delivery: registered_in_seconds(
                r,
                "delivery_duration",
                "Age of messages when they were sent, since creationTimestamp, which is a whole second: so half a \
                 second more than it was, on average",
                Histograms::new_with_constructor(|| Histogram::new(DELIVERY_SECONDS)),
            ),
            namespaces: NamespaceMetrics::new(r, max_namespaces),
            connections: registered(
                r,
                "connections",
                "Open connections to the environment's broker: one for each client certificate",
                Family::default(),
            ),
            channels: registered(r, "channels", "Open channels on these connections", Family::default()),
            blocked: registered(
                r,
                "broker_blocked",
                "Those of these connections that the broker blocks, because of its memory or disk alarm",
                Family::default(),
            ),
            certificates: registered_in_seconds(
                r,
                "certificate_not_after_timestamp",
                "Time when the client certificate in this Secret expires, in seconds since 1970; only of Secrets that \
                 messages or Senders named in the last day",
                Family::default(),
            ),
            senders_ready: registered(r, "sender_ready", SENDER_READY, Family::default()),
            watch_age: registered_in_seconds(r, "watch_last_event_age", WATCH_AGE, Family::default()),
            status_writes: registered(
                r,
                "status_writes",
                "Writes of a status: written, gone (the resource was deleted), changed (the resource was changed \
                 meanwhile), too_large (the resource has no room for it) or failed",
                Family::default(),
            ),
            deletions: registered(r, "deletions", DELETIONS, Family::default()),
            schemas: registered(
                r,
                "schemas",
                "Message schemas in use, from the file --schema-catalog; none without one",
                Gauge::default(),
            ),
            schemas_in_step: registered(
                r,
                "schemas_in_step",
                "1 if these schemas are those in the file, 0 if the file has changed and can't be used",
                Gauge::default(),
            ),
            leader: registered(r, "leader", "1 if this replica sends messages, 0 if it stands by", Gauge::default()),
            watches,
            registry,
        };
        register_build_info(&mut metrics.registry);
        metrics.begin_at_zero();
        metrics
    }

    /// Creates the series of all counters, so that a query for an increase sees the first one too.
    fn begin_at_zero(&self) {
        for environment in Environment::VARIANTS {
            for mode in Mode::VARIANTS {
                for reason in Reason::VARIANTS {
                    let labels = AttemptLabels { env: environment.name(), mode: mode.name(), reason: reason.name() };
                    self.attempts.get_or_create(&labels).inc_by(0);
                    if reason.then().may_be_end() {
                        self.finished.get_or_create(&labels).inc_by(0);
                    }
                }
            }
        }
        for result in Written::VARIANTS {
            self.status_writes.get_or_create(&ResultLabels { result: result.name() }).inc_by(0);
        }
        for result in Deletion::results() {
            self.deletions.get_or_create(&ResultLabels { result }).inc_by(0);
        }
    }

    /// Counts an attempt.
    pub fn count_attempt(&self, attempt: &AttemptRecord<'_>) {
        let (env, mode) = (label(attempt.environment), attempt.mode.name());
        let labels = AttemptLabels { env, mode, reason: attempt.reason.name() };
        self.attempts.get_or_create(&labels).inc();
        if attempt.finished {
            self.finished.get_or_create(&labels).inc();
        }
        if attempt.reason == Reason::Sent {
            let labels = DeliveryLabels { env, mode };
            self.send.get_or_create(&labels).observe(attempt.since_seen.as_secs_f64());
            self.delivery.get_or_create(&labels).observe(attempt.age.as_secs_f64());
        } else if attempt.finished {
            self.namespaces.count_given_up(attempt.namespace);
        }
        if let Some(Timing { publish, confirm }) = attempt.took {
            self.publish.get_or_create(&EnvLabels { env }).observe(publish.as_secs_f64());
            self.confirm.get_or_create(&EnvLabels { env }).observe(confirm.as_secs_f64());
        }
    }

    /// Returns the maximum number of namespaces that have metrics of their own.
    #[must_use]
    pub fn max_namespaces(&self) -> usize {
        self.namespaces.max
    }

    /// Counts a status write.
    pub fn count_status_write(&self, result: Written) {
        self.status_writes.get_or_create(&ResultLabels { result: result.name() }).inc();
    }

    /// Counts the attempt to delete a resource whose time to live is over.
    pub fn count_deletion(&self, deletion: &Deletion) {
        if let Some(result) = deletion.result() {
            self.deletions.get_or_create(&ResultLabels { result }).inc();
        }
    }

    /// Returns all metrics in the `OpenMetrics` text format. Without a report, only counters are current.
    #[must_use]
    pub fn encode(&self, report: Option<&Report>) -> String {
        self.set(report.unwrap_or(&Report::default()));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    fn set(&self, report: &Report) {
        self.leader.set(report.leads.into());
        let (schemas, in_step) = report.schemas.unwrap_or((0, true));
        self.schemas.set(number(schemas));
        self.schemas_in_step.set(in_step.into());
        self.pending.clear();
        for (environment, counts) in &report.pending {
            for ((older_than, _), count) in AGES.into_iter().zip(counts) {
                self.pending.get_or_create(&PendingLabels { env: label(*environment), older_than }).set(number(*count));
            }
        }
        self.namespaces.set_oldest(&report.oldest);
        for (environment, usage) in &report.connections {
            let env = EnvLabels { env: environment.name() };
            self.connections.get_or_create(&env).set(number(usage.connections));
            self.channels.get_or_create(&env).set(number(usage.channels));
            self.blocked.get_or_create(&env).set(number(usage.blocked));
        }
        self.certificates.clear();
        for (secret, not_after) in &report.certificates {
            let labels = SecretLabels { namespace: secret.namespace.clone(), secret: secret.name.clone() };
            self.certificates.get_or_create(&labels).set(not_after.timestamp());
        }
        self.senders_ready.clear();
        for (SenderName { namespace, name: sender }, ready) in &report.senders {
            let labels = SenderLabels { namespace: namespace.clone(), sender: sender.clone() };
            self.senders_ready.get_or_create(&labels).set((*ready).into());
        }
        self.watch_age.clear();
        for (kind, age) in self.watches.ages(Instant::now()) {
            self.watch_age.get_or_create(&WatchLabels { watch: kind.name() }).set(age.as_secs_f64());
        }
    }
}

fn broker_histogram() -> Histogram {
    Histogram::new(BROKER_SECONDS)
}

fn register_build_info(registry: &mut Registry) {
    let description = "Always 1: the labels name the program's version";
    let build: Family<BuildLabels, Gauge> = registered(registry, "build_info", description, Family::default());
    build.get_or_create(&BuildLabels { version: VERSION, commit: env!("COMMIT") }).set(1);
}

fn label(environment: Option<Environment>) -> &'static str {
    environment.map_or(UNKNOWN, Environment::name)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Registers a metric without a unit, and returns it.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a metric in seconds, and returns it.
fn registered_in_seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

#[cfg(test)]
mod page;
