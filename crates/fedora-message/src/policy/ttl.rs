//! How long a message's resource is kept: until its time to live is over, counted from when it was sent or
//! given up. What is neither is kept, whatever its spec says.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::FedoraMessageStatus;
use crate::policy::retry::retry_requested;
use crate::state::{SENT, STALLED, since};

/// What is to become of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays: it is not finished, or nothing limits its time.
    Keep,
    /// It is to be deleted at this time.
    WaitUntil(DateTime<Utc>),
    /// It is to be deleted now.
    Delete,
}

/// Decides about the resource of `message`, of which `status` was written last; `default` is the time to live, in
/// seconds, of those whose spec sets none.
#[must_use]
pub fn fate(message: &FedoraMessage, status: &FedoraMessageStatus, default: Option<u32>, now: DateTime<Utc>) -> Fate {
    match ends_at(message, status, default) {
        None => Fate::Keep,
        Some(end) if now < end => Fate::WaitUntil(end),
        Some(_) => Fate::Delete,
    }
}

/// When the resource is to be deleted, if it is finished and its time is limited.
#[must_use]
pub fn ends_at(message: &FedoraMessage, status: &FedoraMessageStatus, default: Option<u32>) -> Option<DateTime<Utc>> {
    // Whoever can't be read may have set a time of its own.
    let own = message.spec.as_ref().ok()?.ttl_seconds_after_finished;
    let seconds = own.or(default)?;
    finished_at(message, status)?.checked_add_signed(TimeDelta::seconds(seconds.into()))
}

/// When the message was sent, or was given up with nobody asking to try it once more.
fn finished_at(message: &FedoraMessage, status: &FedoraMessageStatus) -> Option<DateTime<Utc>> {
    if status.status == Some(true) {
        return status.sent_time.or_else(|| since(status, SENT));
    }
    since(status, STALLED).filter(|_| !retry_requested(message, status))
}

#[cfg(test)]
mod tests;
