//! The program: reads the command line and calls a command.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::process::ExitCode;

use fedora_message_operator::cli::{self, Command};
use fedora_message_operator::commands;
use tikv_jemallocator::Jemalloc;
use tokio_rustls::rustls::crypto::ring::default_provider;

/// It gives memory back after a peak (docs/decisions/0057).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let command = cli::parse();
    disable_core_dumps();
    // This fails only if a provider is already installed, and none is.
    let _ = default_provider().install_default();
    match command {
        Command::Run(arguments) => commands::run::main(*arguments),
        Command::Crd { name } => commands::crd::main(name),
        Command::Publish(arguments) => commands::publish::main(&arguments),
        Command::Check(arguments) => commands::check::main(&arguments),
        Command::Completions { shell } => commands::completions::main(shell),
    }
}

/// Keeps keys in memory out of core dumps and debuggers of the same user.
fn disable_core_dumps() {
    #[cfg(target_os = "linux")]
    if rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_err() {
        eprintln!("warning: cannot disable core dumps, which could contain private keys");
    }
}
