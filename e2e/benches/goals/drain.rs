//! Measures how fast the operator drains a backlog, compared with bare clients.
//!
//! One client only patches the same statuses, one updates them as the operator does, and one also
//! watches and publishes. The times are those from the first to the last write in the audit log.

use chrono::Utc;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, FedoraMessageStatus, PLURAL};
use fedora_message::policy::outcome::Outcome;
use fedora_message::state::{Facts, MessageState};
use fedora_message_operator::internals::{PENDING, StatusWriter};
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use kube::api::WatchParams;
use kube::client::Body;
use rig::SeparateCores;

use crate::audit::{AuditedRequest, seconds};
use crate::broker::{BarePublisher, CHANNELS, Inbox};
use crate::latency::BareWatch;
use crate::plot::{PlotLine, draw};
use crate::setup::{BenchNamespace, MessageCount, Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::Result;
use e2e::bench::operator::{JSON_PATCH, METADATA, Operator, WRITES, patch, send};

/// The backlog in each round.
const BACKLOG: MessageCount = MessageCount { variable: "BACKLOG", default: Scaled { full: 1_000, short: 300 } };
const ROUNDS: Scaled<usize> = Scaled { full: 4, short: 2 };
const GOAL: Scaled<f64> = Scaled { full: 0.95, short: 0.3 };

/// The client that writes the statuses of a backlog.
#[derive(Clone, Copy)]
enum StatusClient {
    Operator,
    /// Only patches statuses.
    BarePatches,
    /// Only updates statuses, as the operator does.
    BareUpdates,
    /// Also watches and publishes.
    BareOperator,
}

const STATUS_CLIENTS: [StatusClient; 4] =
    [StatusClient::Operator, StatusClient::BarePatches, StatusClient::BareUpdates, StatusClient::BareOperator];

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let mut rows = compare(setup, "all on the same cores")?;
    // In a cluster, the API server has its own machines. This needs at least two cores.
    if let Some(_cores) = SeparateCores::new(&setup.rig.kube, &setup.rig.broker)? {
        rows.extend(compare(setup, "the API server on cores of its own")?);
    }
    Ok(rows)
}

/// Measures all clients in turns.
fn compare(setup: &Setup, cores: &str) -> Result<Vec<Row>> {
    let (count, rounds) = (setup.count(BACKLOG)?, setup.pick(ROUNDS));
    let (mut drains, mut starts) = (Vec::new(), Vec::new());
    let (mut patches, mut writes, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let mut lines = [("the operator", Vec::new()), ("bare patches", Vec::new())];
    for round in 0..rounds {
        // Each round starts with another client.
        for offset in 0..STATUS_CLIENTS.len() {
            let client = STATUS_CLIENTS[(round + offset) % STATUS_CLIENTS.len()];
            let namespace = setup.namespace("drain")?;
            let messages = namespace.create(count)?;
            let _inbox = setup.runtime.block_on(Inbox::bind(&setup.rig.broker, &namespace.topic()))?;
            match client {
                StatusClient::Operator => {
                    let started = Utc::now();
                    let (requests, operator) = drain(setup, &namespace, count)?;
                    operator.stop();
                    drains.push(rate(&requests));
                    lines[0].1 = progress(&requests);
                    starts
                        .push(count as f64 / requests.last().map_or(f64::NAN, |last| seconds(started, last.answered)));
                }
                StatusClient::BarePatches => {
                    let requests = patch_bare(setup, &namespace, messages)?;
                    patches.push(rate(&requests));
                    lines[1].1 = progress(&requests);
                }
                StatusClient::BareUpdates => writes.push(rate(&write_bare(setup, &namespace, messages)?)),
                StatusClient::BareOperator => parts.push(rate(&work_bare(setup, &namespace, messages)?)),
            }
        }
    }
    if !setup.short {
        let lines = lines.map(|(name, points)| PlotLine { name, points });
        let title = format!("A backlog of {count} messages, {cores}");
        draw("drain", &title, ["seconds since the first write", "sent"], &lines)?;
    }
    Ok(vec![
        Row::ratio(
            format!("drain of {count}, {cores}: rate beside bare patches of statuses"),
            ratios(&drains, &patches),
        )
        .at_least(setup.pick(GOAL)),
        Row::ratio(format!("drain, {cores}: rate beside bare updates of statuses"), ratios(&drains, &writes)),
        Row::ratio(
            format!("drain, {cores}: rate beside a bare client that watches, publishes and writes"),
            ratios(&drains, &parts),
        ),
        Row::figure(format!("drain, {cores}, from the first write to the last"), "a second", drains),
        Row::figure(format!("drain, {cores}, from the start of the process"), "a second", starts),
        Row::figure(format!("bare patches, {WRITES} at a time, {cores}"), "a second", patches),
        Row::figure(format!("bare updates, {WRITES} at a time, {cores}"), "a second", writes),
        Row::figure(format!("the same by a client that watches and publishes too, {cores}"), "a second", parts),
    ])
}

/// Starts an operator for a namespace, and waits until it has sent `count` messages. Returns its writes
/// in their order, and the operator.
pub fn drain(setup: &Setup, namespace: &BenchNamespace, count: usize) -> Result<(Vec<AuditedRequest>, Operator)> {
    let mut audit = setup.audit()?;
    let operator = setup.operator(&[namespace], &[]);
    let requests = audit.wait_for_writes(&namespace.name, count)?;
    Ok((statuses(requests), operator))
}

/// Patches the status of each message to sent.
fn patch_bare(setup: &Setup, namespace: &BenchNamespace, messages: Vec<FedoraMessage>) -> Result<Vec<AuditedRequest>> {
    write_all(setup, namespace, messages, async |message| {
        let body = serde_json::to_vec(&patch(&message, &sent(&message)))?;
        let (namespace, name) = (message.namespace(), message.name());
        let request =
            http::Request::patch(format!("/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status"))
                .header(CONTENT_TYPE, JSON_PATCH)
                .header(ACCEPT, METADATA)
                .body(Body::from(body))?;
        send(&setup.client, request).await
    })
}

/// Updates the status of each message as the operator does.
pub fn write_bare(
    setup: &Setup,
    namespace: &BenchNamespace,
    messages: Vec<FedoraMessage>,
) -> Result<Vec<AuditedRequest>> {
    let statuses_of = StatusWriter::new(setup.client.clone(), WRITES);
    write_all(setup, namespace, messages, async |message| {
        statuses_of.write(&message, &sent(&message)).await;
        Ok(())
    })
}

/// Writes the status of each message, with [`WRITES`] writes at a time.
fn write_all<W: Future<Output = Result<()>>>(
    setup: &Setup,
    namespace: &BenchNamespace,
    messages: Vec<FedoraMessage>,
    write: impl Fn(FedoraMessage) -> W,
) -> Result<Vec<AuditedRequest>> {
    let count = messages.len();
    let mut audit = setup.audit()?;
    setup.runtime.block_on(stream::iter(messages).map(write).buffer_unordered(WRITES).try_collect::<()>())?;
    Ok(statuses(audit.wait_for_writes(&namespace.name, count)?))
}

/// Does the minimum work of an operator: watches pending messages, and publishes each message before it
/// writes the status.
fn work_bare(setup: &Setup, namespace: &BenchNamespace, messages: Vec<FedoraMessage>) -> Result<Vec<AuditedRequest>> {
    let count = messages.len();
    let mut audit = setup.audit()?;
    let statuses_of = StatusWriter::new(setup.client.clone(), WRITES);
    let topic = namespace.topic();
    setup.runtime.block_on(async {
        let mut events = BareWatch::watch(setup, namespace, WatchParams::default().fields(PENDING)).await?;
        let publisher = BarePublisher::open(&setup.rig.broker, CHANNELS).await?;
        let publish = async |message: FedoraMessage| {
            let spec = message.spec()?;
            publisher.publish(&topic, spec.message.body.get().as_bytes()).await.map(|()| message)
        };
        let write = async |message: Result<FedoraMessage>| {
            let message = message?;
            statuses_of.write(&message, &sent(&message)).await;
            Result::Ok(())
        };
        let confirmed = stream::iter(messages).map(publish).buffer_unordered(CHANNELS);
        let work = confirmed.map(write).buffer_unordered(WRITES).try_collect::<()>();
        let watch = async {
            for _ in 0..count {
                events.next(true).await?;
            }
            Result::Ok(())
        };
        try_join(work, watch).await
    })?;
    Ok(statuses(audit.wait_for_writes(&namespace.name, count)?))
}

/// Returns the status that the operator writes.
fn sent(message: &FedoraMessage) -> FedoraMessageStatus {
    let facts = Facts { routing_key: Some("bench.topic"), attempts: 1, ..Facts::default() };
    MessageState::default().next(message, &Outcome::sent(true), &facts, Utc::now()).to_status(message.uid())
}

/// Returns the status writes in the order of their responses.
fn statuses(mut requests: Vec<AuditedRequest>) -> Vec<AuditedRequest> {
    requests.retain(AuditedRequest::writes_status);
    requests.sort_by_key(|request| request.answered);
    requests
}

/// Returns the number of responses over time, in seconds since the first request.
fn progress(requests: &[AuditedRequest]) -> Vec<(f64, f64)> {
    let started = requests.iter().map(|request| request.received).min().unwrap_or_default();
    requests.iter().zip(1..).map(|(request, number)| (seconds(started, request.answered), f64::from(number))).collect()
}

/// Returns the requests per second, from the first request to the last response.
pub fn rate(requests: &[AuditedRequest]) -> f64 {
    let started = requests.iter().map(|request| request.received).min();
    let ended = requests.iter().map(|request| request.answered).max();
    let took = started.zip(ended).map_or(f64::NAN, |(started, ended)| seconds(started, ended));
    requests.len() as f64 / took
}
