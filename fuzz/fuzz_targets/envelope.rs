//! Messages of any size and depth, as an API server could store them: a valid one becomes an envelope
//! that fits the broker's frames.

#![no_main]

use arbitrary::Arbitrary;
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::valid_topic;
use fedora_message_operator_fuzz::input::{Nulls, Object, Text};
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::check_message;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

#[derive(Arbitrary, Debug)]
struct Input {
    topic: Text,
    prefix: Text,
    body: Object,
    headers: Object,
    severity: Option<u8>,
    schema: Option<Text>,
    schema_package: Option<Text>,
    priority: Option<u8>,
    seconds: i64,
    nulls_dropped: bool,
}

fuzz_target!(|input: Input| {
    let Some((message, length)) = input.message() else { return };
    let prefix = input.prefix.render();
    // The command line applies the same rule.
    if !prefix.is_empty() && valid_topic(&prefix).is_err() {
        return;
    }
    let length = length + prefix.len();
    let routing = Routing { exchange: "amq.topic".to_owned(), prod_topic_prefix: prefix, ..Routing::default() };
    within(length, || check_message(&message, None, &routing));
});

impl Input {
    /// Returns the message, and the length of its JSON.
    fn message(&self) -> Option<(FedoraMessage, usize)> {
        let text = |text: &Option<Text>| text.as_ref().map(Text::render);
        let severity = self.severity.map(|number| ["Debug", "Info", "Warning", "Error"][usize::from(number % 4)]);
        let (body, headers) = (self.body.render(Nulls::Kept)?, self.headers.render(Nulls::Kept)?);
        let (stored, applied) = if self.nulls_dropped {
            let applied = format!(r#"{{"spec":{{"message":{{"body":{body},"headers":{headers}}}}}}}"#);
            (self.body.render(Nulls::Dropped)?, Some(applied))
        } else {
            (body, None)
        };
        let created = chrono::DateTime::from_timestamp(self.seconds, 0)?;
        let object = json!({
            "metadata": {
                "name": "a", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
                "creationTimestamp": created,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
            },
            "spec": {
                "env": "prod",
                "message": {
                    "topic": self.topic.render(), "severity": severity, "schema": text(&self.schema),
                    "schemaPackage": text(&self.schema_package), "priority": self.priority,
                    "body": "THE BODY", "headers": "THE HEADERS",
                },
                "authentication": {"secretRef": {"name": "certs"}},
            },
        });
        let json = object.to_string().replacen("\"THE BODY\"", &stored, 1).replacen("\"THE HEADERS\"", &headers, 1);
        let decoded = within(json.len(), || serde_json::from_str(&json));
        Some((decoded.ok()?, json.len()))
    }
}
