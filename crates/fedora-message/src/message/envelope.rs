//! The AMQP message that consumers see: a pure function of an [`OutgoingMessage`] and the
//! configured exchange, so that every attempt, by whichever replica, sends the same bytes.
//!
//! Source of each value: fedora-messaging 3.9.1, its wire format document and `message.py`; tested
//! against the library itself in `e2e/tests/real/fidelity.rs`. See docs/wire-format.md.

use chrono::SecondsFormat;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::api::v1alpha1::{Environment, Severity};
use crate::message::validate::OutgoingMessage;

/// `content_type` of every message.
pub const CONTENT_TYPE: &str = "application/json";
/// `content_encoding` of every message.
pub const CONTENT_ENCODING: &str = "utf-8";
/// `delivery_mode` of every message: persistent.
pub const DELIVERY_MODE: u8 = 2;

/// RabbitMQ's default `frame_max`, in bytes. A message's properties and headers must fit in one
/// frame; the broker closes the whole connection over a larger one.
pub const FRAME_MAX: u32 = 131_072;
/// What a frame with properties holds beside the user's headers, generously: frame and class
/// header, all other properties, and the headers that [`Envelope::new`] sets itself.
const FRAME_OVERHEAD: usize = 1_024;
/// What a frame with properties holds beside all headers: 8 bytes of the frame's own, 14 of the class
/// header, and content type, encoding, table length, delivery mode, priority and message id.
const PROPERTIES_SIZE: usize = 8 + 14 + 17 + 6 + 4 + 1 + 1 + 37;
/// How many bytes the user's own headers may take on the wire.
pub const MAX_OWN_HEADERS_SIZE: usize = FRAME_MAX as usize - FRAME_OVERHEAD;

/// Where messages go: the exchange, and what stands before the topics of each environment.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The exchange that messages are published to.
    pub exchange: String,
    /// What stands before production's topics; may be empty.
    pub prod_topic_prefix: String,
    /// What stands before staging's topics; may be empty.
    pub stg_topic_prefix: String,
    /// Whether messages carry their place in a trace ([`Trace`](crate::message::trace_context::Trace)).
    pub trace_context: bool,
}

impl Routing {
    /// The configured prefix of an environment's topics, without dots at its end.
    #[must_use]
    pub fn prefix(&self, environment: Environment) -> &str {
        match environment {
            Environment::Prod => self.prod_topic_prefix.trim_end_matches('.'),
            Environment::Stg => self.stg_topic_prefix.trim_end_matches('.'),
        }
    }

    /// The routing key of a topic, as the library builds it.
    #[must_use]
    pub fn key(&self, environment: Environment, topic: &str) -> String {
        match self.prefix(environment) {
            "" => topic.to_owned(),
            prefix => format!("{prefix}.{topic}"),
        }
    }
}

/// A header's value, with the type it has on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// AMQP `S`.
    String(String),
    /// AMQP `I` where it fits 32 bits, else `l`, as the library's encoder chooses.
    Integer(i64),
    /// AMQP `t`.
    Boolean(bool),
}

/// A message as it goes to the broker.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The exchange it is published to.
    pub exchange: &'a str,
    /// The routing key: prefix and topic.
    pub routing_key: &'a str,
    /// AMQP `message_id`.
    pub message_id: Uuid,
    /// AMQP `priority`.
    pub priority: u8,
    /// AMQP `headers`: the user's own, and the library's.
    pub headers: Vec<(&'a str, HeaderValue)>,
    /// The content.
    pub payload: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// How many bytes the frame takes that holds its properties and headers, at most. The broker
    /// closes the whole connection over a frame larger than was agreed on.
    #[must_use]
    pub fn properties_size(&self) -> usize {
        PROPERTIES_SIZE + table_size(self.headers.iter().map(|(name, value)| (*name, value)))
    }

    /// Builds the envelope.
    #[must_use]
    pub fn new(message: &'a OutgoingMessage, exchange: &'a str) -> Self {
        let text = |value: &str| HeaderValue::String(value.to_owned());
        // chrono writes UTC as "+00:00" here, as Python's isoformat does.
        let sent_at = message.sent_at.to_rfc3339_opts(SecondsFormat::Secs, false);
        let mut headers: Vec<_> = message.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        headers.push(("fedora_messaging_schema", text(&message.schema)));
        if let Some(package) = &message.schema_package {
            headers.push(("fedora_messaging_schema_package", text(package)));
        }
        headers.push(("fedora_messaging_severity", HeaderValue::Integer(number(message.severity.unwrap_or_default()))));
        headers.push(("priority", HeaderValue::Integer(message.priority.into())));
        headers.push(("sent-at", HeaderValue::String(sent_at)));
        Self {
            exchange,
            routing_key: &message.routing_key,
            message_id: message.id,
            priority: message.priority,
            headers,
            payload: &message.body,
        }
    }
}

/// The library's number for a severity.
fn number(severity: Severity) -> i64 {
    match severity {
        Severity::Debug => 10,
        Severity::Info => 20,
        Severity::Warning => 30,
        Severity::Error => 40,
    }
}

/// How many bytes headers take in an AMQP table: for each a name with its length in one byte, a
/// type in one, and the value, strings with their length in four.
pub fn table_size<'a>(headers: impl Iterator<Item = (&'a str, &'a HeaderValue)>) -> usize {
    headers
        .map(|(name, value)| {
            let value = match value {
                HeaderValue::String(text) => 4 + text.len(),
                HeaderValue::Integer(_) => 8,
                HeaderValue::Boolean(_) => 1,
            };
            2 + name.len() + value
        })
        .sum()
}

#[cfg(test)]
mod tests;
