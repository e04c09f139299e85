//! The story of one message, from its turn in the queue to its status.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use crate::broker::credentials::CredentialsError;
use crate::broker::keyring::Keyring;
use crate::certificates::Certificates;
use crate::cluster::bodies::Bodies;
use crate::cluster::events::Events;
use crate::cluster::janitor::Janitor;
use crate::cluster::queue::{Done, Job, Record};
use crate::cluster::secrets::Secrets;
use crate::cluster::status::{StatusWriter, Written};
use crate::delivery::{Delivered, Delivery, Identity, Turn};
use crate::message::backoff;
use crate::message::decide::{Decision, limit};
use crate::message::envelope::Routing;
use crate::message::incoming::FedoraMessage;
use crate::message::outcome::{Attempt, Mode, Outcome, Reason, Then};
use crate::message::resource::FedoraMessageStatus;
use crate::message::secret::select;
use crate::message::status::{self, Facts};
use crate::message::validate::OutgoingMessage;
use crate::metrics::{self, Metrics};
use crate::schemas::SchemaFile;
#[cfg(feature = "otlp")]
use crate::traces::{self, Traces};

/// How long after a request that failed it is made again, at least.
const ASK_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// The Event that a certificate expires soon: no message's reason, as messages are sent all the same.
const CERTIFICATE_EXPIRES: &str = "CertificateExpires";

/// The API server takes no larger number.
const MOST_ATTEMPTS: u32 = i32::MAX.cast_unsigned();

/// Works on messages. One serves all of them, at the same time.
pub struct Controller {
    /// The statuses of messages.
    pub statuses: StatusWriter,
    /// The bodies of messages that were left with the API server.
    pub bodies: Bodies,
    /// What people should notice.
    pub events: Events,
    /// When their resources are deleted.
    pub janitor: Janitor,
    /// Where messages go.
    pub routing: Routing,
    /// The Secrets that they name.
    pub secrets: Secrets,
    /// The credentials in these.
    pub keyring: Keyring,
    /// The way they leave.
    pub delivery: Delivery,
    /// Until when these certificates are valid.
    pub certificates: Certificates,
    /// What messages are checked against.
    pub schemas: Arc<SchemaFile>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// Where traces go, if anywhere.
    #[cfg(feature = "otlp")]
    pub traces: Option<Arc<Traces>>,
}

impl Controller {
    /// Does what is to be done for a message, and records it in its status.
    pub async fn process(&self, job: &Job) -> Done {
        let begun = Instant::now();
        let recorded = job.status.attempts.unwrap_or_default();
        let attempt: Attempt = match &job.decision {
            Decision::Attempt => {
                let Some(message) = self.whole(job).await else {
                    return Done::without_attempt(job, Record::Later(soon()));
                };
                let turn = Turn { recorded, by_pod: job.by_pod(), is_wanted: &|| job.is_wanted() };
                let schemas = self.schemas.current();
                let identify = async |outgoing: &OutgoingMessage<'_>| self.identify(&message, outgoing).await;
                match self.delivery.attempt(&message, &self.routing, &schemas, turn, identify).await {
                    Delivered::Tried(attempt) => attempt,
                    Delivered::NextByPod => return Done::without_attempt(job, Record::NextByPod),
                    Delivered::Withdrawn => return Done::without_attempt(job, Record::Withdrawn),
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
        let status = status::next(&job.message, &job.status, &outcome, &facts, now);
        log(&job.message, &outcome, &status, begun.elapsed());
        self.metrics.count_turn(&metrics::Turn {
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
            return Done { status, record: Record::Written, due: next_attempt };
        }
        match outcome.reason.then() {
            Then::Done => self.record(job, status, None).await,
            // Whoever can be sent goes first.
            _ => Done { status, record: Record::Next, due: next_attempt },
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
        let credentials = self.keyring.credentials(&material, now).inspect_err(|error| {
            if let CredentialsError::Expired { at, .. } = error {
                self.certificates.note(secret, *at, now);
            }
        })?;
        self.certificates.note(secret, credentials.not_after, now);
        let warning = credentials.warning(now, &material.cert.place);
        if let Some(words) = warning.as_deref().filter(|_| self.certificates.is_to_tell(secret, now)) {
            self.events.warn(message, CERTIFICATE_EXPIRES, words);
        }
        Ok(Identity { credentials, secrets, warning })
    }

    /// Writes the status, and tells people what they should notice.
    async fn record(&self, job: &Job, status: FedoraMessageStatus, due: Option<DateTime<Utc>>) -> Done {
        let written = self.statuses.write(&job.message, &status).await;
        self.metrics.count_status_write(written);
        let record = match written {
            Written::Yes => {
                self.events.notice(&job.message, job.told.map(Reason::name), &status);
                self.clean(&job.message, &status).await;
                self.janitor.notice(&job.message, &status);
                Record::Written
            }
            Written::Gone => Record::Written,
            Written::Changed | Written::No => Record::Again(soon()),
        };
        Done { status, record, due }
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
