//! What a start takes: until the first message is sent, and beside many messages that are sent already. Of these the
//! API server looks at each to answer the one list of what is pending: that is shown, and not the operator's.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rig::wait_until;

use crate::audit::{Request, seconds};
use crate::broker::Inbox;
use crate::drain::write_bare;
use crate::process::age;
use crate::table::{Row, ratios};
use crate::world::{Count, LONG, Of, Space, World};
use e2e::bench::Result;
use e2e::bench::operator::WRITES;

const ROUNDS: Of<usize> = Of { full: 7, short: 3 };
/// Messages that are sent already.
const SENT: Count = Count { variable: "SENT", usual: Of { full: 10_000, short: 1_000 } };
/// Messages that the start beside them has to send.
const FEW: usize = 10;
/// How many times as long it may take.
const GOAL: Of<f64> = Of { full: 1.5, short: 3.0 };
/// Milliseconds until the first message, beyond what the API server takes.
const FIRST: f64 = 150.0;

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let mut rows = beside_many(world)?;
    if !world.short {
        rows.extend(first(world)?);
    }
    Ok(rows)
}

/// Until the first message is at a consumer.
fn first(world: &World) -> Result<Vec<Row>> {
    let (mut own, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..world.of(ROUNDS) {
        let space = world.space("first")?;
        space.create(1)?;
        let inbox = world.runtime.block_on(Inbox::bind(&world.rig.broker, "bench.#"))?;
        let mut receipts = world.runtime.block_on(inbox.consume())?;
        let mut audit = world.audit()?;
        let operator = world.operator(&[&space], &[])?;
        world.runtime.block_on(receipts.next())?;
        let took = age(operator.pid)?;
        let server = answers(&audit.wait_for_writes(&space.name, 1)?);
        operator.stop()?;
        own.push((took - server) * 1000.0);
        servers.push(server * 1000.0);
    }
    Ok(vec![
        Row::figure("start to the first confirmed message, beyond the API server's answers", "ms", own).at_most(FIRST),
        Row::figure("the API server's answers on that way: the list, and the Secret", "ms", servers),
    ])
}

/// How many seconds the API server took for what has to be read one after the other before the first message.
fn answers(requests: &[Request]) -> f64 {
    let read = |request: &&Request| request.is_operators() && ["list", "get"].contains(&request.verb.as_str());
    requests.iter().take_while(|request| !request.writes_status()).filter(read).map(Request::took).sum()
}

/// Until a few messages are sent and it is ready, in a namespace with many sent messages and in one without.
fn beside_many(world: &World) -> Result<Vec<Row>> {
    let count = world.count(SENT)?;
    let (alone, beside) = (world.space("alone")?, world.space("beside")?);
    write_bare(world, &beside, beside.create(count)?, WRITES)?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..world.of(ROUNDS) {
        few.push(send_few(world, &alone, count + round * FEW)?);
        many.push(send_few(world, &beside, count + round * FEW)?);
    }
    let of = |starts: &[Start], figure: fn(&Start) -> f64| starts.iter().map(figure).collect::<Vec<_>>();
    let own = |start: &Start| start.took - start.list;
    Ok(vec![
        Row::ratio(
            format!("start until {FEW} are sent beside {count} sent, without the list: beside none sent"),
            ratios(&of(&many, own), &of(&few, own)),
        )
        .at_most(world.of(GOAL)),
        Row::figure(
            "the same with the API server's answer to the list",
            "",
            ratios(&of(&many, |start| start.took), &of(&few, |start| start.took)),
        )
        .at_most(world.of(GOAL)),
        Row::figure(format!("start until {FEW} are sent, beside {count} sent"), "ms", of(&many, |start| start.took)),
        Row::figure("of that, the API server's answer to the list", "ms", of(&many, |start| start.list)),
        Row::figure(format!("start until {FEW} are sent, beside none sent"), "ms", of(&few, |start| start.took)),
        Row::figure("of that, the API server's answer to the list", "ms", of(&few, |start| start.list)),
    ])
}

/// What a start took, in milliseconds.
struct Start {
    /// From the start of the process until a few messages were sent, and it was ready.
    took: f64,
    /// Of that, the API server's answer to the list of what is pending.
    list: f64,
}

/// Starts an operator that finds a few messages.
fn send_few(world: &World, space: &Space, first: usize) -> Result<Start> {
    space.create_all((first..first + FEW).map(|number| space.message(number)))?;
    let mut audit = world.audit()?;
    let operator = world.operator(&[space], &[])?;
    let begun = Utc::now() - TimeDelta::from_std(Duration::from_secs_f64(age(operator.pid)?))?;
    let requests = audit.wait_for_writes(&space.name, FEW)?;
    let sent = requests.last().map_or(f64::NAN, |last| seconds(begun, last.answered));
    let took = if operator.is_ready() {
        sent
    } else {
        wait_until(LONG, "it is ready", || operator.is_ready())?;
        seconds(begun, Utc::now())
    };
    operator.stop()?;
    let list = requests.iter().filter(|request| request.lists()).map(Request::took);
    Ok(Start { took: took * 1000.0, list: list.sum::<f64>() * 1000.0 })
}
