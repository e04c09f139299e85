//! The operator's knowledge of a message, and the status that says it.
//!
//! A [`MessageState`] is read from a status once, and rendered to a status when it is written.
//! In between, nothing compares the texts of a status.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{FedoraMessageStatus, RETRY_ANNOTATION};
use crate::policy::outcome::{GRACE_PERIOD, Mode, Outcome, Reason, Then};

/// The condition that is true once the broker confirmed the message, and `status.type`.
pub const SENT: &str = "FedoraMessageSent";
/// The condition of a message that will be tried again; kstatus reads it.
pub const RECONCILING: &str = "Reconciling";
/// The condition of a message that was given up; kstatus reads it.
pub const STALLED: &str = "Stalled";

/// The progress of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has no status yet.
    #[default]
    New,
    /// It is not sent, and will be tried again; the condition `Reconciling` holds since then.
    Reconciling(DateTime<Utc>),
    /// It was given up; the condition `Stalled` holds since then.
    Stalled(DateTime<Utc>),
    /// The broker confirmed it.
    Sent,
}

/// The operator's knowledge of a message beside its spec.
///
/// It is small, and a clone allocates little: it is held for each message that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageState {
    /// Why the message is as it is. `None` for a new message, and for a reason that this version
    /// does not know.
    pub reason: Option<Reason>,
    /// The sentence in `status.message`. Equal ones may share their memory.
    pub message: Arc<str>,
    /// The progress of the message.
    pub phase: Phase,
    /// When the condition `FedoraMessageSent` last turned true or false.
    pub sent_changed: Option<DateTime<Utc>>,
    /// The generation of the resource that this state describes.
    pub observed_generation: Option<i64>,
    /// The value of the retry annotation that was last acted on.
    pub observed_retry: Option<Box<str>>,
    /// The routing key, once it is known. Equal ones may share their memory.
    pub routing_key: Option<Arc<str>>,
    /// The number of attempts.
    pub attempts: u32,
    /// How it was delivered, or tried last. `None` if it was not tried yet.
    pub mode: Option<Mode>,
    /// When the broker confirmed it.
    pub sent_time: Option<DateTime<Utc>>,
    /// When it is tried again, where a time decides that.
    pub next_attempt: Option<DateTime<Utc>>,
    /// When it was resumed, if it had been suspended.
    pub start_time: Option<DateTime<Utc>>,
    /// Since when every attempt ended with a reason that is final after a while
    /// ([`Then::BackoffThenStop`]).
    pub forbidden_time: Option<DateTime<Utc>>,
    /// True if the broker was handed the message, and will answer later. It is not in the status,
    /// because the answer ends with the process.
    pub unanswered: bool,
}

/// The facts of a new state beside the outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The routing key, once it is known.
    pub routing_key: Option<&'a str>,
    /// The number of attempts, with this one.
    pub attempts: u32,
    /// When the message is tried again, where a time decides that.
    pub next_attempt: Option<DateTime<Utc>>,
    /// How it was delivered, if it was tried.
    pub mode: Option<Mode>,
    /// True if the broker was handed the message, and will answer later.
    pub unanswered: bool,
}

impl MessageState {
    /// Returns true if the broker confirmed the message.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.phase == Phase::Sent
    }

    /// Returns true if the message was given up.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        matches!(self.phase, Phase::Stalled(_))
    }

    /// Returns true if the message was sent or given up.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_sent() || self.is_stalled()
    }

    /// Returns true if the consequence of the message's reason is `then`.
    #[must_use]
    pub fn awaits(&self, then: Then) -> bool {
        self.reason.is_some_and(|reason| self.resolve(reason.then()) == then)
    }

    /// Returns what follows if this message's next outcome has this reason. A refusal is final only
    /// after [`GRACE_PERIOD`].
    #[must_use]
    pub fn then(&self, reason: Reason, now: DateTime<Utc>) -> Then {
        match (reason.then(), self.forbidden_time) {
            (Then::BackoffThenStop, Some(since)) if now - since >= GRACE_PERIOD => Then::Stop,
            (Then::BackoffThenStop, _) => Then::Backoff,
            (then, _) => then,
        }
    }

    /// Returns what follows for the message as it is.
    fn resolve(&self, then: Then) -> Then {
        match then {
            Then::BackoffThenStop if self.is_stalled() => Then::Stop,
            Then::BackoffThenStop => Then::Backoff,
            then => then,
        }
    }

    /// Returns true if a person should notice that the reason is no longer the one `before`: the
    /// message is not sent, and that is not what the user asked for.
    #[must_use]
    pub fn is_warning(&self, before: Option<Reason>) -> bool {
        self.reason != before
            && self.reason.is_some_and(|reason| !matches!(reason, Reason::Sending | Reason::Sent | Reason::Suspended))
    }

    /// Returns when the message was resumed, if it had been suspended. A suspended message is
    /// resumed `now`.
    #[must_use]
    pub fn resumed_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.reason == Some(Reason::Suspended) { Some(now) } else { self.start_time }
    }

    /// Returns the state that follows an outcome.
    #[must_use]
    pub fn next(&self, message: &FedoraMessage, outcome: &Outcome, facts: &Facts<'_>, now: DateTime<Utc>) -> Self {
        let now_seconds = now.trunc_subsecs(0);
        let phase = match (self.then(outcome.reason, now), self.phase) {
            (Then::Done, _) => Phase::Sent,
            // A message that was given up, tried once more and given up again has changed twice.
            (Then::Stop, _) => Phase::Stalled(now_seconds),
            (
                Then::Backoff | Then::BackoffThenStop | Then::AwaitSender | Then::AwaitSecret | Then::AwaitResume,
                Phase::Reconciling(since),
            ) => Phase::Reconciling(since),
            (Then::Backoff | Then::BackoffThenStop | Then::AwaitSender | Then::AwaitSecret | Then::AwaitResume, _) => {
                Phase::Reconciling(now_seconds)
            }
        };
        let sent = phase == Phase::Sent;
        let unchanged = self.sent_changed.filter(|_| self.is_sent() == sent);
        Self {
            reason: Some(outcome.reason),
            message: outcome.message.as_str().into(),
            phase,
            sent_changed: Some(unchanged.unwrap_or(now_seconds)),
            observed_generation: message.metadata.generation,
            observed_retry: message.retry.as_deref().map(Into::into),
            routing_key: match (facts.routing_key, &self.routing_key) {
                (Some(key), Some(known)) if key == &**known => Some(known.clone()),
                (Some(key), _) => Some(key.into()),
                (None, known) => known.clone(),
            },
            attempts: facts.attempts,
            mode: facts.mode.or(self.mode),
            sent_time: sent.then_some(now_seconds),
            next_attempt: facts.next_attempt.map(|at| at.trunc_subsecs(0)),
            start_time: match outcome.reason {
                Reason::Suspended => None,
                _ => self.resumed_at(now).map(|at| at.trunc_subsecs(0)),
            },
            forbidden_time: match outcome.reason.then() {
                Then::BackoffThenStop => self.forbidden_time.or(Some(now_seconds)),
                _ => None,
            },
            unanswered: facts.unanswered,
        }
    }

    /// Returns this state with the shortest text, if the message was sent.
    #[must_use]
    pub fn shortened(&self) -> Option<Self> {
        let shortened = Self { message: Outcome::sent(true).message.into(), ..self.clone() };
        self.is_sent().then_some(shortened)
    }

    /// Renders the status of the message with this `uid`. The caller adds the environment.
    #[must_use]
    pub fn to_status(&self, uid: &str) -> FedoraMessageStatus {
        let Some(reason) = self.reason else { return FedoraMessageStatus::default() };
        FedoraMessageStatus {
            type_: Some(SENT.to_owned()),
            status: Some(self.is_sent()),
            reason: Some(reason.name().to_owned()),
            message: Some((*self.message).to_owned()),
            conditions: self.conditions(reason),
            observed_generation: self.observed_generation,
            env: None,
            message_id: Some(uid.to_owned()),
            sent_time: self.sent_time,
            routing_key: self.routing_key.as_deref().map(str::to_owned),
            attempts: Some(self.attempts),
            next_attempt_time: self.next_attempt,
            delivery_mode: self.mode.map(|mode| mode.name().to_owned()),
            start_time: self.start_time,
            forbidden_time: self.forbidden_time,
            observed_retry: self.observed_retry.as_deref().map(str::to_owned),
        }
    }

    fn conditions(&self, reason: Reason) -> Vec<Condition> {
        let condition = |type_: &str, holds: bool, message: String, changed: Option<DateTime<Utc>>| Condition {
            type_: type_.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: reason.name().to_owned(),
            message,
            observed_generation: self.observed_generation,
            last_transition_time: time(changed.unwrap_or_default()),
        };
        let sent = condition(SENT, self.is_sent(), (*self.message).to_owned(), self.sent_changed);
        let follows = match self.phase {
            Phase::New | Phase::Sent => None,
            Phase::Reconciling(since) => Some(condition(RECONCILING, true, self.what_follows(reason), Some(since))),
            Phase::Stalled(since) => Some(condition(STALLED, true, self.what_follows(reason), Some(since))),
        };
        std::iter::once(sent).chain(follows).collect()
    }

    /// Describes the next attempt, or how to send the message although it was given up.
    fn what_follows(&self, reason: Reason) -> String {
        match self.resolve(reason.then()) {
            Then::Done => String::new(),
            Then::Backoff if reason == Reason::Sending => "Waits for the broker's answer".to_owned(),
            // The spec can't be changed. But the schema or the CLI that refused it may be corrected.
            Then::Stop if reason == Reason::InvalidMessage => format!(
                "Given up: delete it, and create a corrected FedoraMessage; if it was refused by mistake, set the annotation {RETRY_ANNOTATION} to a new value to try it once more"
            ),
            Then::Stop => format!("Given up; to try once more, set the annotation {RETRY_ANNOTATION} to a new value"),
            Then::Backoff | Then::BackoffThenStop => {
                let next = match self.next_attempt {
                    Some(at) => format!("The next attempt is at {}, or once the broker is back", seconds(at)),
                    None => "The next attempt is made once the broker is back".to_owned(),
                };
                match self.forbidden_time.and_then(|since| since.checked_add_signed(GRACE_PERIOD)) {
                    Some(end) => {
                        format!(
                            "{next}; the first one after {} is the last, if the broker still refuses the message",
                            seconds(end)
                        )
                    }
                    None => next,
                }
            }
            Then::AwaitSender => "The next attempt is made as soon as the Sender appears or changes".to_owned(),
            Then::AwaitSecret => "The next attempt is made as soon as the Secret appears or changes".to_owned(),
            Then::AwaitResume => "Waits until spec.suspend is false".to_owned(),
        }
    }
}

impl From<FedoraMessageStatus> for MessageState {
    fn from(status: FedoraMessageStatus) -> Self {
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let holds = |type_: &str| condition(type_).filter(|condition| condition.status == "True").map(changed);
        let phase = if status.status == Some(true) {
            Phase::Sent
        } else if let Some(since) = holds(STALLED) {
            Phase::Stalled(since)
        } else if let Some(since) = holds(RECONCILING) {
            Phase::Reconciling(since)
        } else {
            Phase::New
        };
        Self {
            reason: status.reason.as_deref().and_then(|name| name.parse().ok()),
            phase,
            sent_changed: condition(SENT).map(changed),
            message: status.message.unwrap_or_default().into(),
            observed_generation: status.observed_generation,
            observed_retry: status.observed_retry.map(Into::into),
            routing_key: status.routing_key.map(Into::into),
            attempts: status.attempts.unwrap_or_default(),
            mode: status.delivery_mode.as_deref().and_then(|name| name.parse().ok()),
            sent_time: status.sent_time,
            next_attempt: status.next_attempt_time,
            start_time: status.start_time,
            forbidden_time: status.forbidden_time,
            unanswered: false,
        }
    }
}

fn seconds(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn changed(condition: &Condition) -> DateTime<Utc> {
    DateTime::from_timestamp(condition.last_transition_time.0.as_second(), 0).unwrap_or_default()
}

pub(crate) fn time(at: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(at.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
