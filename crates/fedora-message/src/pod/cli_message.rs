//! The message as the fedora-messaging CLI reads it from a file: one JSON object on one line.
//!
//! Source: fedora-messaging 3.9.1, `cli.py` and `message.py`. They split the file into lines by Python's
//! text mode and `splitlines`, so some characters that JSON allows in a string end the line.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::message::envelope::Envelope;

/// Returns the line that the CLI publishes as this envelope, with the same id, time, severity, headers
/// and priority.
#[must_use]
pub fn line(envelope: &Envelope<'_>) -> String {
    let headers: Value = envelope.headers.iter().map(|(name, value)| (*name, json!(value))).collect();
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

/// Appends JSON without the characters at which Python ends a line.
///
/// JSON does not allow control characters in a string. They can only be white space between tokens,
/// where a blank means the same.
fn push(line: &mut String, json: &str) {
    for c in json.chars() {
        match c {
            '\u{85}' | '\u{2028}' | '\u{2029}' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            '\0'..' ' => line.push(' '),
            c => line.push(c),
        }
    }
}
