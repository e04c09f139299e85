//! A valid message: the proof that a resource can be sent.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::api::v1alpha1::{Environment, Severity};
use crate::message::authentication::Authentication;
use crate::message::sender::Application;

/// The schema of a message that names none.
pub(crate) const BASE_SCHEMA: &str = "base.message";
/// The package that ships [`BASE_SCHEMA`].
pub(crate) const BASE_SCHEMA_PACKAGE: &str = "fedora_messaging";

/// A message that can be sent. All later steps use it instead of the resource.
#[derive(Clone, Debug)]
pub struct OutgoingMessage {
    /// The message's id, which is the resource's uid.
    pub id: Uuid,
    /// The time when the application handed the message over: the resource's creation time.
    pub sent_at: DateTime<Utc>,
    /// The environment whose broker gets the message.
    pub environment: Environment,
    /// The topic with the configured prefix.
    pub routing_key: String,
    /// The entry point name of the schema.
    pub schema: String,
    /// The package that ships the schema, if it is known.
    pub schema_package: Option<String>,
    /// The severity. If the sender sets none, the check takes it from the schema.
    pub severity: Option<Severity>,
    /// The AMQP priority.
    pub priority: u8,
    /// The user's own headers, by name.
    pub headers: Vec<(String, HeaderValue)>,
    /// The body: the bytes of a JSON object from the resource.
    pub body: Box<RawValue>,
    /// The location of the client certificate.
    pub authentication: Authentication,
    /// The namespace on whose behalf its Secrets are used: the Sender's, or that of the message.
    pub owner: String,
    /// The application that the broker's administrators see.
    pub application: Arc<Application>,
    /// A warning about the message's schema.
    pub warning: Option<String>,
}

/// The value of a header, with its type on the wire.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum HeaderValue {
    /// AMQP `S`.
    String(String),
    /// AMQP `I` if it fits 32 bits, else `l`, as the library's encoder chooses.
    Integer(i64),
    /// AMQP `t`.
    Boolean(bool),
}

/// Moves the text, which serialization would copy.
impl From<HeaderValue> for Value {
    fn from(value: HeaderValue) -> Self {
        match value {
            HeaderValue::String(text) => text.into(),
            HeaderValue::Integer(number) => number.into(),
            HeaderValue::Boolean(truth) => truth.into(),
        }
    }
}
