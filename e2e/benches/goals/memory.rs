//! Measures the memory of an idle operator, and of one with many waiting messages.

use rig::wait_until;
use serde_json::{Value, json};

use crate::drain::drain;
use crate::process::age;
use crate::setup::{BenchNamespace, MessageCount, Scaled, Setup};
use crate::table::Row;
use e2e::bench::operator::{Operator, mebibytes};
use e2e::bench::{Result, TIMEOUT};

/// Messages that wait for a missing Secret, and the size of their bodies.
const WAITING: MessageCount = MessageCount { variable: "WAITING", default: Scaled { full: 10_000, short: 500 } };
const BODY: usize = 1024;
/// Messages that an operator sends before it is idle.
const FEW: usize = 10;
const ROUNDS: usize = 3;
/// The limits in MiB: for an idle operator, and in addition to twice the size of waiting bodies.
const IDLE: f64 = 20.0;
const BEYOND_TWICE: f64 = 30.0;

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let (namespace, count) = (setup.namespace("waiting")?, setup.count(WAITING)?);
    let idle = (0..ROUNDS).map(|_| idle(setup)).collect::<Result<Vec<_>>>()?;
    namespace.create_all((0..count).map(|number| without_secret(&namespace, number)))?;
    let mut audit = setup.audit()?;
    let operator = setup.operator(&[&namespace], &[]);
    audit.wait_for_writes(&namespace.name, count)?;
    let (resident, peak) = (mebibytes(operator.resident()), mebibytes(operator.peak()));
    operator.stop();
    let (fresh, found) = ready_after_start(&setup.operator(&[&namespace], &[]))?;
    let goal = 2.0 * (count * BODY) as f64 / 1024.0 / 1024.0 + BEYOND_TWICE;
    Ok(vec![
        Row::figure(format!("resident, idle after {FEW} messages, one connection open"), "MiB", idle).at_most(IDLE),
        Row::figure(format!("resident, {count} messages of 1 KiB wait"), "MiB", [resident]).at_most(goal),
        Row::figure("the most until then", "MiB", [peak]),
        Row::figure("resident after another start, which finds them so", "MiB", [fresh]).at_most(goal),
        Row::figure("that start, until it is ready", "ms", [found * 1000.0]),
    ])
}

/// Returns the resident memory after a few messages.
fn idle(setup: &Setup) -> Result<f64> {
    let namespace = setup.namespace("idle")?;
    namespace.create(FEW)?;
    let (_, operator) = drain(setup, &namespace, FEW)?;
    let resident = mebibytes(operator.resident());
    operator.stop();
    Ok(resident)
}

/// Waits until an operator has queued all waiting messages. Returns its resident memory, and the
/// seconds since its start.
fn ready_after_start(operator: &Operator) -> Result<(f64, f64)> {
    wait_until(TIMEOUT, "it is ready", || operator.probe("/readyz") == Some(200))?;
    let took = age(operator.pid)?;
    Ok((mebibytes(operator.resident()), took))
}

/// Returns a message that names a missing Secret.
fn without_secret(namespace: &BenchNamespace, number: usize) -> Value {
    let mut message = namespace.message(number);
    message["spec"]["message"]["body"] = json!({"text": "x".repeat(BODY - 11)});
    message["spec"]["authentication"]["secretRef"]["name"] = "missing".into();
    message
}
