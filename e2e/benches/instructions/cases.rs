//! The counted cases: the pure steps of a message's path (docs/architecture.md).

use std::hint::black_box;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::envelope::{Envelope, Routing};
use fedora_message::message::validate::validate;
use fedora_message::policy::outcome::{Outcome, Reason};
use fedora_message::schema::catalog::Catalog;
use fedora_message::schema::check::{Schemas, UnknownSchemaPolicy, check_schema};
use fedora_message::state::{Facts, MessageState};
use fedora_message_operator::internals::{Job, Next, PodLimits, Queue, Write};
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::time::Instant;

use crate::callgrind::counted;
use e2e::bench::Result;

/// The number of counted calls of each case. The count is their mean.
pub const CALLS: u32 = 100;
/// The time, in every case.
const NOW: DateTime<Utc> = DateTime::from_timestamp(1_767_268_800, 0).unwrap();
/// The number of messages that already wait in the queue.
const WAITING: u32 = 1_000;
/// The numbers of updates for a body of 200 bytes, and of 100 kB.
const SMALL: usize = 1;
const LARGE: usize = 545;

/// A case with its preparation.
type CaseFunction = fn() -> Result<()>;

/// All cases.
pub const CASES: [(&str, CaseFunction); 10] = [
    ("decode-200B", || decoding(SMALL)),
    ("decode-100kB", || decoding(LARGE)),
    ("validate-200B", || validating(SMALL)),
    ("validate-100kB", || validating(LARGE)),
    ("check-schema-200B", checking_schema),
    ("envelope-200B", enveloping),
    ("status", writing_status),
    ("queue-observe", observing),
    ("queue-take", taking),
    ("queue-finish", finishing),
];

/// Runs the case of this name.
pub fn run(name: &str) -> Result<()> {
    let (_, case) = CASES.iter().find(|(other, _)| *other == name).ok_or("no such case")?;
    case()
}

/// Counts all calls except the first, which initializes caches.
fn calls<T>(mut call: impl FnMut() -> Result<T>) -> Result<()> {
    call()?;
    counted(|| (0..CALLS).for_each(|_| drop(black_box(call()))));
    Ok(())
}

fn decoding(updates: usize) -> Result<()> {
    let line = line(0, updates);
    calls(|| decode(&line))
}

fn validating(updates: usize) -> Result<()> {
    let (message, routing) = (decode(&line(0, updates))?, routing());
    calls(|| Ok(validate(&message, None, &routing)?))
}

fn checking_schema() -> Result<()> {
    let (message, schemas) = (decode(&line(0, SMALL))?, schemas()?);
    let mut outgoing = validate(&message, None, &routing())?;
    calls(|| Ok(check_schema(&mut outgoing, &schemas)?))
}

fn enveloping() -> Result<()> {
    let (message, routing) = (decode(&line(0, SMALL))?, routing());
    let outgoing = validate(&message, None, &routing)?;
    calls(|| Ok(Envelope::new(&outgoing, &routing.exchange)))
}

/// Renders the status of a sent message as JSON.
fn writing_status() -> Result<()> {
    let (message, new) = (decode(&line(0, SMALL))?, MessageState::default());
    calls(|| Ok(serde_json::to_vec(&state(&message, &new, &Outcome::sent(true)).to_status(message.uid()))?))
}

/// The queue compacts a new message.
fn observing() -> Result<()> {
    let (mut queue, messages, now) = (waiting()?, messages(WAITING, CALLS)?, Instant::now());
    counted(|| messages.into_iter().for_each(|message| queue.observe(0, message, now)));
    Ok(())
}

/// The queue dequeues a message and decides about it.
fn taking() -> Result<()> {
    let (mut queue, mut jobs, now) = (waiting()?, Vec::new(), Instant::now());
    messages(WAITING, CALLS)?.into_iter().for_each(|message| queue.observe(0, message, now));
    jobs.reserve(CALLS as usize);
    counted(|| jobs.extend(iter::from_fn(|| queue.take(now, NOW))));
    all_of(&jobs)
}

/// The queue receives the result of a sent message.
fn finishing() -> Result<()> {
    let (mut queue, now) = (waiting()?, Instant::now());
    messages(WAITING, CALLS)?.into_iter().for_each(|message| queue.observe(0, message, now));
    let jobs: Vec<_> = iter::from_fn(|| queue.take(now, NOW)).collect();
    let ends: Vec<_> = jobs.iter().map(|job| (job, done(job, &Outcome::sent(true), None))).collect();
    counted(|| ends.into_iter().for_each(|(job, next)| queue.finish(job, next)));
    all_of(&jobs)
}

/// Returns a queue with messages that wait for a retry.
fn waiting() -> Result<Queue> {
    let mut queue = Queue::new(CALLS as usize, PodLimits::default());
    queue.lead();
    let unreachable = Outcome { reason: Reason::BrokerUnreachable, message: "no answer".to_owned() };
    for message in messages(0, WAITING)? {
        let now = Instant::now();
        queue.observe(0, message, now);
        let job = queue.take(now, NOW).ok_or("a message was not dequeued")?;
        queue.finish(&job, done(&job, &unreachable, Some(now + Duration::from_hours(1))));
    }
    Ok(queue)
}

fn messages(first: u32, count: u32) -> Result<Vec<FedoraMessage>> {
    (first..first + count).map(|number| decode(&line(number, SMALL))).collect()
}

fn all_of(jobs: &[Job]) -> Result<()> {
    if jobs.len() == CALLS as usize { Ok(()) } else { Err("not every message was dequeued".into()) }
}

fn done(job: &Job, outcome: &Outcome, due: Option<Instant>) -> Next {
    Next::Settled { state: state(&job.message, &job.state, outcome), write: Write::Done, due }
}

fn state(message: &FedoraMessage, previous: &MessageState, outcome: &Outcome) -> MessageState {
    let routing_key = Some("org.fedoraproject.prod.bodhi.update");
    let facts = Facts { routing_key, attempts: 1, ..Facts::default() };
    previous.next(message, outcome, &facts, NOW)
}

fn routing() -> Routing {
    Routing {
        exchange: "amq.topic".to_owned(),
        prod_topic_prefix: "org.fedoraproject.prod".to_owned(),
        ..Routing::default()
    }
}

/// Decodes a watch event as kube does.
fn decode(line: &str) -> Result<FedoraMessage> {
    match serde_json::from_str(line)? {
        WatchEvent::Added(message) => Ok(message),
        _ => Err("another event".into()),
    }
}

/// Returns a watch's line for a new message. The body has this number of updates, of about 180 bytes each.
fn line(number: u32, updates: usize) -> String {
    let mut object: Value = serde_json::from_str(include_str!("message.json")).expect("JSON");
    object["metadata"]["name"] = format!("update-{number}").into();
    object["metadata"]["uid"] = format!("{number:08x}-5e6f-4a7b-8c9d-0e1f2a3b4c5d").into();
    let all = &mut object["spec"]["message"]["body"]["updates"];
    *all = vec![all[0].take(); updates].into();
    format!(r#"{{"type":"ADDED","object":{object}}}"#)
}

/// Returns a catalog with the schema of these bodies.
fn schemas() -> Result<Schemas> {
    let catalog = Catalog::read(include_bytes!("catalog.json"))?;
    Ok(Schemas { catalog: Some(Arc::new(catalog)), unknown: UnknownSchemaPolicy::Refuse })
}
