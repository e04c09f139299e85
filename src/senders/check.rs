//! Checks one Sender: its certificate, the login with it, and the exchange.

use std::sync::Arc;

use chrono::Utc;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::message::sender::{FoundSender, Sender};
use fedora_message::policy::outcome::{Outcome, Reason};
use fedora_message::sender_check::{Finding, SenderResult, failure};

use crate::broker::credentials::CredentialsError;
use crate::broker::login::Login;
use crate::certificates::CERTIFICATE_EXPIRES;
use crate::cluster::events::{Action, Events};
use crate::cluster::list::ListError;
use crate::cluster::senders::{SenderReport, SenderStatusWriter, Senders};
use crate::credential_reader::{CredentialReadError, CredentialReader, ReadCredentials};
use crate::delivery::Delivery;

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
}

/// The end of a check.
pub(super) struct Checked {
    /// What was found.
    pub(super) finding: Finding,
    /// The Sender with its new status, or nothing if it is gone.
    pub(super) written: Result<Option<FedoraMessageSender>, ListError>,
}

impl Checker {
    /// Checks a Sender, and writes its status if that says something new.
    pub(super) async fn check(&self, object: FedoraMessageSender, found: FoundSender) -> Checked {
        let (finding, warning) = match &found {
            Ok(sender) => self.find(sender).await,
            Err(invalid) => {
                let outcome = Outcome { reason: Reason::Misconfigured, message: invalid.to_string() };
                (Finding { result: SenderResult::Failed(outcome), ..Finding::default() }, None)
            }
        };
        let status = finding.status(&object.status, object.metadata.generation, Utc::now());
        self.senders.note(&object.name(), SenderReport { ready: Some(finding.result.failure().is_none()) });
        let is_there = if status == object.status { Ok(true) } else { self.statuses.write(&object, &status).await };
        if let (Ok(true), SenderResult::Failed(Outcome { reason, message })) = (&is_there, &finding.result)
            && failure(&object.status) != Some(reason.name())
        {
            self.events.warn(&object, reason.name(), Action::Check, message);
        }
        if let (Ok(true), Ok(sender), Some(warning)) = (&is_there, &found, &warning)
            && self.credentials.certificates.is_warning_due(sender.authentication.certificate(), Utc::now())
        {
            self.events.warn(&object, CERTIFICATE_EXPIRES, Action::Check, warning);
        }
        let written = is_there.map(|is_there| is_there.then_some(FedoraMessageSender { status, ..object }));
        Checked { finding, written }
    }

    /// Checks the certificate, the login and the exchange. Also returns a warning, if the certificate
    /// expires soon.
    async fn find(&self, sender: &Sender) -> (Finding, Option<String>) {
        let (environment, pool) = (sender.environment, self.delivery.pool());
        let broker = pool.map(|pool| pool.broker(environment));
        let mut finding = Finding { broker: broker.map(ToString::to_string), ..Finding::default() };
        let (authentication, owner) = (&sender.authentication, &sender.name.namespace);
        let ReadCredentials { credentials, warning, .. } =
            match self.credentials.read(authentication, owner, environment, Utc::now()).await {
                Ok(read) => read,
                Err(error) => {
                    if let CredentialReadError::Credentials(CredentialsError::Expired { user, at, .. }) = &error {
                        (finding.user, finding.expires) = (Some(user.clone()), Some(*at));
                    }
                    return (Finding { result: SenderResult::Failed(error.into()), ..finding }, None);
                }
            };
        let user = credentials.user.clone();
        (finding.user, finding.expires) = (Some(user.clone()), Some(credentials.not_after));
        let login = Login { credentials, application: sender.application.clone() };
        let renew = warning.as_ref().map(|warning| format!(". {warning}")).unwrap_or_default();
        finding.result = match (pool, broker) {
            (Some(pool), Some(broker)) => match pool.check(environment, &login, &self.exchange).await {
                Ok(()) => SenderResult::Accepted(format!(
                    "Logged in to {broker} as {user}, and found the exchange {}{renew}",
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
