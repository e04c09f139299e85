//! A system clock that a test can set for one running process.
//!
//! It compiles a small library and preloads it into the process. This works for programs that read
//! the time through the C library, as Rust programs do.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{command::output, guard::Guard};

const LIBRARY: &str = include_str!("clock.c");

/// A clock for processes that are started with [`Clock::environment`].
#[derive(Debug)]
pub struct Clock {
    /// Owns the folder.
    guard: Guard,
}

impl Clock {
    /// Creates a clock with the correct time.
    pub fn new() -> Result<Self> {
        let clock = Self { guard: Guard::new("clock")? };
        let source = clock.path("clock.c");
        fs::write(&source, LIBRARY)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(clock.path("clock.so")).arg(&source);
        output(&mut compiler).context("the clock needs gcc: apt-get install gcc libc6-dev")?;
        fs::write(clock.path("ahead"), 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// Returns the environment variables that make a process use this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.path("clock.so")), ("RIG_CLOCK", self.path("ahead"))]
    }

    /// Sets the clock forward, relative to the correct time.
    pub fn set_forward(&self, by: Duration) -> Result<()> {
        self.set(i64::try_from(by.as_secs())?)
    }

    /// Sets the clock back, relative to the correct time.
    pub fn set_back(&self, by: Duration) -> Result<()> {
        self.set(-i64::try_from(by.as_secs())?)
    }

    fn set(&self, ahead: i64) -> Result<()> {
        // Write in place, because the process has mapped the file.
        OpenOptions::new().write(true).open(self.path("ahead"))?.write_all(&ahead.to_ne_bytes())?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guard.scratch().join(name)
    }
}
