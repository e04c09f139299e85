//! Why a message can't be sent: its own fault, its Sender's, or the operator's settings.

use crate::message::sender::SenderError;
use crate::policy::outcome::{Failure, Reason};

/// The wrong field of a message or Sender, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(pub(crate) String);

/// Why a message is not prepared for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The message can never be sent.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The message can't be sent as its Sender.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The message can't be sent with the operator's present settings. Other settings may allow it.
    #[error("{0}")]
    Misconfigured(String),
}

impl Failure for InvalidMessage {
    fn reason(&self) -> Reason {
        Reason::InvalidMessage
    }
}

impl Failure for PrepareError {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(invalid) => invalid.reason(),
            Self::Sender(error) => error.reason(),
            Self::Misconfigured(_) => Reason::Misconfigured,
        }
    }
}

/// Returns the error of an invalid message, with this text.
pub(crate) fn refuse<T, E: From<InvalidMessage>>(detail: impl Into<String>) -> Result<T, E> {
    Err(InvalidMessage(detail.into()).into())
}
