//! Admission of messages by the API server: schema, CEL rules and policy. docs/admission.md lists
//! the rules. The [catalog](crate::catalog) holds the error for each mistake.

mod changes;

use std::path::Path;
use std::process::Command;

use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::validate;
use serde_json::{Value, json};

use crate::catalog::text::expand;
use e2e::{CRDS, TestNamespace, message, message_json, program, read, run};

/// The API server stores them unchanged.
#[test]
fn accepts_valid_messages() {
    let cases: Vec<(String, Value)> =
        serde_saphyr::from_str(&expand(&read("testdata/valid-messages.yaml"))).expect("YAML");
    let namespace = TestNamespace::new("accepted");
    all(cases, |(field, value)| {
        let message = with(&field, value);
        operator(&message).map_err(|error| format!("{field}: the operator refuses: {error}"))?;
        let stored = create(&namespace, &message.to_string()).map_err(|error| format!("{field}: {error}"))?;
        let stored: Value = serde_json::from_str(&stored).expect("kubectl prints JSON");
        if stored["spec"] == message["spec"] { Ok(()) } else { Err(format!("{field}: stored as {:#}", stored["spec"])) }
    });
}

#[test]
fn ignores_null_fields() {
    let namespace = TestNamespace::new("nulls");
    for field in ["message.headers", "message.severity", "message.priority", "suspend", "backoffLimit"] {
        let field = format!("spec.{field}");
        let stored = create(&namespace, &with(&field, Value::Null).to_string()).expect("the API server accepts it");
        let stored: Value = serde_json::from_str(&stored).expect("kubectl prints JSON");
        assert_eq!(stored["spec"], hello()["spec"], "{field}");
    }
}

/// By short name, category and fields.
#[test]
fn kubectl_selects_messages() {
    let namespace = TestNamespace::new("niceties");
    namespace.apply(&message("sent", "a.topic", ""));
    namespace.apply(&message("other", "a.topic", "").replace("env: prod", "env: stg"));
    let status = r#"{"status": {"status": true, "reason": "Sent"}}"#;
    namespace.kubectl(&["patch", "fmsg", "sent", "--subresource=status", "--type=merge", "-p", status]);

    let (sent, other) = ("fedoramessage.apps.fedoraproject.org/sent", "fedoramessage.apps.fedoraproject.org/other");
    for (arguments, expected) in [
        (&["fedora"][..], &[other, sent][..]),
        (&["fmsg"], &[other, sent]),
        (&["fmsg", "--field-selector", "spec.env=stg"], &[other]),
        (&["fmsg", "--field-selector", "status.status=true"], &[sent]),
        (&["fmsg", "--field-selector", "status.status!=true"], &[other]),
        (&["fmsg", "--field-selector", "status.reason=Sent"], &[sent]),
    ] {
        let names = namespace.kubectl(&[&["get", "-o", "name"], arguments].concat());
        assert_eq!(names.lines().collect::<Vec<_>>(), expected, "{arguments:?}");
    }
}

#[test]
fn kubectl_explains_fields() {
    let namespace = TestNamespace::new("explain");
    for (field, expected) in [
        ("fmsg", "A message for Fedora's message bus"),
        ("fmsg.spec", "The message, and the Sender or the client certificate to send it with"),
        ("fmsg.spec.env", "Default: that of the Sender"),
        ("fmsg.spec.message.severity", "Default: the Sender's, else the severity of the schema"),
        ("fmsg.spec.message.headers", "`sent-at`, `priority`, `CC` and `BCC` can't be set"),
        ("fmsg.status.reason", "The result of the last attempt in one word"),
        ("fmsender", "The setup of an application that sends FedoraMessages"),
        ("fmsender.spec.topicPrefix", "The empty string stands for no prefix"),
        ("fmsender.spec.defaults.severity", "The severity of messages that set none"),
    ] {
        let text = namespace.kubectl(&["explain", field]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(expected), "{field}: {text}");
    }
}

/// The error contains the number of the others.
#[test]
fn names_five_wrong_headers() {
    let namespace = TestNamespace::new("many");
    let nulls = |count: usize| -> Value { (0..count).map(|n| (format!("h{n}"), Value::Null)).collect() };
    for (count, named, rest) in
        [(2, 2, None), (5, 5, None), (6, 5, Some("1 more headers are refused")), (1000, 5, Some("995 more"))]
    {
        let error =
            create(&namespace, &with("spec.message.headers", nulls(count)).to_string()).expect_err("it is refused");
        assert_eq!(error.matches("is null, but must be a string").count(), named, "{error}");
        match rest {
            Some(rest) => assert!(error.contains(rest), "{error}"),
            None => assert!(!error.contains("more"), "{error}"),
        }
    }
}

#[test]
fn crd_is_current() {
    for file in CRDS {
        let name = Path::new(file).file_stem().and_then(|name| name.to_str()).expect("a name");
        let printed = run(Command::new(program()).args(["crd", name]), "").expect("the program prints the CRD");
        assert!(read(file) == printed, "{file} is not up to date: run `just crds`");
    }
    let all = run(Command::new(program()).arg("crd"), "").expect("the program prints the CRDs");
    assert_eq!(all, CRDS.map(read).join("---\n"));
}

#[test]
fn crd_describes_every_property() {
    for file in CRDS {
        let crd: Value = serde_saphyr::from_str(&read(file)).expect("YAML");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut without = Vec::new();
        undescribed(schema, "", &mut without);
        assert!(schema["properties"]["spec"].is_object());
        assert_eq!(without, Vec::<String>::new(), "{file}");
    }
}

/// Returns a correct message.
fn hello() -> Value {
    message_json("hello", &json!({"topic": "nice.message", "body": {"a": 1}}))
}

/// Returns that message with one field set.
fn with(path: &str, value: Value) -> Value {
    let mut message = hello();
    *path.split('.').fold(&mut message, |parent, field| &mut parent[field]) = value;
    message
}

/// Creates a message without storing it. Returns the message as it would be stored, or the error.
fn create(namespace: &TestNamespace, manifest: &str) -> Result<String, String> {
    namespace.try_kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], manifest)
}

/// Checks all cases, and fails with all errors.
fn all<T>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) -> Result<(), String>) {
    let wrong: Vec<_> = cases.into_iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Checks that the API server refused a request, and that the error contains these texts.
fn refused(answer: Result<String, String>, expected: &[&str]) -> Result<(), String> {
    match answer {
        Ok(_) => Err(format!("accepted, instead of {expected:?}")),
        Err(error) => match expected.iter().find(|text| !error.contains(**text)) {
            Some(missing) => Err(format!("{missing}\n  is not in: {error}")),
            None => Ok(()),
        },
    }
}

/// Validates a message as the operator does after admission.
fn operator(message: &Value) -> Result<(), String> {
    let mut stored = message.clone();
    stored["metadata"] = json!({
        "name": "hello", "namespace": "apps", "uid": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let message: FedoraMessage = serde_json::from_str(&stored.to_string()).expect("an object");
    validate(&message, None, &Routing::default()).map(drop).map_err(|error| error.to_string())
}

/// Adds the paths of all properties without a description.
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
