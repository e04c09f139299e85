//! The command line of the rig. It runs the same real parts as the tests.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod commands;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use commands::{demo, schemas, tools, up};

/// Run a real Kubernetes API server and a RabbitMQ with Fedora's setup.
#[derive(Debug, Parser)]
#[command(name = "rig", arg_required_else_help = true)]
struct RigCli {
    #[command(subcommand)]
    command: RigCommand,
}

#[derive(Debug, Subcommand)]
enum RigCommand {
    /// Find, download or build all tools, into the cache folder.
    Tools,
    /// Run both until Ctrl-C.
    Up {
        /// Add a node that runs Pods. Needs Linux and root.
        #[arg(long)]
        node: bool,
        /// The file for `KUBECONFIG`, `PROD_AMQP_URL`, `STG_AMQP_URL`, `CERTS` (a folder with a
        /// certificate for each of the broker's users) and `RIG_PID` (the process to end), for
        /// `source` and for just.
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Export the schemas of Fedora's messages as one file, for `--schema-catalog`.
    Schemas {
        /// The file for the catalog.
        catalog: PathBuf,
        /// The file for the list of its schemas.
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
    },
    /// Show the path of one message: from kubectl through the operator to a Python consumer.
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    match run(RigCli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: RigCommand) -> Result<()> {
    match command {
        RigCommand::Tools => tools::run(),
        RigCommand::Up { node, env_file } => up::run(node, env_file.as_deref()),
        RigCommand::Schemas { catalog, list } => schemas::run(&catalog, list.as_deref()),
        RigCommand::Demo(demo) => demo.run(),
    }
}
