//! `publish -f` beside the same client library with nothing around it, and beside the Python library.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lapin::message::Delivery;
use rig::{Guard, Publisher};
use serde_json::{Value, json};

use crate::broker::{BarePublisher, CHANNELS, Inbox};
use crate::table::{Row, ratios};
use crate::world::{Count, Of, World};
use e2e::bench::{Result, manifest};
use e2e::world::program;

/// Messages of each round.
const PUBLISHED: Count = Count { variable: "PUBLISHED", usual: Of { full: 100_000, short: 3_000 } };
const PYTHON: Of<usize> = Of { full: 500, short: 100 };
const ROUNDS: Of<usize> = Of { full: 3, short: 2 };
const OF_BARE: Of<f64> = Of { full: 0.9, short: 0.2 };
const OF_PYTHON: Of<f64> = Of { full: 15.0, short: 2.0 };
const TOPIC: &str = "bench.published";

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let count = world.count(PUBLISHED)?;
    let manifests = Manifests::write(world, count)?;
    let bodies: Vec<_> = (0..count).map(|number| body(number).to_string().into_bytes()).collect();
    let inbox = world.runtime.block_on(Inbox::bind(&world.rig.broker, "bench.#"))?;
    let (mut ours, mut bare, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.of(ROUNDS) {
        ours.push(rate(count, || manifests.publish(world))?);
        let one = shape(&world.runtime.block_on(inbox.take_one())?);
        bare.push(rate(count, || publish_bare(world, &bodies))?);
        let other = shape(&world.runtime.block_on(inbox.take_one())?);
        if one != other {
            return Err(format!("the bare client sends something else: {one:?}, {other:?}").into());
        }
        python.push(publish_with_python(world)?);
        world.runtime.block_on(inbox.take_one())?;
    }
    Ok(vec![
        Row::ratio(format!("publish -f, {count} messages: rate beside bare lapin"), ratios(&ours, &bare))
            .at_least(world.of(OF_BARE)),
        Row::ratio("publish -f: rate beside the Python library", ratios(&ours, &python)).at_least(world.of(OF_PYTHON)),
        Row::figure("publish -f, from the start of its process", "a second", ours),
        Row::figure(format!("bare lapin, {CHANNELS} channels of one connection"), "a second", bare),
        Row::figure("the Python library, one connection", "a second", python),
    ])
}

/// Messages a second.
fn rate(count: usize, publish: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    publish()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn publish_bare(world: &World, bodies: &[Vec<u8>]) -> Result<()> {
    world.runtime.block_on(async {
        let publisher = BarePublisher::open(&world.rig.broker, CHANNELS).await?;
        publisher.publish_all(TOPIC, bodies).await
    })
}

/// How many messages a second the library sends.
fn publish_with_python(world: &World) -> Result<f64> {
    let mut publisher = Publisher::start(&world.rig.broker, "publisher", "")?;
    let mut publish = |number| publisher.publish(&json!({"topic": TOPIC, "body": body(number)})).map(drop);
    // The first one makes the connection.
    publish(0)?;
    let count = world.of(PYTHON);
    rate(count, || Ok((0..count).try_for_each(publish)?))
}

fn body(number: usize) -> Value {
    manifest("published", number)["spec"]["message"]["body"].take()
}

/// What is the same of all messages: the names of the headers, and the text in the body.
fn shape(delivery: &Delivery) -> (Vec<String>, Option<Value>) {
    let names = delivery.properties.headers().iter().flat_map(|table| table.inner().keys().map(ToString::to_string));
    let body: Option<Value> = serde_json::from_slice(&delivery.data).ok();
    (names.collect(), body.map(|mut body| body["text"].take()))
}

/// A file with messages, and the certificate to publish them with.
pub struct Manifests {
    file: PathBuf,
    certificate: [PathBuf; 3],
    _guard: Guard,
}

impl Manifests {
    pub fn write(world: &World, count: usize) -> Result<Self> {
        let guard = Guard::new("publish")?;
        let files = world.rig.broker.client("publisher")?.write(guard.scratch(), "publisher")?;
        let mut manifests = String::new();
        for number in 0..count {
            writeln!(manifests, "{}", manifest("published", number))?;
        }
        let file = guard.scratch().join("messages.json");
        std::fs::write(&file, manifests)?;
        Ok(Self { file, certificate: [files.ca, files.cert, files.key], _guard: guard })
    }

    /// Publishes them. What is printed of each nobody keeps: a reader would take its time from the publisher.
    pub fn publish(&self, world: &World) -> Result<()> {
        let [ca, cert, key] = self.certificate.each_ref().map(PathBuf::as_path);
        let mut command = Command::new(program());
        command.args(["publish", "-o", "json"]).env("PROD_AMQP_URL", world.rig.broker.url()).stdout(Stdio::null());
        for (flag, path) in [("-f", self.file.as_path()), ("--ca", ca), ("--cert", cert), ("--key", key)] {
            command.args([Path::new(flag), path]);
        }
        run(&mut command)
    }
}

/// Runs a command that is to succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
