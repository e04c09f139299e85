//! Whether a message is to be tried now: a decision over the resource, its last status and the
//! time. When to try again after a failure is the work queue's to know; this says whether at all.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::FedoraMessageStatus;
use crate::policy::outcome::{Outcome, Reason, Then};
use crate::state::is_stalled;

/// What to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try to send it.
    Attempt,
    /// Don't try; write this into its status.
    Report(Outcome),
    /// Nothing: it was sent, was given up, or is suspended, and its status says so.
    Rest,
}

/// Decides about `message`, of which `status` is what was written last, or is about to be.
#[must_use]
pub fn decide(message: &FedoraMessage, status: &FedoraMessageStatus, now: DateTime<Utc>) -> Decision {
    // Once more is for what was given up; before, the annotation only cuts the backoff short.
    let retry = is_stalled(status) && retry_requested(message, status);
    if status.status == Some(true) || (is_stalled(status) && !retry) {
        return Decision::Rest;
    }
    if suspended(message) {
        return match status.reason.as_deref() {
            Some(reason) if reason == Reason::Suspended.name() => Decision::Rest,
            _ => Decision::Report(Outcome::suspended()),
        };
    }
    match (deadline(message, status, now), active_seconds(message)) {
        (Some(deadline), Some(seconds)) if now >= deadline && !retry => {
            let last = status.message.as_deref();
            Decision::Report(Outcome::deadline_exceeded(seconds, last))
        }
        _ => Decision::Attempt,
    }
}

/// Turns the outcome of an attempt into one that gives up, once `spec.backoffLimit` retries after
/// the first attempt have failed. `attempts` counts the one that ended so.
#[must_use]
pub fn limit(message: &FedoraMessage, attempts: u32, outcome: Outcome) -> Outcome {
    let limit = message.spec.as_ref().ok().and_then(|spec| spec.backoff_limit);
    match limit {
        Some(limit) if attempts > limit && outcome.reason.then() == Then::Backoff => {
            Outcome::backoff_limit_exceeded(limit, &outcome)
        }
        _ => outcome,
    }
}

/// When the message is given up, by `spec.activeDeadlineSeconds`.
#[must_use]
pub fn deadline(message: &FedoraMessage, status: &FedoraMessageStatus, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let start = resumed_at(status, now).or(message.created)?;
    start.checked_add_signed(TimeDelta::try_seconds(active_seconds(message)?)?)
}

/// When the message was resumed, if it had been suspended.
#[must_use]
pub fn resumed_at(status: &FedoraMessageStatus, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match status.reason.as_deref() {
        Some(reason) if reason == Reason::Suspended.name() => Some(now),
        _ => status.start_time,
    }
}

/// Whether the retry annotation has a value that was not acted on yet.
#[must_use]
pub fn retry_requested(message: &FedoraMessage, status: &FedoraMessageStatus) -> bool {
    message.retry.is_some() && message.retry != status.observed_retry
}

/// Whether `spec.suspend` holds the message back.
#[must_use]
pub fn suspended(message: &FedoraMessage) -> bool {
    message.spec.as_ref().is_ok_and(|spec| spec.suspend == Some(true))
}

/// A deadline that could only have passed is not one: validation refuses it.
fn active_seconds(message: &FedoraMessage) -> Option<i64> {
    message.spec.as_ref().ok()?.active_deadline_seconds.filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests;
