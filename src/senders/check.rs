//! Checks one Sender: its certificate, the login with it, and the exchange.

use std::sync::Arc;

use chrono::Utc;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::message::sender::{FoundSender, Sender};
use fedora_message::policy::outcome::{Outcome, Reason};
use fedora_message::sender_check::{SenderFinding, SenderResult, failure};

use super::schedule::StatusWrite;
use crate::broker::credentials::CredentialsError;
use crate::broker::login::Login;
use crate::certificates::CERTIFICATE_EXPIRES;
use crate::cluster::events::{Action, Events};
use crate::cluster::senders::{SenderStatusWriter, Senders};
use crate::credential_reader::{CredentialReadError, CredentialReader, ReadCredentials};
use crate::delivery::Delivery;
use crate::fence::Fence;

/// Checks Senders, and writes the results to their statuses.
pub struct Checker {
    /// The Senders.
    pub senders: Arc<Senders>,
    /// Reads their credentials.
    pub credentials: Arc<CredentialReader>,
    /// Connects to brokers.
    pub delivery: Arc<Delivery>,
    /// The exchange that must exist.
    pub exchange: String,
    /// Writes Events.
    pub events: Arc<Events>,
    /// Writes statuses.
    pub statuses: SenderStatusWriter,
    /// Is open while this process leads.
    pub fence: Fence,
}

/// The end of a check.
pub(super) struct Checked {
    /// The uid of the Sender.
    pub(super) uid: Option<String>,
    /// The finding.
    pub(super) finding: SenderFinding,
    /// The result of the status write.
    pub(super) status: StatusWrite,
}

impl Checker {
    /// Checks a Sender, and writes its status if that says something new.
    pub(super) async fn check(&self, object: FedoraMessageSender, found: FoundSender) -> Checked {
        let (finding, warning) = match &found {
            Ok(sender) => self.find(sender).await,
            Err(invalid) => {
                let outcome = Outcome { reason: Reason::Misconfigured, message: invalid.to_string() };
                (SenderFinding { result: SenderResult::Failed(outcome), ..SenderFinding::default() }, None)
            }
        };
        let uid = object.metadata.uid.clone();
        // A check that ends after the leadership proves nothing.
        if self.fence.pass().is_err() {
            return Checked { uid, finding, status: StatusWrite::Failed(None) };
        }
        let status = finding.status(&object.status, object.metadata.generation, Utc::now());
        self.senders.note(&object.name(), finding.result.failure().is_none());
        let written = if status == object.status {
            StatusWrite::Same
        } else {
            match self.statuses.write(&object, &status).await {
                Ok(true) => StatusWrite::Done(status.into()),
                Ok(false) => StatusWrite::Gone,
                Err(error) => StatusWrite::Failed(Some(error.explain())),
            }
        };
        if matches!(written, StatusWrite::Done(_) | StatusWrite::Same) {
            self.warn(&object, &found, &finding, warning.as_deref());
        }
        Checked { uid, finding, status: written }
    }

    /// Writes Events about what a person should notice.
    fn warn(&self, object: &FedoraMessageSender, found: &FoundSender, finding: &SenderFinding, expires: Option<&str>) {
        if let SenderResult::Failed(Outcome { reason, message }) = &finding.result
            && failure(&object.status) != Some(reason.name())
        {
            self.events.warn(object, reason.name(), Action::Check, message);
        }
        if let (Ok(sender), Some(text)) = (found, expires)
            && self.credentials.certificates.is_warning_due(sender.authentication.certificate(), Utc::now())
        {
            self.events.warn(object, CERTIFICATE_EXPIRES, Action::Check, text);
        }
    }

    /// Checks the certificate, the login and the exchange. Also returns a warning, if the certificate
    /// or the broker's CA expires soon.
    async fn find(&self, sender: &Sender) -> (SenderFinding, Option<String>) {
        let (environment, pool) = (sender.environment, self.delivery.pool());
        let broker = pool.map(|pool| pool.broker(environment));
        let mut finding = SenderFinding { broker: broker.map(ToString::to_string), ..SenderFinding::default() };
        let (authentication, owner) = (&sender.authentication, &sender.name.namespace);
        let ReadCredentials { credentials, warning, .. } =
            match self.credentials.read(authentication, owner, environment, Utc::now()).await {
                Ok(read) => read,
                Err(error) => {
                    if let CredentialReadError::Credentials(CredentialsError::Expired { user, at, .. }) = &error {
                        (finding.user, finding.expires) = (Some(user.clone()), Some(*at));
                    }
                    return (SenderFinding { result: SenderResult::Failed(error.into()), ..finding }, None);
                }
            };
        let user = credentials.user.clone();
        (finding.user, finding.expires) = (Some(user.clone()), Some(credentials.not_after));
        let login = Login { credentials, application: sender.application.clone() };
        let renew = warning.as_ref().map(|warning| format!(". {warning}")).unwrap_or_default();
        finding.result = match (pool, broker) {
            (Some(pool), Some(broker)) => match pool.check(environment, &login, &self.exchange).await {
                Ok(()) => SenderResult::Accepted(format!(
                    "Logged in to {broker} with the certificate of {user}, and found the exchange {}{renew}",
                    self.exchange
                )),
                Err(error) => SenderResult::Failed(error.into()),
            },
            _ => SenderResult::Unchecked(format!(
                "The certificate of {user} is valid. The operator does not log in, because Pods send the messages{renew}"
            )),
        };
        (finding, warning)
    }
}
