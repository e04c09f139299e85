//! Compares the operator's messages with those of the Python library: on the wire, and as the
//! library's consumer reads them. Only id and time may differ.

use std::collections::{BTreeMap, HashMap};

use chrono::{SubsecRound, Utc};
use serde_json::Value;

use e2e::cli::Cli;
use e2e::fidelity::cases::{self, Case, PREFIX, SENDERS, half_by_sender, parse};
use e2e::fidelity::stage::{Sent, Stage, number};
use e2e::{Operator, TestNamespace, certificate, shared};

#[test]
fn operator_matches_library() {
    let stage = Stage::set(&shared().broker, "fidelity-operator", all("fidelity-operator"), Case::stored);
    let namespace = TestNamespace::with_publisher("fidelity");
    namespace.apply(SENDERS);
    // The operator finds half of the objects by list, and equal ones by watch. `create` stores
    // them: server-side apply accepts no control characters and no long keys.
    namespace.create(&stage.manifests("list", ""));
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", PREFIX]);
    namespace.create(&half_by_sender(&stage.manifests("watch", "")));
    let by_sender = |object: &&Value| object["spec"]["senderRef"].is_object();
    assert!(namespace.messages().iter().filter(by_sender).count() >= 40, "Senders are covered");
    namespace.wait_for_all_sent();

    let sent: Vec<Sent> = namespace.messages().iter().map(|object| stage.sent_by_operator(object)).collect();
    let received = stage.compare(&sent);

    let mut payloads: HashMap<usize, &[u8]> = HashMap::new();
    for sent in &sent {
        let payload = received[&sent.id].data.as_slice();
        let other = *payloads.entry(sent.case).or_insert(payload);
        assert!(payload == other, "{}: list and watch lead to different bytes", stage.cases[sent.case].name);
    }
}

#[test]
fn publish_matches_library() {
    let stage = Stage::set(&shared().broker, "fidelity-json", all("fidelity-json"), Case::written);
    compare_published(&stage, &half_by_sender(&stage.manifests("json", "")), &[]);
}

/// `publish` reads YAML as kubectl does, so numbers are those that the API server would store.
#[test]
fn publish_of_yaml_matches_library() {
    let stage = Stage::set(&shared().broker, "fidelity-yaml", all("fidelity-yaml"), Case::stored);
    compare_published(&stage, &escaped(&stage.manifests("yaml", "---\n# YAML\n")), &[]);
}

/// Publishes all cases from a file with these further arguments, and compares them with those of the
/// library. Returns the bytes of each case's body.
pub fn compare_published(stage: &Stage, manifests: &str, more: &[&str]) -> BTreeMap<usize, Vec<u8>> {
    let cli = Cli::new();
    let certificate = certificate("publisher");
    let [file, senders] = [("cases.yaml", manifests), ("senders.yaml", SENDERS)]
        .map(|(name, text)| cli.file(name, text).display().to_string());
    let url = shared().broker.url();
    let arguments = format!(
        "publish -o json -f {file} -f {senders} --prod-amqp-url {url} --stg-amqp-url {url} --prod-topic-prefix {PREFIX}"
    );

    let begin = Utc::now().trunc_subsecs(0);
    let arguments: Vec<_> = arguments.split(' ').chain(more.iter().copied()).collect();
    let output = cli.run_with(&certificate, &arguments, &[]);
    let now = Utc::now();
    let sent: Vec<Sent> = output
        .out
        .lines()
        .map(|line| {
            let line = parse(line);
            let (name, status) = (&line["name"], &line["status"]);
            assert_eq!(status["reason"], "Sent", "{name}: {}: {status}", stage.cases[number(name)].name);
            Sent::new(name, &status["messageId"], begin..=now)
        })
        .collect();
    assert_eq!((sent.len(), output.code), (stage.cases.len(), 0), "{}", output.err);
    let received = stage.compare(&sent);
    sent.iter().map(|sent| (sent.case, received[&sent.id].data.clone())).collect()
}

fn all(root: &str) -> Vec<Case> {
    let cases = cases::all(root);
    assert!(cases.len() >= 80, "{} cases", cases.len());
    cases
}

/// Escapes the characters that YAML does not allow, and its line breaks beyond ASCII.
fn escaped(json: &str) -> String {
    let hidden =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    json.chars().map(|c| if hidden(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}
