//! Messages come, are sent and deleted, over and over: memory must not grow.

use rig::wait_for;

use crate::plot::{Line, draw};
use crate::table::Row;
use crate::world::{Count, LONG, Of, World};
use e2e::bench::Result;

/// Messages in all, and at a time.
const SOAK: Count = Count { variable: "SOAK", usual: Of { full: 16_000, short: 1_000 } };
const BATCH: usize = 250;
/// How much more there may be at the end than in the middle.
const GOAL: Of<f64> = Of { full: 1.1, short: 1.3 };
/// After so many it is told how far it has come: a million take more than an hour.
const TOLD: usize = 50_000;

/// While some messages are created, others are sent, and those that were sent are deleted.
pub fn measure(world: &World) -> Result<Vec<Row>> {
    let (space, count) = (world.space("soak")?, world.count(SOAK)?);
    let mut audit = world.audit()?;
    let operator = world.operator(&[&space], &[])?;
    let (mut memory, mut sent) = (Vec::new(), 0);
    for first in (0..count).step_by(BATCH) {
        let create = space.create_each((first..first + BATCH).map(|number| space.message(number)));
        world.runtime.block_on(async { tokio::try_join!(create, space.delete_sent()) })?;
        wait_for(LONG, "those before are sent", || {
            sent += audit.writes(&space.name)?;
            Ok((sent >= first).then_some(()))
        })?;
        let resident = operator.resident()?;
        if (first + BATCH).is_multiple_of(TOLD) {
            eprintln!("after {} messages: {resident:.1} MiB", first + BATCH);
        }
        memory.push(resident);
    }
    operator.stop()?;
    let messages = (1..).map(|batch| (batch * BATCH) as f64);
    if !world.short {
        let points = messages.zip(memory.iter().copied()).collect();
        let line = Line { name: "resident", points };
        draw("soak", "Memory while messages come and go", ["messages so far", "MiB"], &[line])?;
    }
    let [start, middle, end] = [0, memory.len() / 2, memory.len() - 1].map(|place| memory[place]);
    Ok(vec![
        Row::ratio(
            format!("{count} messages come, are sent and deleted: memory at the end beside the middle"),
            [end / middle],
        )
        .at_most(world.of(GOAL)),
        Row::figure(format!("resident after {BATCH} of them"), "MiB", [start]),
        Row::figure("resident in the middle", "MiB", [middle]),
        Row::figure("resident at the end", "MiB", [end]),
    ])
}
