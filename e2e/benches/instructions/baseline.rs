//! The counts that were accepted, and what is said of others.

use std::fmt;
use std::fs;

use crate::Result;
use crate::callgrind::Count;

/// The file.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.txt");
/// What stands above the counts.
const TITLE: &str = "# Instructions of one call on x86-64, written by `just instructions --accept`\n";
/// By how many per cent a count may differ.
const MARGIN: f64 = 5.0;

/// One count beside its baseline.
pub struct Line {
    name: String,
    baseline: Option<u32>,
    now: Option<u32>,
}

/// Accepts these.
pub fn write(counts: &[Count]) -> Result<()> {
    let lines: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    Ok(fs::write(FILE, format!("{TITLE}{}", lines.concat()))?)
}

/// Holds these against what was accepted.
pub fn compare(counts: &[Count]) -> Result<Vec<Line>> {
    let accepted = read(&fs::read_to_string(FILE)?)?;
    let value =
        |counts: &[Count], wanted: &str| counts.iter().find(|(name, _)| name == wanted).map(|(_, count)| *count);
    let gone = accepted.iter().filter(|(name, _)| value(counts, name).is_none());
    let line =
        |(name, _): &Count| Line { name: name.clone(), baseline: value(&accepted, name), now: value(counts, name) };
    Ok(counts.iter().chain(gone).map(line).collect())
}

fn read(text: &str) -> Result<Vec<Count>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("{FILE}: {line}"))?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

impl Line {
    /// By how many per cent it has grown.
    fn growth(&self) -> Option<f64> {
        Some((f64::from(self.now?) / f64::from(self.baseline?) - 1.0) * 100.0)
    }

    /// Whether it takes more than was accepted, or there is nothing to hold it against.
    pub fn is_wrong(&self) -> bool {
        self.growth().is_none_or(|growth| growth > MARGIN)
    }

    /// Whether it takes so much less that the baseline should say so.
    pub fn is_better(&self) -> bool {
        self.growth().is_some_and(|growth| growth < -MARGIN)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<u32>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
        let growth = self.growth().map_or_else(String::new, |growth| format!("{growth:+.1} %"));
        let verdict = match (self.is_wrong(), self.is_better()) {
            (true, _) => " **wrong**",
            (_, true) => " better",
            _ => "",
        };
        write!(f, "| {} | {} | {} | {growth}{verdict} |", self.name, number(self.baseline), number(self.now))
    }
}
