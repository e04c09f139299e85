//! A message as the fedora-messaging CLI reads it from a file: one JSON object on one line.
//!
//! Source: fedora-messaging 3.9.1, `cli.py` and `message.py`: the file is cut into lines as Python's text
//! mode and `splitlines` do, so that some characters that JSON allows in a text end the line.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::message::envelope::{Envelope, HeaderValue};

/// The line that the CLI publishes as this envelope: the same id, time, severity, headers and priority.
#[must_use]
pub fn line(envelope: &Envelope<'_>) -> String {
    let headers: Map<_, _> =
        envelope.headers.iter().map(|(name, value)| ((*name).to_owned(), json_of(value))).collect();
    let members = json!({
        "topic": envelope.routing_key,
        "id": envelope.message_id.to_string(),
        "priority": envelope.priority,
        "headers": headers,
    });
    let members = members.to_string();
    let open = members.strip_suffix('}').unwrap_or(&members);
    let mut line = String::with_capacity(open.len() + envelope.payload.get().len() + 16);
    push(&mut line, open);
    line.push_str(",\"body\":");
    push(&mut line, envelope.payload.get());
    line.push('}');
    line
}

fn json_of(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::String(text) => text.as_str().into(),
        HeaderValue::Integer(number) => (*number).into(),
        HeaderValue::Boolean(value) => (*value).into(),
    }
}

/// JSON without the characters at which Python ends a line. Those among them that JSON does not allow in
/// a text stand between its parts, where a blank means the same.
fn push(line: &mut String, json: &str) {
    for c in json.chars() {
        match c {
            '\u{85}' | '\u{2028}' | '\u{2029}' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            '\0'..' ' => line.push(' '),
            c => line.push(c),
        }
    }
}
