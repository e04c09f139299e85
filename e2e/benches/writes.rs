//! Measures how the rate of status writes at the API server depends on the kind of request, its options,
//! the status and the concurrency.
//!
//! The methods run in turns, each on its own messages. Only ratios are comparable between machines.

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
use e2e::bench::{NAMESPACE, Result, machine, manifest, median, quantile};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The status writes of each method in each round.
const COUNT: usize = 1_000;
const ROUNDS: usize = 3;
/// A user of the rig who is not an administrator.
const USER: &str = "operator";

/// A method to write a status.
#[derive(Clone, Copy)]
struct WriteMethod {
    name: &'static str,
    concurrency: usize,
    kind: &'static str,
    accept: &'static str,
    options: &'static str,
    header: Option<(&'static str, &'static str)>,
    /// True for a normal user, for whom priority and fairness and RBAC apply. False for the administrator.
    user: bool,
    status: fn(&FedoraMessage) -> Value,
}

/// The method of the operator.
const OURS: WriteMethod = WriteMethod {
    name: "as the operator writes",
    concurrency: WRITES,
    kind: JSON,
    accept: METADATA,
    options: "",
    header: None,
    user: false,
    status: full,
};

const METHODS: [WriteMethod; 16] = [
    OURS,
    WriteMethod { name: "16 at a time", concurrency: 16, ..OURS },
    WriteMethod { name: "32 at a time", concurrency: 32, ..OURS },
    WriteMethod { name: "64 at a time", concurrency: 64, ..OURS },
    WriteMethod { name: "128 at a time", concurrency: 128, ..OURS },
    WriteMethod { name: "merge patch", kind: MERGE_PATCH, ..OURS },
    WriteMethod { name: "JSON patch with a test of the uid", kind: JSON_PATCH, ..OURS },
    WriteMethod { name: "server-side apply", kind: APPLY_PATCH, options: "&force=true", ..OURS },
    WriteMethod { name: "answered with the object", accept: JSON, ..OURS },
    WriteMethod { name: "fieldValidation=Ignore", options: "&fieldValidation=Ignore", ..OURS },
    WriteMethod { name: "fieldValidation=Strict", options: "&fieldValidation=Strict", ..OURS },
    WriteMethod { name: "a new connection for each", header: Some(("connection", "close")), ..OURS },
    WriteMethod { name: "answers may be compressed", header: Some(("accept-encoding", "gzip")), ..OURS },
    WriteMethod { name: "not exempt from priority and fairness", user: true, ..OURS },
    WriteMethod { name: "no conditions", status: few, ..OURS },
    WriteMethod { name: "status.status alone", status: least, ..OURS },
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
    let mut rates = METHODS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for (number, (method, rates)) in METHODS.into_iter().zip(&mut rates).enumerate() {
            let client = if method.user { &user } else { &client };
            rates.push(measure(&runtime, client, method, &format!("w{round}-{number}"))?);
        }
    }
    println!("{}", machine());
    println!("| method | writes a second | ratio | lowest | highest |\n|---|---|---|---|---|");
    let ours = median(&rates[0]);
    for (method, rates) in METHODS.iter().zip(&rates) {
        let [rate, lowest, highest] = [50, 0, 100].map(|per_cent| quantile(rates, per_cent));
        println!("| {} | {rate:.0} | {:.2} | {lowest:.0} | {highest:.0} |", method.name, rate / ours);
    }
    Ok(())
}

/// Returns the writes per second, on new messages of this name.
fn measure(runtime: &Runtime, client: &Client, method: WriteMethod, name: &str) -> Result<f64> {
    let messages = runtime.block_on(create(client, (0..COUNT).map(|number| manifest(name, number))))?;
    let start = Instant::now();
    runtime.block_on(async {
        let write = |message: FedoraMessage| async move { send(client, request(&message, method)?).await };
        let mut writes = stream::iter(messages).map(write).buffer_unordered(method.concurrency);
        while let Some(written) = writes.next().await {
            written.map_err(|error: Box<dyn std::error::Error>| format!("{}: {error}", method.name))?;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    Ok(COUNT as f64 / start.elapsed().as_secs_f64())
}

fn request(message: &FedoraMessage, method: WriteMethod) -> Result<Request<Body>> {
    let (name, status, uid) = (message.name(), (method.status)(message), message.uid());
    let path = format!(
        "/apis/apps.fedoraproject.org/v1alpha1/namespaces/{NAMESPACE}/fedoramessages/{name}/status?fieldManager=bench{}",
        method.options
    );
    let body = match method.kind {
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
    let request = if method.kind == JSON { Request::put(path) } else { Request::patch(path) };
    let mut request = request.header(CONTENT_TYPE, method.kind).header(ACCEPT, method.accept);
    if let Some((name, value)) = method.header {
        request = request.header(name, value);
    }
    Ok(request.body(Body::from(serde_json::to_vec(&body)?))?)
}
