//! A namespace with very many messages must not hold up the single message of another. One operator watches all
//! namespaces, as it does by default: nothing may be pending but what is created here.

use std::time::Instant;

use crate::latency::{Events, Probe};
use crate::table::{Row, median};
use crate::world::{Count, Of, World};
use e2e::bench::Result;

/// Messages that one namespace has pending.
const FLOOD: Count = Count { variable: "FLOOD", usual: Of { full: 5_000, short: 1_000 } };
/// Single messages of another one, on an idle system.
const IDLE: Of<usize> = Of { full: 50, short: 20 };
/// How many times as long one may take beside the flood.
const GOAL: Of<f64> = Of { full: 5.0, short: 30.0 };
/// How many of the flood are left for sure while single messages are timed.
const LEFT: usize = 200;

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let (count, flood) = (world.count(FLOOD)?, world.space("flood")?);
    let mut probe = world.runtime.block_on(Probe::start(world, world.space("single")?))?;
    let operator = world.operator(&[], &[])?;
    let mut idle = Vec::new();
    for _ in 0..world.of(IDLE) {
        idle.push(world.runtime.block_on(probe.send_and_settle())? * 1000.0);
    }
    operator.stop()?;
    flood.create(count)?;
    let mut audit = world.audit()?;
    let operator = world.operator(&[], &[])?;
    let mut events = world.runtime.block_on(Events::watch(world, &probe.space))?;
    // The first one has the Secret read and a connection opened.
    world.runtime.block_on(async { tokio::try_join!(probe.send(), events.next()) })?;
    let mut sent = 0;
    let (mut created, mut seen, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    while sent + LEFT < count {
        let start = Instant::now();
        let ((create, receive), event) =
            world.runtime.block_on(async { tokio::try_join!(probe.send(), events.next()) })?;
        created.push(create * 1000.0);
        seen.push(event.duration_since(start).as_secs_f64() * 1000.0);
        beside.push(receive * 1000.0);
        sent += audit.writes(&flood.name)?;
    }
    let took = begun.elapsed();
    operator.stop()?;
    // What the API server takes to tell of a message while it is busy with the flood is not the operator's.
    let own: Vec<_> = beside.iter().zip(&seen).map(|(received, seen)| received - seen).collect();
    let [own, whole] = [&own, &beside].map(|times| median(times) / median(&idle));
    eprintln!("{} single messages in {took:.1?} beside the flood", beside.len());
    Ok(vec![
        Row::ratio(
            format!(
                "a single message beside another namespace's {count}: from a watch's event on, beside idle latency"
            ),
            [own],
        )
        .at_most(world.of(GOAL)),
        Row::figure("the same with the API server's part, beside idle latency", "", [whole]).at_most(world.of(GOAL)),
        Row::figure("a single message's latency beside the flood", "ms", beside),
        Row::figure("of that, the request that creates it", "ms", created),
        Row::figure("of that, until a bare watch tells of it", "ms", seen),
        Row::figure("a single message's latency, idle", "ms", idle),
    ])
}
