//! The error of a message that can never be sent.

use crate::policy::outcome::{Failure, Reason};

/// The wrong field of a message, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(pub(crate) String);

impl Failure for InvalidMessage {
    fn reason(&self) -> Reason {
        Reason::InvalidMessage
    }
}

/// Returns an error with this text.
pub(crate) fn refuse<T>(detail: impl Into<String>) -> Result<T, InvalidMessage> {
    Err(InvalidMessage(detail.into()))
}
