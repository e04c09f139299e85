//! What a message costs of the CPU, beside what it replaces: a process of the Python CLI for each message.

use std::process::Command;

use chrono::Utc;
use rig::Guard;
use rig::python::{Python, config};
use serde_json::json;
use uuid::Uuid;

use crate::drain::drain;
use crate::process::{children_cpu, cpu};
use crate::publisher::{Manifests, run};
use crate::table::{Row, ratios};
use crate::world::{Of, World};
use e2e::bench::Result;

const DRAINED: Of<usize> = Of { full: 500, short: 200 };
const PUBLISHED: Of<usize> = Of { full: 5_000, short: 1_000 };
const ROUNDS: Of<usize> = Of { full: 5, short: 1 };
/// How many times as much the CLI takes.
const GOAL: Of<f64> = Of { full: 200.0, short: 50.0 };

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let cli = Cli::new(world)?;
    let published = world.of(PUBLISHED);
    let (one, many) = (Manifests::write(world, 1)?, Manifests::write(world, published)?);
    let (mut python, mut operator, mut publish, mut single) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.of(ROUNDS) {
        python.push(milliseconds(1, || cli.publish())?);
        operator.push(operators(world)?);
        publish.push(milliseconds(published, || many.publish(world))?);
        single.push(milliseconds(1, || one.publish(world))?);
    }
    Ok(vec![
        Row::ratio("CPU of a message: the Python CLI beside the operator", ratios(&python, &operator))
            .at_least(world.of(GOAL)),
        Row::ratio("CPU of a message: the Python CLI beside publish -f", ratios(&python, &publish))
            .at_least(world.of(GOAL)),
        Row::figure("CPU: the Python CLI, a process for each message", "ms", python),
        Row::figure("CPU: the operator, a message of a backlog", "ms", operator),
        Row::figure(format!("CPU: publish -f, each of {published} messages"), "ms", publish),
        Row::figure("CPU: publish -f, one message", "ms", single),
    ])
}

/// Milliseconds for each of so many messages, that a command takes.
fn milliseconds(count: usize, publish: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = children_cpu()?;
    publish()?;
    Ok((children_cpu()? - before) * 1000.0 / count as f64)
}

/// Milliseconds for each message that an operator takes from its start to the end of a backlog.
fn operators(world: &World) -> Result<f64> {
    let (space, count) = (world.space("cpu")?, world.of(DRAINED));
    space.create(count)?;
    let (_, operator) = drain(world, &space, count)?;
    let used = cpu(operator.pid)?;
    operator.stop()?;
    Ok(used * 1000.0 / count as f64)
}

/// The library's command line program.
struct Cli {
    guard: Guard,
    python: Python,
}

impl Cli {
    fn new(world: &World) -> Result<Self> {
        let guard = Guard::new("cli")?;
        let files = world.rig.broker.client("publisher")?.write(guard.scratch(), "publisher")?;
        std::fs::write(guard.scratch().join("config.toml"), config(&world.rig.broker.url(), &files, ""))?;
        let message = json!({
            "id": Uuid::new_v4().to_string(),
            "topic": "bench.cli",
            "headers": {
                "fedora_messaging_schema": "base.message",
                "fedora_messaging_severity": 20,
                "sent-at": Utc::now().to_rfc3339(),
            },
            "body": {"text": "x".repeat(150)},
        });
        std::fs::write(guard.scratch().join("message.json"), message.to_string())?;
        Ok(Self { guard, python: Python::get()? })
    }

    /// Publishes one message.
    fn publish(&self) -> Result<()> {
        let mut command = Command::new(self.python.fedora_messaging());
        command
            .env("FEDORA_MESSAGING_CONF", self.guard.scratch().join("config.toml"))
            .arg("publish")
            .arg(self.guard.scratch().join("message.json"));
        run(&mut command)
    }
}
