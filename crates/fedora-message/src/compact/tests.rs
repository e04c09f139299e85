//! What waits is held packed, and comes out as it went in.
use strum::VariantArray;

use std::sync::Arc;

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::FedoraMessageStatus;
use crate::compact::{CompactMessage, CompactStatus, Origin};
use crate::policy::outcome::{Outcome, Reason};
use crate::state::{Facts, is_stalled, next};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::fixture::{at, decode, example, message, nested, set, text_with, with, without};

fn pack(status: &FedoraMessageStatus) -> CompactStatus {
    CompactStatus::new(status, &"uid".into(), Into::into)
}

fn assert_same(message: FedoraMessage) {
    let origin = Arc::new(Origin::of(&message));
    let unpacked = CompactMessage::new(&message, message.uid().into(), origin).unpack();
    assert_eq!(format!("{unpacked:?}"), format!("{:?}", FedoraMessage { status: None, ..message }));
}

#[test]
fn a_message_comes_out_as_it_went_in() {
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
fn a_body_keeps_its_very_bytes_however_deep() {
    assert_same(decode(&text_with("/spec/message/body", r#"{ "b" : 1.0e+2, "b": 18446744073709551616,"a":-0.0}"#)));
    assert_same(decode(&text_with("/spec/message/body", &nested(9_000))));
}

#[test]
fn of_a_body_that_is_left_neither_headers_nor_annotation_are_there_but_all_else() {
    let bare = with("/spec/message/body", Value::Null);
    let whole = set(bare.clone(), "/spec/message/body", json!({"text": "x".repeat(10_000)}));
    let whole = set(whole, "/spec/message/headers", json!({"large": "x".repeat(10_000)}));
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": format!("null{}", "x".repeat(10_000))});
    let whole = set(whole, "/metadata/annotations", applied);
    let (bare, whole) = (message(&set(bare, "/spec/message/headers", json!({}))), message(&whole));
    let (uid, origin): (Arc<str>, _) = (whole.uid().into(), Arc::new(Origin::of(&whole)));
    let with_body = CompactMessage::new(&whole, uid.clone(), origin.clone());
    let left = CompactMessage::without_body(whole, uid, origin);
    assert!(left.is_without_body() && !with_body.is_without_body());
    assert!(left.size().abs_diff(with_body.size()) < 50, "{} and {}", left.size(), with_body.size());
    assert_eq!(format!("{:?}", left.unpack()), format!("{:?}", FedoraMessage { status: None, ..bare }));
}

#[test]
fn what_messages_have_in_common_does_not_tell_them_apart() {
    let origin = |object: &Value| Origin::of(&message(object));
    let other = set(with("/metadata/name", "other".into()), "/spec/message/topic", "another.topic".into());
    assert_eq!(origin(&example()), origin(&other));
    for apart in [
        with("/metadata/namespace", "others".into()),
        with("/spec/env", "stg".into()),
        with("/spec/authentication/secret_ref/name", "other".into()),
        without("/spec"),
    ] {
        assert_ne!(origin(&example()), origin(&apart), "{apart}");
    }
}

#[test]
fn a_status_comes_out_as_it_went_in_and_answers_what_is_asked_of_it() {
    let (now, message) = (at("2026-01-01T12:00:00Z"), message(&example()));
    let none = FedoraMessageStatus::default();
    assert_eq!(pack(&none).unpack(), none);
    for reason in Reason::VARIANTS.iter().copied() {
        let outcome = Outcome { reason, message: "words \u{1f600}\n".to_owned() };
        let next_attempt = Some(now + TimeDelta::seconds(5));
        let facts = Facts { routing_key: Some("a.topic"), attempts: 3, next_attempt, delivery_mode: "direct" };
        let status = next(&message, &FedoraMessageStatus::default(), &outcome, &facts, now);
        let packed = pack(&status);
        assert_eq!(packed.unpack(), status);
        let own =
            FedoraMessageStatus { message_id: Some("another".to_owned()), sent_time: Some(now), ..status.clone() };
        assert_eq!(pack(&own).unpack(), own);
        assert_eq!(packed.reason(), Some(reason));
        assert_eq!(packed.is_sent(), reason == Reason::Sent);
        assert_eq!(packed.is_finished(), reason == Reason::Sent || is_stalled(&status), "{reason}");
    }
}
