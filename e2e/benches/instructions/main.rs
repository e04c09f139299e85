//! How many instructions the pure parts of a message's way take, beside the baseline in `baseline.txt`. They are
//! the same on a busy machine and on an idle one, which times are not (docs/decisions/0024).

mod baseline;
mod callgrind;
mod cases;

use std::process::ExitCode;

use crate::baseline::Line;

/// Whatever goes wrong ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip_while(|argument| argument != callgrind::RUN);
    if let (Some(_), Some(name)) = (arguments.next(), arguments.next()) {
        cases::run(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts = callgrind::count()?;
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
        println!("\nThe baseline is for x86-64: nothing follows from it here.");
        return Ok(ExitCode::SUCCESS);
    }
    if lines.iter().any(Line::is_better) {
        println!("\nWhat became better is to stay so: `just instructions --accept`, and commit the baseline.");
    }
    if lines.iter().any(Line::is_wrong) {
        println!("\nThe baseline does not hold. Where that is intended: `just instructions --accept`, and commit it.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
