//! The real schemas of Fedora's messages: the operator's verdict on bodies and headers beside the library's,
//! messages of real classes on their way to a real consumer, and the catalog's file while it changes.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fedora_message::schema::catalog::{Catalog, Found, Schema, SchemaError};
use fedora_message::schema::validator::value;
use rig::python::Python;
use rig::{Consumer, schemas, wait_until};
use serde_json::{Value, json};

use e2e::program::Shell;
use e2e::world::{Operator, SOON, Space, project, world};

/// So many bodies, and so many headers, of each verdict are tried for each class.
const ENOUGH: usize = 20;

fn catalog() -> Catalog {
    let file = schemas::catalog().expect("the catalog is exported");
    Catalog::read(&fs::read(file).expect("it is a file")).expect("it can be read")
}

fn schema<'a>(catalog: &'a Catalog, case: &Value) -> &'a Schema {
    let text = |key: &str| case[key].as_str().expect("a text");
    match catalog.find(text("name"), Some(text("distribution"))) {
        Found::One(schema) => schema,
        other => panic!("{case}: {other:?}"),
    }
}

#[test]
fn the_operator_accepts_and_refuses_what_the_library_does() {
    let catalog = catalog();
    let cases = fs::read_to_string(schemas::cases().expect("the cases are made")).expect("they are a file");
    let good_headers = json!({"fedora_messaging_severity": 20, "fedora_messaging_schema": "a", "sent-at": "now"});
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    let (mut different, mut time, mut checks) = (Vec::new(), Duration::ZERO, 0_u32);
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let schema = schema(&catalog, &case);
        let (part, wanted) = (case["part"].as_str().expect("a part"), case["valid"] == true);
        let written = value(case["json"].as_str().expect("a text")).expect("JSON");
        let verdict = if part == "body" {
            let begun = Instant::now();
            let verdict = catalog.check(schema, &good_headers, &written);
            time += begun.elapsed();
            checks += 1;
            verdict
        } else {
            let body = value(case["body"].as_str().expect("a text")).expect("JSON");
            catalog.check(schema, &written, &body)
        };
        if let Err(SchemaError::Schema(words)) = &verdict {
            panic!("{schema} can't be used: {words}");
        }
        if verdict.is_ok() != wanted {
            different.push(format!("{schema}: {}: {verdict:?}", case["json"]));
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
fn the_list_of_schemas_in_the_documents_is_the_one_that_is_exported() {
    let table = schemas::table(&schemas::catalog().expect("the catalog")).expect("a table");
    let page = fs::read_to_string(project("docs/schema-list.md")).expect("a page");
    assert!(page.ends_with(&table), "run `just schemas`");
}

/// A body that the library accepts as this schema's.
fn fitting(name: &str) -> String {
    let cases = fs::read_to_string(schemas::cases().expect("the cases are made")).expect("they are a file");
    let mut cases = cases.lines().map(|line| serde_json::from_str::<Value>(line).expect("a case"));
    let case = cases.find(|case| case["name"] == name && case["part"] == "body" && case["valid"] == true);
    case.expect("there is one")["json"].as_str().expect("a text").to_owned()
}

#[test]
fn a_message_of_a_real_schema_reaches_a_consumer_that_loads_its_class() {
    let python = Python::with_schemas().expect("the packages are installed");
    let (topic, wrong) = ("schemas.real", r#"{"build_id": "seven"}"#);
    let consumer = Consumer::start_on(&python, &world().broker, topic).expect("it consumes");
    let space = Space::new("schemas");
    space.certificate(&world().broker, "publisher");
    let manifest = |name: &str, schema: &str, body: &str| {
        json!({
            "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {"name": name},
            "spec": {
                "env": "prod",
                "message": {"topic": topic, "schema": schema, "body": serde_json::from_str::<Value>(body).expect("JSON")},
                "authentication": {"secretRef": {"name": "certs"}},
            },
        })
        .to_string()
    };
    let shell = Shell::new();
    let file = shell.file("catalog.json", &fs::read_to_string(schemas::catalog().expect("made")).expect("text"));
    let operator = Operator::start(&space, &["--schema-catalog", &file.display().to_string()]);

    for (name, schema, body) in [
        ("good", "koji_fedoramessaging.tag.TagV1", fitting("koji_fedoramessaging.tag.TagV1")),
        ("bad", "koji_fedoramessaging.tag.TagV1", wrong.to_owned()),
        ("unknown", "nobody.knows.v1", "{}".to_owned()),
    ] {
        space.kubectl(&["create", "-f", "-"], &manifest(name, schema, &body)).expect("it is accepted");
    }
    let words = |name: &str, reason: &str| {
        let what = format!("{name} is {reason}");
        let status = || space.kubectl(&["get", "fmsg", name, "-o", "jsonpath={.status.reason}: {.status.message}"], "");
        wait_until(SOON, &what, || status().is_ok_and(|status| status.starts_with(reason))).expect("it comes");
        status().expect("kubectl gets it")
    };
    assert_eq!(words("good", "Sent"), "Sent: Message was sent successfully");
    let bad = words("bad", "InvalidMessage");
    assert!(bad.contains(r#"spec.message.body.build_id is "seven", but must be an integer"#), "{bad}");
    let unknown = words("unknown", "Sent");
    assert!(unknown.contains("It was not checked against its schema: the operator's catalog lacks"), "{unknown}");
    let received = consumer.wait_for(2, SOON).expect("both arrive");
    let tag = received.iter().find(|message| message["class"] == "TagV1").expect("its class is loaded");
    assert_eq!(tag["headers"]["fedora_messaging_schema_package"], "koji_fedoramessaging_messages");
    assert_eq!(tag["headers"]["fedora_messaging_severity"], 10);

    // A broken file keeps what was there, a good one takes its place.
    let whole = fs::read_to_string(&file).expect("text");
    fs::write(&file, &whole[..1000]).expect("it is written");
    operator.wait_for_words("it is no catalog of schemas");
    space
        .kubectl(&["create", "-f", "-"], &manifest("bad-2", "koji_fedoramessaging.tag.TagV1", wrong))
        .expect("accepted");
    words("bad-2", "InvalidMessage");
    fs::write(&file, whole.replace("koji_fedoramessaging.tag.TagV1", "another.name")).expect("it is written");
    operator.wait_for_words("read the catalog of schemas again");
    space
        .kubectl(&["create", "-f", "-"], &manifest("bad-3", "koji_fedoramessaging.tag.TagV1", wrong))
        .expect("accepted");
    assert!(words("bad-3", "Sent").contains("lacks schema koji_fedoramessaging.tag.TagV1"));
}

#[test]
fn schemas_and_files_are_checked_without_a_broker() {
    let shell = Shell::new();
    let catalog = schemas::catalog().expect("the catalog").display().to_string();
    let ran = shell.run(&["check", "--schemas", "--schema-catalog", &catalog], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("bodhi.update.comment.v1") && ran.out.contains("ci_messages.CIMessageV1"), "{}", ran.out);
    let manifest = |body: &str| {
        format!(
            "apiVersion: apps.fedoraproject.org/v1alpha1\nkind: FedoraMessage\nmetadata: {{name: one}}\nspec:\n  env: stg\n  \
             message: {{topic: a.b, body: {body}}}\n  authentication: {{secretRef: {{name: certs}}}}\n"
        )
    };
    let name = "koji_fedoramessaging.tag.TagV1";
    for (body, code, words) in [
        (fitting(name), 0, "one fits koji_fedoramessaging.tag.TagV1"),
        ("{build_id: seven}".to_owned(), 1, "spec.message.body.build_id is \"seven\", but must be an integer"),
    ] {
        let file = shell.file("message.yaml", &manifest(&body)).display().to_string();
        let ran = shell.run(&["check", "--schema", name, "-f", &file, "--schema-catalog", &catalog], &[]);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!((ran.out + &ran.err).contains(words));
    }
    let ran = shell.run(&["check", "--schemas"], &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let ran = shell.run(&["check", "--schemas", "--schema-catalog", "absent"], &[]);
    assert!(ran.code == 2 && ran.err.contains("can't read absent"), "{}", ran.err);
}
