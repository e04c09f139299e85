//! `publish --dry-run`: shows messages as consumers will see them. It opens no connection.

use std::io::Write;
use std::process::ExitCode;

use chrono::Utc;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Publisher, status, write_line};
use crate::cli::Output;
use crate::commands;
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::{CONTENT_ENCODING, CONTENT_TYPE, DELIVERY_MODE, Envelope};
use fedora_message::message::outgoing::{HeaderValue, OutgoingMessage};
use fedora_message::policy::outcome::Outcome;
use fedora_message::policy::retry::{Decision, decide};
use fedora_message::state::MessageState;

/// A message as it goes to the broker, without its body.
#[derive(Serialize)]
struct Preview<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    broker: String,
    exchange: &'a str,
    routing_key: &'a str,
    properties: Properties<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

#[derive(Serialize)]
struct Properties<'a> {
    content_type: &'static str,
    content_encoding: &'static str,
    delivery_mode: u8,
    message_id: String,
    priority: u8,
    #[serde(serialize_with = "as_map")]
    headers: Vec<(&'a str, HeaderValue)>,
}

/// A message with its body, as one line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    preview: &'a Preview<'a>,
    body: &'a RawValue,
}

impl Publisher {
    /// Shows all messages. Fails if one would not be sent.
    pub(super) fn preview_all(&self, output: Output) -> ExitCode {
        let mut all_valid = true;
        for (number, object) in self.manifests.messages.iter().enumerate() {
            let mut text = Vec::new();
            match self.outgoing(object) {
                Ok(message) => {
                    if number > 0 && output == Output::Text {
                        text.extend_from_slice(b"---\n");
                    }
                    if let Err(error) = self.write_preview(&mut text, object, &message, output) {
                        return commands::fail(&error.context("the message can't be shown"));
                    }
                }
                Err(outcome) => {
                    all_valid = false;
                    write_line(&mut text, object, &status(object, &outcome.into()), output);
                }
            }
            commands::print(text);
        }
        if all_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Returns the message, or why it would not be sent now.
    fn outgoing(&self, object: &FedoraMessage) -> Result<OutgoingMessage, Outcome> {
        match decide(object, &MessageState::default(), Utc::now()) {
            Decision::Report(outcome) => Err(outcome),
            Decision::Attempt | Decision::Rest => self.prepare(object),
        }
    }

    fn write_preview(
        &self,
        text: &mut Vec<u8>,
        object: &FedoraMessage,
        message: &OutgoingMessage,
        output: Output,
    ) -> anyhow::Result<()> {
        let Envelope { exchange, routing_key, message_id, priority, headers, payload } =
            Envelope::new(message, &self.routing.exchange);
        let preview = Preview {
            name: object.name(),
            broker: self.brokers.of(message.environment).url(),
            exchange,
            routing_key,
            properties: Properties {
                content_type: CONTENT_TYPE,
                content_encoding: CONTENT_ENCODING,
                delivery_mode: DELIVERY_MODE,
                message_id: message_id.to_string(),
                priority,
                headers,
            },
            warning: message.warning.as_deref(),
        };
        match output {
            Output::Json => serde_json::to_writer(&mut *text, &Line { preview: &preview, body: payload })?,
            // JSON is YAML too, and these are the bytes that are sent.
            Output::Text => write!(text, "{}body: {payload}", serde_saphyr::to_string(&preview)?)?,
        }
        text.push(b'\n');
        Ok(())
    }
}

fn as_map<S: Serializer>(headers: &[(&str, HeaderValue)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}
