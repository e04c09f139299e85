//! Validation names the field of each mistake, and keeps valid values unchanged.

#![expect(clippy::disallowed_methods, reason = "tests read files and clocks")]
use strum::VariantArray;

use std::time::{Duration, Instant};

use crate::api::names::SourceName;
use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::Environment;
use crate::message::authentication::{Authentication, ClientKeys, SourceKey};
use crate::message::envelope::{MAX_OWN_HEADERS_SIZE, Routing};
use crate::message::outgoing::HeaderValue;
use crate::message::sender::Application;
use crate::message::validate::validate;
use crate::policy::outcome::{Failure, Reason};
use serde_json::{Value, json};

mod with_sender;

use crate::fixture::{
    UID, at, decode, example, message, nested, plain_routing, set, text, text_with, valid, with, without,
};

/// Returns the error of a message, or "" if it is valid.
fn refusal(message: &FedoraMessage) -> String {
    match validate(message, None, &plain_routing()) {
        Ok(_) => String::new(),
        Err(error) => {
            assert_eq!(error.reason(), Reason::InvalidMessage);
            error.to_string()
        }
    }
}

fn routing_key(topic: &str, routing: &Routing) -> Result<String, String> {
    let message = message(&with("/spec/message/topic", topic.into()));
    validate(&message, None, routing).map(|valid| valid.routing_key).map_err(|error| error.to_string())
}

fn header(name: &str, json: &str) -> Result<HeaderValue, String> {
    let message = decode(&text_with("/spec/message/headers", &format!("{{{}:{json}}}", Value::from(name))));
    let valid = validate(&message, None, &plain_routing()).map_err(|error| error.to_string())?;
    assert_eq!(valid.headers.len(), 1);
    assert_eq!(valid.headers[0].0, name);
    Ok(valid.headers[0].1.clone())
}

#[test]
fn accepts_the_proposals_example() {
    let valid = valid(&example());
    assert_eq!(valid.id.to_string(), UID);
    assert_eq!(valid.sent_at, at("2019-07-30T19:12:22Z"));
    assert_eq!(valid.environment, Environment::Prod);
    assert_eq!(valid.routing_key, "nice.message");
    assert_eq!((valid.schema.as_str(), valid.schema_package.as_deref()), ("base.message", Some("fedora_messaging")));
    assert_eq!((valid.severity, valid.priority), (None, 0));
    assert_eq!(valid.headers, [("niceness".to_owned(), text("very"))]);
    assert_eq!(valid.body.get(), r#"{"encouragement":"You're doing great!"}"#);
    let secret = SourceName::secret("default", "fedora-messaging-certs");
    assert_eq!(valid.authentication, Authentication { client: ClientKeys::One(secret), ca: None });
    assert_eq!(valid.owner, "apps");
    assert_eq!(*valid.application, Application::named("default/fedora-messaging-certs".to_owned()));
}

#[test]
fn documents_the_proposals_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/hello-world.yaml");
    let documented: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(documented["spec"], example()["spec"]);
}

#[test]
fn describes_small_integers() {
    for number in ["5", "-5", "0"] {
        let detail = refusal(&decode(&text_with("/spec/message/body", number)));
        assert!(detail.starts_with("spec.message.body is an integer"), "{number}: {detail}");
        assert!(!detail.contains("64 bits"), "{number}: {detail}");
    }
}

#[test]
fn limits_the_depth_of_bodies() {
    let detail = |depth| {
        format!("spec.message.body is nested {depth} levels deep, but consumers can read at most 128: flatten it")
    };
    for (depth, expected) in
        [(1, String::new()), (128, String::new()), (129, detail(129)), (1_000, detail(1_000)), (9_000, detail(9_000))]
    {
        assert_eq!(refusal(&decode(&text_with("/spec/message/body", &nested(depth)))), expected, "{depth} levels");
    }
}

#[test]
fn ignores_brackets_in_strings() {
    let body = json!({"smile": "[".repeat(5_000), "escaped": "\\\"{".repeat(5_000)});
    assert_eq!(refusal(&message(&with("/spec/message/body", body))), "");
}

#[test]
fn names_nulls_that_kubectl_dropped() {
    let detail = |paths: &str| {
        format!(
            "client-side kubectl apply dropped the null values at {paths}: delete the resource and use \
             `kubectl apply --server-side` or `kubectl create`, which keep them. \
             A manifest that was exported from the cluster has lost them: write them again"
        )
    };
    let many = json!({"a": null, "b": null, "c": null, "d": null, "e": null, "f": null, "g": null});
    for (what, written, stored, expected) in [
        ("one", json!({"a": null}), json!({}), detail("spec.message.body.a")),
        (
            "within objects and lists",
            json!({"a": {"b": [1, {"c": null}]}, "d": null}),
            json!({"a": {"b": [1, {}]}}),
            detail("spec.message.body.a.b[1].c, spec.message.body.d"),
        ),
        (
            "beside values that are kept",
            json!({"a": [{"b": null, "c": 1}], "d": {"e": {"f": null}}}),
            json!({"a": [{"c": 1}], "d": {"e": {}}}),
            detail("spec.message.body.a[0].b, spec.message.body.d.e.f"),
        ),
        (
            "more than are shown",
            many,
            json!({}),
            detail(
                "spec.message.body.a, spec.message.body.b, spec.message.body.c, spec.message.body.d, \
                 spec.message.body.e and 2 more",
            ),
        ),
        (
            "under a long key",
            json!({"k".repeat(300): null}),
            json!({}),
            detail(&format!("spec.message.body.{}…", "k".repeat(60 - "spec.message.body.".len()))),
        ),
        ("kubectl create --save-config keeps them", json!({"a": null}), json!({"a": null}), String::new()),
        ("those in lists are kept", json!({"a": [null, 1]}), json!({"a": [null, 1]}), String::new()),
        ("the word null", json!({"a": "null"}), json!({"a": "null"}), String::new()),
    ] {
        let applied = with("/spec/message/body", written).to_string();
        let object = with("/spec/message/body", stored);
        let object =
            set(object, "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", applied.into());
        assert_eq!(refusal(&message(&object)), expected, "{what}");
    }
}

#[test]
fn names_dropped_nulls_on_one_line() {
    let applied = with("/spec/message/body", json!({"a\nb\u{1b}[31m": null})).to_string();
    let object = with("/spec/message/body", json!({}));
    let object = set(object, "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", applied.into());
    let detail = refusal(&message(&object));
    assert!(detail.contains("dropped the null values"), "{detail}");
    assert!(!detail.contains(char::is_control), "{detail:?}");
}

#[test]
fn ignores_an_annotation_that_is_no_manifest() {
    for applied in ["", "null", "[null]", r#"{"spec":null}"#, r#"{"spec":{"message":{"body":null}}}"#, "{null"] {
        let annotation = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        assert_eq!(refusal(&message(&with(annotation, applied.into()))), "", "{applied}");
    }
}

#[test]
fn refuses_invalid_topics() {
    let dots = |topic: &str| format!("spec.message.topic {topic:?} must be words separated by single dots");
    let wildcard = |topic: &str| {
        format!("spec.message.topic {topic:?} must not contain * or #, which are wildcards for subscriptions")
    };
    let space =
        |topic: &str| format!("spec.message.topic {topic:?} must not contain white space or control characters");
    let long = "spec.message.topic has 256 bytes in UTF-8, but must have at most 255".to_owned();
    let mut table = vec![
        (String::new(), "spec.message.topic is empty: name a topic, for instance nice.message".to_owned()),
        ("a".repeat(255), String::new()),
        ("a".repeat(256), long.clone()),
        // 128 letters of two bytes, 64 of four: the limit counts bytes.
        ("é".repeat(128), long.clone()),
        ("🦀".repeat(64), long),
        (format!("{}a", "é".repeat(127)), String::new()),
        ("ünïcödé.wörds-are_fine.1".to_owned(), String::new()),
    ];
    table.extend([".", ".a", "a.", "a..b", "..."].map(|topic| (topic.to_owned(), dots(topic))));
    table.extend(["*", "#", "a.*.b", "a.#", "a#b"].map(|topic| (topic.to_owned(), wildcard(topic))));
    for character in [
        ' ', '\t', '\n', '\r', '\u{b}', '\0', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}', '\u{a0}', '\u{1680}', '\u{2000}',
        '\u{200a}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}',
    ] {
        let topic = format!("nice{character}.message");
        table.push((topic.clone(), space(&topic)));
    }
    for (topic, detail) in table {
        assert_eq!(refusal(&message(&with("/spec/message/topic", topic.as_str().into()))), detail, "{topic:?}");
    }
}

#[test]
fn shortens_invalid_topics() {
    let detail = refusal(&message(&with("/spec/message/topic", format!("{} b", "é".repeat(100)).into())));
    let shown = "é".repeat(60);
    assert_eq!(detail, format!("spec.message.topic \"{shown}…\" must not contain white space or control characters"));
}

#[test]
fn limits_the_routing_key_with_its_prefix() {
    let routing = |prefix: &str| Routing { prod_topic_prefix: prefix.to_owned(), ..plain_routing() };
    let fedora = routing("org.fedoraproject.prod.");
    assert_eq!(routing_key("nice.message", &fedora), Ok("org.fedoraproject.prod.nice.message".to_owned()));
    let longest = "a".repeat(255 - "org.fedoraproject.prod.".len());
    assert_eq!(routing_key(&longest, &fedora).unwrap().len(), 255);
    assert_eq!(
        routing_key(&format!("{longest}a"), &fedora),
        Err("spec.message.topic makes a routing key of 256 bytes, 22 of them the configured prefix, but AMQP allows at most 255: create another FedoraMessage with a shorter topic, or ask the operator's administrators for a shorter prefix"
            .to_owned())
    );
    assert_eq!(
        routing_key("é".repeat(117).as_str(), &fedora),
        Err("spec.message.topic makes a routing key of 257 bytes, 22 of them the configured prefix, but AMQP allows at most 255: create another FedoraMessage with a shorter topic, or ask the operator's administrators for a shorter prefix"
            .to_owned())
    );
}

#[test]
fn uses_the_prefix_of_the_environment() {
    let routing = Routing {
        prod_topic_prefix: "org.fedoraproject.prod".to_owned(),
        stg_topic_prefix: "org.fedoraproject.stg".to_owned(),
        ..plain_routing()
    };
    for env in Environment::VARIANTS.iter().copied() {
        let message = message(&with("/spec/env", env.name().into()));
        let valid = validate(&message, None, &routing).unwrap();
        assert_eq!(valid.routing_key, format!("org.fedoraproject.{env}.nice.message"));
        assert_eq!(valid.environment, env);
    }
}

#[test]
fn keeps_types_of_headers() {
    for (json, expected) in [
        (r#""very""#, text("very")),
        (r#""""#, text("")),
        (r#""1""#, text("1")),
        (r#""\u00e9\n\u0000""#, text("é\n\0")),
        (r#""\ud83e\udd80""#, text("🦀")),
        ("true", HeaderValue::Boolean(true)),
        ("false", HeaderValue::Boolean(false)),
        ("0", HeaderValue::Integer(0)),
        ("-1", HeaderValue::Integer(-1)),
        ("2147483647", HeaderValue::Integer(i32::MAX.into())),
        ("-2147483648", HeaderValue::Integer(i32::MIN.into())),
        ("2147483648", HeaderValue::Integer(2_147_483_648)),
        ("-2147483649", HeaderValue::Integer(-2_147_483_649)),
        ("9223372036854775807", HeaderValue::Integer(i64::MAX)),
        ("-9223372036854775808", HeaderValue::Integer(i64::MIN)),
    ] {
        assert_eq!(header("niceness", json), Ok(expected), "{json}");
    }
}

#[test]
fn refuses_other_types_of_headers() {
    for (json, found) in [
        ("9223372036854775808", "an integer beyond 64 bits"),
        ("-9223372036854775809", "an integer beyond 64 bits"),
        ("12345678901234567890123", "an integer beyond 64 bits"),
        ("1.5", "a number with a fraction or exponent"),
        ("1.0", "a number with a fraction or exponent"),
        ("1e3", "a number with a fraction or exponent"),
        ("-2E-3", "a number with a fraction or exponent"),
        ("null", "null"),
        ("[]", "a list"),
        (r#"["very"]"#, "a list"),
        ("{}", "an object"),
        (r#"{"very":"nice"}"#, "an object"),
    ] {
        assert_eq!(
            header("niceness", json),
            Err(format!(
                "spec.message.headers[\"niceness\"] is {found}, but must be a string, a 64-bit integer or a boolean: change it, or move it to the body"
            )),
            "{json}"
        );
    }
}

#[test]
fn refuses_deep_headers_quickly() {
    let levels = 100_000;
    let lists = "[".repeat(levels) + &"]".repeat(levels);
    let start = Instant::now();
    for (json, found) in [(lists, "a list"), (nested(levels), "an object")] {
        let detail = header("deep", &json).unwrap_err();
        assert!(detail.starts_with(&format!("spec.message.headers[\"deep\"] is {found}, but must be")), "{detail}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn refuses_reserved_headers() {
    let by_spec =
        |name: &str, field: &str| format!("spec.message.headers[\"{name}\"] is reserved: use spec.message.{field}");
    let routed = |name: &str| {
        format!(
            "spec.message.headers[\"{name}\"] can't be set, because RabbitMQ would route the message by it: rename \
             the header, or create one FedoraMessage for each topic"
        )
    };
    let reserved = |name: &str| {
        format!(
            "spec.message.headers[\"{name}\"] is reserved: only the filter headers \
             fedora_messaging_{{user,group,rpm,container,module,flatpak}}_NAME may begin with fedora_messaging; \
             rename the header"
        )
    };
    let mut table = vec![
        (
            "sent-at",
            "spec.message.headers[\"sent-at\"] can't be set: it is the resource's creation time; remove it".to_owned(),
        ),
        ("priority", "spec.message.headers[\"priority\"] can't be set: use spec.message.priority".to_owned()),
        ("CC", routed("CC")),
        ("BCC", routed("BCC")),
        ("fedora_messaging_severity", by_spec("fedora_messaging_severity", "severity")),
        ("fedora_messaging_schema", by_spec("fedora_messaging_schema", "schema")),
        ("fedora_messaging_schema_package", by_spec("fedora_messaging_schema_package", "schemaPackage")),
    ];
    for name in [
        "fedora_messaging",
        "fedora_messagingx",
        "fedora_messaging_",
        "fedora_messaging_color",
        "fedora_messaging_user",
        "fedora_messaging_user_",
        "fedora_messaging_users_alice",
        "fedora_messaging_User_alice",
        "fedora_messaging_schemas",
    ] {
        table.push((name, reserved(name)));
    }
    for (name, detail) in table {
        for value in [r#""value""#, "1", "true"] {
            assert_eq!(header(name, value), Err(detail.clone()), "{name}: {value}");
        }
    }
    // Similar names are not reserved.
    for name in ["cc", "bcc", "Priority", "sent_at", "Fedora_messaging_x", "my_fedora_messaging", "user_alice"] {
        assert_eq!(header(name, "1"), Ok(HeaderValue::Integer(1)), "{name}");
    }
}

#[test]
fn reports_reserved_names_before_types() {
    for (name, json) in [("CC", r#"["another.topic"]"#), ("BCC", "[]"), ("sent-at", "null"), ("priority", "1.5")] {
        let detail = header(name, json).unwrap_err();
        assert!(detail.starts_with(&format!("spec.message.headers[\"{name}\"] can't be set")), "{detail}");
    }
}

#[test]
fn filter_headers_must_be_true() {
    for object in ["user", "group", "rpm", "container", "module", "flatpak"] {
        let name = format!("fedora_messaging_{object}_a-name.of_something");
        assert_eq!(header(&name, "true"), Ok(HeaderValue::Boolean(true)));
        for json in ["false", "1", r#""true""#] {
            assert_eq!(
                header(&name, json),
                Err(format!(
                    "spec.message.headers[\"{name}\"] is a filter header, whose value must be true: set it to true, \
                     or remove it"
                )),
                "{json}"
            );
        }
    }
}

#[test]
fn limits_header_names() {
    let detail = |shown: &str, bytes: usize| {
        format!(
            "spec.message.headers[\"{shown}\"]: the name has {bytes} bytes, but must have 1 to 255: rename the header"
        )
    };
    for (name, expected) in [
        (String::new(), Err(detail("", 0))),
        ("n".repeat(255), Ok(HeaderValue::Integer(1))),
        ("n".repeat(256), Err(detail(&format!("{}…", "n".repeat(60)), 256))),
        ("é".repeat(128), Err(detail(&format!("{}…", "é".repeat(60)), 256))),
        ("with a space, and \"quotes\"".to_owned(), Ok(HeaderValue::Integer(1))),
    ] {
        assert_eq!(header(&name, "1"), expected, "{name}");
    }
}

#[test]
fn limits_the_size_of_all_headers() {
    // A name of four bytes with its length, a type, a length of four bytes.
    let text = |size: usize| format!("\"{}\"", "v".repeat(size - 4 - 1 - 1 - 4));
    assert!(header("name", &text(MAX_OWN_HEADERS_SIZE)).is_ok());
    assert_eq!(
        header("name", &text(MAX_OWN_HEADERS_SIZE + 1)),
        Err("spec.message.headers take 130049 bytes, but at most 130048 fit into an AMQP frame: move some to the body"
            .to_owned())
    );
    // Many of them, though each is small.
    let many = |count: usize, value: &str| -> Value {
        (0..count).map(|number| (format!("header{number:04}"), json!(value))).collect()
    };
    let detail = refusal(&message(&with("/spec/message/headers", many(1_000, &"v".repeat(150)))));
    let size = 1_000 * ("header0000".len() + 1 + 1 + 4 + 150);
    assert!(detail.starts_with(&format!("spec.message.headers take {size} bytes, but")), "{detail}");
    assert_eq!(refusal(&message(&with("/spec/message/headers", many(1_000, "v")))), "");
    assert_eq!(
        refusal(&message(&with("/spec/message/headers", many(1_001, "v")))),
        "spec.message.headers has 1001 headers, but at most 1000 are allowed: move some to the body"
    );
}

#[test]
fn knows_only_the_package_of_the_base_message() {
    for (schema, package, expected) in [
        (None, None, ("base.message", Some("fedora_messaging"))),
        (Some("base.message"), None, ("base.message", Some("fedora_messaging"))),
        (Some("base.message"), Some("other"), ("base.message", Some("other"))),
        (None, Some("other"), ("base.message", Some("other"))),
        (Some("bodhi.update.request.stable.v1"), None, ("bodhi.update.request.stable.v1", None)),
        (Some("bodhi.v1"), Some("bodhi_messages"), ("bodhi.v1", Some("bodhi_messages"))),
    ] {
        let mut object = example();
        if let Some(schema) = schema {
            object = set(object, "/spec/message/schema", schema.into());
        }
        if let Some(package) = package {
            object = set(object, "/spec/message/schemaPackage", package.into());
        }
        let valid = valid(&object);
        assert_eq!((valid.schema.as_str(), valid.schema_package.as_deref()), expected, "{schema:?} of {package:?}");
    }
}

#[test]
fn refuses_invalid_uids() {
    let detail = |uid: &str| {
        format!(
            "metadata.uid is {uid:?}, but must be a UUID of version 4, because it becomes the message's id: correct it, or remove it to get a new one"
        )
    };
    assert_eq!(refusal(&message(&without("/metadata/uid"))), detail(""));
    for uid in [
        "",
        "no uuid",
        "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5",
        "1a2b3c4d-5e6f-1a7b-8c9d-0e1f2a3b4c5d",
        "1a2b3c4d-5e6f-3a7b-8c9d-0e1f2a3b4c5d",
        "1a2b3c4d-5e6f-5a7b-8c9d-0e1f2a3b4c5d",
        "1a2b3c4d-5e6f-7a7b-8c9d-0e1f2a3b4c5d",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        // A variant whose digits mean no version.
        "1a2b3c4d-5e6f-4a7b-0c9d-0e1f2a3b4c5d",
        // Other spellings: the status and the message would have different ids.
        "1A2B3C4D-5E6F-4A7B-8C9D-0E1F2A3B4C5D",
        "1a2b3c4d5e6f4a7b8c9d0e1f2a3b4c5d",
        "{1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d}",
        "urn:uuid:1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
    ] {
        assert_eq!(refusal(&message(&with("/metadata/uid", uid.into()))), detail(uid), "{uid}");
    }
}

#[test]
fn needs_a_creation_time() {
    let detail = "metadata.creationTimestamp is missing: it is the message's time";
    assert_eq!(refusal(&message(&without("/metadata/creationTimestamp"))), detail);
    assert_eq!(refusal(&message(&with("/metadata/creationTimestamp", json!(null)))), detail);
}

#[test]
fn needs_exactly_one_certificate_location() {
    let one = json!({"name": "certs"});
    let key = json!({"name": "certs", "key": "one"});
    let fields = [
        ("secret_ref", &one),
        ("secretRef", &one),
        ("caSecretRef", &key),
        ("certSecretRef", &key),
        ("keySecretRef", &key),
    ];
    let mut accepted = Vec::new();
    for combination in 0..32_usize {
        let named = fields.iter().enumerate().filter(|(bit, _)| combination & (1 << bit) != 0);
        let authentication: Value = named.map(|(_, (field, value))| ((*field).to_owned(), (*value).clone())).collect();
        let detail = refusal(&message(&with("/spec/authentication", authentication.clone())));
        if detail.is_empty() {
            accepted.push(combination);
        } else {
            let only_some_keys = combination > 0 && combination % 4 == 0;
            let error = if only_some_keys {
                "spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none"
            } else {
                "spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all \
                 of caSecretRef, certSecretRef and keySecretRef"
            };
            assert_eq!(detail, error, "{authentication}");
        }
    }
    assert_eq!(accepted, [0b00001, 0b00010, 0b11100]);
}

#[test]
fn defaults_to_the_messages_namespace() {
    let one = |namespace: &str, name: &str| Authentication {
        client: ClientKeys::One(SourceName::secret(namespace, name)),
        ca: None,
    };
    let key = |namespace: &str, secret: &str, key: &str| SourceKey {
        source: SourceName::secret(namespace, secret),
        key: key.to_owned(),
    };
    let three = json!({
        "caSecretRef": {"name": "nice-ca", "key": "cacert.pem"},
        "certSecretRef": {"name": "nice-crt", "key": "nice-cert.pem", "namespace": "other"},
        "keySecretRef": {"name": "nice-key", "key": "nice-key.pem"},
    });
    for (authentication, expected, sources) in [
        (json!({"secret_ref": {"name": "certs"}}), one("apps", "certs"), vec![("apps", "certs")]),
        (json!({"secretRef": {"name": "certs"}}), one("apps", "certs"), vec![("apps", "certs")]),
        (
            json!({"secretRef": {"name": "a.b-c", "namespace": "other"}}),
            one("other", "a.b-c"),
            vec![("other", "a.b-c")],
        ),
        (
            three,
            Authentication {
                ca: Some(key("apps", "nice-ca", "cacert.pem")),
                client: ClientKeys::Two {
                    cert: key("other", "nice-crt", "nice-cert.pem"),
                    key: key("apps", "nice-key", "nice-key.pem"),
                },
            },
            vec![("apps", "nice-ca"), ("other", "nice-crt"), ("apps", "nice-key")],
        ),
    ] {
        let valid = valid(&with("/spec/authentication", authentication));
        assert_eq!(valid.authentication, expected);
        let found: Vec<_> = valid.authentication.sources().map(|s| (s.namespace.as_str(), s.name.as_str())).collect();
        assert_eq!(found, sources);
    }
}

#[test]
fn refuses_invalid_secret_names() {
    let secret = |field: &str, shown: &str| {
        format!(
            "spec.authentication.{field}.name is {shown:?}, but must be the name of a Secret: at most 253 lower case letters, \
             digits, dashes and dots"
        )
    };
    let namespace = |field: &str, shown: &str| {
        format!(
            "spec.authentication.{field}.namespace is {shown:?}, but must be the name of a namespace: at most 63 lower case \
             letters, digits and dashes"
        )
    };
    let key = |field: &str, shown: &str| {
        format!(
            "spec.authentication.{field}.key is {shown:?}, but must be a key of a Secret: at most 253 letters, digits, dashes, \
             dots and underscores"
        )
    };
    let three = ["caSecretRef", "certSecretRef", "keySecretRef"];
    let base = json!({
        "caSecretRef": {"name": "certs", "key": "ca"},
        "certSecretRef": {"name": "certs", "key": "cert"},
        "keySecretRef": {"name": "certs", "key": "key"},
    });
    let bad_names = ["", "../../x", "..", ".", "a/b", "a?b", "a%2fb", "A", "a_b", "-a", "a-", "a..b", "a.-b", "é"];
    for bad in bad_names {
        for field in ["secret_ref", "secretRef"] {
            let object = with("/spec/authentication", json!({field: {"name": bad}}));
            assert_eq!(refusal(&message(&object)), secret(field, bad));
        }
        for field in three {
            let object = set(
                with("/spec/authentication", base.clone()),
                &format!("/spec/authentication/{field}/name"),
                bad.into(),
            );
            assert_eq!(refusal(&message(&object)), secret(field, bad));
        }
    }
    for bad in ["", "../../x", "..", "a/b", "a.b", "A", "-a", "a-", "*", "é"] {
        let object = with("/spec/authentication", json!({"secret_ref": {"name": "certs", "namespace": bad}}));
        assert_eq!(refusal(&message(&object)), namespace("secret_ref", bad));
        for field in three {
            let pointer = format!("/spec/authentication/{field}/namespace");
            let object = set(with("/spec/authentication", base.clone()), &pointer, bad.into());
            assert_eq!(refusal(&message(&object)), namespace(field, bad));
        }
    }
    for bad in ["", "../../x", "a/b", "a b", "é", "a\0"] {
        for field in three {
            let pointer = format!("/spec/authentication/{field}/key");
            let object = set(with("/spec/authentication", base.clone()), &pointer, bad.into());
            assert_eq!(refusal(&message(&object)), key(field, bad));
        }
    }
}

#[test]
fn limits_the_length_of_names() {
    let shown = |letter: &str| format!("\"{}…\"", letter.repeat(60));
    let reference = |name: usize, namespace: usize, key: usize| {
        let reference = json!({"name": "n".repeat(name), "namespace": "s".repeat(namespace), "key": "k".repeat(key)});
        let all = json!({"caSecretRef": reference, "certSecretRef": reference, "keySecretRef": reference});
        refusal(&message(&with("/spec/authentication", all)))
    };
    assert_eq!(reference(253, 63, 253), "");
    assert!(reference(254, 63, 253).contains(&format!("caSecretRef.name is {}", shown("n"))));
    assert!(reference(253, 64, 253).contains(&format!("caSecretRef.namespace is {}", shown("s"))));
    assert!(reference(253, 63, 254).contains(&format!("caSecretRef.key is {}", shown("k"))));
}
