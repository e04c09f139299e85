//! Measures that the memory of leader and standby does not grow while messages are created, sent and deleted.

use rig::wait_for;

use crate::plot::{PlotLine, draw};
use crate::setup::{MessageCount, Scaled, Setup};
use crate::table::Row;
use e2e::bench::operator::mebibytes;
use e2e::bench::{Result, TIMEOUT};

/// Messages in total, and per batch.
const SOAK: MessageCount = MessageCount { variable: "SOAK", default: Scaled { full: 16_000, short: 1_000 } };
const BATCH: usize = 250;
/// The maximum ratio of the memory at the end to that in the middle.
const GOAL: Scaled<f64> = Scaled { full: 1.1, short: 1.3 };
/// The number of messages between two progress reports. A million messages take more than an hour.
const REPORT_INTERVAL: usize = 50_000;

/// Creates a batch and deletes sent messages, while the operator sends others.
pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let (namespace, count) = (setup.namespace("soak")?, setup.count(SOAK)?);
    let mut audit = setup.audit()?;
    let lease = ["--leader-elect", "--lease-namespace", &namespace.name];
    let start = || {
        let operator = setup.operator(&[&namespace], &lease);
        operator.wait_ready();
        operator
    };
    // The first one leads.
    let (leader, standby) = (start(), start());
    let (mut leader_memory, mut standby_memory, mut sent) = (Vec::new(), Vec::new(), 0);
    for first in (0..count).step_by(BATCH) {
        let create = namespace.create_each((first..first + BATCH).map(|number| namespace.message(number)));
        setup.runtime.block_on(async { tokio::try_join!(create, namespace.delete_sent()) })?;
        wait_for(TIMEOUT, "the earlier batches are sent", || {
            sent += audit.writes(&namespace.name)?;
            Ok((sent >= first).then_some(()))
        })?;
        let [resident, beside] = [&leader, &standby].map(|operator| mebibytes(operator.resident()));
        if (first + BATCH).is_multiple_of(REPORT_INTERVAL) {
            eprintln!("after {} messages: {resident:.1} MiB, the standby {beside:.1} MiB", first + BATCH);
        }
        leader_memory.push(resident);
        standby_memory.push(beside);
    }
    standby.stop();
    leader.stop();
    let messages = (1..).map(|batch| (batch * BATCH) as f64);
    if !setup.short {
        let points = messages.zip(leader_memory.iter().copied()).collect();
        let line = PlotLine { name: "resident", points };
        draw("soak", "Memory while messages come and go", ["messages so far", "MiB"], &[line])?;
    }
    let start_middle_end = |memory: &[f64]| [0, memory.len() / 2, memory.len() - 1].map(|place| memory[place]);
    let ([start, middle, end], [standby_start, standby_middle, standby_end]) =
        (start_middle_end(&leader_memory), start_middle_end(&standby_memory));
    Ok(vec![
        Row::ratio(
            format!("{count} messages come, are sent and deleted: memory at the end beside the middle"),
            [end / middle],
        )
        .at_most(setup.pick(GOAL)),
        Row::figure(format!("resident after {BATCH} of them"), "MiB", [start]),
        Row::figure("resident in the middle", "MiB", [middle]),
        Row::figure("resident at the end", "MiB", [end]),
        Row::ratio("the standby's at the end beside the middle", [standby_end / standby_middle])
            .at_most(setup.pick(GOAL)),
        Row::figure(format!("the standby's after {BATCH} of them"), "MiB", [standby_start]),
        Row::figure("the standby's at the end", "MiB", [standby_end]),
    ])
}
