//! What the API server says to a message before it is stored: schema, CEL rules and policy. What is
//! checked where: docs/admission.md. The words for each mistake are in the [catalog](crate::catalog).

mod changes;

use std::process::Command;

use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::Routing;
use fedora_message::message::validate::validate;
use serde_json::{Value, json};

use e2e::world::{Space, message, program, project, run};

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
        ("fmsg.spec", "The message, its environment and its client certificate"),
        ("fmsg.spec.message.severity", "Default: the severity of the schema"),
        ("fmsg.spec.message.headers", "`sent-at`, `priority`, `CC` and `BCC` can't be set"),
        ("fmsg.status.reason", "The result of the last attempt in one word"),
    ] {
        let text = space.kubectl(&["explain", field], "").expect("kubectl explains");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{field}: {text}");
    }
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

/// Creates a message without storing it; returns it as it would be stored, or the API server's words.
fn create(space: &Space, manifest: &str) -> Result<String, String> {
    space.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], manifest)
}

/// Goes through all cases, so that a failure shows every one that is wrong.
fn all<T>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) -> Result<(), String>) {
    let wrong: Vec<_> = cases.into_iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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
    let mut print = Command::new(program());
    print.arg("crd");
    run(print, "").expect("the program prints the CRD")
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
