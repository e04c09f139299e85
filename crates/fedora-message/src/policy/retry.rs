//! Decides from the resource, its last state and the time if a message is tried now.
//!
//! The work queue decides when a failed message is tried again.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::object::FedoraMessage;
use crate::policy::outcome::{Outcome, Reason, Then};
use crate::state::{MessageState, Phase};

/// A wall clock that is wrong by no more than this is treated as right.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);
/// A message whose certificate has expired is tried again after this time: the clock may have been
/// wrong.
pub const EXPIRY_RECHECK: TimeDelta = TimeDelta::hours(1);

/// Says that a message may be sent although it is not wanted any more.
const HANDED_OVER: &str = "The broker was handed the message before, and may still deliver it";

/// Says what is known of a message whose attempt has no result.
const INTERRUPTED: &str =
    "its attempt has no known result, because the operator ended, so the broker may have it: annotate it to retry";

/// The decision about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try to send it.
    Attempt,
    /// Write this outcome into its status, without an attempt.
    Report(Outcome),
    /// Nothing: it was sent, was given up, or is suspended, and its state says so.
    Rest,
}

/// Decides about `message`, whose status says, or is about to say, what `state` is.
#[must_use]
pub fn decide(message: &FedoraMessage, state: &MessageState, now: DateTime<Utc>) -> Decision {
    // Only a message that was given up is tried once more on request. For any other message, the
    // annotation just ends its backoff.
    let retry = state.is_stalled() && retry_requested(message, state);
    if state.is_sent() || (state.is_stalled() && !retry && !seemed_too_late(message, state, now)) {
        return Decision::Rest;
    }
    if message.summary.suspend {
        return match state.reason {
            Some(Reason::Suspended) if state.observed_generation == message.metadata.generation => Decision::Rest,
            _ if state.unanswered => Decision::Report(Outcome::suspended().with_warning(HANDED_OVER)),
            _ => Decision::Report(Outcome::suspended()),
        };
    }
    match (deadline(message, state, now), active_seconds(message)) {
        // Nobody knows yet if a message that the broker was handed is sent in time.
        (Some(deadline), Some(seconds)) if now >= deadline && !retry && !state.unanswered => {
            let last = match state.reason {
                None => None,
                Some(Reason::Sending) => Some(INTERRUPTED),
                Some(_) => Some(&*state.message),
            };
            Decision::Report(Outcome::deadline_exceeded(seconds, last))
        }
        _ => Decision::Attempt,
    }
}

/// Turns a failure into `BackoffLimitExceeded` once `spec.backoffLimit` retries after the first
/// attempt have failed. `attempts` counts the failed attempt too.
#[must_use]
pub fn limit(message: &FedoraMessage, attempts: u32, outcome: Outcome) -> Outcome {
    match message.summary.backoff_limit() {
        Some(limit) if attempts > limit && matches!(outcome.reason.then(), Then::Backoff | Then::BackoffThenStop) => {
            Outcome::backoff_limit_exceeded(limit, &outcome)
        }
        _ => outcome,
    }
}

/// Returns when the message is given up, by `spec.activeDeadlineSeconds`.
#[must_use]
pub fn deadline(message: &FedoraMessage, state: &MessageState, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let start = state.resumed_at(now).or(message.created)?;
    start.checked_add_signed(TimeDelta::try_seconds(active_seconds(message)?)?)
}

/// Returns true if the retry annotation has a value that was not acted on yet.
#[must_use]
pub fn retry_requested(message: &FedoraMessage, state: &MessageState) -> bool {
    message.retry.is_some() && message.retry.as_deref() != state.observed_retry.as_deref()
}

/// Returns true if the deadline only seemed to have passed, because the clock was ahead. By the clock
/// as it is now, the message was given up in the future, and its deadline is still to come.
fn seemed_too_late(message: &FedoraMessage, state: &MessageState, now: DateTime<Utc>) -> bool {
    let (Some(Reason::DeadlineExceeded), Phase::Stalled(since)) = (state.reason, state.phase) else { return false };
    since > now + CLOCK_TOLERANCE && deadline(message, state, now).is_some_and(|deadline| now < deadline)
}

/// A deadline of zero or less is none: validation refuses it.
fn active_seconds(message: &FedoraMessage) -> Option<i64> {
    message.summary.active_deadline_seconds().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests;
