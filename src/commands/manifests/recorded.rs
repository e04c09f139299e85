//! Recorded messages: the JSON lines that the library's `record` writes and its `publish` reads.
//!
//! The form is `SERIALIZED_MESSAGE_SCHEMA` of fedora-messaging 3.9.1, `message.py`. Of a line
//! the same is taken as there: topic, body, headers, id and priority.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{completed, describe};
use fedora_message::api::object::{FedoraMessage, Metadata};
use fedora_message::api::v1alpha1::{FedoraMessageSpec, MessageSpec, Severity};
use fedora_message::message::body::{MAX_DEPTH, depth};
use fedora_message::message::validate::message_id;
use fedora_message::text::quoted;

/// A line.
#[derive(Deserialize)]
struct Line {
    topic: String,
    body: Box<RawValue>,
    #[serde(default)]
    headers: BTreeMap<String, Box<RawValue>>,
    id: Option<String>,
    priority: Option<Box<RawValue>>,
}

/// The fields that tell a line from a manifest.
#[derive(Deserialize)]
struct Shape {
    topic: Option<IgnoredAny>,
    body: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    #[serde(rename = "apiVersion")]
    api_version: Option<IgnoredAny>,
}

/// Returns true if a file has recorded messages: its first line is one.
#[must_use]
pub fn is_recorded(text: &str) -> bool {
    is_record(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default())
}

/// Returns true if JSON looks like a recorded message, and not like a manifest.
#[must_use]
pub fn is_record(json: &str) -> bool {
    let shape = serde_json::from_str::<Shape>(json).ok();
    shape.is_some_and(|shape| {
        (shape.topic.is_some() || shape.body.is_some()) && shape.kind.is_none() && shape.api_version.is_none()
    })
}

/// Reads all lines of `text`, which came from `place`. An error names the line and what is wrong in it.
pub fn read(text: &str, place: &str) -> anyhow::Result<Vec<FedoraMessage>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| read_line(line).with_context(|| format!("{place}, line {}", index + 1))).collect()
}

fn read_line(text: &str) -> anyhow::Result<FedoraMessage> {
    let is_too_deep = depth(text) > MAX_DEPTH + 1;
    ensure!(!is_too_deep, "is nested deeper than consumers can read, {MAX_DEPTH} levels: flatten the body");
    let line: Line = serde_json::from_str(text).map_err(|error| {
        anyhow!("is no recorded message: {}: write one JSON object with topic and body on each line", describe(&error))
    })?;
    let Line { topic, body, mut headers, id, priority } = line;
    let severity = headers.remove("fedora_messaging_severity").map(|raw| severity(raw.get())).transpose()?;
    let schema = text_header(&mut headers, "fedora_messaging_schema")?;
    let schema_package = text_header(&mut headers, "fedora_messaging_schema_package")?;
    let sent_at = text_header(&mut headers, "sent-at")?.map(|text| time(&text)).transpose()?;
    // It repeats the priority of the message.
    headers.remove("priority");
    let mut metadata = Metadata::default();
    metadata.uid = id.map(valid_id).transpose()?;
    metadata.creation_timestamp = sent_at;
    let priority = priority.as_deref().map_or("null", RawValue::get);
    let message = MessageSpec {
        topic,
        body,
        headers,
        severity,
        schema,
        schema_package,
        // The library sets no priority of its configuration here.
        priority: Some(number(priority).context("its priority must be a whole number from 0 to 255, or null")?),
    };
    Ok(FedoraMessage::of_spec(completed(metadata), &FedoraMessageSpec::of(message))?)
}

fn valid_id(id: String) -> anyhow::Result<String> {
    let is_valid = message_id(&id).is_some();
    ensure!(is_valid, "its id is {}, but must be a UUID of version 4: correct or remove it", quoted(&id));
    Ok(id)
}

/// Returns a priority. None is 0, as in the library.
fn number(json: &str) -> Option<u8> {
    if json == "null" { Some(0) } else { json.parse().ok() }
}

fn severity(json: &str) -> anyhow::Result<Severity> {
    let severity = json.parse().ok().and_then(Severity::from_repr);
    severity.context("its header fedora_messaging_severity must be 10, 20, 30 or 40")
}

/// Takes a header that must be a text.
fn text_header(headers: &mut BTreeMap<String, Box<RawValue>>, name: &str) -> anyhow::Result<Option<String>> {
    let text = headers.remove(name).map(|raw| serde_json::from_str(raw.get())).transpose();
    text.ok().with_context(|| format!("its header {name} must be a text"))
}

/// Reads a time that is written as the library writes it. Any other text would not be the one on the bus.
fn time(text: &str) -> anyhow::Result<DateTime<Utc>> {
    let time = text.parse::<DateTime<Utc>>().ok();
    time.filter(|time| time.to_rfc3339_opts(SecondsFormat::Secs, false) == text).with_context(|| {
        format!(
            "its header sent-at is {}, but must be a time in UTC as 2026-01-31T12:00:00+00:00: correct or remove it",
            quoted(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_lines_from_manifests() {
        for (text, expected) in [
            (r#"{"topic": "a", "body": {}}"#, true),
            ("\n \n{\"topic\": \"a\", \"body\": {}}\nnonsense", true),
            (r#"{"topic": "a"}"#, true),
            (r#"{"apiVersion": "v1", "kind": "Secret"}"#, false),
            (r#"{"kind": "FedoraMessage", "topic": "a", "body": {}}"#, false),
            ("topic: a", false),
            ("", false),
            ("{", false),
        ] {
            assert_eq!(is_recorded(text), expected, "{text}");
        }
    }

    #[test]
    fn keeps_what_a_line_says() {
        let id = "3f0d1d3a-2f3c-4b0e-9d0d-6f3f0f6f1c11";
        let line = format!(
            r#"{{"body": {{"a": 1.0, "b": "é"}}, "headers": {{"fedora_messaging_schema": "bodhi.x", "fedora_messaging_severity": 30, "fedora_messaging_user_bob": true, "priority": 7, "sent-at": "2019-07-30T19:12:22+00:00", "n": 3}}, "id": "{id}", "priority": 3, "queue": null, "topic": "org.a"}}"#
        );
        let [message] = &read(&line, "file").unwrap()[..] else { panic!("one message") };
        let spec = message.spec().unwrap();
        assert_eq!(message.uid(), id);
        assert_eq!(message.created.unwrap().to_rfc3339(), "2019-07-30T19:12:22+00:00");
        assert_eq!(spec.message.body.get(), r#"{"a": 1.0, "b": "é"}"#);
        assert_eq!((spec.message.topic.as_str(), spec.message.priority), ("org.a", Some(3)));
        assert_eq!(spec.message.severity, Some(Severity::Warning));
        assert_eq!(spec.message.schema.as_deref(), Some("bodhi.x"));
        assert_eq!(spec.message.headers.keys().collect::<Vec<_>>(), ["fedora_messaging_user_bob", "n"]);
    }

    #[test]
    fn says_what_is_wrong_in_which_line() {
        let good = r#"{"topic": "a", "body": {}}"#;
        for (line, problem) in [
            (r#"{"topic": "a"}"#, "line 2: is no recorded message: missing field `body`: write one JSON object"),
            ("{", "line 2: is no recorded message: EOF while parsing an object: write one JSON object"),
            (r#"{"topic": "a", "body": {}, "id": "1"}"#, "line 2: its id is \"1\", but must be a UUID of version 4"),
            (r#"{"topic": "a", "body": {}, "priority": 256}"#, "line 2: its priority must be a whole number from 0"),
            (
                r#"{"topic": "a", "body": {}, "headers": {"fedora_messaging_severity": "20"}}"#,
                "line 2: its header fedora_messaging_severity must be 10, 20, 30 or 40",
            ),
            (
                r#"{"topic": "a", "body": {}, "headers": {"sent-at": "2019-07-30T19:12:22.5+02:00"}}"#,
                "line 2: its header sent-at is \"2019-07-30T19:12:22.5+02:00\", but must be a time in UTC",
            ),
        ] {
            let error = format!("{:#}", read(&format!("{good}\n{line}\n"), "file").unwrap_err());
            assert!(error.starts_with(&format!("file, {problem}")), "{error}");
        }
        let deep = format!(r#"{{"topic": "a", "body": {}}}"#, "[".repeat(100_000));
        let error = format!("{:#}", read(&deep, "file").unwrap_err());
        assert!(error.contains("is nested deeper"), "{error}");
    }
}
