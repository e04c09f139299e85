//! The story of one message, from its turn in the queue to its status.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::CredentialsError;
use crate::certificates::CertificateTracker;
use crate::cluster::events::Events;
use crate::cluster::refetch::Refetcher;
use crate::cluster::secrets::Secrets;
use crate::cluster::status::{StatusWriter, Written};
use crate::controller::queue::{Job, JobResult, Next};
use crate::delivery::{Delivered, Delivery, Identity, Turn};
use crate::metrics::{self, Metrics};
use crate::schema_file::SchemaFile;
#[cfg(feature = "otlp")]
use crate::traces::{self, Traces};
use crate::ttl::TtlController;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::message::envelope::Routing;
use fedora_message::message::secret::select;
use fedora_message::message::validate::OutgoingMessage;
use fedora_message::policy::backoff;
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason, Then};
use fedora_message::policy::retry::{Decision, limit};
use fedora_message::state::{self, Facts};

/// How long after a request that failed it is made again, at least.
const ASK_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// The Event that a certificate expires soon: no message's reason, as messages are sent all the same.
const CERTIFICATE_EXPIRES: &str = "CertificateExpires";

/// The API server takes no larger number.
const MOST_ATTEMPTS: u32 = i32::MAX.cast_unsigned();

/// Works on messages. One serves all of them, at the same time.
pub struct Reconciler {
    /// The statuses of messages.
    pub statuses: StatusWriter,
    /// The bodies of messages that were left with the API server.
    pub bodies: Refetcher,
    /// What people should notice.
    pub events: Events,
    /// When their resources are deleted.
    pub ttl: TtlController,
    /// Where messages go.
    pub routing: Routing,
    /// The Secrets that they name.
    pub secrets: Secrets,
    /// The credentials in these.
    pub credential_cache: CredentialCache,
    /// The way they leave.
    pub delivery: Delivery,
    /// Until when these certificates are valid.
    pub certificates: CertificateTracker,
    /// What messages are checked against.
    pub schemas: Arc<SchemaFile>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// Where traces go, if anywhere.
    #[cfg(feature = "otlp")]
    pub traces: Option<Arc<Traces>>,
}

impl Reconciler {
    /// Does what is to be done for a message, and records it in its status.
    pub async fn reconcile(&self, job: &Job) -> JobResult {
        let begun = Instant::now();
        let recorded = job.status.attempts.unwrap_or_default();
        let attempt: Attempt = match &job.decision {
            Decision::Attempt => {
                let Some(message) = self.whole(job).await else {
                    return JobResult::without_attempt(job, Next::Later(soon()));
                };
                let turn = Turn { recorded, by_pod: job.by_pod(), is_wanted: &|| job.is_wanted() };
                let schemas = self.schemas.current();
                let identify = async |outgoing: &OutgoingMessage<'_>| self.identify(&message, outgoing).await;
                match self.delivery.attempt(&message, &self.routing, &schemas, turn, identify).await {
                    Delivered::Tried(attempt) => attempt,
                    Delivered::NextByPod => return JobResult::without_attempt(job, Next::NextByPod),
                    Delivered::Withdrawn => return JobResult::without_attempt(job, Next::Withdrawn),
                }
            }
            Decision::Report(outcome) => outcome.clone().into(),
            Decision::Rest => return self.record(job, job.status.clone(), job.due).await,
        };
        let now = Utc::now();
        let attempts = recorded.saturating_add(attempt.outcome.reason.is_attempt().into()).min(MOST_ATTEMPTS);
        let outcome = limit(&job.message, attempts, attempt.outcome);
        let next_attempt =
            (outcome.reason.then() == Then::Backoff).then(|| now + backoff::delay(attempts, fastrand::f64()));
        let routing_key = attempt.routing_key.as_deref();
        let facts = Facts { routing_key, attempts, next_attempt, delivery_mode: attempt.mode.name() };
        let status = state::next(&job.message, &job.status, &outcome, &facts, now);
        log(&job.message, &outcome, &status, begun.elapsed());
        self.metrics.count_attempt(&metrics::AttemptRecord {
            environment: job.message.environment(),
            mode: attempt.mode,
            reason: outcome.reason,
            finished: outcome.reason.then().is_end(),
            took: attempt.took,
            age: job.message.age(now).to_std().unwrap_or_default(),
        });
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces
                .record(&job.message, &traces::Turn { outcome: &outcome, status: &status, took: begun.elapsed(), now });
        }
        if status == job.status && !job.unwritten {
            return JobResult { status, record: Next::Written, due: next_attempt };
        }
        match outcome.reason.then() {
            Then::Done => self.record(job, status, None).await,
            // Whoever can be sent goes first.
            _ => JobResult { status, record: Next::Next, due: next_attempt },
        }
    }

    /// The message with its body, if it can be had.
    async fn whole<'a>(&self, job: &'a Job) -> Option<Cow<'a, FedoraMessage>> {
        if job.without_body {
            return self.bodies.read(&job.message).await.map(Cow::Owned);
        }
        Some(Cow::Borrowed(&job.message))
    }

    /// Who a message is sent as: the credentials in the Secrets that it names.
    async fn identify(&self, message: &FedoraMessage, outgoing: &OutgoingMessage<'_>) -> Result<Identity, Attempt> {
        let secrets = self.secrets.read(&outgoing.authentication).await?;
        let material = select(&outgoing.authentication, message.namespace(), &secrets)?;
        let (secret, now) = (outgoing.authentication.certificate(), Utc::now());
        let credentials = self.credential_cache.credentials(&material, now).inspect_err(|error| {
            if let CredentialsError::Expired { at, .. } = error {
                self.certificates.note(secret, *at, now);
            }
        })?;
        self.certificates.note(secret, credentials.not_after, now);
        let warning = credentials.warning(now, &material.cert.place);
        if let Some(detail) = warning.as_deref().filter(|_| self.certificates.is_to_tell(secret, now)) {
            self.events.warn(message, CERTIFICATE_EXPIRES, detail);
        }
        Ok(Identity { credentials, secrets, warning })
    }

    /// Writes the status, and tells people what they should notice.
    async fn record(&self, job: &Job, status: FedoraMessageStatus, due: Option<DateTime<Utc>>) -> JobResult {
        let written = self.statuses.write(&job.message, &status).await;
        self.metrics.count_status_write(written);
        let record = match written {
            Written::Yes => {
                self.events.notice(&job.message, job.last_reported.map(Reason::name), &status);
                self.clean(&job.message, &status).await;
                self.ttl.notice(&job.message, &status);
                Next::Written
            }
            Written::Gone => Next::Written,
            Written::Changed | Written::No => Next::Again(soon()),
        };
        JobResult { status, record, due }
    }

    /// Once a message's status says that a Pod has sent it, the Pod is not needed any more.
    async fn clean(&self, message: &FedoraMessage, status: &FedoraMessageStatus) {
        let by_pod = status.delivery_mode.as_deref() == Some(Mode::Pod.name());
        if let Some(pods) = self.delivery.pods().filter(|_| by_pod && status.status == Some(true)) {
            pods.clean(message).await;
        }
    }
}

/// When to ask the API server again that did not do what it was asked for.
fn soon() -> DateTime<Utc> {
    Utc::now() + ASK_AGAIN + backoff::delay(2, fastrand::f64())
}

/// One line for each outcome.
fn log(message: &FedoraMessage, outcome: &Outcome, status: &FedoraMessageStatus, took: Duration) {
    info!(
        namespace = message.namespace(),
        name = message.name(),
        uid = message.uid(),
        env = message.spec.as_ref().map_or("", |spec| spec.env.name()),
        topic = status.routing_key.as_deref().unwrap_or_default(),
        attempt = status.attempts,
        reason = outcome.reason.name(),
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "{}",
        outcome.message
    );
}
