//! A system clock that can be set for one process, while it runs.
//!
//! A small library is compiled and preloaded into the process. It works for programs that ask the C
//! library for the time, as Rust's do.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::guard::Guard;

const LIBRARY: &str = include_str!("clock.c");

/// A clock for processes that are started with [`Clock::environment`].
#[derive(Debug)]
pub struct Clock {
    /// Keeps the folder.
    guard: Guard,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Result<Self> {
        let clock = Self { guard: Guard::new("clock")? };
        let source = clock.path("clock.c");
        fs::write(&source, LIBRARY)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(clock.path("clock.so")).arg(&source);
        let output = compiler.output().context("cc does not start: apt-get install gcc libc6-dev")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        fs::write(clock.path("ahead"), 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// What a process must find in its environment to go by this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.path("clock.so")), ("RIG_CLOCK", self.path("ahead"))]
    }

    /// Sets the clock forward by so much, compared with the right time.
    pub fn set_forward(&self, by: Duration) -> Result<()> {
        self.set(i64::try_from(by.as_secs())?)
    }

    /// Sets the clock back by so much, compared with the right time.
    pub fn set_back(&self, by: Duration) -> Result<()> {
        self.set(-i64::try_from(by.as_secs())?)
    }

    fn set(&self, ahead: i64) -> Result<()> {
        // In place: the process has the file mapped.
        OpenOptions::new().write(true).open(self.path("ahead"))?.write_all(&ahead.to_ne_bytes())?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guard.scratch().join(name)
    }
}
