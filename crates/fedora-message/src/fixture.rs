//! The example message of the proposal, an example Sender, and functions that change them.

#![expect(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    reason = "only tests call these functions"
)]

use std::sync::Arc;

use crate::api::object::FedoraMessage;
use crate::api::sender::FedoraMessageSender;
use crate::message::envelope::Routing;
use crate::message::outgoing::{HeaderValue, OutgoingMessage};
use crate::message::sender::Sender;
use crate::message::validate::validate;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// The uid of the fixture.
pub const UID: &str = "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d";
/// The creation time of the fixture.
pub const CREATED: &str = "2019-07-30T19:12:22Z";

/// Returns the proposal's example as the API server stores it.
pub fn example() -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {
            "name": "hello-world", "namespace": "apps", "uid": UID, "generation": 1,
            "resourceVersion": "7", "creationTimestamp": CREATED,
        },
        "spec": {
            "env": "prod",
            "message": {
                "body": {"encouragement": "You're doing great!"},
                "headers": {"niceness": "very"},
                "topic": "nice.message",
            },
            "authentication": {"secret_ref": {"name": "fedora-messaging-certs", "namespace": "default"}},
        },
    })
}

/// Returns a message that is only a topic and a body. It is sent as the Sender `default`.
pub fn minimal() -> Value {
    let mut object = example();
    object["spec"] = json!({"message": {"body": {"encouragement": "You're doing great!"}, "topic": "nice.message"}});
    object
}

/// Returns an example of a Sender as the API server stores it.
pub fn example_sender() -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessageSender",
        "metadata": {
            "name": "default", "namespace": "apps", "uid": "2b3c4d5e-6f7a-4b8c-9d0e-1f2a3b4c5d6e", "generation": 1,
            "resourceVersion": "5", "creationTimestamp": CREATED,
        },
        "spec": {
            "env": "prod",
            "topicPrefix": "org.example.prod",
            "application": {
                "name": "nice-app", "version": "2.1", "url": "https://nice.example.org",
                "contacts": ["admin@example.org", "team@example.org"],
            },
            "authentication": {
                "certSecretRef": {"name": "nice-cert", "key": "nice-cert.pem"},
                "keySecretRef": {"name": "nice-key", "key": "nice-key.pem"},
                "caConfigMapRef": {"name": "fedora-ca", "key": "cacert.pem"},
            },
            "allowedNamespaces": ["nice-jobs"],
            "defaults": {"ttlSecondsAfterFinished": 604_800},
        },
    })
}

/// Decodes a Sender from a value, and validates it.
pub fn valid_sender(object: &Value) -> Sender {
    let object: FedoraMessageSender = serde_json::from_value(object.clone()).unwrap();
    Sender::new(&object).unwrap()
}

/// Decodes a message, with what this Sender gives it.
pub fn message_of(sender: &Sender, object: &Value) -> FedoraMessage {
    let mut message = message(object);
    Arc::make_mut(&mut message.summary).set_sender_fields(Some(sender.fields.clone()));
    message
}

/// Returns the example with the value at a JSON pointer replaced or added.
pub fn with(pointer: &str, value: Value) -> Value {
    set(example(), pointer, value)
}

/// Returns the example without the field at a JSON pointer.
pub fn without(pointer: &str) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let mut object = example();
    object.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    object
}

/// Returns `object` with the value at a JSON pointer replaced or added, and its parents added if they
/// are absent.
pub fn set(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut target = &mut object;
    for field in pointer.split('/').skip(1) {
        let field = field.replace("~1", "/").replace("~0", "~");
        target = &mut target[field];
    }
    *target = value;
    object
}

/// Returns the JSON of the example, with JSON at a pointer that a [`Value`] can't hold: white space,
/// large numbers, deep nesting.
pub fn text_with(pointer: &str, json: &str) -> String {
    with(pointer, "THE TEXT".into()).to_string().replace("\"THE TEXT\"", json)
}

/// Decodes a message from the API server's JSON.
pub fn decode(text: &str) -> FedoraMessage {
    serde_json::from_str(text).unwrap()
}

/// Decodes a message from a value.
pub fn message(object: &Value) -> FedoraMessage {
    decode(&object.to_string())
}

/// Decodes a message from a value, and validates it with routing without prefixes.
pub fn valid(object: &Value) -> OutgoingMessage {
    validate(&message(object), None, &plain_routing()).unwrap()
}

/// Returns an object that is nested this many levels.
pub fn nested(levels: usize) -> String {
    r#"{"a":"#.repeat(levels - 1) + "{}" + &"}".repeat(levels - 1)
}

/// Returns routing without prefixes.
pub fn plain_routing() -> Routing {
    Routing { exchange: "amq.topic".to_owned(), ..Routing::default() }
}

/// Parses a time.
pub fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

/// Returns a header value of type string.
pub fn text(value: &str) -> HeaderValue {
    HeaderValue::String(value.to_owned())
}

/// Returns a Sender of the environment prod with one Secret.
pub fn sender(namespace: &str, name: &str) -> FedoraMessageSender {
    sender_with(namespace, name, &json!({}))
}

/// Returns a Sender like [`sender`], with the fields of `spec` replaced or added.
pub fn sender_with(namespace: &str, name: &str, spec: &Value) -> FedoraMessageSender {
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": name, "uid": UID, "generation": 1, "resourceVersion": "7"},
        "spec": {"env": "prod", "authentication": {"secretRef": {"name": "certs"}}},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}
