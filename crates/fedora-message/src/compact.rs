//! A message and its status while nobody works on them, in few bytes: as JSON in one piece each, beside
//! the little that is asked of those that wait (docs/decisions/0022). What many have in common is there once, and
//! a body may be left with the API server (docs/decisions/0025).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::object::{FedoraMessage, age, decode_spec};
use crate::api::v1alpha1::{Environment, FedoraMessageStatus};
use crate::message::authentication::SecretName;
use crate::policy::outcome::Reason;
use crate::state::is_stalled;

/// What messages of one application have in common, and what is held once for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Their namespace.
    pub namespace: String,
    /// The environment whose broker gets them, if it can be read.
    pub environment: Option<Environment>,
    /// The Secrets that they name.
    pub secrets: Vec<SecretName>,
}

impl Origin {
    /// What `message` has in common with others.
    #[must_use]
    pub fn of(message: &FedoraMessage) -> Self {
        let namespace = message.namespace().to_owned();
        let secrets = message.spec.as_ref().map_or_else(
            |_| Vec::new(),
            |spec| {
                let named = spec.authentication.secrets();
                let name = |(name, other): (&str, Option<&str>)| SecretName {
                    namespace: other.unwrap_or(&namespace).to_owned(),
                    name: name.to_owned(),
                };
                named.map(name).collect()
            },
        );
        Self { environment: message.environment(), secrets, namespace }
    }
}

/// A [`FedoraMessage`] in few bytes, without its status.
#[derive(Clone, Debug)]
pub struct CompactMessage {
    uid: Arc<str>,
    origin: Arc<Origin>,
    name: Box<str>,
    resource_version: Version,
    generation: Option<i64>,
    created: Option<DateTime<Utc>>,
    retry: Option<Box<str>>,
    last_applied: Option<Box<str>>,
    /// As JSON, or why it can't be read.
    spec: Result<Box<str>, Box<str>>,
    /// How many bytes its body, headers and annotation have, if they were left with the API server.
    left: Option<usize>,
}

impl CompactMessage {
    /// Packs a message; `origin` is its own.
    #[must_use]
    pub fn new(message: &FedoraMessage, uid: Arc<str>, origin: Arc<Origin>) -> Self {
        let spec = match &message.spec {
            Ok(spec) => serde_json::to_string(spec).map_err(|error| error.to_string().into()),
            Err(detail) => Err(detail.as_str().into()),
        };
        Self {
            left: None,
            uid,
            origin,
            name: message.name().into(),
            resource_version: Version::new(message),
            generation: message.metadata.generation,
            created: message.created,
            retry: message.retry.as_deref().map(Into::into),
            last_applied: message.last_applied.as_deref().map(Into::into),
            spec: spec.map(String::into_boxed_str),
        }
    }

    /// The message, as it was.
    #[must_use]
    pub fn unpack(&self) -> FedoraMessage {
        FedoraMessage {
            metadata: ObjectMeta {
                name: Some(self.name.to_string()),
                namespace: Some(self.origin.namespace.clone()),
                uid: Some(self.uid.to_string()),
                resource_version: self.resource_version.text(),
                generation: self.generation,
                ..ObjectMeta::default()
            },
            created: self.created,
            retry: self.retry.as_deref().map(str::to_owned),
            last_applied: self.last_applied.as_deref().map(str::to_owned),
            spec: self.spec.as_deref().map_err(ToString::to_string).and_then(decode_spec),
            status: None,
        }
    }

    /// Packs a message without its body, for which null stands, and what else of it may be large: that is sent by nobody.
    #[must_use]
    pub fn without_body(message: FedoraMessage, uid: Arc<str>, origin: Arc<Origin>) -> Self {
        Self { left: Some(message.bulk()), ..Self::new(&message.without_bulk(), uid, origin) }
    }

    /// Whether its body was left with the API server.
    #[must_use]
    pub fn is_without_body(&self) -> bool {
        self.left.is_some()
    }

    /// How many bytes it has, with what was left.
    #[must_use]
    pub fn size(&self) -> usize {
        let here = [self.spec.as_deref().ok(), self.last_applied.as_deref()];
        here.into_iter().flatten().map(str::len).sum::<usize>() + self.left.unwrap_or_default()
    }

    /// What it has in common with others.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        age(self.created, now)
    }

    /// Whether a user has changed the resource, as it is in `message`, since this was packed.
    #[must_use]
    pub fn differs(&self, message: &FedoraMessage) -> bool {
        self.generation != message.metadata.generation || self.retry.as_deref() != message.retry.as_deref()
    }

    /// Takes over the resource version of `message`, if all else is the same and here; whether it was.
    pub fn update(&mut self, message: &FedoraMessage) -> bool {
        let same = self.left.is_none()
            && !self.differs(message)
            && self.last_applied.as_deref() == message.last_applied.as_deref();
        if same {
            self.resource_version = Version::new(message);
        }
        same
    }
}

/// A resource version: opaque to clients, and so kept as it is where it is not the number that API servers give.
#[derive(Clone, Debug)]
enum Version {
    None,
    Number(u64),
    Text(Box<str>),
}

impl Version {
    fn new(message: &FedoraMessage) -> Self {
        let Some(text) = message.metadata.resource_version.as_deref() else { return Self::None };
        match text.parse::<u64>() {
            // Others would not be the same text again.
            Ok(number) if text.starts_with(|first| ('1'..='9').contains(&first)) => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.to_string()),
        }
    }
}

/// A [`FedoraMessageStatus`] in few bytes.
#[derive(Clone, Debug)]
pub struct CompactStatus {
    /// What statuses of the same words have in common, as JSON.
    common: Arc<str>,
    message_id: Option<Arc<str>>,
    /// As many messages have it.
    routing_key: Option<Arc<str>>,
    sent_time: Option<DateTime<Utc>>,
    next_attempt_time: Option<DateTime<Utc>>,
    start_time: Option<DateTime<Utc>>,
    /// When each of the first conditions changed; the operator's own statuses have no more. Not in an allocation of
    /// its own, as nothing small of a message's is: between what is used and given back, these break up memory.
    transitions: [Time; 2],
    reason: Option<Reason>,
    sent: bool,
    stalled: bool,
}

impl CompactStatus {
    /// Packs a status of the message with this `uid`; `share` finds what is equal and known already.
    #[must_use]
    pub fn new(status: &FedoraMessageStatus, uid: &Arc<str>, mut share: impl FnMut(String) -> Arc<str>) -> Self {
        let mut common = status.clone();
        let epoch = || Time(Timestamp::UNIX_EPOCH);
        let mut transitions = [epoch(), epoch()];
        for (condition, at) in common.conditions.iter_mut().zip(&mut transitions) {
            std::mem::swap(&mut condition.last_transition_time, at);
        }
        let message_id = common.message_id.take();
        Self {
            message_id: message_id.map(|id| if *id == **uid { uid.clone() } else { id.into() }),
            routing_key: common.routing_key.take().map(&mut share),
            sent_time: common.sent_time.take(),
            next_attempt_time: common.next_attempt_time.take(),
            start_time: common.start_time.take(),
            transitions,
            common: share(serde_json::to_string(&common).unwrap_or_default()),
            reason: status.reason.as_deref().and_then(|reason| reason.parse().ok()),
            sent: status.status == Some(true),
            stalled: is_stalled(status),
        }
    }

    /// The status, as it was.
    #[must_use]
    pub fn unpack(&self) -> FedoraMessageStatus {
        let mut common = serde_json::from_str(&self.common).unwrap_or_else(|_| FedoraMessageStatus {
            // Whatever else is lost: what was sent stays sent.
            status: self.sent.then_some(true),
            ..FedoraMessageStatus::default()
        });
        for (condition, at) in common.conditions.iter_mut().zip(&self.transitions) {
            condition.last_transition_time = at.clone();
        }
        FedoraMessageStatus {
            message_id: self.message_id.as_deref().map(str::to_owned),
            routing_key: self.routing_key.as_deref().map(str::to_owned),
            sent_time: self.sent_time,
            next_attempt_time: self.next_attempt_time,
            start_time: self.start_time,
            ..common
        }
    }

    /// Its reason, if it is one of the operator's.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Whether it says that the message was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether it says that the message was sent, or given up.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.sent || self.stalled
    }
}

#[cfg(test)]
mod tests;
