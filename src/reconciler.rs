//! The story of one message: prepare, identify, send, settle, record.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::FedoraMessageStatus;
use fedora_message::bounds::{MAX_EXPLAINED_BYTES, MAX_SIZE_WITHOUT_PROOF};
use fedora_message::message::envelope::Routing;
use fedora_message::message::invalid::PrepareError;
use fedora_message::message::outgoing::OutgoingMessage;
use fedora_message::message::prepare::prepare;
use fedora_message::message::sender::borrowed;
use fedora_message::message::trace_context::Trace;
use fedora_message::policy::backoff;
use fedora_message::policy::outcome::{Attempt, Mode, Outcome, Reason, Then};
use fedora_message::policy::retry::{Decision, EXPIRY_RECHECK, deadline, limit};
use fedora_message::policy::ttl;
use fedora_message::state::{Facts, MessageState};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;
use tokio::time::Instant;
use tracing::{Level, event};
use uuid::Uuid;

use crate::broker::login::Login;
use crate::certificates::CERTIFICATE_EXPIRES;
use crate::cluster::events::{Action, Events};
use crate::cluster::refetch::Refetcher;
use crate::cluster::senders::Senders;
use crate::cluster::status::{StatusWriter, Written};
use crate::controller::queue::{Job, Next, Write};
use crate::credential_reader::CredentialReader;
use crate::delivery::{Delivery, DeliveryRequest, Identity, NotTried};
use crate::metrics::{AttemptRecord, Metrics};
use crate::schema_file::SchemaFile;
use crate::traces::{AttemptSpan, Traces};
use crate::ttl::TtlController;

/// The shortest time before a failed request to the API server is made again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest time before a request that was refused is made again, beside [`RETRY_DELAY`] and jitter.
const MAX_REFUSAL_DELAY: Duration = Duration::from_mins(1);
/// Replaces a time beyond the range of `Instant`, such as a deadline in 300 years.
const FAR_FUTURE: Duration = Duration::from_hours(24 * 365);
/// The API server accepts no larger number.
const MAX_ATTEMPTS: u32 = i32::MAX.cast_unsigned();

/// The reason of the Event that a message will be sent again after its resource is deleted.
const SENT_AGAIN: &str = "SentAgainAfterDeletion";

/// Works on messages. One reconciler serves all jobs at the same time.
pub struct Reconciler {
    /// Writes statuses.
    pub statuses: StatusWriter,
    /// Reads specs that were left with the API server.
    pub refetcher: Refetcher,
    /// Writes Events.
    pub events: Arc<Events>,
    /// Deletes finished resources.
    pub ttl: TtlController,
    /// Where messages go.
    pub routing: Routing,
    /// Finds the Senders that messages name.
    pub senders: Arc<Senders>,
    /// Reads the credentials that messages and Senders name.
    pub credentials: Arc<CredentialReader>,
    /// Sends messages.
    pub delivery: Arc<Delivery>,
    /// The schemas that messages are checked against.
    pub schemas: Arc<SchemaFile>,
    /// A permit for each message with a large body that may be prepared at the same time.
    pub large_preparations: Semaphore,
    /// Counts and measures.
    pub metrics: Arc<Metrics>,
    /// Sends traces to a collector, if one is configured.
    pub traces: Option<Arc<Traces>>,
}

impl Reconciler {
    /// Does one job. Its steps that few messages need are boxed, here and in what they call
    /// (docs/decisions/0056).
    pub async fn reconcile(&self, job: &Job) -> Next {
        let started = Instant::now();
        let attempt = match &job.decision {
            // Only the status is left to be written. The resource may have a new generation since it was decided.
            Decision::Rest => {
                let observed_generation = job.message.metadata.generation;
                let state = MessageState { observed_generation, ..job.state.clone() };
                return self.record(job, state, job.due).await;
            }
            Decision::Report(outcome) => self.report(job, outcome).await,
            Decision::Attempt => match self.attempt(job).await {
                Ok(attempt) => attempt,
                Err(not_tried) => return Next::NotTried(not_tried),
            },
        };
        self.settle(job, attempt, started).await
    }

    /// Makes one attempt to send the message.
    async fn attempt(&self, job: &Job) -> Result<Attempt, NotTried> {
        if let Some(answer) = Uuid::try_parse(job.message.uid()).ok().and_then(|id| self.delivery.answer(id)) {
            let mut attempt = answer.await;
            if !attempt.unanswered {
                attempt.trace = self.trace_of(job).await;
            }
            return Ok(attempt);
        }
        let object = self.with_spec(job).await?;
        let trace = self.traces.as_ref().and_then(|traces| traces.trace_of(&object));
        Ok(Attempt { trace, ..self.send(job, &object).await? })
    }

    /// Reports what was decided without an attempt.
    async fn report(&self, job: &Job, outcome: &Outcome) -> Attempt {
        let trace = if outcome.reason.then().is_end() { self.trace_of(job).await } else { None };
        Attempt { trace, ..outcome.clone().into() }
    }

    /// Returns the message's trace, if it is recorded. Only the spec names the sender's trace.
    async fn trace_of(&self, job: &Job) -> Option<Trace> {
        let traces = self.traces.as_ref()?;
        let object = self.with_spec(job).await.unwrap_or(Cow::Borrowed(&job.message));
        traces.trace_of(&object)
    }

    /// Prepares the message and sends it.
    async fn send(&self, job: &Job, object: &FedoraMessage) -> Result<Attempt, NotTried> {
        let message = match self.prepare(object).await {
            Ok(message) => message,
            Err(invalid) => return Ok(invalid.into()),
        };
        let identity = match self.identify(object, &message).await {
            Ok(identity) => identity,
            Err(failed) => {
                let outcome = self.explain_polls(&job.message, failed.outcome);
                return Ok(Attempt { outcome, routing_key: Some(message.routing_key), ..failed });
            }
        };
        if let Some(no_room) = self.ensure_room(job, object, &message.routing_key).await? {
            return Ok(Attempt { routing_key: Some(message.routing_key), ..no_room.into() });
        }
        let request = DeliveryRequest {
            object,
            message: &message,
            exchange: &self.routing.exchange,
            identity: &identity,
            attempts: job.state.attempts,
            mode: job.mode(),
            woken_early: job.woken_early(Instant::now()),
            is_cancelled: &|| job.is_cancelled(),
        };
        self.delivery.send(&request).await
    }

    /// Prepares the message. One with a large body takes long and much memory, so it waits for others
    /// of that kind, and keeps no other job from this thread.
    async fn prepare(&self, object: &FedoraMessage) -> Result<OutgoingMessage, PrepareError> {
        let sender = object.summary.sender.as_ref().map(|name| self.senders.find(name, object.namespace()));
        let prepare = || prepare(object, borrowed(sender.as_ref()), &self.routing, &self.schemas.current());
        if object.size() <= MAX_EXPLAINED_BYTES {
            return prepare();
        }
        // It fails only once the semaphore is closed, which it never is.
        let _permit = self.large_preparations.acquire().await;
        block_in_place(prepare)
    }

    /// Returns the message with its spec.
    async fn with_spec<'a>(&self, job: &'a Job) -> Result<Cow<'a, FedoraMessage>, NotTried> {
        if !job.without_spec {
            return Ok(Cow::Borrowed(&job.message));
        }
        Box::pin(self.refetcher.read(&job.message)).await.map(Cow::Owned).map_err(NotTried::RetryAt)
    }

    /// Proves that a large message has room for its status: writes one, if it has none. Otherwise it
    /// could be sent, but its status could never say so. Returns the outcome if there is no room.
    async fn ensure_room(
        &self,
        job: &Job,
        object: &FedoraMessage,
        routing_key: &str,
    ) -> Result<Option<Outcome>, NotTried> {
        if object.size() <= MAX_SIZE_WITHOUT_PROOF || job.last_reported.is_some() {
            return Ok(None);
        }
        let facts = Facts { routing_key: Some(routing_key), attempts: job.state.attempts, ..Facts::default() };
        let state = job.state.next(&job.message, &Outcome::sending(), &facts, Utc::now());
        match self.write(job, &state).await {
            Written::Done => Ok(None),
            Written::TooLarge => Ok(Some(Outcome::too_large_for_status())),
            Written::Gone | Written::Changed | Written::Failed => Err(NotTried::RetryAt(soon())),
            Written::Refused => Err(NotTried::RetryAt(after_refusal(job))),
        }
    }

    /// Reads the credentials from the Secrets that the message or its Sender names.
    async fn identify(&self, object: &FedoraMessage, message: &OutgoingMessage) -> Result<Identity, Attempt> {
        let (OutgoingMessage { authentication, owner, environment, .. }, now) = (message, Utc::now());
        let read = self.credentials.read(authentication, owner, *environment, now).await?;
        // The status of a Sender has the warning for all its messages.
        let warning = read.warning.filter(|_| object.summary.sender.is_none());
        let is_due = || self.credentials.certificates.is_warning_due(authentication.certificate(), now);
        if let Some(text) = warning.as_deref().filter(|_| is_due()) {
            self.events.warn(object, CERTIFICATE_EXPIRES, Action::Publish, text);
        }
        let login = Login { credentials: read.credentials, application: message.application.clone() };
        Ok(Identity { login, secrets: read.secrets, warning })
    }

    /// Says in the outcome that a changed Secret is noticed late, if too many Secrets are named.
    fn explain_polls(&self, object: &FedoraMessage, outcome: Outcome) -> Outcome {
        let waits = outcome.reason.then() == Then::AwaitSecret;
        let summary = &object.summary;
        let bound = self.credentials.secrets.exceeded_bound(summary.owner(), summary.sources()).filter(|_| waits);
        match bound {
            Some(bound) => {
                outcome.with_warning(&format!("Its Secrets are only looked at now and then, because {bound}"))
            }
            None => outcome,
        }
    }

    /// Decides what follows from an attempt. Only a sent message's status is written at once.
    async fn settle(&self, job: &Job, attempt: Attempt, started: Instant) -> Next {
        let now = Utc::now();
        // An attempt without an answer has not ended, and is not counted.
        let tried = attempt.mode.is_some() && !attempt.unanswered;
        let attempts = job.state.attempts.saturating_add(tried.into()).min(MAX_ATTEMPTS);
        let outcome = if tried { limit(&job.message, attempts, attempt.outcome) } else { attempt.outcome };
        // Settings that stand against an attempt change rarely.
        let failures = if tried { attempts } else { u32::MAX };
        let next_attempt = (job.state.then(outcome.reason, now) == Then::Backoff)
            .then(|| attempt.not_before.unwrap_or_else(|| now + backoff::delay(failures, fastrand::f64())));
        let poll = (outcome.reason.then() == Then::AwaitSecret).then(|| {
            let is_there = outcome.reason != Reason::SecretNotFound;
            let summary = &job.message.summary;
            self.credentials.secrets.next_poll(summary.owner(), summary.sources(), is_there)
        });
        if let Some(sender) = job.message.summary.sender.as_ref().filter(|_| concerns_sender(outcome.reason)) {
            self.senders.request_check(sender);
        }
        let facts = Facts {
            routing_key: attempt.routing_key.as_deref(),
            attempts,
            next_attempt,
            mode: attempt.mode,
            unanswered: attempt.unanswered,
        };
        let state = job.state.next(&job.message, &outcome, &facts, now);
        let unchanged = state == job.state && !job.unwritten;
        log(&job.message, &state, started.elapsed(), unchanged);
        self.metrics.count_attempt(&AttemptRecord {
            environment: job.message.environment(),
            mode: state.mode.unwrap_or(Mode::Direct),
            reason: outcome.reason,
            finished: state.is_finished(),
            took: attempt.took,
            namespace: job.message.namespace(),
            since_seen: job.seen.elapsed(),
            age: job.message.age(now).to_std().unwrap_or_default(),
        });
        if let (Some(traces), Some(trace)) = (&self.traces, &attempt.trace) {
            let took = tried.then(|| started.elapsed());
            traces.record(&job.message, trace, &AttemptSpan { outcome: &outcome, state: &state, took, now });
        }
        // The deadline of a suspended message counts from its resumption.
        let waits = !state.is_finished() && !state.awaits(Then::AwaitResume) && !state.unanswered;
        let deadline = if waits { deadline(&job.message, &state, now) } else { None };
        // The clock may be wrong, and set right before the certificate seems to be valid.
        let next_attempt = next_attempt.map(|at| at.min(now + backoff::LONGEST));
        let due = next_attempt.into_iter().chain(deadline).min().map(|at| after(at - now));
        let recheck = (outcome.reason == Reason::CertificateExpired).then(|| after(EXPIRY_RECHECK));
        let due = due.into_iter().chain(poll.flatten()).chain(recheck).min();
        if state.is_sent() {
            return self.record(job, state, due).await;
        }
        let write = match job.last_reported {
            _ if !unchanged => Write::Queued,
            // The object had no room for it.
            None => Write::Impossible,
            Some(_) => Write::Done,
        };
        Next::Settled { state, write, due }
    }

    /// Writes the status, and reports what people should notice.
    async fn record(&self, job: &Job, state: MessageState, due: Option<Instant>) -> Next {
        let mut written = self.write(job, &state).await;
        if written == Written::TooLarge
            && let Some(shortened) = state.shortened()
        {
            written = self.write(job, &shortened).await;
        }
        let write = match written {
            Written::Done => {
                self.events.report(&job.message, job.last_reported, &state);
                self.clean_up(&job.message, &state).await;
                self.ttl.schedule(&job.message, &state);
                self.warn_of_deletion(job, &state);
                Write::Done
            }
            Written::Gone => Write::Done,
            Written::Changed | Written::Failed => Write::RetryAt(soon()),
            Written::Refused => Write::RetryAt(after_refusal(job)),
            Written::TooLarge => {
                // The Event says what the status can't.
                self.events.report(&job.message, job.last_reported, &state);
                Write::Impossible
            }
        };
        Next::Settled { state, write, due }
    }

    /// Warns once, when a message is finished, that its deletion will make a tool send it again.
    fn warn_of_deletion(&self, job: &Job, state: &MessageState) {
        let is_new = state.is_finished() && job.last_reported != state.reason;
        if let Some(text) = ttl::warning(&job.message).filter(|_| is_new) {
            self.events.warn(&job.message, SENT_AGAIN, Action::Delete, &text);
        }
    }

    async fn write(&self, job: &Job, state: &MessageState) -> Written {
        let env = job.message.environment();
        let status = FedoraMessageStatus { env, ..state.to_status(job.message.uid()) };
        let written = self.statuses.write(&job.message, &status).await;
        self.metrics.count_status_write(written);
        written
    }

    /// Deletes the Pod of a sent message, once its status says that it was sent.
    async fn clean_up(&self, message: &FedoraMessage, state: &MessageState) {
        let by_pod = state.is_sent() && state.mode == Some(Mode::Pod);
        if let Some(pods) = self.delivery.pods().filter(|_| by_pod) {
            Box::pin(pods.clean_up(message)).await;
        }
    }
}

/// Returns true if a failure with this reason may be one of the Sender, so of all its messages.
fn concerns_sender(reason: Reason) -> bool {
    match reason {
        Reason::SecretNotFound
        | Reason::SecretInvalid
        | Reason::CertificateExpired
        | Reason::BrokerUnreachable
        | Reason::TlsFailed
        | Reason::AuthenticationFailed
        | Reason::VhostRefused
        | Reason::ExchangeNotFound => true,
        Reason::Suspended
        | Reason::Sending
        | Reason::Sent
        | Reason::InvalidMessage
        | Reason::Misconfigured
        | Reason::SenderNotFound
        | Reason::BrokerBlocked
        | Reason::ConfirmTimeout
        | Reason::Nacked
        | Reason::TopicForbidden
        | Reason::MessageTooLarge
        | Reason::DeadlineExceeded
        | Reason::BackoffLimitExceeded
        | Reason::PodFailed => false,
    }
}

/// Returns when to make a request again that the API server did not answer well.
fn soon() -> Instant {
    Instant::now() + RETRY_DELAY + backoff::delay(2, fastrand::f64()).to_std().unwrap_or_default()
}

/// Returns when to write a status again that the operator may not write: less and less often, because
/// an administrator has to act first.
fn after_refusal(job: &Job) -> Instant {
    soon() + (job.seen.elapsed() / 2).min(MAX_REFUSAL_DELAY)
}

/// Returns the time after a delay. A negative delay is none.
fn after(delay: TimeDelta) -> Instant {
    let now = Instant::now();
    now.checked_add(delay.to_std().unwrap_or_default()).unwrap_or(now + FAR_FUTURE)
}

/// Writes one line for each outcome. One that is as before says nothing new.
fn log(message: &FedoraMessage, state: &MessageState, took: Duration, unchanged: bool) {
    macro_rules! log {
        ($level:expr) => {
            event!(
                $level,
                namespace = message.namespace(),
                name = message.name(),
                uid = message.uid(),
                env = message.environment().map_or("", |environment| environment.name()),
                topic = state.routing_key.as_deref().unwrap_or_default(),
                attempt = state.attempts,
                reason = state.reason.map_or("", |reason| reason.name()),
                milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "{}",
                state.message
            )
        };
    }
    if unchanged { log!(Level::DEBUG) } else { log!(Level::INFO) }
}
