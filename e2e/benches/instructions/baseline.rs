//! The accepted counts, and the comparison of new counts with them.

use std::fmt;
use std::fs;

use crate::callgrind::InstructionCount;
use e2e::bench::Result;

/// The file of the baseline.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.txt");
/// The first line of the file.
const TITLE: &str = "# Instructions of one call on x86-64, written by `just instructions --accept`\n";
/// The tolerance of a count in percent.
const MARGIN: f64 = 5.0;

/// A count and its baseline.
pub struct Comparison {
    name: String,
    baseline: Option<u32>,
    now: Option<u32>,
}

/// Writes the counts as the new baseline.
pub fn write(counts: &[InstructionCount]) -> Result<()> {
    let lines: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    Ok(fs::write(FILE, format!("{TITLE}{}", lines.concat()))?)
}

/// Compares the counts with the baseline.
pub fn compare(counts: &[InstructionCount]) -> Result<Vec<Comparison>> {
    let accepted = read(&fs::read_to_string(FILE)?)?;
    let value = |counts: &[InstructionCount], wanted: &str| {
        counts.iter().find(|(name, _)| name == wanted).map(|(_, count)| *count)
    };
    let gone = accepted.iter().filter(|(name, _)| value(counts, name).is_none());
    let line = |(name, _): &InstructionCount| Comparison {
        name: name.clone(),
        baseline: value(&accepted, name),
        now: value(counts, name),
    };
    Ok(counts.iter().chain(gone).map(line).collect())
}

fn read(text: &str) -> Result<Vec<InstructionCount>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("{FILE}: {line}"))?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

impl Comparison {
    /// Returns the growth in percent.
    fn growth(&self) -> Option<f64> {
        Some((f64::from(self.now?) / f64::from(self.baseline?) - 1.0) * 100.0)
    }

    /// Returns true if the count exceeds the tolerance, or has no baseline.
    pub fn is_wrong(&self) -> bool {
        self.growth().is_none_or(|growth| growth > MARGIN)
    }

    /// Returns true if the count is lower than the tolerance.
    pub fn is_better(&self) -> bool {
        self.growth().is_some_and(|growth| growth < -MARGIN)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<u32>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
        let growth = self.growth().map_or_else(String::new, |growth| format!("{growth:+.1} %"));
        let result = match (self.is_wrong(), self.is_better()) {
            (true, _) => " **wrong**",
            (_, true) => " better",
            _ => "",
        };
        write!(f, "| {} | {} | {} | {growth}{result} |", self.name, number(self.baseline), number(self.now))
    }
}
