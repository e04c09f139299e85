//! A Sender that messages can be sent as, or why a message can't be sent as it.

use std::sync::Arc;

use crate::api::names::{SenderName, SourceName, is_label};
use crate::api::object::SummaryFields;
use crate::api::sender::{ApplicationSpec, FedoraMessageSender, FedoraMessageSenderSpec, SenderDefaultsSpec};
use crate::api::v1alpha1::{Environment, Severity};
use crate::message::authentication::{Authentication, ClientKeys, valid_sender_authentication};
use crate::message::invalid::{InvalidMessage, refuse};
use crate::message::validate::valid_topic;
use crate::policy::outcome::{Failure, Reason};
use crate::text::quoted;

/// A valid Sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its name.
    pub name: SenderName,
    /// The environment whose broker gets the messages.
    pub environment: Environment,
    /// The prefix of topics. `None` stands for the operator's, and an empty one for none.
    pub topic_prefix: Option<String>,
    /// The application that the broker's administrators see.
    pub application: Arc<Application>,
    /// The location of the client certificate.
    pub authentication: Authentication,
    /// The severity of messages that set none.
    pub severity: Option<Severity>,
    /// The priority of messages that set none.
    pub priority: Option<u8>,
    /// The fields for the queue and the policies.
    pub fields: Arc<SummaryFields>,
    allowed_namespaces: Vec<String>,
}

/// An application, as the broker's administrators see it in the properties of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Application {
    /// The client property `app`.
    pub name: String,
    /// The client property `app_version`.
    pub version: Option<String>,
    /// The client property `app_url`.
    pub url: Option<String>,
    /// The client property `app_contacts_email`.
    pub contacts: Vec<String>,
    /// True if a Sender declares it. Otherwise the name is that of the Sender or Secret, and logins with
    /// the same certificate may share a connection under any of their names.
    pub is_declared: bool,
}

impl Application {
    /// Returns an application that nobody declares, with the name of a Sender or Secret.
    #[must_use]
    pub fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Returns the application that a Sender or a configuration declares. `key` names a field for the user.
    ///
    /// The broker gets all texts before it allows frames of more than 4096 bytes, and a Pod gets them in an annotation.
    pub fn declared(spec: ApplicationSpec, key: impl Fn(&str) -> String) -> Result<Self, InvalidMessage> {
        const MAX_CONTACTS: usize = 10;
        const MAX_BYTES: usize = 255;
        let ApplicationSpec { name, version, url, contacts } = spec;
        if contacts.len() > MAX_CONTACTS {
            return refuse(format!(
                "{} has {} addresses, but may have at most {MAX_CONTACTS}",
                key("contacts"),
                contacts.len()
            ));
        }
        let required = std::iter::once(("name", &name)).chain(contacts.iter().map(|contact| ("contacts", contact)));
        let optional = version.iter().map(|version| ("version", version)).chain(url.iter().map(|url| ("url", url)));
        for (field, text) in required.clone().chain(optional) {
            if text.len() > MAX_BYTES {
                let (key, length) = (key(field), text.len());
                return refuse(format!("{key} has {length} bytes in UTF-8, but must have at most {MAX_BYTES}"));
            }
            if text.contains(char::is_control) {
                return refuse(format!("{} {} must not contain control characters", key(field), quoted(text)));
            }
        }
        if let Some((field, _)) = required.clone().find(|(_, text)| text.is_empty()) {
            return refuse(format!("{} must not be empty", key(field)));
        }
        Ok(Self { name, version, url, contacts, is_declared: true })
    }

    /// Returns the texts that must be equal where two applications share a connection. Each optional text
    /// has its place. There are none if nobody declares the application.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.version, &self.url].map(|text| text.as_deref().unwrap_or_default());
        let texts = std::iter::once(self.name.as_str()).chain(optional);
        texts.chain(self.contacts.iter().map(String::as_str)).filter(|_| self.is_declared)
    }
}

impl Sender {
    /// Validates a Sender.
    pub fn new(object: &FedoraMessageSender) -> Result<Self, InvalidMessage> {
        let name = object.name();
        let spec = object.spec.clone().map_err(InvalidMessage)?;
        let FedoraMessageSenderSpec { env, topic_prefix, application, authentication, allowed_namespaces, defaults } =
            spec;
        if let Some(prefix) = topic_prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            valid_topic(prefix).map_err(|detail| InvalidMessage(format!("spec.topicPrefix {detail}")))?;
        }
        if let Some(other) = allowed_namespaces.iter().find(|name| *name != "*" && !is_label(name)) {
            return Err(InvalidMessage(format!(
                "spec.allowedNamespaces has {}, but may have only names of namespaces, and * for all",
                quoted(other)
            )));
        }
        let authentication = valid_sender_authentication(&authentication, &name.namespace)?;
        let SenderDefaultsSpec {
            severity,
            priority,
            active_deadline_seconds,
            backoff_limit,
            ttl_seconds_after_finished,
        } = defaults.unwrap_or_default();
        let fields = SummaryFields {
            environment: Some(env),
            sources: authentication.sources().cloned().collect(),
            active_deadline_seconds,
            backoff_limit,
            ttl_seconds_after_finished,
        };
        let application = match application {
            Some(application) => Application::declared(application, |field| format!("spec.application.{field}"))?,
            None => Application::named(format!("{}/{}", name.namespace, name.name)),
        };
        Ok(Self {
            environment: env,
            topic_prefix,
            application: Arc::new(application),
            authentication,
            severity,
            priority,
            fields: Arc::new(fields),
            allowed_namespaces,
            name,
        })
    }

    /// Returns a Sender with nothing but a name and an environment, for checks of messages whose Sender is
    /// not known.
    #[must_use]
    pub fn assumed(name: SenderName, environment: Environment) -> Self {
        let secret = SourceName::secret(name.namespace.as_str(), name.name.as_str());
        Self {
            environment,
            topic_prefix: None,
            application: Arc::default(),
            authentication: Authentication { client: ClientKeys::One(secret), ca: None },
            severity: None,
            priority: None,
            fields: Arc::default(),
            allowed_namespaces: vec!["*".to_owned()],
            name,
        }
    }

    /// Returns true if messages of `namespace` may be sent as it.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        let is_allowed = |allowed: &String| allowed == "*" || allowed == namespace;
        self.name.namespace == namespace || self.allowed_namespaces.iter().any(is_allowed)
    }
}

/// Why a message can't be sent as its Sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// The message names no Sender, and its namespace has none that is called `default`.
    #[error(
        "namespace {0} has no FedoraMessageSender default, and the message names neither spec.senderRef nor spec.authentication: create the Sender, or another FedoraMessage that names one"
    )]
    NoDefault(String),
    /// The Sender is absent, and would be in the message's own namespace.
    #[error("{0} does not exist: create it")]
    Absent(SenderName),
    /// The Sender is absent, or one of too many.
    #[error(
        "{sender} does not exist, or is beyond the {bound} Senders that the operator holds of a namespace: create it, or delete others"
    )]
    NotHeld {
        /// The Sender.
        sender: SenderName,
        /// The number of Senders that are held.
        bound: usize,
    },
    /// The Sender is absent, or does not allow its use.
    ///
    /// The text is the same for both. A user who may only create messages must not learn from it
    /// which Senders exist.
    #[error(
        "{sender} does not exist, or does not allow namespace {namespace} to use it: create it, or let its owner add {namespace} to its spec.allowedNamespaces"
    )]
    Denied {
        /// The Sender.
        sender: SenderName,
        /// The message's namespace.
        namespace: String,
    },
    /// The Sender is wrong.
    #[error("{sender} can't be used: {detail}")]
    Invalid {
        /// The Sender.
        sender: SenderName,
        /// The wrong field, and what is wrong with it.
        detail: String,
    },
    /// Senders can't be read.
    #[error("{sender} could not be read: {detail}")]
    Unreadable {
        /// The Sender.
        sender: SenderName,
        /// The error of the API server, and what to do.
        detail: String,
    },
}

impl SenderError {
    /// Returns the error of a message in `namespace` whose Sender is absent.
    #[must_use]
    pub fn absent(sender: &SenderName, namespace: &str) -> Self {
        if sender.namespace == namespace {
            return Self::Absent(sender.clone());
        }
        Self::Denied { sender: sender.clone(), namespace: namespace.to_owned() }
    }
}

impl Failure for SenderError {
    fn reason(&self) -> Reason {
        match self {
            Self::NoDefault(_)
            | Self::Absent(_)
            | Self::NotHeld { .. }
            | Self::Denied { .. }
            | Self::Unreadable { .. } => Reason::SenderNotFound,
            Self::Invalid { .. } => Reason::Misconfigured,
        }
    }
}

/// A Sender that is there, or what is wrong with it.
pub type FoundSender = Result<Arc<Sender>, InvalidMessage>;

/// Borrows the Sender that a message names, for [`prepare`](crate::message::prepare::prepare).
#[must_use]
pub fn borrowed(sender: Option<&Result<Arc<Sender>, SenderError>>) -> Option<Result<&Sender, SenderError>> {
    sender.map(|sender| sender.as_deref().map_err(Clone::clone))
}

/// Returns the Sender that a message in `namespace` names, if the message may be sent as it.
/// `found` is the Sender, if it exists.
pub fn usable(name: &SenderName, namespace: &str, found: Option<&FoundSender>) -> Result<Arc<Sender>, SenderError> {
    match found {
        Some(Ok(sender)) if sender.allows(namespace) => Ok(sender.clone()),
        // A wrong Sender allows nobody in other namespaces.
        Some(Err(InvalidMessage(detail))) if name.namespace == namespace => {
            Err(SenderError::Invalid { sender: name.clone(), detail: detail.clone() })
        }
        _ => Err(SenderError::absent(name, namespace)),
    }
}

#[cfg(test)]
mod tests;
