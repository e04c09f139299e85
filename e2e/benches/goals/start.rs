//! Measures the start: until the first message is sent, and with many sent messages in the namespace.
//!
//! The API server checks each sent message to answer the list of pending ones. The figures show this
//! time, and the ratio with the goal excludes it.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rig::wait_until;

use crate::audit::{AuditedRequest, seconds};
use crate::broker::Inbox;
use crate::drain::write_bare;
use crate::process::age;
use crate::setup::{BenchNamespace, MessageCount, Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::{Result, TIMEOUT};

const ROUNDS: Scaled<usize> = Scaled { full: 7, short: 3 };
/// Messages that are already sent.
const SENT: MessageCount = MessageCount { variable: "SENT", default: Scaled { full: 10_000, short: 1_000 } };
/// Messages that the operator sends after its start.
const FEW: usize = 10;
/// The maximum ratio of the times.
const GOAL: Scaled<f64> = Scaled { full: 1.5, short: 3.0 };
/// The maximum milliseconds until the first message, without the API server's time.
const FIRST: f64 = 150.0;

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let mut rows = beside_many(setup)?;
    if !setup.short {
        rows.extend(first(setup)?);
    }
    Ok(rows)
}

/// Measures the time until the first message is at a consumer.
fn first(setup: &Setup) -> Result<Vec<Row>> {
    let (mut own, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..setup.pick(ROUNDS) {
        let namespace = setup.namespace("first")?;
        namespace.create(1)?;
        let inbox = setup.runtime.block_on(Inbox::bind(&setup.rig.broker, "bench.#"))?;
        let mut receipts = setup.runtime.block_on(inbox.consume())?;
        let mut audit = setup.audit()?;
        let operator = setup.operator(&[&namespace], &[]);
        setup.runtime.block_on(receipts.next())?;
        let took = age(operator.pid)?;
        let server = answers(&audit.wait_for_writes(&namespace.name, 1)?);
        operator.stop();
        own.push((took - server) * 1000.0);
        servers.push(server * 1000.0);
    }
    Ok(vec![
        Row::figure("start to the first confirmed message, beyond the API server's answers", "ms", own).at_most(FIRST),
        Row::figure("the API server's answers on that way: the list, and the Secret", "ms", servers),
    ])
}

/// Returns the API server's seconds for the sequential reads before the first message.
fn answers(requests: &[AuditedRequest]) -> f64 {
    let read = |request: &&AuditedRequest| request.is_operators() && ["list", "get"].contains(&request.verb.as_str());
    requests.iter().take_while(|request| !request.writes_status()).filter(read).map(AuditedRequest::took).sum()
}

/// Measures the time until the operator has sent a few messages and is ready, in a namespace with many
/// sent messages and in one without.
fn beside_many(setup: &Setup) -> Result<Vec<Row>> {
    let count = setup.count(SENT)?;
    let (alone, beside) = (setup.namespace("alone")?, setup.namespace("beside")?);
    write_bare(setup, &beside, beside.create(count)?)?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..setup.pick(ROUNDS) {
        few.push(send_few(setup, &alone, count + round * FEW)?);
        many.push(send_few(setup, &beside, count + round * FEW)?);
    }
    let of = |starts: &[Start], figure: fn(&Start) -> f64| starts.iter().map(figure).collect::<Vec<_>>();
    let own = |start: &Start| start.took - start.list;
    Ok(vec![
        Row::ratio(
            format!("start until {FEW} are sent beside {count} sent, without the list: beside none sent"),
            ratios(&of(&many, own), &of(&few, own)),
        )
        .at_most(setup.pick(GOAL)),
        Row::figure(
            "the same with the API server's answer to the list",
            "",
            ratios(&of(&many, |start| start.took), &of(&few, |start| start.took)),
        )
        .at_most(setup.pick(GOAL)),
        Row::figure(format!("start until {FEW} are sent, beside {count} sent"), "ms", of(&many, |start| start.took)),
        Row::figure("of that, the API server's answer to the list", "ms", of(&many, |start| start.list)),
        Row::figure(format!("start until {FEW} are sent, beside none sent"), "ms", of(&few, |start| start.took)),
        Row::figure("of that, the API server's answer to the list", "ms", of(&few, |start| start.list)),
    ])
}

/// The times of a start in milliseconds.
struct Start {
    /// From the start of the process until a few messages are sent and the operator is ready.
    took: f64,
    /// The part of the API server's response to the list of pending messages.
    list: f64,
}

/// Starts an operator with a few pending messages.
fn send_few(setup: &Setup, namespace: &BenchNamespace, first: usize) -> Result<Start> {
    namespace.create_all((first..first + FEW).map(|number| namespace.message(number)))?;
    let mut audit = setup.audit()?;
    let operator = setup.operator(&[namespace], &[]);
    let started = Utc::now() - TimeDelta::from_std(Duration::from_secs_f64(age(operator.pid)?))?;
    let requests = audit.wait_for_writes(&namespace.name, FEW)?;
    let sent = requests.last().map_or(f64::NAN, |last| seconds(started, last.answered));
    let took = if operator.probe("/readyz") == Some(200) {
        sent
    } else {
        wait_until(TIMEOUT, "it is ready", || operator.probe("/readyz") == Some(200))?;
        seconds(started, Utc::now())
    };
    operator.stop();
    let list = requests.iter().filter(|request| request.lists()).map(AuditedRequest::took);
    Ok(Start { took: took * 1000.0, list: list.sum::<f64>() * 1000.0 })
}
