//! Decodes objects of any depth from the API server. An error in one message affects only that message.

use std::sync::Arc;

use crate::api::names::{SenderName, SourceName};
use crate::api::object::{FedoraMessage, Summary};
use crate::api::v1alpha1::Environment;
use kube::Resource;
use kube::core::{ObjectList, WatchEvent};
use serde_json::{Value, json};

use crate::fixture::{
    UID, at, decode, example, example_sender, message, message_of, minimal, nested, set, text_with, valid_sender, with,
    without,
};

const LEVELS: usize = 9_000;

/// Returns a message whose body is nested thousands of levels, as are its managed fields.
fn deep() -> String {
    let fields = r#"{"f:a":"#.repeat(LEVELS) + "{}" + &"}".repeat(LEVELS);
    let object = with("/metadata/managedFields", json!([{"manager": "kubectl", "fieldsV1": "THE FIELDS"}]));
    set(object, "/spec/message/body", "THE BODY".into())
        .to_string()
        .replace("\"THE FIELDS\"", &fields)
        .replace("\"THE BODY\"", &nested(LEVELS))
}

fn body(message: &FedoraMessage) -> String {
    message.spec().unwrap().message.body.get().to_owned()
}

/// Returns the error of a spec.
fn describe(object: &Value) -> String {
    message(object).spec().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn decodes_the_example() {
    let message = message(&example());
    assert_eq!((message.namespace(), message.name(), message.uid()), ("apps", "hello-world", UID));
    assert_eq!(message.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(message.metadata.generation, Some(1));
    assert_eq!(message.created, Some(at("2019-07-30T19:12:22Z")));
    assert_eq!((&message.retry, &message.last_applied), (&None, &None));
    assert!(message.spec().is_ok());
    assert!(message.status.is_none());
}

#[test]
fn decodes_deep_objects() {
    let message = decode(&deep());
    assert_eq!(message.uid(), UID);
    assert_eq!(body(&message), nested(LEVELS));
}

#[test]
fn decodes_a_list_with_a_deep_object() {
    let list = format!(
        r#"{{"apiVersion":"apps.fedoraproject.org/v1alpha1","kind":"FedoraMessageList","metadata":{{"resourceVersion":"9"}},"items":[{},{},{}]}}"#,
        example(),
        deep(),
        with("/spec/env", "dev".into()),
    );
    let list: ObjectList<FedoraMessage> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.metadata.resource_version.as_deref(), Some("9"));
    let [plain, deep, wrong] = list.items.as_slice() else { panic!("{} items", list.items.len()) };
    assert_eq!(body(plain), r#"{"encouragement":"You're doing great!"}"#);
    assert_eq!(body(deep), nested(LEVELS));
    assert!(wrong.spec().is_err());
}

#[test]
fn decodes_a_watch_event_with_a_deep_object() {
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let line = format!(r#"{{"type":"{kind}","object":{}}}"#, deep());
        match serde_json::from_str::<WatchEvent<FedoraMessage>>(&line).unwrap() {
            WatchEvent::Added(message) | WatchEvent::Modified(message) | WatchEvent::Deleted(message) => {
                assert_eq!(body(&message), nested(LEVELS));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn skips_deep_unknown_fields() {
    let deep = nested(LEVELS);
    for pointer in ["/unknown", "/metadata/unknown", "/metadata/annotations/unknown", "/spec/unknown"] {
        let message = decode(&text_with(pointer, &deep));
        assert!(message.spec().is_ok(), "{pointer}: {:?}", message.spec());
    }
    assert!(decode(&text_with("/status", &deep)).status.is_some_and(|status| status.reason.is_none()));
}

#[test]
fn keeps_the_bytes_of_the_body() {
    for text in [
        r#"{"z":1,"a":2,"m":3}"#,
        r#"{ "spaces" : [ 1 , 2 ] ,	"tab":0 }"#,
        r#"{"number":1.0,"large":12345678901234567890,"exponent":1E+5,"negative":-0.0}"#,
        r#"{"escaped":"\u00e9\/\n\u0000","plain":"é🦀","separator":" "}"#,
        r#"{"null":null,"nulls":[null]}"#,
        r#"{"twice":1,"twice":2}"#,
        "{}",
    ] {
        assert_eq!(body(&decode(&text_with("/spec/message/body", text))), text);
    }
}

#[test]
fn names_fields_that_are_missing_or_unknown() {
    for (what, object, expected) in [
        ("another environment", with("/spec/env", "dev".into()), r#"spec.env is "dev", but must be prod or stg"#),
        (
            "an environment in capitals",
            with("/spec/env", "Prod".into()),
            r#"spec.env is "Prod", but must be prod or stg"#,
        ),
        (
            "a severity in small letters",
            with("/spec/message/severity", "info".into()),
            r#"spec.message.severity is "info", but must be one of Debug, Info, Warning, Error"#,
        ),
        (
            "a topic that is a number",
            with("/spec/message/topic", 3.into()),
            "spec.message.topic is 3, but must be a string",
        ),
        ("no topic", without("/spec/message/topic"), "spec.message.topic is missing"),
        ("no body", without("/spec/message/body"), "spec.message.body is missing"),
        ("no environment", without("/spec/env"), ""),
        ("no message", without("/spec/message"), "spec.message is missing"),
        ("no authentication", without("/spec/authentication"), ""),
        ("a Sender without a name", with("/spec/senderRef", json!({})), "spec.senderRef.name is missing"),
        (
            "a Secret without a name",
            without("/spec/authentication/secret_ref/name"),
            "spec.authentication.secret_ref.name is missing",
        ),
        ("no spec", without("/spec"), "spec is missing: add message with topic and body"),
        ("a spec that is null", with("/spec", json!(null)), "spec is missing: add message with topic and body"),
    ] {
        assert_eq!(describe(&object), expected, "{what}");
    }
}

#[test]
fn names_fields_of_the_wrong_type() {
    for (pointer, value, expected) in [
        ("/spec", json!(3), "is 3, but must be an object"),
        ("/spec", json!("prod"), r#"is "prod", but must be an object"#),
        ("/spec/env", json!(["prod"]), "must be a string: see kubectl explain fmsg.spec.env"),
        ("/spec/message", json!("hello"), r#"is "hello", but must be an object"#),
        ("/spec/message", json!([]), "is a list, but must be an object"),
        ("/spec/message/headers", json!("very"), r#"is "very", but must be an object"#),
        ("/spec/message/priority", json!(256), "is 256, but must be an integer from 0 to 255"),
        ("/spec/message/priority", json!(-1), "is -1, but must be an integer from 0 to 255"),
        ("/spec/message/priority", json!(1.5), "is 1.5, but must be an integer from 0 to 255"),
        ("/spec/message/priority", json!("high"), r#"is "high", but must be an integer from 0 to 255"#),
        ("/spec/backoffLimit", json!(-1), "is -1, but must be an integer from 0 to 2147483647"),
        ("/spec/activeDeadlineSeconds", json!("5m"), r#"is "5m", but must be a 64-bit integer"#),
        ("/spec/suspend", json!("yes"), r#"is "yes", but must be a boolean"#),
        ("/spec/authentication", json!("certs"), r#"is "certs", but must be an object"#),
        ("/spec/authentication/secret_ref", json!("certs"), r#"is "certs", but must be an object"#),
        ("/spec/senderRef", json!("default"), r#"is "default", but must be an object"#),
        ("/spec/senderRef/name", json!(3), "is 3, but must be a string"),
    ] {
        let field = pointer[1..].replace('/', ".");
        assert_eq!(describe(&with(pointer, value)), format!("{field} {expected}"));
    }
}

#[test]
fn refuses_lists_as_objects() {
    let spec = example()["spec"].clone();
    for (pointer, value) in [
        ("/spec", json!([spec["env"], spec["message"], spec["authentication"]])),
        ("/spec/authentication", json!([{"name": "certs"}])),
        ("/spec/authentication/secret_ref", json!(["certs"])),
        ("/spec/senderRef", json!(["default"])),
    ] {
        assert_ne!(describe(&with(pointer, value.clone())), "", "{pointer} = {value}");
    }
}

#[test]
fn shortens_wrong_values() {
    let long = "x".repeat(100_000);
    for value in [long.as_str(), "prod\nat line 7", "prod\u{1b}[31m"] {
        for pointer in ["/spec/env", "/spec/message/severity"] {
            let detail = describe(&with(pointer, value.into()));
            assert!(detail.len() < 1_000, "{} bytes for {pointer}", detail.len());
            assert!(!detail.contains(char::is_control), "{detail:?}");
            assert!(detail.contains("but must be"), "{detail}");
        }
    }
}

#[test]
fn accepts_nulls_in_optional_fields() {
    for pointer in [
        "/metadata/annotations",
        "/status",
        "/spec/env",
        "/spec/authentication",
        "/spec/senderRef",
        "/spec/suspend",
        "/spec/backoffLimit",
        "/spec/activeDeadlineSeconds",
        "/spec/message/severity",
        "/spec/message/priority",
        "/spec/message/schema",
        "/spec/authentication/secretRef",
    ] {
        assert_eq!(describe(&with(pointer, json!(null))), "", "{pointer}");
    }
}

#[test]
fn ignores_invalid_statuses() {
    for status in [
        json!("Sent"),
        json!([1]),
        json!({"status": "True"}),
        json!({"conditions": [{"type": 3}]}),
        json!({"attempts": -1}),
        json!({"sentTime": "yesterday"}),
    ] {
        let message = message(&with("/status", status.clone()));
        assert!(message.status.is_none(), "{status}");
        assert!(message.spec().is_ok(), "{status}");
    }
}

#[test]
fn decodes_a_status() {
    let status = json!({
        "type": "FedoraMessageSent", "status": false, "reason": "Nacked", "message": "no", "attempts": 3,
        "observedGeneration": 1, "messageId": UID, "routingKey": "nice.message", "deliveryMode": "direct",
        "nextAttemptTime": "2019-07-30T19:12:22Z", "startTime": "2019-07-30T19:12:22Z", "observedRetry": "1",
        "conditions": [{
            "type": "FedoraMessageSent", "status": "False", "reason": "Nacked", "message": "no",
            "observedGeneration": 1, "lastTransitionTime": "2019-07-30T19:12:22Z",
        }],
    });
    let message = message(&with("/status", status.clone()));
    assert_eq!(serde_json::to_value(message.status.unwrap()).unwrap(), status);
}

#[test]
fn keeps_last_applied_only_with_nulls() {
    let annotation = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    let held = |text: &str| message(&with(annotation, text.into())).last_applied;
    assert_eq!(held(r#"{"spec":{"message":{"body":{"a":1}}}}"#), None);
    let with_null = r#"{"spec":{"message":{"body":{"a":null}}}}"#;
    assert_eq!(held(with_null).as_deref(), Some(with_null));
}

#[test]
fn reads_the_retry_annotation() {
    let annotation = "/metadata/annotations/apps.fedoraproject.org~1retry";
    assert_eq!(message(&with(annotation, "1".into())).retry.as_deref(), Some("1"));
    assert_eq!(message(&with("/metadata/annotations/other", "1".into())).retry, None);
}

#[test]
fn has_the_api_path_of_its_definition() {
    assert_eq!(
        FedoraMessage::url_path(&(), Some("apps")),
        "/apis/apps.fedoraproject.org/v1alpha1/namespaces/apps/fedoramessages"
    );
    assert_eq!(FedoraMessage::kind(&()), "FedoraMessage");
}

fn summary(object: &Value) -> Arc<Summary> {
    message(object).summary
}

#[test]
fn names_the_sender() {
    let reference = |reference: Value| set(minimal(), "/spec/senderRef", reference);
    for (what, object, expected) in [
        ("a message without a reference", minimal(), Some(SenderName::new("apps", "default"))),
        ("a reference", reference(json!({"name": "nightly"})), Some(SenderName::new("apps", "nightly"))),
        (
            "another namespace",
            reference(json!({"name": "default", "namespace": "infra"})),
            Some(SenderName::new("infra", "default")),
        ),
        ("a certificate", example(), None),
        ("a spec that can't be decoded", set(minimal(), "/spec/env", "dev".into()), None),
        ("no spec", without("/spec"), None),
    ] {
        assert_eq!(summary(&object).sender, expected, "{what}");
    }
}

#[test]
fn summary_knows_unreadable_specs() {
    for (object, expected) in
        [(minimal(), true), (example(), true), (without("/spec"), false), (with("/spec/env", "dev".into()), false)]
    {
        assert_eq!(summary(&object).readable, expected, "{object}");
    }
}

/// A Sender that gives every field.
fn generous() -> Value {
    let defaults = json!({"activeDeadlineSeconds": 60, "backoffLimit": 5, "ttlSecondsAfterFinished": 3600});
    set(example_sender(), "/spec/defaults", defaults)
}

/// Returns the summary of a message with what its Sender gives.
fn sent_as(object: &Value, sender: &Value) -> Summary {
    Summary::clone(&message_of(&valid_sender(sender), object).summary)
}

#[test]
fn sender_fills_gaps() {
    let alone = summary(&minimal());
    assert_eq!((alone.environment(), alone.sources()), (None, [].as_slice()));
    assert_eq!((alone.active_deadline_seconds(), alone.backoff_limit()), (None, None));
    assert_eq!(alone.ttl_seconds_after_finished(None), None);

    let sent = sent_as(&minimal(), &generous());
    assert_eq!(sent.environment(), Some(Environment::Prod));
    assert_eq!(
        sent.sources(),
        [
            SourceName::config_map("apps", "fedora-ca"),
            SourceName::secret("apps", "nice-cert"),
            SourceName::secret("apps", "nice-key"),
        ]
    );
    assert_eq!((sent.active_deadline_seconds(), sent.backoff_limit()), (Some(60), Some(5)));
    assert_eq!(sent.ttl_seconds_after_finished(None), Some(3600));
}

#[test]
fn own_fields_go_before_the_senders() {
    let own = json!({"env": "stg", "activeDeadlineSeconds": 1, "backoffLimit": 0, "ttlSecondsAfterFinished": 0});
    let mut object = minimal();
    for (field, value) in own.as_object().unwrap() {
        object = set(object, &format!("/spec/{field}"), value.clone());
    }
    let sent = sent_as(&object, &generous());
    assert_eq!(sent.environment(), Some(Environment::Stg));
    assert_eq!((sent.active_deadline_seconds(), sent.backoff_limit()), (Some(1), Some(0)));
    assert_eq!(sent.ttl_seconds_after_finished(None), Some(0));
}

/// The Sender was deleted, or allows the namespace no more.
#[test]
fn lost_sender_gives_nothing() {
    let mut summary = sent_as(&minimal(), &generous());
    assert_eq!(summary.sender_fields(), Some(&valid_sender(&generous()).fields));
    summary.set_sender_fields(None);
    assert_eq!(summary, *message(&minimal()).summary);
    assert_eq!((summary.environment(), summary.backoff_limit()), (None, None));
}

#[test]
fn senders_namespace_owns_the_certificate() {
    let foreign = set(minimal(), "/spec/senderRef", json!({"name": "default", "namespace": "infra"}));
    // Its Secret is in the namespace `default`, and is used on behalf of `apps`.
    for (object, expected) in [(minimal(), "apps"), (foreign, "infra"), (example(), "apps")] {
        assert_eq!(summary(&object).owner(), expected, "{object}");
    }
}

/// The default of the CRD is no status that the operator wrote.
#[test]
fn first_status_is_none() {
    let mut object = example();
    object["status"] = json!({"observedGeneration": -1});
    assert!(message(&object).status.is_none());
    object["status"]["reason"] = json!("Sent");
    assert!(message(&object).status.is_some());
}
