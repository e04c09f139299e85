//! Checks messages against a small catalog.

#![expect(clippy::disallowed_methods, reason = "tests read files and clocks")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::object::FedoraMessage;
use crate::api::v1alpha1::Severity;
use crate::bounds::{MAX_CHECKED_CONTAINERS, MAX_EXPLAINED_BYTES};
use crate::message::prepare::prepare;
use crate::message::validate::validate;
use crate::schema::catalog::Catalog;
use crate::schema::check::{SchemaCheck, Schemas, UnknownSchemaPolicy, check_schema};
use serde_json::{Value, json};

use crate::fixture::{example, example_sender, message, plain_routing, set, valid, valid_sender};

fn schemas() -> Schemas {
    let entry = |name: &str, package: &str, severity: u8, body: Value| {
        json!({
            "name": name, "package": package, "distribution": package.replace('_', "-"), "version": "1.2",
            "severity": severity, "headers": null, "body": body,
        })
    };
    let draft4 = "http://json-schema.org/draft-04/schema#";
    let update = json!({
        "$schema": draft4,
        "type": "object",
        "properties": {
            "update": {
                "type": "object",
                "properties": {
                    "alias": {"type": "string"},
                    "karma": {"type": "integer", "minimum": -3},
                    "status": {"enum": ["pending", "stable"]},
                    "user": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/user"}]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["alias"],
                "additionalProperties": false,
            },
            "url": {"type": "string", "format": "uri"},
        },
        "required": ["update"],
        "definitions": {"user": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    });
    let mut with_headers = entry("loud", "app_messages", 40, json!({"type": "object"}));
    with_headers["headers"] =
        json!({"required": ["source"], "properties": {"fedora_messaging_severity": {"enum": [40]}}});
    let catalog = json!({
        "format": 1,
        "library": "3.9.1",
        "base": {
            "headers": {"$schema": draft4, "type": "object", "properties": {"sent-at": {"type": "string"}}},
            "body": {"$schema": draft4, "type": "object"},
        },
        "schemas": [
            entry("app.update", "app_messages", 10, update),
            entry("both", "app_messages", 20, json!({})),
            entry("both", "other_messages", 30, json!({})),
            entry("broken", "app_messages", 20, json!({"$schema": draft4, "type": "nothing"})),
            entry("fetching", "app_messages", 20, json!({"$ref": "https://localhost/schema.json"})),
            entry("looking", "app_messages", 20, json!({"properties": {"a": {"pattern": "(a+)+(?=b)"}}})),
            entry("lists", "app_messages", 20, json!({"properties": {"a": {"items": {"required": ["b"]}}}})),
            with_headers,
            entry("maybe", "app_messages", 20, json!({"properties": {"a": {"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "object"}}]}}})),
            entry("pattern", "app_messages", 20, json!({"properties": {"a": {"pattern": "^(a+)+$"}}})),
        ],
        "left_out": [{"name": "made", "package": null, "distribution": "made-messages", "version": "3", "why": "code makes it"}],
    });
    let catalog = Catalog::read(catalog.to_string().as_bytes()).unwrap();
    Schemas { catalog: Some(Arc::new(catalog)), unknown: UnknownSchemaPolicy::Allow }
}

fn of(schema: &str, body: Value) -> FedoraMessage {
    message(&set(set(example(), "/spec/message/schema", schema.into()), "/spec/message/body", body))
}

fn check(message: &FedoraMessage, schemas: &Schemas) -> Result<SchemaCheck, String> {
    let mut outgoing = validate(message, None, &plain_routing()).map_err(|error| error.to_string())?;
    check_schema(&mut outgoing, schemas).map_err(|error| error.to_string())
}

fn refused(schema: &str, body: Value) -> String {
    check(&of(schema, body), &schemas()).unwrap_err()
}

#[test]
fn names_a_deprecated_schema() {
    let text = of("app.update", json!({"update": {"alias": "F1"}}));
    let mut schemas = schemas();
    let catalog = schemas.catalog.as_mut().and_then(Arc::get_mut).unwrap();
    catalog.schemas.iter_mut().for_each(|schema| schema.deprecated = true);
    assert_eq!(check(&text, &schemas), Ok(SchemaCheck::Deprecated));
    let warning = prepare(&text, None, &plain_routing(), &schemas).unwrap().warning;
    assert_eq!(warning.as_deref(), Some("Its schema app.update is deprecated: use a newer one of its package"));
    assert!(check(&of("app.update", json!({})), &schemas).is_err(), "a wrong body is refused nevertheless");
}

#[test]
fn takes_package_and_severity_from_the_schema() {
    let (schemas, message) =
        (schemas(), of("app.update", json!({"update": {"alias": "F1"}, "url": "no URI: formats are not asserted"})));
    let mut outgoing = validate(&message, None, &plain_routing()).unwrap();
    assert_eq!(check_schema(&mut outgoing, &schemas).unwrap(), SchemaCheck::Passed);
    assert_eq!(outgoing.schema_package.as_deref(), Some("app_messages"));
    assert_eq!(outgoing.severity, Some(Severity::Debug));
}

#[test]
fn keeps_the_messages_own_severity() {
    let object = set(example(), "/spec/message/schema", "app.update".into());
    let object = set(
        set(object, "/spec/message/body", json!({"update": {"alias": "F1"}})),
        "/spec/message/severity",
        "Error".into(),
    );
    let (schemas, mut outgoing) = (schemas(), valid(&object));
    check_schema(&mut outgoing, &schemas).unwrap();
    assert_eq!(outgoing.severity, Some(Severity::Error));
}

/// The order is: message, Sender, schema.
#[test]
fn keeps_the_senders_severity() {
    let mut object = set(example(), "/spec/message/schema", "app.update".into());
    object["spec"].as_object_mut().unwrap().remove("authentication");
    let object = set(object, "/spec/message/body", json!({"update": {"alias": "F1"}}));
    let sender = valid_sender(&set(example_sender(), "/spec/defaults", json!({"severity": "Error"})));
    let mut outgoing = validate(&message(&object), Some(Ok(&sender)), &plain_routing()).unwrap();
    check_schema(&mut outgoing, &schemas()).unwrap();
    assert_eq!(outgoing.severity, Some(Severity::Error));
}

#[test]
fn describes_each_violation() {
    let body = json!({"update": {
        "karma": -5, "status": "gone", "user": {"name": 7}, "tags": ["a", null], "odd\u{1b}": 1,
    }});
    let detail = refused("app.update", body);
    assert!(
        detail.starts_with(
            "consumers would drop the message, because it does not match schema app.update of app-messages 1.2: "
        ),
        "{detail}"
    );
    for expected in [
        "spec.message.body.update.alias is missing",
        "spec.message.body.update.karma is -5, but must be at least -3",
        r#"spec.message.body.update.status is "gone", but must be one of "pending" or "stable""#,
        "spec.message.body.update.user.name is 7, but must be a string",
        "spec.message.body.update.tags[1] is null, but must be a string",
    ] {
        assert!(detail.contains(expected) || detail.contains("; and 1 more"), "{detail}: {expected}");
    }
    assert_eq!(detail.matches("spec.message.body.").count(), 5, "{detail}");
    assert!(detail.ends_with("; and 1 more"), "{detail}");
    assert!(!detail.contains('\u{1b}'), "{detail}");
}

#[test]
fn lists_all_allowed_types() {
    let detail = refused("app.update", json!({"update": {"alias": "a", "user": "x".repeat(1000)}}));
    assert!(detail.contains("…\", but must be null or an object"), "{detail}");
    assert!(detail.len() < 400, "{detail}");
}

#[test]
fn checks_headers() {
    let detail = refused("loud", json!({}));
    assert!(detail.contains("spec.message.headers.source is missing"), "{detail}");
    let quiet = set(set(example(), "/spec/message/schema", "loud".into()), "/spec/message/severity", "Info".into());
    let detail = check(&message(&set(quiet, "/spec/message/headers", json!({"source": "a"}))), &schemas()).unwrap_err();
    assert!(detail.contains("spec.message.severity is 20, but must be one of 40"), "{detail}");
}

#[test]
fn compares_packages_by_normalized_name() {
    let with = |schema: &str, package: &str| {
        let object = set(example(), "/spec/message/schema", schema.into());
        check(&message(&set(object, "/spec/message/schemaPackage", package.into())), &schemas())
    };
    assert_eq!(with("both", "Other-Messages"), Ok(SchemaCheck::Passed));
    let detail = with("both", "bodhi_messages").unwrap_err();
    assert!(
        detail.contains(
            r#"spec.message.schemaPackage is "bodhi_messages", but schema "both" is in app_messages, other_messages"#
        ),
        "{detail}"
    );
    let detail = refused("both", json!({}));
    assert!(detail.contains("is in several packages: name one of app_messages, other_messages"), "{detail}");
}

#[test]
fn allows_or_refuses_unknown_schemas() {
    for (name, expected) in [
        ("nobody.knows", "lacks schema nobody.knows"),
        ("made", "lacks schema made of made-messages 3, because code makes it"),
    ] {
        let message = of(name, json!({}));
        let SchemaCheck::Unchecked(why) = check(&message, &schemas()).unwrap() else { panic!("it was checked") };
        assert!(why.contains(expected), "{why}");
        let detail = check(&message, &Schemas { unknown: UnknownSchemaPolicy::Refuse, ..schemas() }).unwrap_err();
        assert!(detail.contains(expected) && detail.contains("--unknown-schemas"), "{detail}");
    }
    let none = Schemas { catalog: None, unknown: UnknownSchemaPolicy::Allow };
    let unchecked = SchemaCheck::Unchecked("the operator has no catalog of schemas".to_owned());
    assert_eq!(check(&of("nobody.knows", json!({})), &none), Ok(unchecked));
    assert!(check(&of("nobody.knows", json!({})), &Schemas { unknown: UnknownSchemaPolicy::Refuse, ..none }).is_err());
}

#[test]
fn always_knows_the_base_schema() {
    for schemas in [schemas(), Schemas::default(), Schemas { catalog: None, unknown: UnknownSchemaPolicy::Refuse }] {
        assert_eq!(check(&message(&example()), &schemas), Ok(SchemaCheck::Passed));
    }
}

#[test]
fn refuses_messages_of_an_unusable_schema() {
    for name in ["broken", "fetching", "looking"] {
        let detail = refused(name, json!({"a": "a"}));
        assert!(detail.contains(&format!("schema {name} of app-messages 1.2 is broken")), "{detail}");
    }
}

#[test]
fn checks_hostile_bodies_quickly() {
    let wide = format!("[{}0]", "0,".repeat(499_000));
    let nested = |inside: Value| (0..120).fold(inside, |value, _| json!({"a": value}));
    let bodies = [
        ("app.update", json!({"update": {"alias": "a", "tags": serde_json::from_str::<Value>(&wide).unwrap()}})),
        (
            "app.update",
            json!({"update": (0..80_000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>()}),
        ),
        ("app.update", json!({"update": {"user": nested(json!(1))}})),
        ("pattern", json!({"a": "a".repeat(1_000_000) + "b"})),
        ("maybe", json!({"a": vec![1; MAX_EXPLAINED_BYTES / 2 - 10]})),
    ];
    for (schema, body) in bodies {
        let (message, schemas, begun) = (of(schema, body), schemas(), Instant::now());
        let detail = check(&message, &schemas).unwrap_err();
        let took = begun.elapsed();
        println!("{schema}: {took:?}: {} characters", detail.len());
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(detail.len() < 2_000, "{}", detail.len());
    }
}

/// Of a large body only the first violation is found, if it can be found without all others.
#[test]
fn describes_large_bodies_briefly() {
    let large = |item: Value| json!({"a": vec![item; MAX_EXPLAINED_BYTES / 2]});
    let detail = refused("lists", large(json!({})));
    assert!(
        detail.ends_with(
            "spec.message.body.a[0].b is missing; there may be more, which are not looked for in a body of this size"
        ),
        "{detail}"
    );
    let detail = refused("app.update", json!({"update": large(json!(1))}));
    assert!(
        detail
            .contains(": spec.message.body does not match, and is too large to look for the place; there may be more"),
        "{detail}"
    );
}

#[test]
fn counts_objects_and_lists_of_checked_bodies() {
    let body = |count: usize| json!({"a": vec![json!({"b": "[{"}); count]});
    assert_eq!(check(&of("lists", body(MAX_CHECKED_CONTAINERS - 2)), &schemas()), Ok(SchemaCheck::Passed));
    assert_eq!(
        refused("lists", body(MAX_CHECKED_CONTAINERS - 1)),
        "spec.message.body can't be checked against its schema: it has more than 50000 objects and lists; split it"
    );
    assert_eq!(
        check(&of("base.message", body(MAX_CHECKED_CONTAINERS)), &schemas()),
        Ok(SchemaCheck::Passed),
        "nothing is parsed"
    );
}

#[test]
fn refuses_files_that_are_no_catalog() {
    for (text, expected) in [
        ("", "it is no catalog of schemas"),
        ("[]", "it is no catalog of schemas"),
        (r#"{"format": 1}"#, "missing field"),
        (r#"{"format": 2}"#, "has format version 2"),
    ] {
        let detail = Catalog::read(text.as_bytes()).unwrap_err().to_string();
        assert!(detail.contains(expected) && detail.contains("just schemas"), "{detail}");
    }
}
