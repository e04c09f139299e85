//! What the API server says to a message before it is stored: schema, CEL rules and policy. What is
//! checked where: docs/admission.md.

use std::process::Command;

use fedora_message_operator::message::envelope::Routing;
use fedora_message_operator::message::incoming::FedoraMessage;
use fedora_message_operator::message::validate::validate;
use rig::Kube;
use serde_json::{Value, json};

use crate::world::{PROGRAM, Space, install, message, project, run};

/// What must be in the API server's words, beside the field.
const CANT_CHANGE: &str = "can't be changed";
const MEND: &str = "create another FedoraMessage";

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
    all(cases, |(message, words)| refused(&space, message, &[words]));
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
        refused_by_both(&space, with("spec.message.topic", topic), &["spec.message.topic", words])
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
        all(cases, |(name, words)| refused_by_both(&space, with(field, json!(name)), &[field, words]));
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
    all(cases, |(value, field, words)| refused_by_both(&space, with("spec.authentication", value), &[field, words]));
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
        ("a", json!(-1.5e300), "beyond 64 bits, but must be"),
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
        let both = refused_by_both(&space, message.clone(), &["spec.message.headers", words]);
        // The number that the API server would keep is another than the one that was written.
        let own = operator(&message).err().filter(|own| !own.contains("exponent")).unwrap_or_default();
        both.and_then(|()| refused(&space, message, &[&own]))
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

#[test]
fn what_the_contract_allows_is_accepted_and_kept_as_it_is() {
    let many = |count: usize| -> Value { (0..count).map(|n| (format!("h{n}"), json!(n))).collect() };
    let filters: Value = ["user_me", "group_x", "rpm_bash", "container_c", "module_m:1", "flatpak_org.gnome.Maps"]
        .map(|filter| (format!("fedora_messaging_{filter}"), json!(true)))
        .into_iter()
        .collect();
    let reference = json!({"name": "certs.example", "namespace": "apps-1"});
    let key = json!({"name": "certs", "key": "Ca_1.crt"});
    let cases = [
        ("spec.env", json!("stg")),
        ("spec.message.topic", json!("a")),
        ("spec.message.topic", json!("a".repeat(255))),
        ("spec.message.topic", json!("é".repeat(127) + "a")),
        ("spec.message.topic", json!("日本.語-_/:🦀.UPPER")),
        ("spec.message.headers", json!({})),
        ("spec.message.headers", json!({"text": "é", "empty": "", "yes": true, "no": false, "zero": 0})),
        ("spec.message.headers", json!({"largest": i64::MAX, "smallest": i64::MIN})),
        ("spec.message.headers", json!({"n".repeat(255): 1, "Ünïcode 🦀": 1, "cc": 1, "Sent-At": 1, "fedora": 1})),
        ("spec.message.headers", filters),
        ("spec.message.headers", many(200)),
        ("spec.message.headers", many(1000)),
        ("spec.message.headers", json!({"long": "x".repeat(130_038)})),
        ("spec.message.body", json!({})),
        ("spec.message.body", json!({"null": null, "nulls": [null, {"a": null}], "text": "é 🦀 \u{0} \u{2028}"})),
        ("spec.message.body", json!({"numbers": [i64::MAX, i64::MIN, 1.5, -0.25, 1e300], "sent-at": [], "CC": "x"})),
        ("spec.message.body", json!({"long": "x".repeat(1_000_000)})),
        ("spec.message.severity", json!("Debug")),
        ("spec.message.severity", json!("Info")),
        ("spec.message.severity", json!("Warning")),
        ("spec.message.severity", json!("Error")),
        ("spec.message.priority", json!(0)),
        ("spec.message.priority", json!(255)),
        ("spec.message.schema", json!("bodhi.update.request-Stable_2.v1")),
        ("spec.message.schemaPackage", json!("bodhi_messages")),
        ("spec.authentication", json!({"secret_ref": reference})),
        ("spec.authentication", json!({"secretRef": reference})),
        ("spec.authentication", json!({"caSecretRef": key, "certSecretRef": key, "keySecretRef": key})),
        ("spec.activeDeadlineSeconds", json!(1)),
        ("spec.activeDeadlineSeconds", json!(i64::MAX)),
        ("spec.backoffLimit", json!(0)),
        ("spec.backoffLimit", json!(i32::MAX)),
        ("spec.ttlSecondsAfterFinished", json!(0)),
        ("spec.suspend", json!(true)),
    ];
    let space = Space::new("accepted");
    all(cases, |(field, value)| {
        let message = with(field, value);
        operator(&message).map_err(|words| format!("{field}: the operator refuses: {words}"))?;
        let stored = create(&space, &message.to_string()).map_err(|words| format!("{field}: {words}"))?;
        let stored: Value = serde_json::from_str(&stored).expect("kubectl prints JSON");
        if stored["spec"] == message["spec"] { Ok(()) } else { Err(format!("{field}: stored as {:#}", stored["spec"])) }
    });
}

#[test]
fn a_body_of_9000_levels_is_stored_and_the_message_can_still_be_suspended() {
    let space = Space::new("deep");
    let body = r#"{"a":"#.repeat(9000) + "1" + &"}".repeat(9000);
    let manifest = with("spec.message.body", json!("BODY")).to_string().replace(r#""BODY""#, &body);
    space.kubectl(&["create", "-f", "-"], &manifest).expect("it is accepted");
    patch(&space, r#"[{"op": "add", "path": "/spec/suspend", "value": true}]"#).expect("it is suspended");
    let deepest = "/a".repeat(9000);
    let edit = format!(r#"[{{"op": "replace", "path": "/spec/message/body{deepest}", "value": 2}}]"#);
    let words = patch(&space, &edit).expect_err("its deepest value can't be changed");
    assert!(words.contains("spec.message can't be changed"), "{words}");
}

#[test]
fn the_proposals_example_is_accepted_without_warning_by_every_way_of_applying() {
    let space = Space::new("proposal");
    let example = project("docs/examples/hello-world.yaml").display().to_string();
    for way in [&["create"][..], &["apply"], &["apply", "--server-side"]] {
        let rest = ["--dry-run=server", "--warnings-as-errors", "-f", &example];
        space.kubectl(&[way, &rest].concat(), "").unwrap_or_else(|words| panic!("{way:?}: {words}"));
    }
}

#[test]
fn a_null_in_place_of_an_optional_field_is_as_if_it_were_not_there() {
    let space = Space::new("nulls");
    for field in ["message.headers", "message.severity", "message.priority", "suspend", "backoffLimit"] {
        let field = format!("spec.{field}");
        let stored = create(&space, &with(&field, Value::Null).to_string()).expect("it is accepted");
        let stored: Value = serde_json::from_str(&stored).expect("kubectl prints JSON");
        assert_eq!(stored["spec"], hello()["spec"], "{field}");
    }
}

#[test]
fn nothing_of_a_stored_message_may_change_but_suspend() {
    let space = Space::new("immutable");
    let mut full = hello();
    full["spec"]["message"] = json!({
        "topic": "nice.message", "body": {"a": {"b": [{"c": {"d": [1, null]}}]}}, "headers": {"h": "1"},
        "severity": "Info", "schema": "a.schema", "schemaPackage": "a_package", "priority": 1
    });
    for limit in ["activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        full["spec"][limit] = json!(100);
    }
    let mut bare = hello();
    bare["metadata"]["name"] = json!("bare");
    for message in [&full, &bare] {
        space.kubectl(&["create", "-f", "-"], &message.to_string()).expect("it is accepted");
    }

    let changes = [
        ("replace", "env", json!("stg"), "spec.env"),
        ("replace", "message/topic", json!("other"), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!(2), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!("1"), "spec.message"),
        ("replace", "message/body/a/b/0/c/d/0", json!(true), "spec.message"),
        ("remove", "message/body/a/b/0/c/d/1", Value::Null, "spec.message"),
        ("add", "message/body/a/b/0/c/new", Value::Null, "spec.message"),
        ("replace", "message/headers/h", json!(1), "spec.message"),
        ("add", "message/headers/new", json!("x"), "spec.message"),
        ("remove", "message/headers", Value::Null, "spec.message"),
        ("replace", "message/severity", json!("Error"), "spec.message"),
        ("remove", "message/severity", Value::Null, "spec.message"),
        ("replace", "message/schema", json!("other"), "spec.message"),
        ("remove", "message/schemaPackage", Value::Null, "spec.message"),
        ("replace", "message/priority", json!(2), "spec.message"),
        ("replace", "authentication/secretRef/name", json!("other"), "spec.authentication"),
        ("add", "authentication/secretRef/namespace", json!("other"), "spec.authentication"),
        ("replace", "authentication", json!({"secret_ref": {"name": "certs"}}), "spec.authentication"),
        ("replace", "activeDeadlineSeconds", json!(200), "spec.activeDeadlineSeconds"),
        ("remove", "activeDeadlineSeconds", Value::Null, "spec.activeDeadlineSeconds"),
        ("replace", "backoffLimit", json!(200), "spec.backoffLimit"),
        ("remove", "backoffLimit", Value::Null, "spec.backoffLimit"),
        ("replace", "ttlSecondsAfterFinished", json!(200), "spec.ttlSecondsAfterFinished"),
        ("remove", "ttlSecondsAfterFinished", Value::Null, "spec.ttlSecondsAfterFinished"),
    ];
    all(changes, |(op, path, value, field)| {
        let change = json!([{"op": op, "path": format!("/spec/{path}"), "value": value}]);
        said(patch(&space, &change.to_string()), &[&format!("{field} {CANT_CHANGE}"), MEND])
            .map_err(|words| format!("{change}: {words}"))
    });

    let additions = [
        ("message/severity", json!("Info"), "spec.message"),
        ("message/headers", json!({}), "spec.message"),
        ("activeDeadlineSeconds", json!(1), "spec.activeDeadlineSeconds"),
        ("backoffLimit", json!(0), "spec.backoffLimit"),
        ("ttlSecondsAfterFinished", json!(0), "spec.ttlSecondsAfterFinished"),
    ];
    all(additions, |(path, value, field)| {
        let change = json!([{"op": "add", "path": format!("/spec/{path}"), "value": value}]).to_string();
        let patched = space.kubectl(&["patch", "fmsg", "bare", "--type=json", "-p", &change], "");
        said(patched, &[&format!("{field} {CANT_CHANGE}"), MEND]).map_err(|words| format!("{change}: {words}"))
    });

    for suspend in [r#"{"suspend": true}"#, r#"{"suspend": false}"#, r#"{"suspend": null}"#] {
        patch_merge(&space, &format!(r#"{{"spec": {suspend}}}"#)).expect("suspend may change");
    }
    patch_merge(&space, r#"{"metadata": {"annotations": {"apps.fedoraproject.org/retry": "1"}}}"#)
        .expect("annotations may change");
    assert_eq!(space.get("hello")["spec"], full["spec"]);
}

#[test]
fn editing_a_manifest_and_applying_it_again_says_that_the_message_cannot_change() {
    let space = Space::new("edited");
    let manifest = message("hello", "a.topic", "");
    for way in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
        space.kubectl(way, &manifest).expect("it is accepted");
        space.kubectl(way, &manifest).expect("it is accepted again");
        let edited = space.kubectl(way, &manifest.replace("a.topic", "another.topic"));
        said(edited, &["spec.message can't be changed, as it may have been sent already", MEND]).expect("the words");
        space.kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
    }
}

#[test]
fn kubectl_knows_the_short_name_the_category_and_the_fields_to_select_by() {
    let space = Space::new("niceties");
    space.apply(&message("sent", "a.topic", "")).expect("it is accepted");
    space.apply(&message("other", "a.topic", "").replace("env: prod", "env: stg")).expect("it is accepted");
    let status = r#"{"status": {"status": true, "reason": "Sent"}}"#;
    space
        .kubectl(&["patch", "fmsg", "sent", "--subresource=status", "--type=merge", "-p", status], "")
        .expect("the status is written");

    let (sent, other) = ("fedoramessage.apps.fedoraproject.org/sent", "fedoramessage.apps.fedoraproject.org/other");
    for (arguments, expected) in [
        (&["fedora"][..], &[other, sent][..]),
        (&["fmsg"], &[other, sent]),
        (&["fmsg", "--field-selector", "spec.env=stg"], &[other]),
        (&["fmsg", "--field-selector", "status.status=true"], &[sent]),
        (&["fmsg", "--field-selector", "status.status!=true"], &[other]),
        (&["fmsg", "--field-selector", "status.reason=Sent"], &[sent]),
    ] {
        let names = space.kubectl(&[&["get", "-o", "name"], arguments].concat(), "").expect("kubectl lists");
        assert_eq!(names.lines().collect::<Vec<_>>(), expected, "{arguments:?}");
    }
}

#[test]
fn kubectl_explains_the_spec_and_its_fields() {
    let space = Space::new("explain");
    for (field, words) in [
        ("fmsg", "A message for Fedora's message bus"),
        ("fmsg.spec", "What to send, to which environment, and with which certificate"),
        ("fmsg.spec.message.severity", "`Info` (the default)"),
        ("fmsg.spec.message.headers", "`sent-at`, `priority`, `CC` and `BCC` can't be set"),
        ("fmsg.status.reason", "What became of the message, in one word"),
    ] {
        let text = space.kubectl(&["explain", field], "").expect("kubectl explains");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{field}: {text}");
    }
}

#[test]
fn a_message_from_before_the_policy_can_be_annotated_suspended_and_deleted() {
    let kube = Kube::start().expect("an API server starts");
    kube.apply(&[project("crds/fedoramessages.yaml")]).expect("the CRD is accepted");
    let manifest = with("spec.message.headers", json!({"nothing": null})).to_string();
    let kubectl = |arguments: &[&str], input: &str| {
        let mut command = kube.kubectl();
        command.args(arguments);
        run(command, input)
    };
    kubectl(&["create", "-f", "-"], &manifest).expect("the schema alone lets a null header through");
    let stored = kubectl(&["get", "fmsg", "hello", "-o", "jsonpath={.spec.message.headers}"], "");
    assert_eq!(stored.expect("it is stored"), r#"{"nothing":null}"#, "for the operator to refuse");

    install(&kube);
    let words = kubectl(&["create", "--dry-run=server", "-f", "-"], &manifest.replace("hello", "another"));
    said(words, &[r#"spec.message.headers["nothing"] is null"#]).expect("a new one is refused");
    kubectl(&["annotate", "fmsg", "hello", "apps.fedoraproject.org/retry=1"], "").expect("it is annotated");
    kubectl(&["patch", "fmsg", "hello", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#], "")
        .expect("it is suspended");
    kubectl(&["delete", "fmsg", "hello"], "").expect("it is deleted");
}

#[test]
fn the_committed_crd_is_the_one_that_the_program_prints() {
    assert!(committed_crd() == printed_crd(), "crds/fedoramessages.yaml is not up to date: run `just crds`");
}

#[test]
fn every_property_in_the_crd_has_a_description() {
    let crd: Value = serde_saphyr::from_str(&committed_crd()).expect("the CRD is YAML");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut without = Vec::new();
    undescribed(schema, "", &mut without);
    assert!(schema["properties"]["spec"].is_object());
    assert_eq!(without, Vec::<String>::new());
}

/// A message that is right.
fn hello() -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {"name": "hello"},
        "spec": {
            "env": "prod",
            "message": {"topic": "nice.message", "body": {"a": 1}},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    })
}

/// That message with one field set.
fn with(path: &str, value: Value) -> Value {
    let mut message = hello();
    *path.split('.').fold(&mut message, |place, field| &mut place[field]) = value;
    message
}

/// That message without one field.
fn without(path: &str) -> Value {
    let mut message = hello();
    let (above, field) = path.rsplit_once('.').unwrap_or(("", path));
    let place = above.split('.').filter(|field| !field.is_empty()).fold(&mut message, |place, field| &mut place[field]);
    place.as_object_mut().expect("an object").remove(field).expect("the field was there");
    message
}

/// Creates a message without storing it; returns it as it would be stored, or the API server's words.
fn create(space: &Space, manifest: &str) -> Result<String, String> {
    space.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], manifest)
}

fn patch(space: &Space, change: &str) -> Result<String, String> {
    space.kubectl(&["patch", "fmsg", "hello", "--type=json", "-p", change], "")
}

fn patch_merge(space: &Space, change: &str) -> Result<String, String> {
    space.kubectl(&["patch", "fmsg", "hello", "--type=merge", "-p", change], "")
}

/// Goes through all cases, so that a failure shows every one that is wrong.
fn all<T>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) -> Result<(), String>) {
    let wrong: Vec<_> = cases.into_iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn refused(space: &Space, message: Value, words: &[&str]) -> Result<(), String> {
    said(create(space, &message.to_string()), words)
}

/// Admission refuses it in these words, and so does the operator, should it get there.
fn refused_by_both(space: &Space, message: Value, words: &[&str]) -> Result<(), String> {
    operator(&message).err().ok_or(format!("the operator accepts {}", message["spec"]))?;
    refused(space, message, words)
}

/// The words came, and stand in the complaint.
fn said(answer: Result<String, String>, words: &[&str]) -> Result<(), String> {
    match answer {
        Ok(_) => Err(format!("accepted, instead of {words:?}")),
        Err(complaint) => match words.iter().find(|words| !complaint.contains(**words)) {
            Some(missing) => Err(format!("{missing}\n  is not said in: {complaint}")),
            None => Ok(()),
        },
    }
}

/// What the operator says to a message that admission let through.
fn operator(message: &Value) -> Result<(), String> {
    let mut stored = message.clone();
    stored["metadata"] = json!({
        "name": "hello", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let message: FedoraMessage = serde_json::from_str(&stored.to_string()).expect("every object can be read");
    validate(&message, &Routing::default()).map(drop).map_err(|error| error.to_string())
}

fn committed_crd() -> String {
    std::fs::read_to_string(project("crds/fedoramessages.yaml")).expect("the CRD is there")
}

fn printed_crd() -> String {
    let mut program = Command::new(PROGRAM);
    program.arg("crd");
    run(program, "").expect("the program prints the CRD")
}

/// Adds the paths of all properties that have no description.
fn undescribed(schema: &Value, path: &str, without: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if property["description"].as_str().is_none_or(str::is_empty) {
            without.push(path.clone());
        }
        undescribed(property, &path, without);
        undescribed(&property["items"], &format!("{path}[]"), without);
    }
}
