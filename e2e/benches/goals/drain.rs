//! A backlog: the operator sends what it finds waiting, beside a client that does nothing but patch the
//! same statuses, one that writes them as the operator does, and one that watches and publishes too. All are timed in
//! the API server's audit log, from the first write to the last.

use chrono::Utc;
use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{API_VERSION, FedoraMessageStatus, PLURAL};
use fedora_message::policy::outcome::Outcome;
use fedora_message::state::{Facts, MessageState};
use fedora_message_operator::internals::StatusWriter;
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use kube::client::Body;
use rig::Apart;

use crate::audit::{Request, seconds};
use crate::broker::{BarePublisher, CHANNELS, Inbox};
use crate::latency::Events;
use crate::plot::{Line, draw};
use crate::table::{Row, median, ratios};
use crate::world::{Count, Of, Space, World};
use e2e::bench::Result;
use e2e::bench::operator::{JSON_PATCH, METADATA, Operator, WRITES, patch, send};

/// Messages of a backlog, in each of the rounds.
const BACKLOG: Count = Count { variable: "BACKLOG", usual: Of { full: 1_000, short: 300 } };
const ROUNDS: Of<usize> = Of { full: 4, short: 2 };
const GOAL: Of<f64> = Of { full: 0.95, short: 0.3 };
/// How many writes the bare client has under way, where the best number is looked for; messages for each.
const WIDTHS: [usize; 5] = [8, 16, 32, 64, 128];
const EACH: usize = 400;
const WIDTH_ROUNDS: usize = 2;

/// Who writes the statuses of a backlog.
#[derive(Clone, Copy)]
enum Way {
    Operator,
    /// A client that does nothing but patch statuses.
    Patches,
    /// A client that does nothing but write statuses as the operator writes them.
    Writes,
    /// A client that watches and publishes too.
    Parts,
}

const WAYS: [Way; 4] = [Way::Operator, Way::Patches, Way::Writes, Way::Parts];

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let mut rows = compare(world, "all on the same cores")?;
    if !world.short {
        rows.extend(widths(world)?);
    }
    // As in a cluster, where the API server has machines of its own. With a single core they can't be apart.
    if let Some(_apart) = Apart::new(&world.rig.kube, &world.rig.broker)? {
        rows.extend(compare(world, "the API server on cores of its own")?);
    }
    Ok(rows)
}

/// All ways in turns.
fn compare(world: &World, cores: &str) -> Result<Vec<Row>> {
    let (count, rounds) = (world.count(BACKLOG)?, world.of(ROUNDS));
    let (mut drains, mut starts) = (Vec::new(), Vec::new());
    let (mut patches, mut writes, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let mut lines = [("the operator", Vec::new()), ("bare patches", Vec::new())];
    for round in 0..rounds {
        // None of them is always the first.
        for turn in 0..WAYS.len() {
            let way = WAYS[(round + turn) % WAYS.len()];
            let space = world.space("drain")?;
            let messages = space.create(count)?;
            let _inbox = world.runtime.block_on(Inbox::bind(&world.rig.broker, &space.topic()))?;
            match way {
                Way::Operator => {
                    let begun = Utc::now();
                    let (requests, operator) = drain(world, &space, count)?;
                    operator.stop()?;
                    drains.push(rate(&requests));
                    lines[0].1 = progress(&requests);
                    starts.push(count as f64 / requests.last().map_or(f64::NAN, |last| seconds(begun, last.answered)));
                }
                Way::Patches => {
                    let requests = patch_bare(world, &space, messages)?;
                    patches.push(rate(&requests));
                    lines[1].1 = progress(&requests);
                }
                Way::Writes => writes.push(rate(&write_bare(world, &space, messages, WRITES)?)),
                Way::Parts => parts.push(rate(&work_bare(world, &space, messages)?)),
            }
        }
    }
    if !world.short {
        let lines = lines.map(|(name, points)| Line { name, points });
        let title = format!("A backlog of {count} messages, {cores}");
        draw("drain", &title, ["seconds since the first write", "sent"], &lines)?;
    }
    Ok(vec![
        Row::ratio(
            format!("drain of {count}, {cores}: rate beside bare patches of statuses"),
            ratios(&drains, &patches),
        )
        .at_least(world.of(GOAL)),
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

/// The bare client at each width.
fn widths(world: &World) -> Result<Vec<Row>> {
    let mut rates = WIDTHS.map(|_| Vec::new());
    for _ in 0..WIDTH_ROUNDS {
        for (width, rates) in WIDTHS.into_iter().zip(&mut rates) {
            let space = world.space("width")?;
            rates.push(rate(&write_bare(world, &space, space.create(EACH)?, width)?));
        }
    }
    let named = WIDTHS.into_iter().zip(rates);
    let best = named.max_by(|(_, one), (_, other)| median(one).total_cmp(&median(other)));
    Ok(best
        .map(|(width, rates)| Row::figure(format!("the best bare client: {width} at a time"), "a second", rates))
        .into_iter()
        .collect())
}

/// Starts an operator for a namespace, and waits until it has sent so many: its writes in their order, and itself.
pub fn drain(world: &World, space: &Space, count: usize) -> Result<(Vec<Request>, Operator)> {
    let mut audit = world.audit()?;
    let operator = world.operator(&[space], &[])?;
    let requests = audit.wait_for_writes(&space.name, count)?;
    Ok((statuses(requests), operator))
}

/// Patches the status of each: it was sent.
fn patch_bare(world: &World, space: &Space, messages: Vec<FedoraMessage>) -> Result<Vec<Request>> {
    write_all(world, space, messages, WRITES, async |message| {
        let body = serde_json::to_vec(&patch(&message, &sent(&message)))?;
        let (namespace, name) = (message.namespace(), message.name());
        let request =
            http::Request::patch(format!("/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status"))
                .header(CONTENT_TYPE, JSON_PATCH)
                .header(ACCEPT, METADATA)
                .body(Body::from(body))?;
        send(&world.client, request).await
    })
}

/// Updates the status of each as the operator does, with so many writes under way.
pub fn write_bare(world: &World, space: &Space, messages: Vec<FedoraMessage>, width: usize) -> Result<Vec<Request>> {
    let statuses_of = StatusWriter::new(world.client.clone(), width);
    write_all(world, space, messages, width, async |message| {
        statuses_of.write(&message, &sent(&message)).await;
        Ok(())
    })
}

/// Writes the status of each message in some way, so many at a time.
fn write_all<W: Future<Output = Result<()>>>(
    world: &World,
    space: &Space,
    messages: Vec<FedoraMessage>,
    width: usize,
    write: impl Fn(FedoraMessage) -> W,
) -> Result<Vec<Request>> {
    let count = messages.len();
    let mut audit = world.audit()?;
    world.runtime.block_on(stream::iter(messages).map(write).buffer_unordered(width).try_collect::<()>())?;
    Ok(statuses(audit.wait_for_writes(&space.name, count)?))
}

/// The same by a client that does what no operator can do without: it watches what is pending, and publishes each
/// message before it writes its status.
fn work_bare(world: &World, space: &Space, messages: Vec<FedoraMessage>) -> Result<Vec<Request>> {
    let count = messages.len();
    let mut audit = world.audit()?;
    let statuses_of = StatusWriter::new(world.client.clone(), WRITES);
    let topic = space.topic();
    world.runtime.block_on(async {
        let mut events = Events::pending(world, space).await?;
        let publisher = BarePublisher::open(&world.rig.broker, CHANNELS).await?;
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
                events.gone().await?;
            }
            Result::Ok(())
        };
        try_join(work, watch).await
    })?;
    Ok(statuses(audit.wait_for_writes(&space.name, count)?))
}

/// The status that the operator would write.
fn sent(message: &FedoraMessage) -> FedoraMessageStatus {
    let facts = Facts { routing_key: Some("bench.topic"), attempts: 1, ..Facts::default() };
    MessageState::default().next(message, &Outcome::sent(true), &facts, Utc::now()).to_status(message.uid())
}

/// The writes of statuses among requests, in the order of the answers.
fn statuses(mut requests: Vec<Request>) -> Vec<Request> {
    requests.retain(Request::writes_status);
    requests.sort_by_key(|request| request.answered);
    requests
}

/// How many were answered at each time, in seconds since the first one came.
fn progress(requests: &[Request]) -> Vec<(f64, f64)> {
    let begun = requests.iter().map(|request| request.received).min().unwrap_or_default();
    requests.iter().zip(1..).map(|(request, number)| (seconds(begun, request.answered), f64::from(number))).collect()
}

/// Requests a second, from the first to the last answer.
pub fn rate(requests: &[Request]) -> f64 {
    let begun = requests.iter().map(|request| request.received).min();
    let ended = requests.iter().map(|request| request.answered).max();
    let took = begun.zip(ended).map_or(f64::NAN, |(begun, ended)| seconds(begun, ended));
    requests.len() as f64 / took
}
