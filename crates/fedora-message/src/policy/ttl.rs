//! The time to live of a finished message's resource, counted from when the message was sent or
//! given up.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::object::FedoraMessage;
use crate::policy::retry::retry_requested;
use crate::state::{MessageState, Phase};

/// The decision about a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is kept: its message is not finished, it has no time to live, or it is being deleted already.
    Keep,
    /// It is deleted at this time.
    WaitUntil(DateTime<Utc>),
    /// It is deleted now.
    Delete,
}

/// Decides about the resource of `message`. `default` is the time to live, in seconds, of
/// resources whose spec sets none.
#[must_use]
pub fn expiry(message: &FedoraMessage, state: &MessageState, default: Option<u32>, now: DateTime<Utc>) -> Expiry {
    match expires_at(message, state, default) {
        None => Expiry::Keep,
        Some(end) if now < end => Expiry::WaitUntil(end),
        Some(_) => Expiry::Delete,
    }
}

/// Returns when the resource is deleted, if its message is finished, and it has a time to live and is
/// not being deleted already.
#[must_use]
pub fn expires_at(message: &FedoraMessage, state: &MessageState, default: Option<u32>) -> Option<DateTime<Utc>> {
    // A spec that can't be read may set a time to live of its own.
    if !message.summary.readable || message.deleting {
        return None;
    }
    let seconds = message.summary.ttl_seconds_after_finished(default.filter(|_| state.is_sent()))?;
    finished_at(message, state)?.checked_add_signed(TimeDelta::seconds(seconds.into()))
}

/// Returns a warning, if the message sets a time to live, and a tool will create its deleted resource again.
#[must_use]
pub fn warning(message: &FedoraMessage) -> Option<String> {
    let (tool, seconds) = (message.summary.tool?, message.summary.own_ttl()?);
    Some(format!(
        "spec.ttlSecondsAfterFinished has this resource deleted in {seconds} s. {tool} manages it, and creates it again from its source; then the message is sent again, with another id. Create the message without the field, or without {tool}"
    ))
}

/// Returns when the message was sent, or given up without a request to try it once more.
fn finished_at(message: &FedoraMessage, state: &MessageState) -> Option<DateTime<Utc>> {
    match state.phase {
        Phase::Sent => state.sent_time.or(state.sent_changed),
        Phase::Stalled(since) if !retry_requested(message, state) => Some(since),
        Phase::Stalled(_) | Phase::Reconciling(_) | Phase::New => None,
    }
}

#[cfg(test)]
mod tests;
