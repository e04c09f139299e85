//! Memory of an operator that is idle, and of one with many messages that wait.

use rig::wait_until;
use serde_json::{Value, json};

use crate::drain::drain;
use crate::process::age;
use crate::table::Row;
use crate::world::{Count, LONG, Of, Space, World};
use e2e::bench::Result;
use e2e::bench::operator::Operator;

/// Messages that wait for a Secret which is not there, and how large their bodies are.
const WAITING: Count = Count { variable: "WAITING", usual: Of { full: 10_000, short: 500 } };
const BODY: usize = 1024;
/// Messages that an operator has sent which is then idle.
const FEW: usize = 10;
const ROUNDS: usize = 3;
/// In MiB: of an idle one, and of one with waiting messages beside twice the size of their bodies.
const IDLE: f64 = 20.0;
const BESIDE_TWICE: f64 = 30.0;

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let (space, count) = (world.space("waiting")?, world.count(WAITING)?);
    let idle = (0..ROUNDS).map(|_| idle(world)).collect::<Result<Vec<_>>>()?;
    space.create_all((0..count).map(|number| in_vain(&space, number)))?;
    let mut audit = world.audit()?;
    let operator = world.operator(&[&space], &[])?;
    audit.wait_for_writes(&space.name, count)?;
    let (last_reported, most) = (operator.resident()?, operator.peak()?);
    operator.stop()?;
    let (fresh, found) = find(&world.operator(&[&space], &[])?)?;
    let goal = 2.0 * (count * BODY) as f64 / 1024.0 / 1024.0 + BESIDE_TWICE;
    Ok(vec![
        Row::figure(format!("resident, idle after {FEW} messages, one connection open"), "MiB", idle).at_most(IDLE),
        Row::figure(format!("resident, {count} messages of 1 KiB wait"), "MiB", [last_reported]).at_most(goal),
        Row::figure("the most until then", "MiB", [most]),
        Row::figure("resident after another start, which finds them so", "MiB", [fresh]).at_most(goal),
        Row::figure("that start, until it is ready", "ms", [found * 1000.0]),
    ])
}

/// Resident memory after a few messages.
fn idle(world: &World) -> Result<f64> {
    let space = world.space("idle")?;
    space.create(FEW)?;
    let (_, operator) = drain(world, &space, FEW)?;
    let resident = operator.resident()?;
    operator.stop()?;
    Ok(resident)
}

/// Resident memory once all that waits is known, and how many seconds after its start an operator knew it.
fn find(operator: &Operator) -> Result<(f64, f64)> {
    wait_until(LONG, "it is ready", || operator.is_ready())?;
    let took = age(operator.pid)?;
    Ok((operator.resident()?, took))
}

/// A message that names a Secret that is not there.
fn in_vain(space: &Space, number: usize) -> Value {
    let mut message = space.message(number);
    message["spec"]["message"]["body"] = json!({"text": "x".repeat(BODY - 11)});
    message["spec"]["authentication"]["secretRef"]["name"] = "missing".into();
    message
}
