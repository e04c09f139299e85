//! A system clock that a test can set for one running process.
//!
//! It compiles a small library and preloads it into the process. This works for programs that read
//! the time through the C library, as Rust programs do.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use crate::{guard::Guard, preload};

const LIBRARY: &str = include_str!("clock.c");

/// A clock for processes that are started with [`Clock::environment`].
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    /// Owns the folder.
    guard: Guard,
}

impl Clock {
    /// Creates a clock with the correct time.
    pub fn new() -> Result<Self> {
        let guard = Guard::new("clock")?;
        let clock = Self { library: preload::compile(LIBRARY, guard.scratch())?, guard };
        fs::write(clock.path("ahead"), 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// Returns the environment variables that make a process use this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [(preload::VARIABLE, self.library.clone()), ("RIG_CLOCK", self.path("ahead"))]
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
