//! Properties that hold for any input.

use std::collections::BTreeMap;

use crate::message::body::{MAX_DEPTH, depth, dropped_nulls};
use crate::message::envelope::{Envelope, Routing};
use crate::message::outgoing::HeaderValue;
use crate::message::sender::Sender;
use crate::message::validate::validate;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::fixture::{example, example_sender, message, minimal, plain_routing, set, valid_sender, with};

/// Any JSON value.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        r#"[\[\]{}"\\,:]*"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            json_object_of(inner).prop_map(Value::from),
        ]
    })
}

fn json_object_of(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map(".*", inner, 0..6).prop_map(|map| map.into_iter().collect())
}

/// The path of a field in a manifest.
fn place() -> impl Strategy<Value = &'static str> {
    select(vec![
        "/spec",
        "/spec/env",
        "/spec/message",
        "/spec/message/body",
        "/spec/message/topic",
        "/spec/message/headers",
        "/spec/message/headers/niceness",
        "/spec/message/severity",
        "/spec/message/schema",
        "/spec/message/schemaPackage",
        "/spec/message/priority",
        "/spec/authentication",
        "/spec/authentication/secretRef",
        "/spec/authentication/secret_ref",
        "/spec/authentication/secret_ref/name",
        "/spec/authentication/secret_ref/namespace",
        "/spec/senderRef",
        "/spec/senderRef/name",
        "/spec/senderRef/namespace",
        "/spec/activeDeadlineSeconds",
        "/spec/backoffLimit",
        "/spec/suspend",
        "/status",
        "/status/conditions",
    ])
}

/// The path of a field in a Sender's manifest.
fn sender_place() -> impl Strategy<Value = &'static str> {
    select(vec![
        "/spec",
        "/spec/env",
        "/spec/topicPrefix",
        "/spec/application",
        "/spec/application/name",
        "/spec/application/contacts",
        "/spec/authentication",
        "/spec/authentication/secretRef",
        "/spec/authentication/certSecretRef/name",
        "/spec/authentication/keySecretRef/key",
        "/spec/authentication/caSecretRef",
        "/spec/authentication/caConfigMapRef/name",
        "/spec/allowedNamespaces",
        "/spec/defaults",
        "/spec/defaults/severity",
        "/spec/defaults/priority",
        "/spec/defaults/backoffLimit",
        "/status",
        "/status/conditions",
    ])
}

/// Returns true if a value can be set at a path. All its parents must be objects or absent.
fn can_set(object: &Value, place: &str) -> bool {
    let above = place.match_indices('/').map(|(end, _)| &place[..end]);
    above.filter_map(|pointer| object.pointer(pointer)).all(|value| value.is_object() || value.is_null())
}

/// A header value of any allowed type.
fn header() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        ".*".prop_map(HeaderValue::String),
        any::<i64>().prop_map(HeaderValue::Integer),
        any::<i32>().prop_map(|number| HeaderValue::Integer(number.into())),
        any::<bool>().prop_map(HeaderValue::Boolean),
    ]
}

/// [`depth`] by recursion.
fn recursive_depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(recursive_depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(recursive_depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Drops nulls like client-side `kubectl apply`. Returns the value and the number of dropped nulls.
fn without_nulls(value: &Value) -> (Value, usize) {
    match value {
        Value::Object(fields) => {
            let (mut kept, mut dropped) = (Map::new(), 0);
            for (key, value) in fields {
                if value.is_null() {
                    dropped += 1;
                    continue;
                }
                let (value, below) = without_nulls(value);
                kept.insert(key.clone(), value);
                dropped += below;
            }
            (kept.into(), dropped)
        }
        Value::Array(items) => {
            let (items, dropped): (Vec<_>, Vec<_>) = items.iter().map(without_nulls).unzip();
            (items.into(), dropped.iter().sum())
        }
        _ => (value.clone(), 0),
    }
}

/// Validates a message without and with a Sender, and checks each envelope or error.
fn check(object: &Value, routing: &Routing) -> Result<(), TestCaseError> {
    check_sent_as(None, object, routing)?;
    check_sent_as(Some(&valid_sender(&example_sender())), object, routing)
}

/// Validates a message, and checks the envelope or the error.
fn check_sent_as(sender: Option<&Sender>, object: &Value, routing: &Routing) -> Result<(), TestCaseError> {
    let text = object.to_string();
    let message = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
    match validate(&message, sender.map(Ok), routing) {
        Ok(valid) => {
            let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '%', '?', '.']);
            prop_assert!(is_name(&valid.owner), "{:?}", valid.owner);
            for source in valid.authentication.sources() {
                prop_assert!(is_name(&source.namespace) && !source.name.contains(['/', '%', '?']), "{}", source);
            }
            let envelope = Envelope::new(&valid, &routing.exchange);
            prop_assert!((1..=255).contains(&envelope.routing_key.len()));
            prop_assert_eq!(envelope.payload.get(), object["spec"]["message"]["body"].to_string());
            prop_assert!(depth(envelope.payload.get()) <= MAX_DEPTH);
            prop_assert!(object["spec"]["message"]["body"].is_object());
        }
        Err(error) => {
            let detail = error.to_string();
            prop_assert!(!detail.is_empty());
            prop_assert!(detail.chars().count() < 1_000, "{}", detail);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn validates_any_spec(spec in json_value()) {
        check(&with("/spec", spec), &plain_routing())?;
    }

    #[test]
    fn validates_any_value_in_any_field(
        mistakes in proptest::collection::btree_map(place(), json_value(), 1..3),
    ) {
        let mut object = example();
        for (place, value) in mistakes {
            if can_set(&object, place) {
                object = set(object, place, value);
            }
        }
        check(&object, &plain_routing())?;
    }

    #[test]
    fn validates_any_value_in_any_field_of_a_sender(
        mistakes in proptest::collection::btree_map(sender_place(), json_value(), 1..3),
    ) {
        let mut object = example_sender();
        for (place, value) in mistakes {
            if can_set(&object, place) {
                object = set(object, place, value);
            }
        }
        let text = object.to_string();
        let decoded = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        match Sender::new(&decoded) {
            Ok(sender) => {
                prop_assert!(sender.allows("apps"));
                check_sent_as(Some(&sender), &minimal(), &plain_routing())?;
            }
            Err(error) => {
                let detail = error.to_string();
                prop_assert!(detail.starts_with("spec") && detail.chars().count() < 1_000, "{}", detail);
                prop_assert!(!detail.contains(char::is_control), "{:?}", detail);
            }
        }
    }

    #[test]
    fn valid_routing_keys_fit_amqp(
        topic in "[a-zé🦀.]{0,270}",
        prefix in "[a-z.]{0,60}",
        body in json_object_of(json_value()),
    ) {
        let routing = Routing { prod_topic_prefix: prefix, ..plain_routing() };
        let object = set(with("/spec/message/topic", topic.into()), "/spec/message/body", body.into());
        check(&object, &routing)?;
    }

    #[test]
    fn validates_any_topic(topic in "\\PC*|.*|[ -~]*") {
        let message = message(&with("/spec/message/topic", topic.as_str().into()));
        match validate(&message, None, &plain_routing()) {
            Ok(valid) => {
                prop_assert_eq!(valid.routing_key.as_str(), topic.as_str());
                prop_assert!(!topic.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '#'));
                prop_assert!(topic.split('.').all(|word| !word.is_empty()));
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
        }
    }

    #[test]
    fn validates_any_secret_name(name in "\\PC*|[a-z0-9./-]*|.*") {
        let message = message(&with("/spec/authentication", json!({"secretRef": {"name": name.as_str()}})));
        match validate(&message, None, &plain_routing()) {
            Ok(_) => prop_assert!(!name.contains(['/', '%', '?']) && !name.contains("..") && !name.is_empty()),
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
        }
    }

    #[test]
    fn refuses_any_prefix_that_is_there_twice(prefix in "[a-z]{1,4}([.][a-z]{1,4}){0,3}", topic in "[a-z]{1,4}([.][a-z]{1,4}){0,3}") {
        let sender = valid_sender(&set(example_sender(), "/spec/topicPrefix", prefix.as_str().into()));
        let twice = set(minimal(), "/spec/message/topic", format!("{prefix}.{topic}").into());
        prop_assert!(validate(&message(&twice), Some(Ok(&sender)), &plain_routing()).is_err());
        let once = set(minimal(), "/spec/message/topic", topic.as_str().into());
        if let Ok(valid) = validate(&message(&once), Some(Ok(&sender)), &plain_routing()) {
            prop_assert_eq!(valid.routing_key, format!("{prefix}.{topic}"));
        } else {
            prop_assert!(topic.starts_with(&format!("{prefix}.")), "{}", topic);
        }
    }

    #[test]
    fn counts_depth_like_recursion(value in json_value()) {
        prop_assert_eq!(depth(&value.to_string()), recursive_depth(&value));
        prop_assert_eq!(depth(&serde_json::to_string_pretty(&value).unwrap()), recursive_depth(&value));
    }

    #[test]
    fn keeps_all_headers(
        own in proptest::collection::btree_map("[a-z][a-zA-Z0-9 _é-]{0,40}", header(), 0..20),
    ) {
        prop_assume!(!own.keys().any(|name| name == "priority" || name == "sent-at" || name.starts_with("fedora_messaging")));
        let message = message(&with("/spec/message/headers", json!(own)));
        let valid = validate(&message, None, &plain_routing()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let envelope = Envelope::new(&valid, "amq.topic");
        let mut sent: BTreeMap<_, _> =
            envelope.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for name in [
            "fedora_messaging_schema", "fedora_messaging_schema_package", "fedora_messaging_severity", "priority",
            "sent-at",
        ] {
            prop_assert!(sent.remove(name).is_some(), "{}", name);
        }
        prop_assert_eq!(sent, own);
    }

    #[test]
    fn finds_exactly_the_dropped_nulls(body in json_object_of(json_value())) {
        let written = Value::from(body);
        let (stored, dropped) = without_nulls(&written);
        let applied = with("/spec/message/body", written.clone()).to_string();
        prop_assert_eq!(dropped_nulls(&applied, &stored.to_string()).len(), dropped);
        prop_assert_eq!(dropped_nulls(&applied, &written.to_string()), Vec::<String>::new());
    }
}
