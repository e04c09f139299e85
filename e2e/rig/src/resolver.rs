//! A name with several addresses, for one process: `localhost` has those that a test gives, in this
//! order. A hosts file could not do that, because the C library sorts them.
//!
//! It compiles a small library and preloads it into the process. This works for programs that look
//! names up through the C library, as Rust programs do.

use std::path::PathBuf;

use anyhow::Result;

use crate::{guard::Guard, preload};

const LIBRARY: &str = include_str!("resolver.c");

/// The addresses of `localhost` for processes that are started with [`Resolver::environment`].
#[derive(Debug)]
pub struct Resolver {
    library: PathBuf,
    /// Owns the folder.
    _guard: Guard,
}

impl Resolver {
    /// Creates a resolver.
    pub fn new() -> Result<Self> {
        let guard = Guard::new("resolver")?;
        Ok(Self { library: preload::compile(LIBRARY, guard.scratch())?, _guard: guard })
    }

    /// Returns the environment variables that give `localhost` these addresses in a process.
    #[must_use]
    pub fn environment(&self, addresses: &[&str]) -> [(&'static str, String); 2] {
        [(preload::VARIABLE, self.library.display().to_string()), ("RIG_ADDRESSES", addresses.join(" "))]
    }
}
