//! The result of checking a Sender, and the status that says it.

use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::sender::FedoraMessageSenderStatus;
use crate::policy::outcome::{Outcome, Reason};
use crate::state::time;

/// The condition that is true if the broker accepts the Sender.
pub const READY: &str = "Ready";
/// The reason of the condition if it is true.
const ACCEPTED: &str = "LoggedIn";
/// The reason of the condition if Pods send the messages, so that the operator does not log in.
const UNCHECKED: &str = "CertificateValid";

/// The finding of a Sender's check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderFinding {
    /// The user at the broker, if the certificate could be read.
    pub user: Option<String>,
    /// The broker.
    pub broker: Option<String>,
    /// The time when the certificate expires, if it could be read.
    pub expires: Option<DateTime<Utc>>,
    /// The result.
    pub result: SenderResult,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderResult {
    /// The broker accepted the login and has the exchange.
    Accepted(String),
    /// The certificate is valid. The operator does not log in.
    Unchecked(String),
    /// Messages can't be sent.
    Failed(Outcome),
}

impl Default for SenderResult {
    fn default() -> Self {
        Self::Unchecked(String::new())
    }
}

impl SenderResult {
    /// Returns the reason why messages can't be sent, if they can't.
    #[must_use]
    pub fn failure(&self) -> Option<Reason> {
        match self {
            Self::Accepted(_) | Self::Unchecked(_) => None,
            Self::Failed(outcome) => Some(outcome.reason),
        }
    }
}

impl SenderFinding {
    /// Returns the status that follows `before`, at this generation of the resource.
    #[must_use]
    pub fn status(
        &self,
        before: &FedoraMessageSenderStatus,
        generation: Option<i64>,
        now: DateTime<Utc>,
    ) -> FedoraMessageSenderStatus {
        let (holds, reason, message) = match &self.result {
            SenderResult::Accepted(message) => ("True", ACCEPTED, message),
            SenderResult::Unchecked(message) => ("True", UNCHECKED, message),
            SenderResult::Failed(Outcome { reason, message }) => ("False", reason.name(), message),
        };
        let last = before.conditions.iter().find(|condition| condition.type_ == READY && condition.status == holds);
        let changed = last.map(|condition| condition.last_transition_time.clone());
        let ready = Condition {
            type_: READY.to_owned(),
            status: holds.to_owned(),
            reason: reason.to_owned(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: changed.unwrap_or_else(|| time(now)),
        };
        FedoraMessageSenderStatus {
            conditions: vec![ready],
            observed_generation: generation,
            user: self.user.clone(),
            broker: self.broker.clone(),
            certificate_expiration_time: self.expires.map(|at| at.trunc_subsecs(0)),
        }
    }
}

/// Returns the reason that a status says, if it says that messages can't be sent.
#[must_use]
pub fn failure(status: &FedoraMessageSenderStatus) -> Option<&str> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY)?;
    (ready.status == "False").then_some(&*ready.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(result: SenderResult) -> SenderFinding {
        SenderFinding { user: Some("nice-app".to_owned()), result, ..SenderFinding::default() }
    }

    #[test]
    fn transition_time_changes_with_status_alone() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let failed =
            |reason, message: &str| finding(SenderResult::Failed(Outcome { reason, message: message.to_owned() }));
        let absent =
            failed(Reason::SecretNotFound, "absent").status(&FedoraMessageSenderStatus::default(), Some(1), at(1));
        let wrong = failed(Reason::SecretInvalid, "wrong").status(&absent, Some(2), at(2));
        let ready = finding(SenderResult::Accepted("fine".to_owned())).status(&wrong, Some(2), at(3));
        let times = [&absent, &wrong, &ready].map(|status| status.conditions[0].last_transition_time.0.as_second());
        assert_eq!(times, [1, 1, 3]);
        assert_eq!([&absent, &wrong, &ready].map(failure), [Some("SecretNotFound"), Some("SecretInvalid"), None]);
        assert_eq!((ready.user.as_deref(), ready.observed_generation), (Some("nice-app"), Some(2)));
    }
}
