//! Real messages of Fedora's applications (`testdata/messages`), compared with those of the library.
//! `tests/pods` sends their bodies by Pods.

use std::collections::BTreeMap;

use rig::consumer::Format;
use rig::python::Python;
use rig::{Consumer, Publisher, schemas};
use serde_json::Value;

use crate::fidelity::compare_published;
use e2e::cli::Cli;
use e2e::fidelity::cases::{Case, PREFIX, parse, recorded};
use e2e::fidelity::stage::{Sent, Stage};
use e2e::{Operator, SOON, TestNamespace, certificate, shared};

const COUNT: usize = 24;

fn stage(root: &str, expected: impl Fn(&Case) -> &str) -> Stage {
    let cases = recorded(root);
    assert_eq!(cases.len(), COUNT);
    Stage::set(&shared().broker, root, cases, expected)
}

/// `kubectl apply --server-side` and `kubectl create` lead to the same bytes.
#[test]
fn stored_messages_match_library() {
    let stage = stage("recorded-stored", Case::stored);
    let namespace = TestNamespace::with_publisher("recorded");
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", PREFIX]);
    namespace.apply(&stage.manifests("apply", ""));
    namespace.create(&stage.manifests("create", ""));
    namespace.wait_for_all_sent();

    let mut sent: Vec<Sent> = namespace.messages().iter().map(|object| stage.sent_by_operator(object)).collect();
    assert_eq!(sent.len(), 2 * COUNT);
    let received = stage.compare(&sent);
    sent.sort_by_key(|sent| sent.case);
    for pair in sent.chunks(2) {
        let [applied, created] = pair else { panic!("an odd number") };
        let name = &stage.cases[applied.case].name;
        assert!(received[&applied.id].data == received[&created.id].data, "{name}");
    }
}

/// `publish` sends the bytes of a body in JSON as they stand in the file.
#[test]
fn json_matches_library() {
    let stage = stage("recorded-json", Case::written);
    let bodies = compare_published(&stage, &stage.manifests("json", ""), &[]);
    assert_eq!(bodies.len(), COUNT);
    for (case, body) in bodies {
        assert!(body == stage.cases[case].body.as_bytes(), "{}", stage.cases[case].name);
    }
}

/// The manifests are in YAML's block style, as people write them.
#[test]
fn yaml_matches_library() {
    let stage = stage("recorded-yaml", Case::stored);
    let yaml = |(number, case): (usize, &Case)| {
        let manifest = parse(&case.manifest(&format!("yaml-{number}")));
        format!("---\n{}", serde_saphyr::to_string(&manifest).expect("YAML"))
    };
    let manifests: String = stage.cases.iter().enumerate().map(yaml).collect();
    assert_eq!(compare_published(&stage, &manifests, &[]).len(), COUNT);
}

/// `publish` with the catalog refuses a message if and only if the library does, which has the packages of the
/// schemas. The library's consumer loads the class of each one that is sent.
#[test]
fn schemas_are_checked_as_by_library() {
    let (python, broker) = (Python::with_schemas().expect("the packages are installed"), &shared().broker);
    let topics = "#.recorded-schemas.#";
    let consumer = Consumer::start_with(&python, broker, topics, Format::Json).expect("a consumer");
    let mut library = Publisher::start_with(&python, broker, "publisher", PREFIX).expect("a publisher");
    let cases = recorded("recorded-schemas");
    let theirs: Vec<_> = cases.iter().map(|case| library.publish(&case.reference(&parse(case.written())))).collect();

    let cli = Cli::new();
    let certificate = certificate("publisher");
    let manifests: String = cases.iter().enumerate().map(|(n, case)| case.manifest(&format!("json-{n}"))).collect();
    let file = cli.file("cases.json", &manifests).display().to_string();
    let catalog = schemas::catalog().expect("the catalog is exported").display().to_string();
    let url = broker.url();
    let arguments = [
        &["publish", "-o", "json", "--concurrency", "1", "-f", &file, "--prod-amqp-url", &url, "--stg-amqp-url", &url],
        &["--prod-topic-prefix", PREFIX, "--schema-catalog", &catalog][..],
    ];
    let output = cli.run_with(&certificate, &arguments.concat(), &[]);
    let ours: Vec<Value> = output.out.lines().map(parse).collect();
    assert_eq!(ours.len(), COUNT, "{}", output.err);

    let mut refused = Vec::new();
    let mut pairs = Vec::new();
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(theirs) {
        let status = &ours["status"];
        match theirs {
            Ok(id) => {
                assert_eq!(status["reason"], "Sent", "{}: {status}", case.name);
                pairs.push((case, status["messageId"].as_str().expect("an id").to_owned(), id));
            }
            Err(error) => {
                assert_eq!(status["reason"], "InvalidMessage", "{}: {error}", case.name);
                refused.push(case.name.as_str());
            }
        }
    }
    // Its times are texts, as Bugzilla itself sends them. Its schema wants numbers.
    assert_eq!(refused, ["bugzilla-bug-new"]);

    let received = consumer.wait_for(2 * pairs.len(), SOON).expect("the library accepts all");
    let received: BTreeMap<_, _> =
        received.iter().map(|message| (message["id"].as_str().expect("an id"), message)).collect();
    for (case, our_id, their_id) in &pairs {
        let (ours, theirs) = (received[our_id.as_str()], received[their_id.as_str()]);
        assert_ne!(ours["class"], "Message", "{}", case.name);
        for field in ["class", "body", "topic", "severity"] {
            assert_eq!(ours[field], theirs[field], "{}", case.name);
        }
    }
}
