//! A process that answers each line of JSON with a line of JSON.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A running process. It ends with its input, which closes with this value or process.
#[derive(Debug)]
pub(crate) struct JsonLines {
    process: Child,
    /// `None` after the end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl JsonLines {
    /// Starts the command.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = process.stdin.take();
        let answers = process.stdout.take().context("the process has no output")?;
        Ok(Self { process, requests, answers: BufReader::new(answers) })
    }

    /// Writes a request, and returns the answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value> {
        let pipe = self.requests.as_mut().context("the process has ended")?;
        writeln!(pipe, "{request}").context("the process has ended")?;
        self.answer()
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the process has ended");
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Closes the input, and waits until the process ends by itself.
    pub(crate) fn end(&mut self) {
        drop(self.requests.take());
        // Ignore an error: nobody needs the exit code.
        let _ = self.process.wait();
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Its threads may block while a peer is silent.
        let _ = self.process.kill();
        self.end();
    }
}
