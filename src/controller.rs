//! The story of one message, from its turn in the queue to its status.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use crate::broker::credentials::Credentials;
use crate::broker::keyring::Keyring;
use crate::cluster::queue::{Done, Job};
use crate::cluster::secrets::Secrets;
use crate::cluster::status::{StatusWriter, Written};
use crate::delivery::Delivery;
use crate::message::backoff;
use crate::message::decide::{Decision, limit};
use crate::message::envelope::Routing;
use crate::message::incoming::FedoraMessage;
use crate::message::outcome::{Attempt, Outcome, Then};
use crate::message::resource::FedoraMessageStatus;
use crate::message::secret::select;
use crate::message::status::{self, Facts};
use crate::message::validate::OutgoingMessage;

/// How long after a failed write a status is written again, at least.
const WRITE_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// Works on messages. One serves all of them, at the same time.
pub struct Controller {
    /// The statuses of messages.
    pub statuses: StatusWriter,
    /// Where messages go.
    pub routing: Routing,
    /// The Secrets that they name.
    pub secrets: Secrets,
    /// The credentials in these.
    pub keyring: Keyring,
    /// The way they leave.
    pub delivery: Delivery,
}

impl Controller {
    /// Does what is to be done for a message, and records it in its status.
    pub async fn process(&self, job: &Job) -> Done {
        let attempt = match &job.decision {
            Decision::Attempt => {
                let credentials = async |outgoing: &OutgoingMessage<'_>| self.credentials(&job.message, outgoing).await;
                self.delivery.attempt(&job.message, &self.routing, credentials).await
            }
            Decision::Report(outcome) => outcome.clone().into(),
            Decision::Rest => return self.record(job, job.status.clone(), None).await,
        };
        let now = Utc::now();
        let attempts = job.status.attempts.unwrap_or_default() + u32::from(attempt.outcome.reason.is_attempt());
        let outcome = limit(&job.message, attempts, attempt.outcome);
        let next_attempt =
            (outcome.reason.then() == Then::Backoff).then(|| now + backoff::delay(attempts, fastrand::f64()));
        let routing_key = attempt.routing_key.as_deref();
        let facts = Facts { routing_key, attempts, next_attempt, delivery_mode: self.delivery.name() };
        let status = status::next(&job.message, &job.status, &outcome, &facts, now);
        log(&job.message, &outcome, &status);
        self.record(job, status, next_attempt).await
    }

    /// The credentials in the Secrets that a message names.
    async fn credentials(
        &self,
        message: &FedoraMessage,
        outgoing: &OutgoingMessage<'_>,
    ) -> Result<Arc<Credentials>, Attempt> {
        let secrets = self.secrets.read(&outgoing.authentication).await?;
        let material = select(&outgoing.authentication, message.namespace(), &secrets)?;
        Ok(self.keyring.credentials(&material)?)
    }

    /// Writes the status, unless it is the one that is there.
    async fn record(&self, job: &Job, status: FedoraMessageStatus, due: Option<DateTime<Utc>>) -> Done {
        if status == job.status && !job.unwritten {
            return Done { status, written: true, due };
        }
        match self.statuses.write(&job.message, &status).await {
            Written::Yes | Written::Gone => Done { status, written: true, due },
            Written::No => {
                let again = Utc::now() + WRITE_AGAIN + backoff::delay(2, fastrand::f64());
                Done { status, written: false, due: Some(due.map_or(again, |due| due.min(again))) }
            }
        }
    }
}

/// One line for each outcome.
fn log(message: &FedoraMessage, outcome: &Outcome, status: &FedoraMessageStatus) {
    info!(
        namespace = message.namespace(),
        name = message.name(),
        uid = message.uid(),
        env = message.spec.as_ref().map_or("", |spec| spec.env.name()),
        topic = status.routing_key.as_deref().unwrap_or_default(),
        attempts = status.attempts,
        reason = outcome.reason.name(),
        "{}",
        outcome.message
    );
}
