//! One failure does not spread: good messages go through at full speed among all that can go wrong
//! with others. Rates are measured here, so nothing else runs beside it.

use chrono::{DateTime, TimeDelta, Utc};
use rig::broker::Options;
use rig::port::Port;
use rig::wait_until;
use rig::{Broker, SeparateCores};
use serde_json::Value;

use e2e::world::{Operator, SOON, Space, message, messages, wait_for_none_pending, world};

/// What the good messages must keep of the rate that they have alone.
const SHARE: f64 = 0.8;
/// The largest body that the broker takes, in bytes.
const LARGEST: usize = 10_000;
/// Pairs of rounds: usually, and where those do not show it.
const FEW: usize = 4;
const MANY: usize = 16;

/// Messages that can't be sent, a tenth as many of each kind as good ones.
fn bad(good: usize) -> String {
    let deep = |n: usize| {
        message(&format!("deep{n}"), "spread.deep", "")
            .replace("body: {", &format!("body: {{a: {}{}, ", "[".repeat(300), "]".repeat(300)))
    };
    (0..good / 10)
        .flat_map(|n| {
            [
                message(&format!("forbidden{n}"), "evil.topic", "").replace("name: certs", "name: nice"),
                message(&format!("oversized{n}"), "spread.oversized", "")
                    .replace("body: {", &format!("body: {{text: {}, ", "x".repeat(2 * LARGEST))),
                message(&format!("broken{n}"), "spread.broken", "").replace("name: certs", "name: broken"),
                message(&format!("dead{n}"), "spread.dead", "").replace("env: prod", "env: stg"),
                deep(n),
            ]
        })
        .collect()
}

/// Seconds from the operator's first list to the last good message's status.
fn drain(broker: &Broker, good: usize, among_bad: bool) -> f64 {
    let space = Space::new("spread");
    space.certificate(broker, "publisher");
    let nice = broker.client("nice-app").expect("a certificate");
    space.apply(&nice.secret_yaml("nice", &space.name)).expect("the Secret is stored");
    space
        .kubectl(&["create", "secret", "generic", "broken", "--from-literal=cert=none"], "")
        .expect("the Secret is stored");
    let mut manifests: Vec<String> = (0..good).map(|n| message(&format!("good{n}"), "spread.good", "")).collect();
    if among_bad {
        for (n, bad) in bad(good).split_inclusive("---\n").enumerate() {
            manifests.insert((n * 3).min(manifests.len()), bad.to_owned());
        }
    }
    for batch in manifests.chunks(500) {
        space.kubectl(&["create", "-f", "-"], &batch.concat()).expect("all are accepted");
    }
    let closed = Port::reserve().expect("a free port");
    let stg = format!("amqps://localhost:{}/%2Fpubsub", closed.number());
    let arguments = ["--watch-namespaces", &space.name, "--stg-amqp-url", &stg];
    let operator = Operator::launch(&world().kube.kubeconfig(), &broker.url(), &arguments, "info");
    // Asking the API server, or reading the whole log each time, would take from the rate as much as there
    // are bad messages.
    let (mut read, mut sent) = (0, 0);
    let all_sent = || {
        let log = operator.log_from(read);
        let lines = log.rfind('\n').map_or("", |end| &log[..=end]);
        read += lines.len() as u64;
        sent += lines.matches("reason=\"Sent\"").count();
        sent >= good
    };
    wait_until(SOON, "all good ones are sent", all_sent).expect("all good ones are sent");
    wait_for_none_pending(&space, "good");
    took(&space)
}

fn took(space: &Space) -> f64 {
    let events = world().kube.audit_events().expect("the audit log is read");
    let mine = |event: &&Value| {
        event["objectRef"]["namespace"] == space.name.as_str()
            && event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("fedora-message-operator/"))
    };
    let time =
        |event: &Value| -> DateTime<Utc> { event["stageTimestamp"].as_str().expect("a time").parse().expect("a time") };
    let start = events.iter().find(|event| mine(event) && event["verb"] == "list").map(time).expect("a list");
    let good = |event: &&Value| event["objectRef"]["name"].as_str().is_some_and(|name| name.starts_with("good"));
    let last = events.iter().filter(mine).filter(good).map(time).max().expect("a status");
    (last - start).as_seconds_f64().max(TimeDelta::milliseconds(1).as_seconds_f64())
}

#[test]
fn good_messages_keep_their_rate_among_all_kinds_of_bad_ones() {
    let good = messages(1000);
    let config = format!("max_message_size = {LARGEST}\n");
    let broker = Broker::start_with(&Options { config, ..Options::default() }).expect("a broker");
    // As in a cluster, where the API server has machines of its own: else what the operator uses is missing there.
    let _cores = SeparateCores::new(&world().kube, &broker).expect("cores");
    // The first drain finds an API server that has done nothing yet, as none later does: it is not counted.
    drain(&broker, good, false);
    let mut shares = Vec::new();
    // No machine is equally fast at all times, and whatever comes later has more around it: only the two rounds of a
    // pair can be compared, and each kind is first in turn.
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
