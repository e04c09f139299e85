//! Measures `publish -f`, compared with the bare client library and with the Python library.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lapin::message::Delivery;
use rig::{Guard, Publisher};
use serde_json::{Value, json};

use crate::broker::{BarePublisher, CHANNELS, Inbox};
use crate::setup::{MessageCount, Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::{Result, manifest};
use e2e::program;

/// The messages of each round.
const PUBLISHED: MessageCount = MessageCount { variable: "PUBLISHED", default: Scaled { full: 100_000, short: 3_000 } };
const PYTHON: Scaled<usize> = Scaled { full: 500, short: 100 };
const ROUNDS: Scaled<usize> = Scaled { full: 3, short: 2 };
const OF_BARE: Scaled<f64> = Scaled { full: 0.9, short: 0.2 };
const OF_PYTHON: Scaled<f64> = Scaled { full: 15.0, short: 2.0 };
const TOPIC: &str = "bench.published";

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let count = setup.count(PUBLISHED)?;
    let manifests = ManifestFile::write(setup, count)?;
    let bodies: Vec<_> = (0..count).map(|number| body(number).to_string().into_bytes()).collect();
    let inbox = setup.runtime.block_on(Inbox::bind(&setup.rig.broker, "bench.#"))?;
    let (mut ours, mut bare, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setup.pick(ROUNDS) {
        ours.push(rate(count, || manifests.publish(setup))?);
        let one = shape(&setup.runtime.block_on(inbox.take_one())?);
        bare.push(rate(count, || publish_bare(setup, &bodies))?);
        let other = shape(&setup.runtime.block_on(inbox.take_one())?);
        if one != other {
            return Err(format!("the bare client sends a different message: {one:?}, {other:?}").into());
        }
        python.push(publish_with_python(setup)?);
        setup.runtime.block_on(inbox.take_one())?;
    }
    Ok(vec![
        Row::ratio(format!("publish -f, {count} messages: rate beside bare lapin"), ratios(&ours, &bare))
            .at_least(setup.pick(OF_BARE)),
        Row::ratio("publish -f: rate beside the Python library", ratios(&ours, &python))
            .at_least(setup.pick(OF_PYTHON)),
        Row::figure("publish -f, from the start of its process", "a second", ours),
        Row::figure(format!("bare lapin, {CHANNELS} channels of one connection"), "a second", bare),
        Row::figure("the Python library, one connection", "a second", python),
    ])
}

/// Returns the messages per second.
fn rate(count: usize, publish: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    publish()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn publish_bare(setup: &Setup, bodies: &[Vec<u8>]) -> Result<()> {
    setup.runtime.block_on(async {
        let publisher = BarePublisher::open(&setup.rig.broker, CHANNELS).await?;
        publisher.publish_all(TOPIC, bodies).await
    })
}

/// Returns the messages per second of the Python library.
fn publish_with_python(setup: &Setup) -> Result<f64> {
    let mut publisher = Publisher::start(&setup.rig.broker, "publisher", "")?;
    let mut publish = |number| publisher.publish(&json!({"topic": TOPIC, "body": body(number)})).map(drop);
    // The first message connects.
    publish(0)?;
    let count = setup.pick(PYTHON);
    rate(count, || Ok((0..count).try_for_each(publish)?))
}

fn body(number: usize) -> Value {
    manifest("published", number)["spec"]["message"]["body"].take()
}

/// Returns the parts that all messages share: the names of the headers, and the text in the body.
fn shape(delivery: &Delivery) -> (Vec<String>, Option<Value>) {
    let names = delivery.properties.headers().iter().flat_map(|table| table.inner().keys().map(ToString::to_string));
    let body: Option<Value> = serde_json::from_slice(&delivery.data).ok();
    (names.collect(), body.map(|mut body| body["text"].take()))
}

/// A file with messages, and a certificate to publish them.
pub struct ManifestFile {
    file: PathBuf,
    certificate: [PathBuf; 3],
    _guard: Guard,
}

impl ManifestFile {
    pub fn write(setup: &Setup, count: usize) -> Result<Self> {
        let guard = Guard::new("publish")?;
        let files = setup.rig.broker.client("publisher")?.write(guard.scratch(), "publisher")?;
        let mut manifests = String::new();
        for number in 0..count {
            writeln!(manifests, "{}", manifest("published", number))?;
        }
        let file = guard.scratch().join("messages.json");
        std::fs::write(&file, manifests)?;
        Ok(Self { file, certificate: [files.ca, files.cert, files.key], _guard: guard })
    }

    /// Publishes the messages. Discards the output, because a reader would slow the publisher.
    pub fn publish(&self, setup: &Setup) -> Result<()> {
        let [ca, cert, key] = self.certificate.each_ref().map(PathBuf::as_path);
        let mut command = Command::new(program());
        command.args(["publish", "-o", "json"]).env("PROD_AMQP_URL", setup.rig.broker.url()).stdout(Stdio::null());
        for (flag, path) in [("-f", self.file.as_path()), ("--ca", ca), ("--cert", cert), ("--key", key)] {
            command.args([Path::new(flag), path]);
        }
        run(&mut command)
    }
}

/// Runs a command. Returns its standard error as error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
