//! Measures the CPU time per message, compared with one process of the Python CLI per message.

use std::process::Command;

use chrono::Utc;
use rig::Guard;
use rig::python::{Python, config};
use serde_json::json;
use uuid::Uuid;

use crate::drain::drain;
use crate::process::{children_cpu, cpu};
use crate::publisher::{ManifestFile, run};
use crate::setup::{Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::Result;

const DRAINED: Scaled<usize> = Scaled { full: 500, short: 200 };
const PUBLISHED: Scaled<usize> = Scaled { full: 5_000, short: 1_000 };
const ROUNDS: Scaled<usize> = Scaled { full: 5, short: 1 };
/// The ratio of the CLI's CPU time.
const GOAL: Scaled<f64> = Scaled { full: 200.0, short: 50.0 };

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let cli = PythonCli::new(setup)?;
    let published = setup.pick(PUBLISHED);
    let (one, many) = (ManifestFile::write(setup, 1)?, ManifestFile::write(setup, published)?);
    let (mut python, mut operator, mut publish, mut single) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setup.pick(ROUNDS) {
        python.push(milliseconds(1, || cli.publish())?);
        operator.push(operators(setup)?);
        publish.push(milliseconds(published, || many.publish(setup))?);
        single.push(milliseconds(1, || one.publish(setup))?);
    }
    Ok(vec![
        Row::ratio("CPU of a message: the Python CLI beside the operator", ratios(&python, &operator))
            .at_least(setup.pick(GOAL)),
        Row::ratio("CPU of a message: the Python CLI beside publish -f", ratios(&python, &publish))
            .at_least(setup.pick(GOAL)),
        Row::figure("CPU: the Python CLI, a process for each message", "ms", python),
        Row::figure("CPU: the operator, a message of a backlog", "ms", operator),
        Row::figure(format!("CPU: publish -f, each of {published} messages"), "ms", publish),
        Row::figure("CPU: publish -f, one message", "ms", single),
    ])
}

/// Returns the CPU time of a command in milliseconds per message.
fn milliseconds(count: usize, publish: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = children_cpu()?;
    publish()?;
    Ok((children_cpu()? - before) * 1000.0 / count as f64)
}

/// Returns the operator's CPU time in milliseconds per message, from its start to an empty backlog.
fn operators(setup: &Setup) -> Result<f64> {
    let (namespace, count) = (setup.namespace("cpu")?, setup.pick(DRAINED));
    namespace.create(count)?;
    let (_, operator) = drain(setup, &namespace, count)?;
    let used = cpu(operator.pid)?;
    operator.stop();
    Ok(used * 1000.0 / count as f64)
}

/// The library's command line program.
struct PythonCli {
    guard: Guard,
    python: Python,
}

impl PythonCli {
    fn new(setup: &Setup) -> Result<Self> {
        let guard = Guard::new("cli")?;
        let files = setup.rig.broker.client("publisher")?.write(guard.scratch(), "publisher")?;
        std::fs::write(guard.scratch().join("config.toml"), config(&setup.rig.broker.url(), &files, ""))?;
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
