//! What the program counts and measures, for `/metrics`.
//!
//! Labels come from closed lists, but for those of certificates, of which there are at most a thousand:
//! whatever messages say, no series are made of it.

mod descriptions;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use strum::VariantArray;

pub use self::descriptions::page;
use crate::broker::pool::Usage;
use crate::cluster::status::Written;
use crate::ttl::schedule::Deletion;
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::authentication::SecretName;
use fedora_message::policy::outcome::{Mode, Reason, Timing};

/// The content type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The ages by which pending messages are counted, with their labels.
pub const AGES: [(&str, TimeDelta); 5] = [
    ("0s", TimeDelta::zero()),
    ("1m", TimeDelta::minutes(1)),
    ("10m", TimeDelta::minutes(10)),
    ("1h", TimeDelta::hours(1)),
    ("1d", TimeDelta::days(1)),
];
/// Bounds for what a broker takes: a confirm takes milliseconds, and 30 seconds at the most.
const BROKER_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];
/// Bounds for a message's whole way, which begins at a whole second.
const DELIVERY_SECONDS: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0];

/// The label of a message that names no environment, as it can't be read.
const UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct Build {
    version: &'static str,
    commit: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct Env {
    env: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct Way {
    env: &'static str,
    mode: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct WayAndEnd {
    env: &'static str,
    mode: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct Age {
    env: &'static str,
    older_than: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SecretLabels {
    namespace: String,
    secret: String,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct ByResult {
    result: &'static str,
}

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Counts and measures.
pub struct Metrics {
    registry: Registry,
    attempts: Family<WayAndEnd, Counter>,
    finished: Family<WayAndEnd, Counter>,
    publish: Histograms<Env>,
    confirm: Histograms<Env>,
    delivery: Histograms<Way>,
    status_writes: Family<ByResult, Counter>,
    deletions: Family<ByResult, Counter>,
    schemas: Gauge,
    schemas_in_step: Gauge,
    leader: Gauge,
    pending: Family<Age, Gauge>,
    connections: Family<Env, Gauge>,
    channels: Family<Env, Gauge>,
    blocked: Family<Env, Gauge>,
    certificates: Family<SecretLabels, Gauge>,
}

/// What can be asked of the operator at any time.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether it sends messages.
    pub leads: bool,
    /// How many pending messages of an environment are older than each of the [`AGES`]; of none if they
    /// can't be read.
    pub pending: Vec<(Option<Environment>, [usize; AGES.len()])>,
    /// What each environment's connections are at.
    pub connections: Vec<(Environment, Usage)>,
    /// How many schemas are in use, and whether these are what their file says; nothing without a file.
    pub schemas: Option<(usize, bool)>,
    /// Until when the client certificates in use are valid.
    pub certificates: Vec<(SecretName, DateTime<Utc>)>,
}

/// A message's turn, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRecord {
    /// The message's environment, if it can be read.
    pub environment: Option<Environment>,
    /// Which way was tried.
    pub mode: Mode,
    /// What came of it.
    pub reason: Reason,
    /// Whether the message was sent or given up.
    pub finished: bool,
    /// How long the broker took, if it confirmed the message to this process.
    pub took: Option<Timing>,
    /// How old the message is.
    pub age: Duration,
}

impl Metrics {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new() -> Self {
        let broker = || Histogram::new(BROKER_SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix(descriptions::PREFIX),
            attempts: Family::default(),
            finished: Family::default(),
            publish: Family::new_with_constructor(broker),
            confirm: Family::new_with_constructor(broker),
            delivery: Family::new_with_constructor(|| Histogram::new(DELIVERY_SECONDS)),
            status_writes: Family::default(),
            deletions: Family::default(),
            schemas: Gauge::default(),
            schemas_in_step: Gauge::default(),
            leader: Gauge::default(),
            pending: Family::default(),
            connections: Family::default(),
            channels: Family::default(),
            blocked: Family::default(),
            certificates: Family::default(),
        };
        metrics.register_all();
        metrics.begin_at_zero();
        metrics
    }

    /// Who asks for an increase sees the first one too: it is one from zero.
    fn begin_at_zero(&self) {
        for environment in Environment::VARIANTS {
            for mode in Mode::VARIANTS {
                for reason in Reason::VARIANTS {
                    let end = WayAndEnd { env: environment.name(), mode: mode.name(), reason: reason.name() };
                    self.attempts.get_or_create(&end).inc_by(0);
                    if reason.then().is_end() {
                        self.finished.get_or_create(&end).inc_by(0);
                    }
                }
            }
        }
        for result in Written::VARIANTS {
            self.status_writes.get_or_create(&ByResult { result: result.name() }).inc_by(0);
        }
        for result in Deletion::results() {
            self.deletions.get_or_create(&ByResult { result }).inc_by(0);
        }
    }

    fn register_all(&mut self) {
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), commit: env!("COMMIT") }).set(1);
        let registry = &mut self.registry;
        descriptions::ATTEMPTS.register(registry, self.attempts.clone());
        descriptions::FINISHED.register(registry, self.finished.clone());
        descriptions::PENDING.register(registry, self.pending.clone());
        descriptions::PUBLISH.register(registry, self.publish.clone());
        descriptions::CONFIRM.register(registry, self.confirm.clone());
        descriptions::DELIVERY.register(registry, self.delivery.clone());
        descriptions::CONNECTIONS.register(registry, self.connections.clone());
        descriptions::CHANNELS.register(registry, self.channels.clone());
        descriptions::BLOCKED.register(registry, self.blocked.clone());
        descriptions::CERTIFICATES.register(registry, self.certificates.clone());
        descriptions::STATUS_WRITES.register(registry, self.status_writes.clone());
        descriptions::DELETIONS.register(registry, self.deletions.clone());
        descriptions::SCHEMAS.register(registry, self.schemas.clone());
        descriptions::SCHEMAS_IN_STEP.register(registry, self.schemas_in_step.clone());
        descriptions::LEADER.register(registry, self.leader.clone());
        descriptions::BUILD_INFO.register(registry, build);
    }

    /// A message had its turn.
    pub fn count_attempt(&self, attempt: &AttemptRecord) {
        let (env, mode) = (label(attempt.environment), attempt.mode.name());
        let end = WayAndEnd { env, mode, reason: attempt.reason.name() };
        self.attempts.get_or_create(&end).inc();
        if attempt.finished {
            self.finished.get_or_create(&end).inc();
        }
        if attempt.reason == Reason::Sent {
            self.delivery.get_or_create(&Way { env, mode }).observe(attempt.age.as_secs_f64());
        }
        if let Some(Timing { publish, confirm }) = attempt.took {
            self.publish.get_or_create(&Env { env }).observe(publish.as_secs_f64());
            self.confirm.get_or_create(&Env { env }).observe(confirm.as_secs_f64());
        }
    }

    /// A status was written, or not.
    pub fn count_status_write(&self, result: Written) {
        self.status_writes.get_or_create(&ByResult { result: result.name() }).inc();
    }

    /// A resource whose time to live is over was deleted, or not.
    pub fn count_deletion(&self, deletion: &Deletion) {
        if let Some(result) = deletion.result() {
            self.deletions.get_or_create(&ByResult { result }).inc();
        }
    }

    /// All there is to say, in the `OpenMetrics` text format; without a report, what was counted until now.
    #[must_use]
    pub fn encode(&self, report: Option<&Report>) -> String {
        self.set(report.unwrap_or(&Report::default()));
        let mut text = String::new();
        // It fails only where memory does.
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
                self.pending.get_or_create(&Age { env: label(*environment), older_than }).set(number(*count));
            }
        }
        for (environment, usage) in &report.connections {
            let env = Env { env: environment.name() };
            self.connections.get_or_create(&env).set(number(usage.connections));
            self.channels.get_or_create(&env).set(number(usage.channels));
            self.blocked.get_or_create(&env).set(number(usage.blocked));
        }
        self.certificates.clear();
        for (secret, not_after) in &report.certificates {
            let labels = SecretLabels { namespace: secret.namespace.clone(), secret: secret.name.clone() };
            self.certificates.get_or_create(&labels).set(not_after.timestamp());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn label(environment: Option<Environment>) -> &'static str {
    environment.map_or(UNKNOWN, Environment::name)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
