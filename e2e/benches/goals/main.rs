//! How fast the program is beside what it stands on: every goal for speed, measured in one run, in turns.
//! Only ratios mean anything on another machine; a missed one fails the run.
//!
//! With `--short` there are few messages and generous goals, which hold on any machine and in any build.

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
mod soak;
mod start;
mod table;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::table::{Row, Table};
use crate::world::World;
use e2e::bench::{Result, machine};

/// Measures one of the goals.
type Measure = fn(&World) -> Result<Vec<Row>>;

/// All of them, in the order in which they are measured.
const ALL: [(&str, Measure); 10] = [
    ("requests", requests::measure),
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

/// Those of which the short form shows nothing.
const OF_THIS_MACHINE: [&str; 1] = ["memory"];

#[derive(Parser)]
struct Arguments {
    /// Few messages, generous goals
    #[arg(long)]
    short: bool,
    /// What cargo gives to each benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// What is measured; everything unless given
    only: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let world = World::start(arguments.short)?;
    let mut table = Table::default();
    let (begun, before) = (Instant::now(), machine());
    for (name, measure) in ALL {
        let is_wanted = arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
        if !is_wanted || (world.short && OF_THIS_MACHINE.contains(&name)) {
            continue;
        }
        let begun = Instant::now();
        match measure(&world) {
            Ok(rows) => table.add(rows),
            Err(error) => table.fail(name, error.as_ref()),
        }
        eprintln!("{name}: {:.0?}", begun.elapsed());
    }
    println!("before: {before}after: {}{}\n", machine(), world.versions()?);
    println!("{table}");
    println!("{:.0?} in all", begun.elapsed());
    Ok(if table.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
