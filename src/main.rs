//! The program: reads the command line and calls a command.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::process::ExitCode;

use clap::Parser;
use fedora_message_operator::cli::{Cli, Command};
use fedora_message_operator::commands;
use tokio_rustls::rustls::crypto::ring::default_provider;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // It fails only where a provider is installed already, and there is none yet.
    let _ = default_provider().install_default();
    match cli.command {
        None => commands::run::main(cli.run),
        Some(Command::Run(arguments)) => commands::run::main(arguments),
        Some(Command::Crd) => commands::crd::main(),
        Some(Command::Publish(arguments)) => commands::publish::main(&arguments),
        Some(Command::Check(arguments)) => commands::check::main(&arguments),
        Some(Command::Completions { shell }) => commands::completions::main(shell),
    }
}
