//! Any JSON as the body of messages with a schema: it matches, or is refused with a bounded error.

#![no_main]

use std::sync::{Arc, LazyLock};

use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::validate;
use fedora_message::schema::catalog::Catalog;
use fedora_message::schema::check::{Schemas, UnknownSchemaPolicy, check_schema};
use fedora_message_operator_fuzz::memory::within;
use fedora_message_operator_fuzz::rules::check_error;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Schemas with the most expensive features: nested alternatives, patterns, sets, recursion.
static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let tree = json!({"a": {"$ref": "#/definitions/tree"}, "b": {"anyOf": [{"$ref": "#/definitions/tree"}, {"type": "string"}]}});
    let schemas = [
        (
            "update",
            json!({
                "required": ["a", "b"],
                "properties": {"a": {"type": ["integer", "null"]}, "b": {"enum": ["x", 1, null]}},
                "additionalProperties": false,
            }),
        ),
        (
            "tree",
            json!({
                "definitions": {"tree": {"type": "object", "properties": tree, "additionalProperties": {"type": "integer"}}},
                "$ref": "#/definitions/tree",
            }),
        ),
        (
            "list",
            json!({
                "properties": {"a": {"type": "array", "uniqueItems": true, "items": {"oneOf": [
                    {"type": "integer", "multipleOf": 3}, {"type": "number", "minimum": 2}, {"pattern": "^(a+)+$", "type": "string"},
                ]}}},
            }),
        ),
    ];
    let entry = |(name, mut body): (&str, Value)| {
        body["$schema"] = "http://json-schema.org/draft-04/schema#".into();
        json!({
            "name": name, "package": "app", "distribution": "app", "version": "1", "severity": 20, "headers": null,
            "body": body,
        })
    };
    let object = json!({"type": "object"});
    let catalog = json!({
        "format": 1, "library": "3.9.1", "base": {"headers": object, "body": object},
        "schemas": schemas.map(entry),
    });
    let catalog = Catalog::read(catalog.to_string().as_bytes()).expect("a catalog");
    Schemas { catalog: Some(Arc::new(catalog)), unknown: UnknownSchemaPolicy::Refuse }
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<&RawValue>(bytes) else { return };
    for schema in ["update", "tree", "list"] {
        let message = message(schema, body);
        // The first message of a schema compiles it.
        within(bytes.len() + 65536, || {
            let Ok(mut outgoing) = validate(&message, None, &Routing::default()) else { return };
            if let Err(invalid) = check_schema(&mut outgoing, &SCHEMAS) {
                check_error(&invalid.to_string());
            }
        });
    }
});

fn message(schema: &str, body: &RawValue) -> FedoraMessage {
    let metadata = r#"{"name":"a","namespace":"apps","uid":"1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d","creationTimestamp":"2019-07-30T19:12:22Z"}"#;
    let spec = format!(
        r#"{{"env":"stg","message":{{"topic":"a.b","schema":"{schema}","body":{body}}},"authentication":{{"secretRef":{{"name":"certs"}}}}}}"#
    );
    serde_json::from_str(&format!(r#"{{"metadata":{metadata},"spec":{spec}}}"#)).expect("a message")
}
