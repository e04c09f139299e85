//! A message while it waits, in few bytes (docs/decisions/0022). The spec of a large message may be
//! left with the API server (docs/decisions/0025).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::object::{FedoraMessage, Summary, age};

/// A [`FedoraMessage`] in few bytes, without its state. It is not being deleted.
#[derive(Clone, Debug)]
pub struct CompactMessage {
    uid: Arc<str>,
    summary: Arc<Summary>,
    name: Box<str>,
    resource_version: ResourceVersion,
    generation: Option<i64>,
    created: Option<DateTime<Utc>>,
    retry: Option<Box<str>>,
    last_applied: Option<Box<str>>,
    spec_json: Option<Box<str>>,
    /// The size of what was left with the API server, in bytes.
    omitted: Option<usize>,
}

impl CompactMessage {
    /// Compacts a message. Its uid and summary may be shared with others.
    #[must_use]
    pub fn new(message: FedoraMessage, uid: Arc<str>, summary: Arc<Summary>) -> Self {
        Self {
            uid,
            summary,
            name: message.name().into(),
            resource_version: ResourceVersion::new(&message),
            generation: message.metadata.generation,
            created: message.created,
            retry: message.retry.map(Into::into),
            last_applied: message.last_applied.map(Into::into),
            spec_json: message.spec_json,
            omitted: None,
        }
    }

    /// Compacts a message without its spec and its last applied configuration, which may be large.
    #[must_use]
    pub fn without_spec(message: FedoraMessage, uid: Arc<str>, summary: Arc<Summary>) -> Self {
        let omitted = Some(message.size());
        Self { spec_json: None, last_applied: None, omitted, ..Self::new(message, uid, summary) }
    }

    /// Returns the message as it was, without what was omitted.
    #[must_use]
    pub fn expand(&self) -> FedoraMessage {
        FedoraMessage {
            metadata: ObjectMeta {
                name: Some(self.name.to_string()),
                namespace: Some(self.summary.namespace.clone()),
                uid: Some(self.uid.to_string()),
                resource_version: self.resource_version.text(),
                generation: self.generation,
                ..ObjectMeta::default()
            },
            created: self.created,
            deleting: false,
            retry: self.retry.as_deref().map(str::to_owned),
            last_applied: self.last_applied.as_deref().map(str::to_owned),
            spec_json: self.spec_json.clone(),
            summary: self.summary.clone(),
            status: None,
        }
    }

    /// Returns true if the spec was left with the API server.
    #[must_use]
    pub fn is_without_spec(&self) -> bool {
        self.omitted.is_some()
    }

    /// Returns the size of the spec and of the last applied configuration in bytes, also if they
    /// were omitted.
    #[must_use]
    pub fn size(&self) -> usize {
        let here = [&self.spec_json, &self.last_applied];
        here.into_iter().flatten().map(|text| text.len()).sum::<usize>() + self.omitted.unwrap_or_default()
    }

    /// Returns what the queue needs of the spec.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Replaces what the queue needs of the spec, because the Sender has changed.
    pub fn set_summary(&mut self, summary: Arc<Summary>) {
        self.summary = summary;
    }

    /// Returns the age of the resource.
    #[must_use]
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        age(self.created, now)
    }

    /// Returns true if a user has changed the resource since it was compacted.
    #[must_use]
    pub fn differs(&self, message: &FedoraMessage) -> bool {
        self.generation != message.metadata.generation || self.retry.as_deref() != message.retry.as_deref()
    }

    /// Takes over the resource version of `message` and returns true, if nothing else has changed
    /// and nothing was omitted.
    pub fn update(&mut self, message: &FedoraMessage) -> bool {
        let same = self.omitted.is_none()
            && !self.differs(message)
            && self.last_applied.as_deref() == message.last_applied.as_deref();
        if same {
            self.resource_version = ResourceVersion::new(message);
        }
        same
    }
}

/// A resource version. It is opaque to clients, so it is kept as text unless it is the number that
/// API servers give.
#[derive(Clone, Debug)]
enum ResourceVersion {
    None,
    Number(u64),
    Text(Box<str>),
}

impl ResourceVersion {
    fn new(message: &FedoraMessage) -> Self {
        let Some(text) = message.metadata.resource_version.as_deref() else { return Self::None };
        match text.parse::<u64>() {
            // Any other form would not be rendered as the same text.
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

#[cfg(test)]
mod tests;
