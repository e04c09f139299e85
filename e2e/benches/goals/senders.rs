//! Measures many Senders: the time until all are checked, and what their messages cost beside messages
//! that name a Secret themselves.

use std::time::Instant;

use fedora_message::api::sender::FedoraMessageSender;
use kube::Api;
use kube::api::ListParams;
use rig::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::audit::AuditedRequest;
use crate::setup::{BenchNamespace, MessageCount, Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::operator::{Operator, is_done, mebibytes};
use e2e::bench::{Result, TIMEOUT};

/// Namespaces with [`EACH`] Senders, which share one certificate.
const NAMESPACES: Scaled<usize> = Scaled { full: 50, short: 3 };
const EACH: usize = 20;
/// Messages of all Senders together.
const MESSAGES: MessageCount =
    MessageCount { variable: "SENDER_MESSAGES", default: Scaled { full: 10_000, short: 300 } };
const ROUNDS: usize = 1;
/// The minimum ratio of the rates.
const GOAL: Scaled<f64> = Scaled { full: 0.9, short: 0.5 };

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let count = setup.count(MESSAGES)?;
    let namespaces = (0..setup.pick(NAMESPACES)).map(|_| setup.namespace("senders")).collect::<Result<Vec<_>>>()?;
    let senders = namespaces.len() * EACH;
    for namespace in &namespaces {
        let manifests: String = (0..EACH).map(|number| sender(namespace, number)).collect();
        setup.rig.kube.apply_text(&manifests)?;
    }
    let operator = setup.operator(&[], &[]);
    let began = Instant::now();
    wait_until(TIMEOUT, "all Senders are checked", || ready(setup).is_ok_and(|ready| ready == senders))?;
    let checked = began.elapsed();
    let idle = mebibytes(operator.resident());
    operator.stop();

    let (mut by_sender, mut inline, mut writes, mut reads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for (named, rates) in [(true, &mut by_sender), (false, &mut inline)] {
            let message = |number: usize| message(&namespaces, number, round, named);
            namespaces[0].create_all((0..count).map(message))?;
            let mut audit = setup.audit()?;
            let (operator, rate) = drain(setup, count)?;
            operator.stop();
            rates.push(rate);
            if named {
                let requests = audit.read()?;
                let ours = |verb: &str| {
                    let is_it = |request: &&AuditedRequest| {
                        request.is_operators() && request.verb == verb && request.is_of("fedoramessages")
                    };
                    requests.iter().filter(is_it).count() as f64 / count as f64
                };
                writes.push(ours("update") + ours("patch"));
                reads.push(ours("get"));
            }
        }
    }
    Ok(vec![
        Row::figure(format!("{senders} Senders are checked after a start"), "s", [checked.as_secs_f64()]),
        Row::figure(format!("resident then, with {senders} Senders"), "MiB", [idle]),
        Row::figure(format!("{count} messages of {senders} Senders are sent"), "/s", by_sender.clone()),
        Row::ratio("of the rate of messages that name a Secret", ratios(&by_sender, &inline))
            .at_least(setup.pick(GOAL)),
        Row::ratio("writes to the API server for a message", writes).exactly(1.0),
        Row::ratio("reads from the API server for a message", reads).exactly(0.0),
    ])
}

/// Starts an operator for all namespaces, and returns the messages a second until all are sent.
fn drain(setup: &Setup, count: usize) -> Result<(Operator, f64)> {
    let began = Instant::now();
    let operator = setup.operator(&[], &[]);
    wait_for(TIMEOUT, "all messages are sent", || Ok(setup.runtime.block_on(is_done(&setup.client))?.then_some(())))?;
    Ok((operator, count as f64 / began.elapsed().as_secs_f64()))
}

/// Returns the number of Senders that are ready.
fn ready(setup: &Setup) -> Result<usize> {
    let api: Api<FedoraMessageSender> = Api::all(setup.client.clone());
    let all = setup.runtime.block_on(api.list(&ListParams::default()))?;
    let is_ready = |sender: &&FedoraMessageSender| sender.status.conditions.iter().any(|it| it.status == "True");
    Ok(all.iter().filter(is_ready).count())
}

fn sender(namespace: &BenchNamespace, number: usize) -> String {
    let sender = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessageSender",
        "metadata": {"namespace": namespace.name, "name": format!("s{number}")},
        "spec": {
            "env": "prod", "application": {"name": namespace.name},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    });
    format!("{sender}\n---\n")
}

/// Returns a message of one of the namespaces, as one of its Senders or with its Secret.
fn message(namespaces: &[BenchNamespace], number: usize, round: usize, by_sender: bool) -> Value {
    let namespace = &namespaces[number % namespaces.len()];
    let mut message = namespace.message(number);
    message["metadata"]["name"] = format!("m{number}-{round}-{by_sender}").into();
    if by_sender {
        let spec = message["spec"].as_object_mut().expect("a spec");
        spec.remove("env");
        spec.remove("authentication");
        spec.insert("senderRef".to_owned(), json!({"name": format!("s{}", number / namespaces.len() % EACH)}));
    }
    message
}
