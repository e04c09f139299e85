//! The AMQP message that consumers see.
//!
//! It is a pure function of an [`OutgoingMessage`] and the configured exchange, so that every attempt
//! of every replica sends the same bytes. Source of each value: fedora-messaging 3.9.1, its wire
//! format document and `message.py`. `e2e/tests/real/fidelity.rs` compares it with the library itself.
//! See docs/wire-format.md.

use chrono::SecondsFormat;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::api::v1alpha1::Environment;
use crate::message::outgoing::{HeaderValue, OutgoingMessage};

/// `content_type` of every message.
pub const CONTENT_TYPE: &str = "application/json";
/// `content_encoding` of every message.
pub const CONTENT_ENCODING: &str = "utf-8";
/// `delivery_mode` of every message: persistent.
pub const DELIVERY_MODE: u8 = 2;

/// RabbitMQ's default `frame_max`, in bytes. A message's properties and headers must fit into one
/// frame. The broker closes the whole connection if a frame is larger.
pub const FRAME_MAX: u32 = 131_072;
/// The maximum size of a properties frame without the user's headers, generously estimated. It covers
/// the frame, the class header, all other properties, and the headers that [`Envelope::new`] sets.
const FRAME_OVERHEAD: usize = 1_024;
/// The size of a properties frame without headers: 8 bytes for the frame, 14 for the class header, and
/// content type, encoding, table length, delivery mode, priority and message id.
const PROPERTIES_SIZE: usize = 8 + 14 + 17 + 6 + 4 + 1 + 1 + 37;
/// The maximum size of the user's own headers on the wire, in bytes.
pub const MAX_OWN_HEADERS_SIZE: usize = FRAME_MAX as usize - FRAME_OVERHEAD;

/// The operator's settings for the way of messages: the exchange, and the topic prefix of each
/// environment.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The exchange to which messages are published.
    pub exchange: String,
    /// The prefix of production's topics, which may be empty.
    pub prod_topic_prefix: String,
    /// The prefix of staging's topics, which may be empty.
    pub stg_topic_prefix: String,
    /// If true, messages have a header with their [trace context](crate::message::trace_context::Trace).
    pub trace_context: bool,
    /// If true, messages that name a certificate instead of a Sender are refused.
    pub require_sender: bool,
}

impl Routing {
    /// Returns the prefix of an environment's topics, without trailing dots.
    #[must_use]
    pub fn prefix(&self, environment: Environment) -> &str {
        match environment {
            Environment::Prod => self.prod_topic_prefix.trim_end_matches('.'),
            Environment::Stg => self.stg_topic_prefix.trim_end_matches('.'),
        }
    }
}

/// An AMQP message for the broker.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The exchange to which the message is published.
    pub exchange: &'a str,
    /// The routing key: prefix and topic.
    pub routing_key: &'a str,
    /// AMQP `message_id`.
    pub message_id: Uuid,
    /// AMQP `priority`.
    pub priority: u8,
    /// AMQP `headers`: the user's own and the library's.
    pub headers: Vec<(&'a str, HeaderValue)>,
    /// The body.
    pub payload: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// Returns the maximum size of the frame with properties and headers, in bytes. The broker closes
    /// the whole connection if a frame is larger than the negotiated size.
    #[must_use]
    pub fn properties_size(&self) -> usize {
        PROPERTIES_SIZE + table_size(self.headers.iter().map(|(name, value)| (*name, value)))
    }

    /// Builds the envelope.
    #[must_use]
    pub fn new(message: &'a OutgoingMessage, exchange: &'a str) -> Self {
        let text = |value: &str| HeaderValue::String(value.to_owned());
        // chrono formats UTC as "+00:00" here, like Python's isoformat.
        let sent_at = message.sent_at.to_rfc3339_opts(SecondsFormat::Secs, false);
        let mut headers: Vec<_> = message.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        headers.push(("fedora_messaging_schema", text(&message.schema)));
        if let Some(package) = &message.schema_package {
            headers.push(("fedora_messaging_schema_package", text(package)));
        }
        let severity = message.severity.unwrap_or_default().number();
        headers.push(("fedora_messaging_severity", HeaderValue::Integer(severity.into())));
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

/// Returns the size of headers in an AMQP table, in bytes.
///
/// Each header has one byte for the length of its name, the name, one byte for its type, and the
/// value. A string has four bytes for its length.
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
