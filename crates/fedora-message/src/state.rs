//! The next status, from the previous one, an outcome and the time.

use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::{FedoraMessageStatus, RETRY_ANNOTATION};
use crate::policy::outcome::{Outcome, Reason, Then};
use crate::policy::retry::resumed_at;

/// The condition that is true once the broker confirmed the message, and `status.type`.
pub const SENT: &str = "FedoraMessageSent";
/// The condition that is there while the message will be tried again; kstatus reads it.
pub const RECONCILING: &str = "Reconciling";
/// The condition that is there once the message was given up; kstatus reads it.
pub const STALLED: &str = "Stalled";

/// What a new status says beside the outcome.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The routing key, once it is known.
    pub routing_key: Option<&'a str>,
    /// How often delivery was tried, this time included.
    pub attempts: u32,
    /// When the message is tried again, where a time decides that.
    pub next_attempt: Option<DateTime<Utc>>,
    /// How it was delivered.
    pub delivery_mode: &'static str,
}

/// The status that follows `previous`.
#[must_use]
pub fn next(
    message: &FedoraMessage,
    previous: &FedoraMessageStatus,
    outcome: &Outcome,
    facts: &Facts<'_>,
    now: DateTime<Utc>,
) -> FedoraMessageStatus {
    let sent = outcome.reason == Reason::Sent;
    let next_attempt = facts.next_attempt.map(|at| at.trunc_subsecs(0));
    FedoraMessageStatus {
        type_: Some(SENT.to_owned()),
        status: Some(sent),
        reason: Some(outcome.reason.name().to_owned()),
        message: Some(outcome.message.clone()),
        conditions: conditions(message, previous, outcome, next_attempt, now),
        observed_generation: message.metadata.generation,
        message_id: message.metadata.uid.clone(),
        sent_time: sent.then(|| now.trunc_subsecs(0)),
        routing_key: facts.routing_key.map(str::to_owned).or_else(|| previous.routing_key.clone()),
        attempts: Some(facts.attempts),
        next_attempt_time: next_attempt,
        delivery_mode: Some(facts.delivery_mode.to_owned()),
        start_time: match outcome.reason {
            Reason::Suspended => None,
            _ => resumed_at(previous, now).map(|at| at.trunc_subsecs(0)),
        },
        observed_retry: message.retry.clone(),
    }
}

/// Whether a status says that the message was given up.
#[must_use]
pub fn is_stalled(status: &FedoraMessageStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == STALLED && condition.status == "True")
}

/// Since when a status has had a condition, if that is true.
#[must_use]
pub fn since(status: &FedoraMessageStatus, type_: &str) -> Option<DateTime<Utc>> {
    let condition =
        status.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    DateTime::from_timestamp(condition.last_transition_time.0.as_second(), 0)
}

/// Whether a person should notice that a status tells another reason than the one `before`: it is
/// not sent, and that is not what the user asked for.
#[must_use]
pub fn is_warning(before: Option<&str>, status: &FedoraMessageStatus) -> bool {
    let reason = status.reason.as_deref();
    let wanted = [Reason::Sent, Reason::Suspended].map(|reason| Some(reason.name()));
    reason.is_some() && reason != before && !wanted.contains(&reason)
}

fn conditions(
    message: &FedoraMessage,
    previous: &FedoraMessageStatus,
    outcome: &Outcome,
    next_attempt: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Vec<Condition> {
    let condition = |type_: &str, holds: bool, detail: String| {
        let status = if holds { "True" } else { "False" };
        // What was given up, tried once more and given up again has changed twice.
        let unchanged =
            previous.conditions.iter().find(|old| old.type_ == type_ && old.status == status && type_ != STALLED);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: outcome.reason.name().to_owned(),
            message: detail,
            observed_generation: message.metadata.generation,
            last_transition_time: unchanged.map_or_else(|| time(now), |old| old.last_transition_time.clone()),
        }
    };
    let then = outcome.reason.then();
    let sent = condition(SENT, then == Then::Done, outcome.message.clone());
    let follows = match then {
        Then::Done => None,
        // The spec can't be changed, so another attempt would find the same.
        Then::Stop if outcome.reason == Reason::InvalidMessage => Some(condition(
            STALLED,
            true,
            "Given up: delete it, and create another FedoraMessage with what is wrong put right".to_owned(),
        )),
        Then::Stop => Some(condition(
            STALLED,
            true,
            format!("Given up; to try once more, set the annotation {RETRY_ANNOTATION} to a new value"),
        )),
        Then::Backoff => Some(condition(
            RECONCILING,
            true,
            match next_attempt {
                Some(at) => format!(
                    "The next attempt is at {}, or once the broker is back",
                    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                ),
                None => "The next attempt is made once the broker is back".to_owned(),
            },
        )),
        Then::AwaitSecret => Some(condition(
            RECONCILING,
            true,
            "The next attempt is made as soon as the Secret appears or changes".to_owned(),
        )),
        Then::AwaitResume => Some(condition(RECONCILING, true, "Waits until spec.suspend is false".to_owned())),
    };
    std::iter::once(sent).chain(follows).collect()
}

fn time(at: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(at.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
