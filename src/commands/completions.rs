//! `completions`: prints a completion script for a shell.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::cli;

/// Prints the script.
#[must_use]
pub fn main(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    let mut definition = cli::definition();
    let name = definition.get_name().to_owned();
    generate(shell, &mut definition, name, &mut script);
    super::print(script)
}
