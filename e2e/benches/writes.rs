//! What the API server's own rate of status writes depends on: the kind of the request, its options, the status
//! and how many are under way at a time. In turns, each on messages of its own; only the ratios mean anything
//! elsewhere.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::time::Instant;

use fedora_message::api::object::FedoraMessage;
use futures::{StreamExt, stream};
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use kube::Client;
use kube::client::Body;
use rig::Kube;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use e2e::bench::operator::{JSON_PATCH, METADATA, WRITES, create, patch, send};
use e2e::bench::{NAMESPACE, Result, machine, manifest};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Statuses that are written in each way, in each of the rounds.
const COUNT: usize = 1_000;
const ROUNDS: usize = 3;
/// A user of the rig who is no administrator.
const USER: &str = "operator";

/// One way to write a status.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    concurrency: usize,
    kind: &'static str,
    accept: &'static str,
    options: &'static str,
    header: Option<(&'static str, &'static str)>,
    /// Somebody whom priority and fairness holds back, and rights are looked up for; else the administrator.
    user: bool,
    status: fn(&FedoraMessage) -> Value,
}

/// The operator's.
const OURS: Way = Way {
    name: "as the operator writes",
    concurrency: WRITES,
    kind: JSON,
    accept: METADATA,
    options: "",
    header: None,
    user: false,
    status: full,
};

const WAYS: [Way; 16] = [
    OURS,
    Way { name: "16 at a time", concurrency: 16, ..OURS },
    Way { name: "32 at a time", concurrency: 32, ..OURS },
    Way { name: "64 at a time", concurrency: 64, ..OURS },
    Way { name: "128 at a time", concurrency: 128, ..OURS },
    Way { name: "merge patch", kind: MERGE_PATCH, ..OURS },
    Way { name: "JSON patch with a test of the uid", kind: JSON_PATCH, ..OURS },
    Way { name: "server-side apply", kind: APPLY_PATCH, options: "&force=true", ..OURS },
    Way { name: "answered with the object", accept: JSON, ..OURS },
    Way { name: "fieldValidation=Ignore", options: "&fieldValidation=Ignore", ..OURS },
    Way { name: "fieldValidation=Strict", options: "&fieldValidation=Strict", ..OURS },
    Way { name: "a new connection for each", header: Some(("connection", "close")), ..OURS },
    Way { name: "answers may be compressed", header: Some(("accept-encoding", "gzip")), ..OURS },
    Way { name: "not exempt from priority and fairness", user: true, ..OURS },
    Way { name: "no conditions", status: few, ..OURS },
    Way { name: "status.status alone", status: least, ..OURS },
];

fn full(message: &FedoraMessage) -> Value {
    let mut status = few(message);
    status["conditions"] = json!([{
        "type": "FedoraMessageSent", "status": "True", "reason": "Sent", "message": "Message was sent successfully",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T12:00:00Z",
    }]);
    status
}

fn few(message: &FedoraMessage) -> Value {
    json!({
        "type": "FedoraMessageSent", "status": true, "reason": "Sent", "message": "Message was sent successfully",
        "observedGeneration": 1, "messageId": message.uid(), "sentTime": "2026-01-01T12:00:00Z",
        "routingKey": "bench.topic", "attempts": 1, "deliveryMode": "direct",
    })
}

fn least(_: &FedoraMessage) -> Value {
    json!({"status": true})
}

fn main() -> Result<()> {
    let kube = Kube::start()?;
    let (runtime, client) = e2e::bench::install(&kube)?;
    kube.run(&["create", "clusterrolebinding", USER, "--clusterrole=cluster-admin", &format!("--user={USER}")])?;
    let user = runtime.block_on(e2e::bench::client(&kube.kubeconfig_for(USER)?))?;
    let mut rates = WAYS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for (number, (way, rates)) in WAYS.into_iter().zip(&mut rates).enumerate() {
            let client = if way.user { &user } else { &client };
            rates.push(measure(&runtime, client, way, &format!("w{round}-{number}"))?);
        }
    }
    println!("{}", machine());
    println!("| way | writes a second | ratio | lowest | highest |\n|---|---|---|---|---|");
    let ours = median(&mut rates[0].clone());
    for (way, rates) in WAYS.iter().zip(&mut rates) {
        let rate = median(rates);
        println!("| {} | {rate:.0} | {:.2} | {:.0} | {:.0} |", way.name, rate / ours, rates[0], rates[rates.len() - 1]);
    }
    Ok(())
}

/// How many writes a second it comes to, with new messages of this name.
fn measure(runtime: &Runtime, client: &Client, way: Way, name: &str) -> Result<f64> {
    let messages = runtime.block_on(create(client, COUNT, |number| manifest(name, number)))?;
    let start = Instant::now();
    runtime.block_on(async {
        let write = |message: FedoraMessage| async move { send(client, request(&message, way)?).await };
        let mut writes = stream::iter(messages).map(write).buffer_unordered(way.concurrency);
        while let Some(written) = writes.next().await {
            written.map_err(|error: Box<dyn std::error::Error>| format!("{}: {error}", way.name))?;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    Ok(COUNT as f64 / start.elapsed().as_secs_f64())
}

fn request(message: &FedoraMessage, way: Way) -> Result<Request<Body>> {
    let (name, status, uid) = (message.name(), (way.status)(message), message.uid());
    let path = format!(
        "/apis/apps.fedoraproject.org/v1alpha1/namespaces/{NAMESPACE}/fedoramessages/{name}/status?fieldManager=bench{}",
        way.options
    );
    let body = match way.kind {
        JSON_PATCH => patch(message, &status),
        kind => {
            let mut object = json!({"metadata": {"name": name, "namespace": NAMESPACE, "uid": uid}, "status": status});
            if kind != MERGE_PATCH {
                object["apiVersion"] = "apps.fedoraproject.org/v1alpha1".into();
                object["kind"] = "FedoraMessage".into();
            }
            if kind == JSON {
                object["metadata"]["resourceVersion"] = json!(message.metadata.resource_version);
            }
            object
        }
    };
    let request = if way.kind == JSON { Request::put(path) } else { Request::patch(path) };
    let mut request = request.header(CONTENT_TYPE, way.kind).header(ACCEPT, way.accept);
    if let Some((name, value)) = way.header {
        request = request.header(name, value);
    }
    Ok(request.body(Body::from(serde_json::to_vec(&body)?))?)
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
