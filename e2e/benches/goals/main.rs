//! Measures all goals for speed in one run, with bare clients of the same servers in turns.
//!
//! Only ratios are comparable between machines. A ratio that misses its goal fails the run. The option
//! `--short` uses few messages and generous goals, which hold on any machine and in any build.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod audit;
mod blocked;
mod broker;
mod cpu;
mod drain;
mod fairness;
mod latency;
mod memory;
mod plot;
mod process;
mod publisher;
mod requests;
mod senders;
mod setup;
mod soak;
mod start;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::setup::Setup;
use crate::table::{Row, Table};
use e2e::bench::{Result, machine};

/// Measures one goal.
type Measure = fn(&Setup) -> Result<Vec<Row>>;

/// All goals in the order of their measurement.
const ALL: [(&str, Measure); 11] = [
    ("requests", requests::measure),
    ("senders", senders::measure),
    ("drain", drain::measure),
    ("publisher", publisher::measure),
    ("cpu", cpu::measure),
    ("latency", latency::measure),
    ("start", start::measure),
    ("fairness", fairness::measure),
    ("blocked", blocked::measure),
    ("soak", soak::measure),
    ("memory", memory::measure),
];

/// The goals that a short run skips.
const ONLY_FULL: [&str; 1] = ["memory"];

#[derive(Parser)]
struct Arguments {
    /// Use few messages and generous goals
    #[arg(long)]
    short: bool,
    /// Ignored: cargo passes it to each benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// The goals to measure; all by default
    only: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let setup = Setup::start(arguments.short)?;
    let mut table = Table::default();
    let (started, before) = (Instant::now(), machine());
    for (name, measure) in ALL {
        let is_wanted = arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
        if !is_wanted || (setup.short && ONLY_FULL.contains(&name)) {
            continue;
        }
        let started = Instant::now();
        match measure(&setup) {
            Ok(rows) => table.add(rows),
            Err(error) => table.fail(name, error.as_ref()),
        }
        eprintln!("{name}: {:.0?}", started.elapsed());
    }
    println!("before: {before}after: {}{}\n", machine(), setup.versions()?);
    println!("{table}");
    println!("{:.0?} in total", started.elapsed());
    Ok(if table.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
