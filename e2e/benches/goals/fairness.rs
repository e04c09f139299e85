//! Measures that a namespace with a large backlog does not delay a single message of another one.
//!
//! One operator watches all namespaces, as it does by default. So only the messages of this
//! measurement may be pending.

use std::time::Instant;

use kube::api::WatchParams;

use crate::latency::{BareWatch, Probe};
use crate::setup::{MessageCount, Scaled, Setup};
use crate::table::Row;
use e2e::bench::{Result, median};

/// The backlog of one namespace.
const FLOOD: MessageCount = MessageCount { variable: "FLOOD", default: Scaled { full: 5_000, short: 1_000 } };
/// Single messages of another namespace on an idle system.
const IDLE: Scaled<usize> = Scaled { full: 50, short: 20 };
/// The maximum ratio of the latency with the backlog.
const GOAL: Scaled<f64> = Scaled { full: 5.0, short: 30.0 };
/// The minimum backlog during the measurement of single messages.
const LEFT: usize = 200;

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let (count, flood) = (setup.count(FLOOD)?, setup.namespace("flood")?);
    let mut probe = setup.runtime.block_on(Probe::start(setup, setup.namespace("single")?))?;
    let operator = setup.operator(&[], &[]);
    let mut idle = Vec::new();
    for _ in 0..setup.pick(IDLE) {
        idle.push(setup.runtime.block_on(probe.send_and_settle())? * 1000.0);
    }
    operator.stop();
    flood.create(count)?;
    let mut audit = setup.audit()?;
    let operator = setup.operator(&[], &[]);
    let mut events = setup.runtime.block_on(BareWatch::watch(setup, &probe.namespace, WatchParams::default()))?;
    // The first message makes the operator read the Secret and connect.
    setup.runtime.block_on(async { tokio::try_join!(probe.send(), events.next(false)) })?;
    let mut sent = 0;
    let (mut created, mut seen, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let started = Instant::now();
    while sent + LEFT < count {
        let start = Instant::now();
        let ((create, receive), event) =
            setup.runtime.block_on(async { tokio::try_join!(probe.send(), events.next(false)) })?;
        created.push(create * 1000.0);
        seen.push(event.duration_since(start).as_secs_f64() * 1000.0);
        beside.push(receive * 1000.0);
        sent += audit.writes(&flood.name)?;
    }
    let took = started.elapsed();
    operator.stop();
    // Subtract the time until the busy API server delivers the event.
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
        .at_most(setup.pick(GOAL)),
        Row::figure("the same with the API server's part, beside idle latency", "", [whole]).at_most(setup.pick(GOAL)),
        Row::figure("a single message's latency beside the flood", "ms", beside),
        Row::figure("of that, the request that creates it", "ms", created),
        Row::figure("of that, until a bare watch tells of it", "ms", seen),
        Row::figure("a single message's latency, idle", "ms", idle),
    ])
}
