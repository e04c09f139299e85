//! Messages come, are sent and deleted, over and over: memory must not grow.

use fedora_message_operator::message::incoming::FedoraMessage;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::common::Result;
use crate::plot::{Line, draw};
use crate::table::Row;
use crate::world::{Count, Of, World};

/// Messages in all, and at a time.
const SOAK: Count = Count { variable: "SOAK", usual: Of { full: 16_000, short: 1_000 } };
const BATCH: usize = 250;
/// How much more there may be at the end than in the middle.
const GOAL: Of<f64> = Of { full: 1.1, short: 1.3 };

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let (space, count) = (world.space("soak")?, world.count(SOAK)?);
    let api: Api<FedoraMessage> = Api::namespaced(world.client.clone(), &space.name);
    let all = (DeleteParams::default(), ListParams::default());
    let mut audit = world.audit()?;
    let operator = world.operator(&[&space], &[])?;
    let mut memory = Vec::new();
    for _ in 0..count.div_ceil(BATCH) {
        space.create(BATCH)?;
        audit.wait_for_writes(&space.name, BATCH)?;
        world.runtime.block_on(api.delete_collection(&all.0, &all.1))?;
        memory.push(operator.resident()?);
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
