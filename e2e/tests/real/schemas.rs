//! The real schemas of Fedora's messages: the validator agrees with the library, real classes reach
//! a real consumer, and the operator follows changes of the catalog's file.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fedora_message::schema::catalog::{Catalog, Schema, SchemaError, SchemaLookup};
use fedora_message::schema::validator::value;
use rig::consumer::Format;
use rig::python::Python;
use rig::{Consumer, schemas};
use serde_json::{Value, json};

use e2e::cli::Cli;
use e2e::{Operator, SOON, TestNamespace, message, message_json, read, shared, with_body};

/// The minimum number of bodies, and of headers, for each class and result.
const ENOUGH: usize = 20;

fn catalog() -> Catalog {
    let file = schemas::catalog().expect("the catalog is exported");
    Catalog::read(&fs::read(file).expect("a file")).expect("a catalog")
}

fn schema<'a>(catalog: &'a Catalog, case: &Value) -> &'a Schema {
    let text = |key: &str| case[key].as_str().expect("a text");
    match catalog.find(text("name"), Some(text("distribution"))) {
        SchemaLookup::Found(schema) => schema,
        other => panic!("{case}: {other:?}"),
    }
}

#[test]
fn validator_agrees_with_library() {
    let catalog = catalog();
    let cases = fs::read_to_string(schemas::cases().expect("the cases are made")).expect("a file");
    let good_headers = json!({"fedora_messaging_severity": 20, "fedora_messaging_schema": "a", "sent-at": "now"});
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    let (mut different, mut time, mut checks) = (Vec::new(), Duration::ZERO, 0_u32);
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let schema = schema(&catalog, &case);
        let (part, wanted) = (case["part"].as_str().expect("a part"), case["valid"] == true);
        let written = value(case["json"].as_str().expect("a text")).expect("JSON");
        let result = if part == "body" {
            let start = Instant::now();
            let result = catalog.check(schema, &good_headers, &written, false);
            time += start.elapsed();
            checks += 1;
            result
        } else {
            let body = value(case["body"].as_str().expect("a text")).expect("JSON");
            catalog.check(schema, &written, &body, false)
        };
        if let Err(SchemaError::Schema(error)) = &result {
            panic!("{schema} can't be used: {error}");
        }
        if result.is_ok() != wanted {
            different.push(format!("{schema}: {}: {result:?}", case["json"]));
        }
        *seen.entry((schema.to_string(), part.to_owned(), wanted)).or_default() += 1;
    }
    assert!(
        different.is_empty(),
        "{} of {checks}: {:#?}",
        different.len(),
        different.iter().take(10).collect::<Vec<_>>()
    );
    assert_eq!(seen.len(), 4 * catalog.schemas.len());
    let few: Vec<_> = seen.iter().filter(|(_, count)| **count < ENOUGH).collect();
    assert!(few.is_empty(), "{few:?}");
    println!("{checks} bodies, {:?} each, compiling included", time / checks);
}

#[test]
fn schema_list_is_current() {
    let table = schemas::table(&schemas::catalog().expect("the catalog")).expect("a table");
    assert!(read("docs/schema-list.md").ends_with(&table), "run `just schemas`");
}

/// Returns a body that the library accepts for this schema.
fn valid_body(name: &str) -> String {
    let cases = fs::read_to_string(schemas::cases().expect("the cases are made")).expect("a file");
    let mut cases = cases.lines().map(|line| serde_json::from_str::<Value>(line).expect("a case"));
    let case = cases.find(|case| case["name"] == name && case["part"] == "body" && case["valid"] == true);
    case.expect("a valid body")["json"].as_str().expect("a text").to_owned()
}

/// A schema that its package marks as deprecated.
const OLD: &str = "mirrormanager.host.added.v1";

/// A valid message reaches a consumer that loads its class.
#[test]
fn checks_messages_of_real_schemas() {
    let python = Python::with_schemas().expect("the packages are installed");
    let (topic, wrong) = ("schemas.real", r#"{"build_id": "seven"}"#);
    let consumer = Consumer::start_with(&python, &shared().broker, topic, Format::Json).expect("a consumer");
    let namespace = TestNamespace::with_publisher("schemas");
    let create = |name: &str, schema: &str, body: &str| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        let message = json!({"topic": topic, "schema": schema, "body": body});
        namespace.create(&message_json(name, &message).to_string());
    };
    let cli = Cli::new();
    let file = cli.file("catalog.json", &fs::read_to_string(schemas::catalog().expect("made")).expect("text"));
    let operator = Operator::start(&namespace, &["--schema-catalog", &file.display().to_string()]);

    for (name, schema, body) in [
        ("good", "koji_fedoramessaging.tag.TagV1", valid_body("koji_fedoramessaging.tag.TagV1")),
        ("bad", "koji_fedoramessaging.tag.TagV1", wrong.to_owned()),
        ("unknown", "nobody.knows.v1", "{}".to_owned()),
        ("old", OLD, valid_body(OLD)),
    ] {
        create(name, schema, &body);
    }
    assert_eq!(namespace.wait_for_reason("good", "Sent")["message"], "Message was sent successfully");
    let expected = r#"spec.message.body.build_id is "seven", but must be an integer"#;
    namespace.expect_reason("bad", "InvalidMessage", &[expected]);
    let expected = "It was not checked against its schema: the operator's catalog lacks";
    namespace.expect_reason("unknown", "Sent", &[expected]);
    let old = namespace.wait_for_reason("old", "Sent")["message"].as_str().expect("a text").to_owned();
    assert!(old.ends_with(&format!("Its schema {OLD} is deprecated: use a newer one of its package")), "{old}");
    let received = consumer.wait_for(3, SOON).expect("all arrive");
    let tag = received.iter().find(|message| message["class"] == "TagV1").expect("its class is loaded");
    assert_eq!(tag["headers"]["fedora_messaging_schema_package"], "koji_fedoramessaging_messages");
    assert_eq!(tag["headers"]["fedora_messaging_severity"], 10);

    // A broken file does not replace the catalog. A valid file does.
    let whole = fs::read_to_string(&file).expect("text");
    fs::write(&file, &whole[..1000]).expect("a file");
    operator.wait_for_log("it is no catalog of schemas");
    create("bad-2", "koji_fedoramessaging.tag.TagV1", wrong);
    namespace.wait_for_reason("bad-2", "InvalidMessage");
    fs::write(&file, whole.replace("koji_fedoramessaging.tag.TagV1", "another.name")).expect("a file");
    operator.wait_for_log("read the catalog of schemas again");
    create("bad-3", "koji_fedoramessaging.tag.TagV1", wrong);
    namespace.expect_reason("bad-3", "Sent", &["lacks schema koji_fedoramessaging.tag.TagV1"]);
}

#[test]
fn checks_schemas_without_broker() {
    let cli = Cli::new();
    let catalog = schemas::catalog().expect("the catalog").display().to_string();
    let output = cli.run(&["check", "--schemas", "--schema-catalog", &catalog], &[]);
    assert_eq!((output.code, output.err.as_str()), (0, ""));
    assert!(
        output.out.contains("bodhi.update.comment.v1") && output.out.contains("ci_messages.CIMessageV1"),
        "{}",
        output.out
    );
    let name = "koji_fedoramessaging.tag.TagV1";
    for (body, code, expected) in [
        (valid_body(name), 0, "one: valid, fits koji_fedoramessaging.tag.TagV1"),
        ("{build_id: seven}".to_owned(), 1, "spec.message.body.build_id is \"seven\", but must be an integer"),
    ] {
        let file = cli.file("message.yaml", &with_body(&message("one", "a.b", ""), &body)).display().to_string();
        let output = cli.run(&["check", "--schema", name, "-f", &file, "--schema-catalog", &catalog], &[]);
        assert_eq!(output.code, code, "{}", output.err);
        assert!(output.all().contains(expected));
    }
    let output = cli.run(&["check", "--schemas"], &[]);
    assert_eq!(output.code, 2, "{}", output.err);
    let output = cli.run(&["check", "--schemas", "--schema-catalog", "absent"], &[]);
    assert!(output.code == 2 && output.err.contains("can't read absent"), "{}", output.err);
}
