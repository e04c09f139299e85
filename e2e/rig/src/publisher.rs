//! The reference publisher, which uses the Python library.

use std::fs;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{
    broker::Broker,
    guard::Guard,
    json_lines::JsonLines,
    python::{self, Python},
};

/// A running reference publisher.
#[derive(Debug)]
pub struct Publisher {
    process: JsonLines,
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
        let process = JsonLines::start(&mut python.script("reference_publisher.py", &config))?;
        Ok(Self { process, _guard: guard })
    }

    /// Publishes one message and returns its id. The error has the library's message.
    ///
    /// `testdata/python/reference_publisher.py` describes the members of `case`.
    pub fn publish(&mut self, case: &Value) -> Result<String> {
        let answer = self.process.ask(case)?;
        match answer["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("{}", answer["error"].as_str().unwrap_or_default()),
        }
    }
}
