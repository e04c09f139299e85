//! Rules that every output must follow, for any input.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, FieldTable};
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::sender::FedoraMessageSender;
use fedora_message::message::envelope::{self, Envelope, Routing};
use fedora_message::message::outgoing::{HeaderValue, OutgoingMessage};
use fedora_message::message::sender::{Sender, SenderError};
use fedora_message::message::validate::validate;
use serde_json::Value;
use serde_json::value::RawValue;

/// RabbitMQ's default `frame_max`.
const FRAME_MAX: usize = 131_072;
/// AMQP's class `basic`.
const BASIC: u16 = 60;
/// The maximum length of an error message, in characters.
const MAX_MESSAGE: usize = 1_500;
/// The minimum length of a line of base64 that counts as key material.
const LONG_LINE: usize = 64;
/// Headers that the user can't set.
const RESERVED: [&str; 7] = [
    "sent-at",
    "priority",
    "CC",
    "BCC",
    "fedora_messaging_severity",
    "fedora_messaging_schema",
    "fedora_messaging_schema_package",
];

/// Returns true if a terminal interprets a character, or shows other text because of it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks that an error message is one line of bounded length without control characters.
pub fn check_error(error: &str) {
    assert!(!error.trim().is_empty(), "the error is empty");
    assert!(!error.contains(is_hidden), "control characters in {error:?}");
    assert!(error.chars().count() <= MAX_MESSAGE, "{} characters: {error:?}", error.chars().count());
}

/// Checks an error message, and that it does not quote a line of key material from the input.
pub fn check_error_hides_keys(error: &str, input: &[u8]) {
    check_error(error);
    let lines = input.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()).map(str::trim);
    for line in lines.filter(|line| line.len() >= LONG_LINE && line.bytes().all(is_base64)) {
        assert!(!error.contains(line), "{error:?} quotes {line:?}");
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

/// Validates a message that is sent as this Sender, unless it names a certificate. Checks the error or
/// the envelope.
pub fn check_message(message: &FedoraMessage, sender: Option<Result<&Sender, SenderError>>, routing: &Routing) {
    match validate(message, sender.clone(), routing) {
        Ok(outgoing) => {
            check_outgoing(message, sender.and_then(Result::ok), &outgoing, routing);
            check_envelope(message, &outgoing, routing);
        }
        Err(error) => check_error(&error.to_string()),
    }
}

/// Validates a Sender, and checks the error, or a message that is sent as it.
pub fn check_sender(object: &FedoraMessageSender, message: &FedoraMessage, routing: &Routing) {
    match Sender::new(object) {
        Ok(sender) => {
            let own = &sender.name.namespace;
            assert!(sender.allows(own) && sender.authentication.sources().all(|source| source.namespace == *own));
            check_message(message, Some(Ok(&sender)), routing);
        }
        Err(error) => check_error(&error.to_string()),
    }
}

fn check_outgoing(message: &FedoraMessage, sender: Option<&Sender>, outgoing: &OutgoingMessage, routing: &Routing) {
    let spec = message.spec().expect("what is valid has a spec");
    let sender = sender.filter(|_| spec.authentication.is_none());
    let environment = sender.map_or(spec.env, |sender| Some(sender.environment));
    assert_eq!(environment, Some(outgoing.environment));
    let owner = sender.map_or(message.namespace(), |sender| &sender.name.namespace);
    assert_eq!(outgoing.owner, owner);
    let own_prefix = sender.and_then(|sender| sender.topic_prefix.as_deref());
    let prefix = own_prefix.unwrap_or_else(|| routing.prefix(outgoing.environment));
    let key = outgoing.routing_key.as_str();
    assert!((1..=255).contains(&key.len()), "a routing key of {} bytes", key.len());
    assert!(!key.contains(|c: char| c.is_control() || c.is_whitespace() || c == '*' || c == '#'), "{key:?}");
    assert!(key.split('.').all(|word| !word.is_empty()), "{key:?}");
    let rest = key.strip_prefix(prefix).expect("the routing key begins with the prefix");
    assert_eq!(rest.strip_prefix('.').filter(|_| !prefix.is_empty()).unwrap_or(rest), spec.message.topic);
    assert_eq!(outgoing.id.to_string(), message.uid());
    assert!(outgoing.headers.len() <= 1000);
    for (name, value) in &outgoing.headers {
        assert!((1..=255).contains(&name.len()) && !RESERVED.contains(&name.as_str()), "{name:?}");
        assert!(!name.starts_with("fedora_messaging") || *value == HeaderValue::Boolean(true), "{name:?}: {value:?}");
    }
    for source in outgoing.authentication.sources() {
        assert!(!source.name.contains(['/', '%', '?', '#']) && !source.name.contains(".."), "{source}");
    }
}

/// Builds the envelope twice, and checks that both are the same, hold the user's body, and fit a frame.
pub fn check_envelope(message: &FedoraMessage, outgoing: &OutgoingMessage, routing: &Routing) {
    let envelope = Envelope::new(outgoing, &routing.exchange);
    let again = Envelope::new(outgoing, &routing.exchange);
    assert_eq!((envelope.exchange, envelope.routing_key), (again.exchange, again.routing_key));
    assert_eq!((envelope.message_id, envelope.priority), (again.message_id, again.priority));
    assert_eq!((&envelope.headers, envelope.payload.get()), (&again.headers, again.payload.get()));
    let spec = message.spec().expect("what is valid has a spec");
    check_body(envelope.payload, &spec.message.body);
    let mut names: Vec<_> = envelope.headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), envelope.headers.len(), "a header occurs twice: {names:?}");
    let (estimate, real) = (envelope.properties_size(), frame_size(&envelope));
    assert!(real <= estimate && estimate <= FRAME_MAX, "a frame of {real} bytes, estimated as {estimate}");
    // The estimate counts 4 bytes too many for each integer that fits 32 bits.
    assert!(estimate <= real + 4 * envelope.headers.len(), "a frame of {real} bytes, estimated as {estimate}");
}

fn check_body(payload: &RawValue, body: &RawValue) {
    assert_eq!(payload.get(), body.get());
    // Consumers' parsers use recursion, and have a limit.
    let mut json = serde_json::Deserializer::from_str(payload.get());
    json.disable_recursion_limit();
    if let Some(Ok(body)) = json.into_iter::<Value>().next() {
        assert!(body.is_object() && levels(&body) <= 128);
    }
}

fn levels(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// Returns the size of the frame that lapin's encoder makes of the properties.
fn frame_size(envelope: &Envelope<'_>) -> usize {
    let mut headers = FieldTable::default();
    for (name, value) in &envelope.headers {
        let value = match value {
            HeaderValue::String(text) => AMQPValue::LongString(text.as_str().into()),
            HeaderValue::Integer(number) => {
                i32::try_from(*number).map_or(AMQPValue::LongLongInt(*number), AMQPValue::LongInt)
            }
            HeaderValue::Boolean(value) => AMQPValue::Boolean(*value),
        };
        headers.insert((*name).into(), value);
    }
    let properties = BasicProperties::default()
        .with_content_type(envelope::CONTENT_TYPE.into())
        .with_content_encoding(envelope::CONTENT_ENCODING.into())
        .with_delivery_mode(envelope::DELIVERY_MODE)
        .with_priority(envelope.priority)
        .with_message_id(envelope.message_id.to_string().into())
        .with_headers(headers);
    let body_size = envelope.payload.get().len() as u64;
    let frame = AMQPFrame::Header(1, AMQPContentHeader { class_id: BASIC, body_size, properties });
    let encoded = gen_frame(&frame)(WriteContext::from(Vec::new())).expect("what is valid can be encoded");
    encoded.into_inner().0.len()
}
