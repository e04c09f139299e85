//! A consumer with the Python library. Like every consumer of Fedora's messages, it validates each
//! message and drops invalid ones.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    broker::Broker,
    guard::Guard,
    pki::CertFiles,
    python::{self, Python},
    wait::wait_for,
};

const NAME: &str = "consumer";
const START_WITHIN: Duration = Duration::from_mins(1);

/// A running consumer.
#[derive(Debug)]
pub struct Consumer {
    guard: Guard,
    queue: String,
}

/// The output format for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, for tests.
    Json,
    /// The output of `fedora-messaging consume`, for users.
    Text,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

impl Consumer {
    /// Starts a consumer as user `consumer` with its own queue, and waits until the queue is bound
    /// to `amq.topic` by `routing_key` (`#` for all messages).
    pub fn start(broker: &Broker, routing_key: &str) -> Result<Self> {
        Self::start_with(&Python::get()?, broker, routing_key, Format::Json)
    }

    /// Starts a consumer in a Python environment, which may have other packages, with an output format.
    pub fn start_with(python: &Python, broker: &Broker, routing_key: &str, format: Format) -> Result<Self> {
        let guard = Guard::new(NAME)?;
        let files = broker.client("consumer")?.write(guard.scratch(), NAME)?;
        Self::run(guard, python, &broker.url(), &files, routing_key, format)
    }

    /// Like [`Consumer::start`], at a URL of another broker, with the certificate of a user who may
    /// consume.
    pub fn start_at(url: &str, files: &CertFiles, routing_key: &str) -> Result<Self> {
        Self::run(Guard::new(NAME)?, &Python::get()?, url, files, routing_key, Format::Json)
    }

    fn run(
        guard: Guard,
        python: &Python,
        url: &str,
        files: &CertFiles,
        routing_key: &str,
        format: Format,
    ) -> Result<Self> {
        let config = guard.scratch().join("config.toml");
        fs::write(&config, python::config(url, files, ""))?;
        let queue = guard.unique_name();
        let mut command = python.script("consumer.py", &config);
        command.args([&queue, routing_key, format.name()]);
        guard.start(NAME, &command)?;
        let consumer = Self { guard, queue };
        let bound = || consumer.printed().is_ok_and(|text| text.is_some());
        consumer.guard.wait_ready(NAME, START_WITHIN, bound)?;
        Ok(consumer)
    }

    /// Returns the name of its queue, for `rabbitmqctl`.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Returns the accepted messages ([`Format::Json`]) in the order of their arrival.
    ///
    /// Each is an object with `id`, `topic`, `severity`, `class`, `headers`, `body` and the AMQP
    /// properties.
    pub fn messages(&self) -> Result<Vec<Value>> {
        let text = self.text()?;
        text.lines().map(|line| serde_json::from_str(line).context("the consumer printed invalid JSON")).collect()
    }

    /// Waits until it has accepted at least `count` messages.
    pub fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<Value>> {
        let what = format!("{count} messages at the consumer");
        wait_for(within, &what, || {
            let enough = self.text()?.lines().count() >= count;
            enough.then(|| self.messages()).transpose()
        })
        .with_context(|| format!("it printed:\n{}", self.log()))
    }

    /// Returns the library's log, for example why it dropped a message.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.guard.err(NAME)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns its output for the messages, in complete lines.
    pub fn text(&self) -> Result<String> {
        Ok(self.printed()?.unwrap_or_default())
    }

    /// Returns the output after the line `ready`, or `None` before that line.
    fn printed(&self) -> Result<Option<String>> {
        let text = fs::read_to_string(self.guard.out(NAME)).context("no output of the consumer")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        Ok(whole.strip_prefix("ready\n").map(str::to_owned))
    }
}
