//! How fast it is: the operator's drain of a backlog beside the API server's own rate of status
//! writes, and the publisher alone beside the Python library. One run, on one machine, in turns;
//! only the ratios mean anything elsewhere.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[expect(dead_code, reason = "only some of it is needed here")]
mod common;
#[path = "../tests/real/raw.rs"]
#[expect(dead_code, reason = "only some of it is needed here")]
mod raw;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use fedora_message_operator::cluster::status::StatusWriter;
use fedora_message_operator::message::incoming::FedoraMessage;
use fedora_message_operator::message::resource::FedoraMessageStatus;
use futures::{StreamExt, stream};
use kube::Client;
use rig::{Guard, Publisher, Rig, wait_until};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::common::operator::{CONCURRENCY, Operator, create, is_done};
use crate::common::{PROGRAM, Result, machine, manifest, prepare};
use crate::raw::RawConsumer;

/// Messages of a backlog, in each of the rounds.
const BACKLOG: usize = 2_500;
const ROUNDS: usize = 2;
/// Messages for `publish`, and for the Python library.
const PUBLISHED: usize = 20_000;
const PYTHON: usize = 300;
const LONG: Duration = Duration::from_mins(5);

fn main() -> Result<()> {
    let bench = Bench::start()?;
    let first_message = bench.first_message()?;
    let (mut drains, mut writes) = (Vec::new(), Vec::new());
    let mut resident = 0.0;
    for round in 0..ROUNDS {
        writes.push(bench.bare_writes(round)?);
        let (drain, memory) = bench.drain(round)?;
        drains.push(drain);
        resident = memory;
    }
    let publish = bench.publish()?;
    let python = bench.python()?;
    let (drain, write) = (mean(&drains), mean(&writes));
    println!("{}", machine());
    println!("| what | messages a second | |");
    println!("|---|---|---|");
    println!(
        "| the operator drains a backlog of {} | {drain:.0} | {:.2} of the API server's own rate |",
        BACKLOG * ROUNDS,
        drain / write
    );
    println!(
        "| bare status writes, {CONCURRENCY} at a time | {write:.0} | rounds {writes:.0?}, operator {drains:.0?} |"
    );
    println!("| publish -f, {PUBLISHED} messages | {publish:.0} | {:.1} times the Python library |", publish / python);
    println!("| Python library, one connection | {python:.0} | |");
    println!();
    println!(
        "Start to first confirmed message: {first_message:.0?} (goal: under 200 ms beyond the API server's answers)"
    );
    println!("Resident after the drain, idle: {resident:.1} MiB (goal: under 25)");
    Ok(())
}

struct Bench {
    rig: Rig,
    runtime: Runtime,
    client: Client,
    consumer: RawConsumer,
}

impl Bench {
    fn start() -> Result<Self> {
        let rig = Rig::start()?;
        let (runtime, client) = prepare(&rig.kube, &rig.broker)?;
        let consumer = RawConsumer::start(&rig.broker, "#");
        Ok(Self { rig, runtime, client, consumer })
    }

    /// From the start of the process to the first message at the broker.
    fn first_message(&self) -> Result<Duration> {
        self.create("first", 1)?;
        let start = Instant::now();
        let operator = self.operator()?;
        self.consumer.take(1, LONG);
        let took = start.elapsed();
        wait_until(LONG, "it is sent", || self.runtime.block_on(is_done(&self.client, "")))?;
        operator.stop()?;
        Ok(took)
    }

    /// How many statuses a second the API server takes from a client that does nothing else.
    fn bare_writes(&self, round: usize) -> Result<f64> {
        let messages = self.create(&format!("bare{round}"), BACKLOG)?;
        let status = FedoraMessageStatus {
            type_: Some("FedoraMessageSent".to_owned()),
            status: Some(true),
            reason: Some("Sent".to_owned()),
            message: Some("Message was sent successfully".to_owned()),
            ..FedoraMessageStatus::default()
        };
        let start = Instant::now();
        self.runtime.block_on(async {
            let statuses = StatusWriter::new(self.client.clone());
            let write = async |message: FedoraMessage| statuses.write(&message, &status).await;
            stream::iter(messages).map(write).buffer_unordered(CONCURRENCY).collect::<Vec<_>>().await
        });
        Ok(rate(BACKLOG, start))
    }

    /// How many messages a second an operator sends that finds them waiting, and its memory after.
    fn drain(&self, round: usize) -> Result<(f64, f64)> {
        self.create(&format!("drain{round}"), BACKLOG)?;
        let operator = self.operator()?;
        let start = Instant::now();
        wait_until(LONG, "all are sent", || self.runtime.block_on(is_done(&self.client, "")))?;
        let rate = rate(BACKLOG, start);
        self.consumer.take(BACKLOG, LONG);
        let resident = operator.resident()?;
        operator.stop()?;
        Ok((rate, resident))
    }

    fn publish(&self) -> Result<f64> {
        let certificate = self.rig.broker.client("publisher")?;
        let guard = Guard::new("publish")?;
        let files = certificate.write(guard.scratch(), "publisher")?;
        let mut manifests = String::new();
        for n in 0..PUBLISHED {
            writeln!(manifests, "{}", manifest("published", n))?;
        }
        let file = guard.scratch().join("messages.json");
        std::fs::write(&file, manifests)?;
        let start = Instant::now();
        let output = Command::new(PROGRAM)
            .args(["publish", "-o", "json", "-f"])
            .arg(&file)
            .args([
                "--ca".as_ref(),
                files.ca.as_os_str(),
                "--cert".as_ref(),
                files.cert.as_os_str(),
                "--key".as_ref(),
                files.key.as_os_str(),
            ])
            .env("PROD_AMQP_URL", self.rig.broker.url())
            .output()?;
        let rate = rate(PUBLISHED, start);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        self.consumer.take(PUBLISHED, LONG);
        Ok(rate)
    }

    fn python(&self) -> Result<f64> {
        let mut publisher = Publisher::start(&self.rig.broker, "publisher", "")?;
        publisher.publish(&json!({"topic": "bench.warm.up", "body": {}}))?;
        let start = Instant::now();
        for n in 0..PYTHON {
            publisher.publish(&json!({"topic": format!("bench.python.{n}"), "body": {"number": n}}))?;
        }
        Ok(rate(PYTHON, start))
    }

    fn operator(&self) -> Result<Operator> {
        Operator::start(&self.rig.kube, &self.rig.broker, &[])
    }

    fn create(&self, name: &str, count: usize) -> Result<Vec<FedoraMessage>> {
        self.runtime.block_on(create(&self.client, count, |number| manifest(name, number)))
    }
}

fn rate(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}

fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}
