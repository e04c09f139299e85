//! The operator's messages beside those that the Python library itself publishes: on the wire, and as
//! the library's own consumer reads them. Only id and time may differ.

use std::collections::HashMap;

use chrono::{SubsecRound, Utc};
use rig::wait_until;

use e2e::fidelity::cases::{self, Case, PREFIX, parse};
use e2e::fidelity::stage::{Sent, Stage, number};
use e2e::program::Shell;
use e2e::world::{Operator, SOON, Space, world};

#[test]
fn the_operator_publishes_each_message_as_the_library_would() {
    let stage = Stage::set(&world().broker, "fidelity-operator", all("fidelity-operator"), Case::kept);
    let space = Space::new("fidelity");
    space.certificate(&world().broker, "publisher");
    // Half of the objects come to the operator by list; the other half, the same again, by watch. They
    // are created, because server-side apply takes no control characters and no long keys.
    let listed = stage.manifests("list", "");
    space.kubectl(&["create", "-f", "-"], &listed).expect("all are accepted");
    let operator = Operator::start(&space, &["--prod-topic-prefix", PREFIX]);
    space.kubectl(&["create", "-f", "-"], &stage.manifests("watch", "")).expect("all are accepted");
    wait_for_all_sent(&space, &operator);

    let objects = space.kubectl(&["get", "fmsg", "-o", "json"], "").expect("kubectl lists");
    let objects = parse(&objects);
    let objects = objects["items"].as_array().expect("a list");
    let sent: Vec<Sent> = objects.iter().map(|object| stage.sent_by_operator(object)).collect();
    let received = stage.compare(&sent);

    let mut payloads: HashMap<usize, &[u8]> = HashMap::new();
    for sent in &sent {
        let payload = received[&sent.id].data.as_slice();
        let other = *payloads.entry(sent.case).or_insert(payload);
        assert!(payload == other, "{}: other bytes by list than by watch", stage.cases[sent.case].name);
    }
}

#[test]
fn the_publish_command_publishes_each_message_as_the_library_would() {
    let stage = Stage::set(&world().broker, "fidelity-publish", all("fidelity-publish"), Case::written);
    let shell = Shell::new();
    let certificate = world().broker.client("publisher").expect("a certificate is issued");
    let [json, yaml] = [
        ("cases.json", stage.manifests("json", "")),
        ("cases.yaml", escaped(&stage.manifests("yaml", "---\n# YAML\n"))),
    ]
    .map(|(name, text)| shell.file(name, &text).display().to_string());
    let url = world().broker.url();
    let arguments = [
        "publish",
        "-o",
        "json",
        "-f",
        &json,
        "-f",
        &yaml,
        "--prod-amqp-url",
        &url,
        "--stg-amqp-url",
        &url,
        "--prod-topic-prefix",
        PREFIX,
    ];

    let begin = Utc::now().trunc_subsecs(0);
    let ran = shell.run(&[arguments.map(str::to_owned).to_vec(), shell.certificate(&certificate)].concat(), &[]);
    let now = Utc::now();
    let sent: Vec<Sent> = ran
        .out
        .lines()
        .map(|line| {
            let line = parse(line);
            let (name, status) = (&line["name"], &line["status"]);
            assert_eq!(status["reason"], "Sent", "{name}: {}: {status}", stage.cases[number(name)].name);
            Sent::new(name, &status["messageId"], begin..=now)
        })
        .collect();
    assert_eq!((sent.len(), ran.code), (2 * stage.cases.len(), 0), "{}", ran.err);
    stage.compare(&sent);
}

fn all(root: &str) -> Vec<Case> {
    let cases = cases::all(root);
    assert!(cases.len() >= 80, "{} cases", cases.len());
    cases
}

/// Escapes what must not stand in YAML as it is (YAML 1.2, 5.1).
fn escaped(json: &str) -> String {
    let hidden =
        |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    json.chars().map(|c| if hidden(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

fn wait_for_all_sent(space: &Space, operator: &Operator) {
    let pending = || space.kubectl(&["get", "fmsg", "--field-selector", "status.status!=true"], "").unwrap_or_default();
    let sent = wait_until(SOON, "all messages are sent", || pending().trim().is_empty());
    sent.unwrap_or_else(|error| panic!("{error}: {}\n{}", pending(), operator.log()));
}
