//! Every way an attempt can end: a [`Reason`] from the contract's list, a sentence for people, and
//! what follows. Statuses, Events and metrics use the same reasons.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::message::trace_context::Trace;

/// The reason for the state of a message, as `status.reason` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, EnumString, IntoStaticStr, VariantArray)]
pub enum Reason {
    /// `spec.suspend` holds the message back.
    Suspended,
    /// The message is large, and about to be sent. Its status proves that there is room for one.
    Sending,
    /// The broker confirmed the message.
    Sent,
    /// The resource can't be sent as it is.
    InvalidMessage,
    /// The settings stand against the message: a wrong Sender, or the operator's catalog of schemas, its
    /// policy for unknown ones, its topic prefix, or its flags for Pods.
    Misconfigured,
    /// The Sender is absent, or may not be used from the message's namespace.
    SenderNotFound,
    /// A Secret is absent, or may not be used from the message's namespace.
    SecretNotFound,
    /// A Secret lacks a key, or its certificate or private key can't be used.
    SecretInvalid,
    /// The client certificate is no longer valid.
    CertificateExpired,
    /// No connection to the broker, or it was lost.
    BrokerUnreachable,
    /// The TLS handshake failed.
    TlsFailed,
    /// The broker does not know the certificate's user.
    AuthenticationFailed,
    /// The virtual host is absent, or the user may not use it.
    VhostRefused,
    /// The broker has stopped accepting messages, by its memory or disk alarm.
    BrokerBlocked,
    /// The broker did not confirm in time; it may have the message.
    ConfirmTimeout,
    /// The broker answered that it could not store the message.
    Nacked,
    /// The user may not publish to this topic.
    TopicForbidden,
    /// The exchange does not exist, is internal, or the user may not publish to it.
    ExchangeNotFound,
    /// The message is larger than the broker accepts.
    MessageTooLarge,
    /// `spec.activeDeadlineSeconds` have passed.
    DeadlineExceeded,
    /// `spec.backoffLimit` retries have failed.
    BackoffLimitExceeded,
    /// The Pod that was to send the message failed, or could not run.
    PodFailed,
}

/// The time for which a refusal may be a matter of order. The broker may get its permissions after
/// the message, by the same `kubectl apply` or by an import after its start. Both take seconds to
/// minutes. A longer time would only delay the answer for the author.
pub const GRACE_PERIOD: TimeDelta = TimeDelta::minutes(5);

/// The consequence of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing: the message was sent.
    Done,
    /// Nothing, until the retry annotation changes.
    Stop,
    /// Another attempt, when the backoff is over or the broker is back.
    Backoff,
    /// As with `Backoff`, until each attempt has ended like this for [`GRACE_PERIOD`]. Then nothing,
    /// as with `Stop`. [`MessageState::then`](crate::state::MessageState::then) decides.
    BackoffThenStop,
    /// Another attempt, when the message's Sender appears or changes.
    AwaitSender,
    /// Another attempt, when a Secret that the message names appears or changes.
    AwaitSecret,
    /// Another attempt, when the resource is resumed.
    AwaitResume,
}

impl Then {
    /// Returns true if nothing follows by itself: the message was sent or given up.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Done | Self::Stop => true,
            Self::Backoff | Self::BackoffThenStop | Self::AwaitSender | Self::AwaitSecret | Self::AwaitResume => false,
        }
    }

    /// Returns true if nothing follows by itself, at once or after [`GRACE_PERIOD`].
    #[must_use]
    pub fn may_be_end(self) -> bool {
        self.is_end() || self == Self::BackoffThenStop
    }
}

impl Reason {
    /// Returns the value of `status.reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns true if a broker that is back may accept a message that it did not accept for this reason.
    /// An answer of the broker is no such reason.
    #[must_use]
    pub fn may_end_with_recovery(self) -> bool {
        match self {
            Self::BrokerUnreachable
            | Self::TlsFailed
            | Self::AuthenticationFailed
            | Self::VhostRefused
            | Self::BrokerBlocked
            | Self::ConfirmTimeout
            | Self::PodFailed => true,
            Self::Suspended
            | Self::Sending
            | Self::Sent
            | Self::InvalidMessage
            | Self::Misconfigured
            | Self::SenderNotFound
            | Self::SecretNotFound
            | Self::SecretInvalid
            | Self::CertificateExpired
            | Self::Nacked
            | Self::TopicForbidden
            | Self::ExchangeNotFound
            | Self::MessageTooLarge
            | Self::DeadlineExceeded
            | Self::BackoffLimitExceeded => false,
        }
    }

    /// Returns the consequence of this reason. This is the whole retry policy.
    #[must_use]
    pub fn then(self) -> Then {
        match self {
            Self::Sent => Then::Done,
            Self::Suspended => Then::AwaitResume,
            Self::SenderNotFound => Then::AwaitSender,
            Self::SecretNotFound | Self::SecretInvalid | Self::CertificateExpired => Then::AwaitSecret,
            Self::Sending
            | Self::BrokerUnreachable
            | Self::TlsFailed
            | Self::AuthenticationFailed
            | Self::VhostRefused
            | Self::BrokerBlocked
            | Self::ConfirmTimeout
            | Self::Nacked
            | Self::ExchangeNotFound
            | Self::Misconfigured
            | Self::PodFailed => Then::Backoff,
            Self::TopicForbidden => Then::BackoffThenStop,
            Self::InvalidMessage | Self::MessageTooLarge | Self::DeadlineExceeded | Self::BackoffLimitExceeded => {
                Then::Stop
            }
        }
    }
}

/// An error of one step. Each step has an error type of its own, and all of them implement this.
pub trait Failure: Display {
    /// Returns the reason that this error stands for.
    fn reason(&self) -> Reason;

    /// Returns the time before which any attempt would end like this, if that is known.
    fn not_before(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// Returns true if the attempt has not ended: the broker was handed the message, and will answer
    /// later.
    fn is_unanswered(&self) -> bool {
        false
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reason.
    pub reason: Reason,
    /// A sentence: what is wrong, where, and what to do.
    pub message: String,
}

impl Outcome {
    /// Returns the outcome of a confirmed message. `routed` is true if at least one queue got it.
    #[must_use]
    pub fn sent(routed: bool) -> Self {
        let message = if routed {
            "Message was sent successfully"
        } else {
            "Message was sent successfully, but reached nobody: no queue of the broker is bound to its topic"
        };
        Self { reason: Reason::Sent, message: message.to_owned() }
    }

    /// Returns the outcome of a message that this Pod has sent. `why` is the failure of direct
    /// delivery, if that was tried.
    #[must_use]
    pub fn sent_by_pod(pod: &str, why: Option<&Self>) -> Self {
        let why =
            why.map(|Self { reason, message }| format!(", because direct delivery failed with {reason}: {message}"));
        let message = format!("Message was sent successfully by Pod {pod}{}", why.unwrap_or_default());
        Self { reason: Reason::Sent, message }
    }

    /// Adds a warning of something to fix soon.
    #[must_use]
    pub fn with_warning(self, warning: &str) -> Self {
        Self { message: format!("{}. {warning}", self.message), ..self }
    }

    /// Returns the outcome of a message without room for its status, which would never say that it
    /// was sent.
    #[must_use]
    pub fn too_large_for_status() -> Self {
        Self {
            reason: Reason::InvalidMessage,
            message: "the API server can't store the object together with a status, because it is too large: create a FedoraMessage with a smaller body or less metadata, or send a reference to the data instead".to_owned(),
        }
    }

    /// Returns the state of a large message before its first attempt. The text is longer than that of
    /// [`Outcome::sent`] with `true`.
    #[must_use]
    pub fn sending() -> Self {
        let message =
            "Not sent yet: this status proves that the API server can store one, because the message is large";
        Self { reason: Reason::Sending, message: message.to_owned() }
    }

    /// Returns the outcome of a message whose `spec.suspend` is true.
    #[must_use]
    pub fn suspended() -> Self {
        Self {
            reason: Reason::Suspended,
            message: "Not sent, because spec.suspend is true: set it to false to send the message".to_owned(),
        }
    }

    /// Returns the outcome of a message whose `spec.activeDeadlineSeconds` have passed. `last` is the
    /// last failure, if there was one.
    #[must_use]
    pub fn deadline_exceeded(seconds: i64, last: Option<&str>) -> Self {
        let last = last.unwrap_or(
            "it was not tried in that time, because no operator was running, or others came first: annotate it to retry",
        );
        Self {
            reason: Reason::DeadlineExceeded,
            message: format!("Not sent within activeDeadlineSeconds ({seconds} s): {last}"),
        }
    }

    /// Returns the outcome of a message whose `spec.backoffLimit` retries have failed, the last one
    /// with `last`.
    #[must_use]
    pub fn backoff_limit_exceeded(limit: u32, last: &Self) -> Self {
        let Self { reason, message } = last;
        Self {
            reason: Reason::BackoffLimitExceeded,
            message: format!(
                "Not sent after backoffLimit ({limit}) retries; the last attempt ended with {reason}: {message}"
            ),
        }
    }
}

/// How a message is delivered, as `status.deliveryMode` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Mode {
    /// The operator publishes it.
    Direct,
    /// A Pod publishes it.
    Pod,
}

impl Mode {
    /// Returns the value of `status.deliveryMode`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The outcome.
    pub outcome: Outcome,
    /// The routing key, if the message got that far.
    pub routing_key: Option<String>,
    /// The mode that was tried last. `None` if nothing was tried: then the outcome does not count as
    /// an attempt.
    pub mode: Option<Mode>,
    /// The time before which the next attempt would end like this one, if that is known.
    pub not_before: Option<DateTime<Utc>>,
    /// The message's trace, if it is recorded.
    pub trace: Option<Trace>,
    /// The time that it took, if the broker confirmed the message to this process.
    pub took: Option<Timing>,
    /// True if the attempt has not ended: the broker was handed the message, and will answer later.
    pub unanswered: bool,
}

/// The time that a message took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until it was handed to the connection: the wait for a channel, and for its buffer.
    pub publish: Duration,
    /// From then on until the broker confirmed it.
    pub confirm: Duration,
}

impl From<Outcome> for Attempt {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, routing_key: None, mode: None, not_before: None, trace: None, took: None, unanswered: false }
    }
}

impl<F: Failure> From<F> for Attempt {
    fn from(failure: F) -> Self {
        let (not_before, unanswered) = (failure.not_before(), failure.is_unanswered());
        Self { not_before, unanswered, ..Outcome::from(failure).into() }
    }
}

impl<F: Failure> From<F> for Outcome {
    fn from(failure: F) -> Self {
        Self { reason: failure.reason(), message: failure.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        for reason in Reason::VARIANTS.iter().copied() {
            assert_eq!(reason.name(), format!("{reason:?}"));
        }
    }

    #[test]
    fn only_sent_is_done() {
        for reason in Reason::VARIANTS.iter().copied() {
            assert_eq!(reason.then() == Then::Done, reason == Reason::Sent, "{reason}");
        }
    }
}
