//! What is refused, one case for each rule, in words that name the field and the mend.

use serde_json::{Value, json};

use super::{all, create, operator, refused, refused_by_both, with, without};
use crate::world::Space;

#[test]
fn a_field_that_is_missing_or_of_the_wrong_kind_is_refused_by_name() {
    let too_many: Value = (0..1001).map(|n| (format!("h{n}"), json!(n))).collect();
    let cases = [
        (without("spec"), "spec: Required value"),
        (without("spec.env"), "spec.env: Required value"),
        (without("spec.message"), "spec.message: Required value"),
        (without("spec.message.body"), "spec.message.body: Required value"),
        (without("spec.message.topic"), "spec.message.topic: Required value"),
        (without("spec.authentication"), "spec.authentication: Required value"),
        (with("spec.env", json!("dev")), r#"spec.env: Unsupported value: "dev": supported values: "prod", "stg""#),
        (with("spec.env", Value::Null), "spec.env: Required value"),
        (with("spec.message.body", Value::Null), "spec.message.body: Required value"),
        (with("spec.message.body", json!([1])), "spec.message.body in body must be of type object"),
        (with("spec.message.body", json!("text")), "spec.message.body in body must be of type object"),
        (with("spec.message.headers", json!(["a"])), "spec.message.headers in body must be of type object"),
        (with("spec.message.headers", too_many), "spec.message.headers: Too many: 1001: must have at most 1000 items"),
        (
            with("spec.message.severity", json!("INFO")),
            r#"spec.message.severity: Unsupported value: "INFO": supported values: "Debug", "Info", "Warning", "Error""#,
        ),
        (
            with("spec.message.priority", json!(256)),
            "spec.message.priority in body should be less than or equal to 255",
        ),
        (
            with("spec.message.priority", json!(-1)),
            "spec.message.priority in body should be greater than or equal to 0",
        ),
        (with("spec.message.priority", json!("1")), "spec.message.priority in body must be of type integer"),
        (with("spec.message.colour", json!("red")), r#"unknown field "spec.message.colour""#),
        (
            with("spec.activeDeadlineSeconds", json!(0)),
            "spec.activeDeadlineSeconds in body should be greater than or equal to 1",
        ),
        (with("spec.backoffLimit", json!(-1)), "spec.backoffLimit in body should be greater than or equal to 0"),
        (
            with("spec.backoffLimit", json!(2_147_483_648_u32)),
            "spec.backoffLimit in body should be less than or equal to 2147483647",
        ),
        (
            with("spec.ttlSecondsAfterFinished", json!(-1)),
            "spec.ttlSecondsAfterFinished in body should be greater than or equal to 0",
        ),
        (with("spec.suspend", json!("yes")), "spec.suspend in body must be of type boolean"),
    ];
    let space = Space::new("shape");
    all(cases, |(message, words)| refused(&space, &message, &[words]));
}

#[test]
fn a_topic_that_the_bus_could_not_carry_is_refused_with_its_mend() {
    let cases = [
        (json!(""), "should be at least 1 chars long"),
        (json!("a".repeat(256)), "may not be more than 255"),
        (json!("é".repeat(128)), "must have at most 255 bytes in UTF-8: shorten it"),
        (json!(".a"), "remove leading, trailing and doubled dots"),
        (json!("a."), "remove leading, trailing and doubled dots"),
        (json!("a..b"), "remove leading, trailing and doubled dots"),
        (json!("."), "remove leading, trailing and doubled dots"),
        (json!("a.*"), "must not contain * or #, which are wildcards of subscriptions: name one topic"),
        (json!("a.#"), "must not contain * or #, which are wildcards of subscriptions: name one topic"),
        (json!("a b"), "must not contain white space or control characters: remove them"),
        (json!("a\u{a0}b"), "must not contain white space or control characters: remove them"),
        (json!("a\u{3000}b"), "must not contain white space or control characters: remove them"),
        (json!("a\u{2028}b"), "must not contain white space or control characters: remove them"),
        (json!("a\n"), "must not contain white space or control characters: remove them"),
        (json!("a\u{0}b"), "must not contain white space or control characters: remove them"),
        (json!("a\u{85}b"), "must not contain white space or control characters: remove them"),
    ];
    let space = Space::new("topic");
    all(cases, |(topic, words)| {
        refused_by_both(&space, &with("spec.message.topic", topic), &["spec.message.topic", words])
    });
}

#[test]
fn a_schema_that_could_not_be_an_entry_point_is_refused_with_its_mend() {
    let names =
        ["", "two words", "a/b", "schéma", "line\n"].map(|name| (name.to_owned(), "letters, digits, dots, dashes"));
    let long = [("x".repeat(256), "may not be more than 255")];
    let space = Space::new("schema");
    for field in ["spec.message.schema", "spec.message.schemaPackage"] {
        let cases = names.iter().chain(&long);
        all(cases, |(name, words)| refused_by_both(&space, &with(field, json!(name)), &[field, words]));
    }
}

#[test]
fn credentials_are_named_in_exactly_one_way() {
    let secret = json!({"name": "certs"});
    let key = json!({"name": "certs", "key": "ca.crt"});
    let keys = |ca: &Value| json!({"caSecretRef": ca, "certSecretRef": key, "keySecretRef": key});
    let one_way = "spec.authentication must name the certificate in exactly one way: secretRef, or secret_ref, or all of caSecretRef, certSecretRef and keySecretRef";
    let add = "spec.authentication needs all three of caSecretRef, certSecretRef and keySecretRef, or none: add those that are missing";
    let secret_name = "must be the name of a Secret: lower case letters, digits, dashes and dots";
    let namespace = "must be the name of a namespace: lower case letters, digits and dashes";
    let cases = [
        (json!({}), "spec.authentication", one_way),
        (json!({"secretRef": null}), "spec.authentication", one_way),
        (json!({"secretRef": secret, "secret_ref": secret}), "spec.authentication", one_way),
        (json!({"secretRef": secret, "caSecretRef": key}), "spec.authentication", one_way),
        (json!({"caSecretRef": key}), "spec.authentication", add),
        (json!({"certSecretRef": key, "keySecretRef": key}), "spec.authentication", add),
        (json!({"secretRef": {}}), "spec.authentication.secretRef.name", "Required value"),
        (json!({"secretRef": {"name": ""}}), "spec.authentication.secretRef.name", secret_name),
        (json!({"secret_ref": {"name": "Certs"}}), "spec.authentication.secret_ref.name", secret_name),
        (json!({"secretRef": {"name": "a/../b"}}), "spec.authentication.secretRef.name", secret_name),
        (json!({"secretRef": {"name": "a..b"}}), "spec.authentication.secretRef.name", secret_name),
        (json!({"secretRef": {"name": "a".repeat(254)}}), "spec.authentication.secretRef.name", "more than 253"),
        (json!({"secretRef": {"name": "a", "namespace": ""}}), "spec.authentication.secretRef.namespace", namespace),
        (json!({"secretRef": {"name": "a", "namespace": "b.c"}}), "spec.authentication.secretRef.namespace", namespace),
        (keys(&json!({"name": "a"})), "spec.authentication.caSecretRef.key", "Required value"),
        (
            keys(&json!({"name": "a", "key": "b/c"})),
            "spec.authentication.caSecretRef.key",
            "must be a key of a Secret: letters, digits, dashes, dots and underscores",
        ),
        (
            keys(&json!({"name": "a", "key": ""})),
            "spec.authentication.caSecretRef.key",
            "must be a key of a Secret: letters, digits, dashes, dots and underscores",
        ),
    ];
    let space = Space::new("credentials");
    all(cases, |(value, field, words)| refused_by_both(&space, &with("spec.authentication", value), &[field, words]));
}

#[test]
fn a_header_that_is_not_the_users_to_set_is_refused_in_the_operators_own_words() {
    let cases = [
        (
            "a",
            json!(1.5),
            "is a number with a fraction or exponent, but must be a string, an integer of 64 bits or a boolean: change it, or move it to the body",
        ),
        ("a", json!(12_345_678_901_234_567_890_u64), "is an integer beyond 64 bits, but must be"),
        ("a", json!(-1.5e300), "is a number with a fraction or exponent, but must be"),
        ("a", json!([1]), "is a list, but must be"),
        ("a", json!({"b": 1}), "is an object, but must be"),
        ("a", Value::Null, "is null, but must be"),
        ("", json!(1), "the name has 0 bytes, but must have 1 to 255: rename the header"),
        (&"n".repeat(256), json!(1), "the name has 256 bytes, but must have 1 to 255: rename the header"),
        (&"é".repeat(128), json!(1), "the name has 256 bytes, but must have 1 to 255: rename the header"),
        ("sent-at", json!("now"), "can't be set: it is the resource's creation time; remove it"),
        ("priority", json!(1), "can't be set: use spec.message.priority"),
        (
            "CC",
            json!("a.topic"),
            "can't be set, because RabbitMQ would route the message by it: rename the header, or create one FedoraMessage for each topic",
        ),
        (
            "BCC",
            json!("a.topic"),
            "can't be set, because RabbitMQ would route the message by it: rename the header, or create one FedoraMessage for each topic",
        ),
        ("fedora_messaging_severity", json!(20), "is reserved: use spec.message.severity"),
        ("fedora_messaging_schema", json!("a"), "is reserved: use spec.message.schema"),
        ("fedora_messaging_schema_package", json!("a"), "is reserved: use spec.message.schemaPackage"),
        ("fedora_messaging", json!(true), "is reserved: only the filter headers"),
        ("fedora_messaging_colour_red", json!(true), "is reserved: only the filter headers"),
        ("fedora_messaging_user_", json!(true), "is reserved: only the filter headers"),
        (
            "fedora_messaging_user_me",
            json!("true"),
            "is a filter header, whose value must be true: set it to true, or remove it",
        ),
        (
            "fedora_messaging_rpm_bash",
            json!(false),
            "is a filter header, whose value must be true: set it to true, or remove it",
        ),
        (
            "fedora_messaging_rpm_bash",
            Value::Null,
            "is a filter header, whose value must be true: set it to true, or remove it",
        ),
        ("two\nlines", Value::Null, r#"spec.message.headers["two\nlines"] is null"#),
        (
            "long",
            json!("x".repeat(130_039)),
            "spec.message.headers take 130049 bytes, but AMQP sends all headers in one frame with room for 130048: move some to the body",
        ),
    ];
    let space = Space::new("headers");
    all(cases, |(name, value, words)| {
        let message = with("spec.message.headers", json!({name: value}));
        let own = operator(&message).err().unwrap_or("the operator accepts it".to_owned());
        refused(&space, &message, &["spec.message.headers", words, &own])
    });
}

#[test]
fn of_many_wrong_headers_five_are_named_and_the_rest_counted() {
    let space = Space::new("many");
    let nulls = |count: usize| -> Value { (0..count).map(|n| (format!("h{n}"), Value::Null)).collect() };
    for (count, named, rest) in
        [(2, 2, None), (5, 5, None), (6, 5, Some("1 more headers are refused")), (1000, 5, Some("995 more"))]
    {
        let words = create(&space, &with("spec.message.headers", nulls(count)).to_string()).expect_err("it is refused");
        assert_eq!(words.matches("is null, but must be a string").count(), named, "{words}");
        match rest {
            Some(rest) => assert!(words.contains(rest), "{words}"),
            None => assert!(!words.contains("more"), "{words}"),
        }
    }
}
