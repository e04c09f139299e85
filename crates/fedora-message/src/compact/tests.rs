//! A compact message expands to the message that it was made of.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::object::FedoraMessage;
use crate::compact::CompactMessage;
use crate::fixture::{decode, example, message, minimal, nested, set, text_with, with, without};

fn assert_same(message: FedoraMessage) {
    let summary = message.summary.clone();
    let expanded = CompactMessage::new(message.clone(), message.uid().into(), summary).expand();
    assert_eq!(format!("{expanded:?}"), format!("{:?}", FedoraMessage { status: None, ..message }));
}

#[test]
fn expands_to_the_same_message() {
    let reference = json!({"name": "certs", "key": "ca.crt"});
    let three = json!({"caSecretRef": reference, "certSecretRef": reference, "keySecretRef": reference});
    let full = json!({
        "body": {"text": "\u{1f600}\u{0}\"\\"}, "topic": "nice.message", "severity": "Warning", "priority": 255,
        "headers": {"a": "b", "count": 1, "flag": true, "nothing": null}, "schema": "a.v1", "schemaPackage": "a_messages",
    });
    let mut limits = set(example(), "/spec/activeDeadlineSeconds", 60.into());
    for (field, value) in [("backoffLimit", json!(0)), ("ttlSecondsAfterFinished", json!(7)), ("suspend", json!(true))]
    {
        limits = set(limits, &format!("/spec/{field}"), value);
    }
    let retried = set(example(), "/metadata/annotations/apps.fedoraproject.org~1retry", "once more".into());
    let applied = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    for object in [
        example(),
        with("/spec/message", full),
        with("/spec/authentication", three),
        with("/spec/authentication", json!({"secretRef": {"name": "certs"}})),
        limits,
        minimal(),
        set(minimal(), "/spec/senderRef", json!({"name": "default", "namespace": "infra"})),
        retried,
        with(applied, r#"{"spec": null}"#.into()),
        without("/spec"),
        without("/spec/env"),
        with("/spec/message/headers", json!([1])),
        with("/spec/message/priority", 256.into()),
    ] {
        assert_same(message(&object));
    }
}

#[test]
fn body_bytes_are_kept() {
    assert_same(decode(&text_with("/spec/message/body", r#"{ "b" : 1.0e+2, "b": 18446744073709551616,"a":-0.0}"#)));
    assert_same(decode(&text_with("/spec/message/body", &nested(9_000))));
}

#[test]
fn omitted_spec_leaves_all_else() {
    let whole = with("/spec/message/body", json!({"text": "x".repeat(10_000)}));
    let whole = set(whole, "/spec/message/headers", json!({"large": "x".repeat(10_000)}));
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": format!("null{}", "x".repeat(10_000))});
    let whole = message(&set(whole, "/metadata/annotations", applied));
    let (uid, summary): (Arc<str>, _) = (whole.uid().into(), whole.summary.clone());
    let complete = CompactMessage::new(whole.clone(), uid.clone(), summary.clone());
    let omitted = CompactMessage::without_spec(whole.clone(), uid, summary);
    assert!(omitted.is_without_spec() && !complete.is_without_spec());
    assert!(complete.size() > 30_000);
    assert_eq!(omitted.size(), complete.size());
    let bare = FedoraMessage { spec_json: None, last_applied: None, status: None, ..whole };
    assert_eq!(format!("{:?}", omitted.expand()), format!("{bare:?}"));
}

#[test]
fn summary_has_no_identity() {
    let summary = |object: &Value| message(object).summary;
    let other = set(with("/metadata/name", "other".into()), "/spec/message/topic", "another.topic".into());
    assert_eq!(summary(&example()), summary(&other));
    for apart in [
        with("/metadata/namespace", "others".into()),
        with("/spec/env", "stg".into()),
        with("/spec/authentication/secret_ref/name", "other".into()),
        without("/spec"),
        minimal(),
    ] {
        assert_ne!(summary(&example()), summary(&apart), "{apart}");
    }
}
