//! Counts the instructions of the pure steps of a message's path, and compares them with
//! `baseline.txt`. Unlike times, they are the same on a busy and on an idle machine
//! (docs/decisions/0024).

mod baseline;
mod callgrind;
mod cases;

use std::process::ExitCode;

use crate::baseline::Comparison;
use e2e::bench::Result;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip_while(|argument| argument != callgrind::RUN);
    if let (Some(_), Some(name)) = (arguments.next(), arguments.next()) {
        cases::run(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts = callgrind::count(&cases::CASES.map(|(name, _)| name), cases::CALLS)?;
    if std::env::args().any(|argument| argument == "--accept") {
        baseline::write(&counts)?;
    }
    let lines = baseline::compare(&counts)?;
    println!("| instructions of one call | baseline | now | |");
    println!("|---|---|---|---|");
    for line in &lines {
        println!("{line}");
    }
    if !cfg!(target_arch = "x86_64") {
        println!("\nThe baseline is for x86-64 and does not apply to this machine.");
        return Ok(ExitCode::SUCCESS);
    }
    if lines.iter().any(Comparison::is_better) {
        println!("\nSome counts are lower. To keep them so, run `just instructions --accept` and commit the baseline.");
    }
    if lines.iter().any(Comparison::is_wrong) {
        println!(
            "\nSome counts are higher. If this is intended, run `just instructions --accept` and commit the baseline."
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
