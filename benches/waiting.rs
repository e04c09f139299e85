//! What messages cost that an operator does not send: memory while they wait, and time at its start once
//! they are sent. WAITING says how many; the goals are for 100000.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod common;

use std::time::{Duration, Instant};

use fedora_message_operator::cluster::status::StatusWriter;
use fedora_message_operator::message::incoming::FedoraMessage;
use fedora_message_operator::message::resource::FedoraMessageStatus;
use futures::{StreamExt, stream};
use kube::Client;
use rig::{Rig, wait_until};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::common::operator::{CONCURRENCY, Operator, create, is_done};
use crate::common::{Result, machine, manifest, prepare};

/// How large the body of a message is that waits.
const BODY: usize = 1024;
/// How many messages a start has to send.
const FEW: usize = 10;
const ROUNDS: usize = 5;
const LONG: Duration = Duration::from_mins(30);

fn main() -> Result<()> {
    let count = std::env::var("WAITING").map_or(Ok(10_000), |count| count.parse())?;
    let bench = Bench::start()?;
    let (idle, before) = bench.start_with_few("alone")?;
    let waiting = bench.runtime.block_on(create(&bench.client, count, in_vain))?;
    let (fresh, told, most) = bench.wait_in_vain()?;
    bench.mark_sent(waiting)?;
    let (_, after) = bench.start_with_few("beside")?;
    let size = (count * BODY) as f64 / 1024.0 / 1024.0;
    println!("{}", machine());
    println!("| {count} messages with bodies of {BODY} bytes | | goal |");
    println!("|---|---|---|");
    println!("| resident, nothing pending | {idle:.1} MiB | 20 |");
    println!("| resident, all wait and their statuses say so | {:.1} MiB | {:.0} |", told, 2.0 * size + 30.0);
    println!("| the most until then | {most:.1} MiB | |");
    println!("| resident after another start, which finds them so | {fresh:.1} MiB | |");
    println!("| start until {FEW} are sent, beside none that are sent | {before:.0?} | |");
    println!(
        "| start until {FEW} are sent, beside all of them sent | {after:.0?}, {:.2} times as long | 1.5 |",
        after.as_secs_f64() / before.as_secs_f64()
    );
    Ok(())
}

/// A message that names a Secret that is not there.
fn in_vain(number: usize) -> Value {
    let mut message = manifest("waiting", number);
    message["spec"]["message"]["body"] = serde_json::json!({"text": "x".repeat(BODY - 11)});
    message["spec"]["authentication"]["secretRef"]["name"] = "missing".into();
    message
}

struct Bench {
    rig: Rig,
    runtime: Runtime,
    client: Client,
}

impl Bench {
    fn start() -> Result<Self> {
        let rig = Rig::start()?;
        let (runtime, client) = prepare(&rig.kube, &rig.broker)?;
        Ok(Self { rig, runtime, client })
    }

    fn operator(&self) -> Result<Operator> {
        Operator::start(&self.rig.kube, &self.rig.broker, &[])
    }

    /// The resident memory of an operator that has sent a few messages which it found, and how long that took
    /// from its start: half of the rounds were faster.
    fn start_with_few(&self, name: &str) -> Result<(f64, Duration)> {
        let (mut memory, mut times) = (0.0, Vec::new());
        for round in 0..ROUNDS {
            let name = format!("{name}-{round}");
            self.runtime.block_on(create(&self.client, FEW, |number| manifest(&name, number)))?;
            let start = Instant::now();
            let operator = self.operator()?;
            wait_until(LONG, "all are sent", || self.runtime.block_on(is_done(&self.client, "")))?;
            times.push(start.elapsed());
            memory = operator.resident()?;
            operator.stop()?;
        }
        times.sort();
        Ok((memory, times[ROUNDS / 2]))
    }

    /// Resident memory, in MiB, while all messages wait: of an operator that finds them so, and of the one
    /// before, which found out; and the most that this one had.
    fn wait_in_vain(&self) -> Result<(f64, f64, f64)> {
        let untold = ",status.reason!=SecretNotFound";
        let operator = self.operator()?;
        wait_until(LONG, "all are told", || self.runtime.block_on(is_done(&self.client, untold)))?;
        let (told, most) = (operator.resident()?, operator.peak()?);
        operator.stop()?;
        let operator = self.operator()?;
        wait_until(LONG, "it is ready", || operator.is_ready())?;
        let fresh = operator.resident()?;
        operator.stop()?;
        Ok((fresh, told, most))
    }

    /// Writes into the status of each that it was sent.
    fn mark_sent(&self, messages: Vec<FedoraMessage>) -> Result<()> {
        let status = FedoraMessageStatus { status: Some(true), ..FedoraMessageStatus::default() };
        self.runtime.block_on(async {
            let statuses = StatusWriter::new(self.client.clone());
            let write = async |message: FedoraMessage| statuses.write(&message, &status).await;
            stream::iter(messages).map(write).buffer_unordered(CONCURRENCY).for_each(async |_| {}).await;
        });
        wait_until(LONG, "all are marked", || self.runtime.block_on(is_done(&self.client, "")))?;
        Ok(())
    }
}
