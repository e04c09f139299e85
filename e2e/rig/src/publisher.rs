//! The reference publisher, which uses the Python library.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    broker::Broker,
    guard::Guard,
    python::{self, Python},
};

/// A running reference publisher. It ends with its input, which closes with this value or process.
#[derive(Debug)]
pub struct Publisher {
    process: Child,
    /// `None` only during the drop.
    cases: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Owns the folder with its configuration.
    _guard: Guard,
}

impl Publisher {
    /// Starts a publisher as user `cn` with this topic prefix. An empty prefix means none.
    pub fn start(broker: &Broker, cn: &str, topic_prefix: &str) -> Result<Self> {
        Self::start_with(&Python::get()?, broker, cn, topic_prefix)
    }

    /// Like [`Publisher::start`], in a Python environment, which may have other packages.
    pub fn start_with(python: &Python, broker: &Broker, cn: &str, topic_prefix: &str) -> Result<Self> {
        let guard = Guard::new("publisher")?;
        let files = broker.client(cn)?.write(guard.scratch(), cn)?;
        let config = guard.scratch().join("config.toml");
        fs::write(&config, python::config(&broker.url(), &files, topic_prefix))?;
        let mut process =
            python.script("reference_publisher.py", &config).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let cases = process.stdin.take();
        let answers = process.stdout.take().context("the publisher has no output")?;
        Ok(Self { process, cases, answers: BufReader::new(answers), _guard: guard })
    }

    /// Publishes one message and returns its id. The error has the library's message.
    ///
    /// `testdata/python/reference_publisher.py` describes the members of `case`.
    pub fn publish(&mut self, case: &Value) -> Result<String> {
        let pipe = self.cases.as_mut().context("the publisher has ended")?;
        writeln!(pipe, "{case}").context("the publisher has ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the publisher has ended");
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("{}", answer["error"].as_str().unwrap_or(line.trim())),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.cases.take());
        // Its threads may block while the broker is silent.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
