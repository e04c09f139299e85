//! The command line of the rig: the same real parts as the tests', for people.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod commands;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use commands::{demo, schemas, tools, up};

/// Brings up a real Kubernetes API server and a RabbitMQ that is set up like Fedora's.
#[derive(Debug, Parser)]
#[command(name = "rig", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds, downloads or builds what the parts need, into the cache folder.
    Tools,
    /// Brings both up and keeps them until Ctrl-C.
    Up {
        /// Manifests to apply first (CRD, policy); may be repeated.
        #[arg(long, value_name = "FILE")]
        apply: Vec<PathBuf>,
        /// With a node that runs Pods. Needs Linux and root.
        #[arg(long)]
        node: bool,
        /// Where to write `KUBECONFIG`, `PROD_AMQP_URL`, `STG_AMQP_URL`, `CERTS` (a folder with a certificate
        /// for each of the broker's users) and `RIG_PID` (what to end), for `source` and for just.
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Exports the schemas of Fedora's messages as one file, for `--schema-catalog`.
    Schemas {
        /// Where to write the catalog.
        catalog: PathBuf,
        /// Where to write the list of what is in it.
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
    },
    /// Shows the way of one message: from kubectl through the operator to a Python consumer.
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Tools => tools::run(),
        Command::Up { apply, node, env_file } => up::run(&apply, node, env_file.as_deref()),
        Command::Schemas { catalog, list } => schemas::run(&catalog, list.as_deref()),
        Command::Demo(demo) => demo.run(),
    }
}
