//! Failures do not spread: good messages keep their rate among all kinds of bad messages. The test
//! measures rates, so it runs alone.

use chrono::{DateTime, TimeDelta, Utc};
use rig::broker::Options;
use rig::{Broker, SeparateCores};
use serde_json::Value;

use e2e::{
    Operator, TestNamespace, audited, message, message_count, shared, unused_broker_url, wait_soon, with_secret,
};

/// The share of their rate that good messages must keep.
const SHARE: f64 = 0.8;
/// The largest body that the broker accepts, in bytes.
const LARGEST: usize = 10_000;
/// The number of pairs of rounds, and the maximum on an unsteady machine.
const FEW: usize = 4;
const MANY: usize = 16;

/// Returns messages that can't be sent. Each kind has a tenth of the number of good messages.
fn bad(good: usize) -> String {
    let deep = |n: usize| {
        message(&format!("deep{n}"), "spread.deep", "")
            .replace("body: {", &format!("body: {{a: {}{}, ", "[".repeat(300), "]".repeat(300)))
    };
    (0..good / 10)
        .flat_map(|n| {
            [
                with_secret(&message(&format!("forbidden{n}"), "evil.topic", ""), "nice"),
                message(&format!("oversized{n}"), "spread.oversized", "")
                    .replace("body: {", &format!("body: {{text: {}, ", "x".repeat(2 * LARGEST))),
                with_secret(&message(&format!("broken{n}"), "spread.broken", ""), "broken"),
                message(&format!("dead{n}"), "spread.dead", "").replace("env: prod", "env: stg"),
                deep(n),
            ]
        })
        .collect()
}

/// Returns the seconds from the operator's first list to the status of the last good message.
fn drain(broker: &Broker, good: usize, among_bad: bool) -> f64 {
    let namespace = TestNamespace::new("spread").with_certificate(broker, "publisher");
    namespace.store_secret("nice", &broker.client("nice-app").expect("a certificate"));
    namespace.kubectl(&["create", "secret", "generic", "broken", "--from-literal=cert=none"]);
    let mut manifests: Vec<String> = (0..good).map(|n| message(&format!("good{n}"), "spread.good", "")).collect();
    if among_bad {
        for (n, bad) in bad(good).split_inclusive("---\n").enumerate() {
            manifests.insert((n * 3).min(manifests.len()), bad.to_owned());
        }
    }
    for batch in manifests.chunks(500) {
        namespace.create(&batch.concat());
    }
    let (_port, stg) = unused_broker_url();
    let arguments = ["--watch-namespaces", &namespace.name, "--stg-amqp-url", &stg];
    let operator = Operator::launch(&shared().kube.kubeconfig(), &broker.url(), &arguments, "info");
    // Requests to the API server, or reads of the whole log, would slow down the operator as much
    // as the bad messages.
    let (mut read, mut sent) = (0, 0);
    let all_sent = || {
        let log = operator.log_from(read);
        let lines = log.rfind('\n').map_or("", |end| &log[..=end]);
        read += lines.len() as u64;
        sent += lines.matches("reason=\"Sent\"").count();
        sent >= good
    };
    wait_soon("all good messages are sent", all_sent);
    namespace.wait_until_sent("good");
    took(&namespace)
}

fn took(namespace: &TestNamespace) -> f64 {
    let requests = audited(namespace);
    let time =
        |event: &Value| -> DateTime<Utc> { event["stageTimestamp"].as_str().expect("a time").parse().expect("a time") };
    let start = requests.iter().find(|event| event["verb"] == "list").map(time).expect("a list");
    let good = |event: &&Value| event["objectRef"]["name"].as_str().is_some_and(|name| name.starts_with("good"));
    let last = requests.iter().filter(good).map(time).max().expect("a status");
    (last - start).as_seconds_f64().max(TimeDelta::milliseconds(1).as_seconds_f64())
}

#[test]
fn good_messages_keep_their_rate() {
    let good = message_count(1000);
    let config = format!("max_message_size = {LARGEST}\n");
    let broker = Broker::start_with(&Options { config, ..Options::default() }).expect("a broker");
    // In a cluster, the API server has its own machines. Without its own cores, it would slow down
    // with the operator.
    let _cores = SeparateCores::new(&shared().kube, &broker).expect("cores");
    // The first round warms up the API server, and does not count.
    drain(&broker, good, false);
    let mut shares = Vec::new();
    // The speed of a machine changes, and each round stores more objects. So the test compares only
    // the two rounds of a pair, and alternates their order.
    while shares.len() < FEW || (shares.len() < MANY && mean(&shares) < SHARE) {
        let among_first = shares.len() % 2 == 1;
        let [first, second] = [among_first, !among_first].map(|among_bad| drain(&broker, good, among_bad));
        let (alone, among) = if among_first { (second, first) } else { (first, second) };
        println!("{good} good messages: alone in {alone:.2} s, among {} bad ones in {among:.2} s", good / 10 * 5);
        shares.push(alone / among);
    }
    let share = mean(&shares);
    println!("{share:.2} of the rate is left: {shares:.2?}");
    assert!(share >= SHARE, "{share:.2} of the rate is left");
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / f64::from(u32::try_from(numbers.len()).expect("not that many"))
}
