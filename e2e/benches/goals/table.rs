//! The table of figures and goals.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

use e2e::bench::median;

/// A figure, measured in several rounds.
pub struct Row {
    what: String,
    unit: &'static str,
    rounds: Vec<f64>,
    goal: Option<RangeInclusive<f64>>,
    /// True if it is comparable between machines.
    portable: bool,
}

/// The result of a figure with a goal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoalResult {
    Met,
    /// Not met, but by less than half of the spread of the rounds.
    WithinNoise,
    Missed,
}

impl Row {
    /// Creates a figure of this machine. If it misses its goal, the run does not fail.
    pub fn figure(what: impl Into<String>, unit: &'static str, rounds: impl Into<Vec<f64>>) -> Self {
        Self { what: what.into(), unit, rounds: rounds.into(), goal: None, portable: false }
    }

    /// Creates a ratio or a count. If it misses its goal, the run fails.
    pub fn ratio(what: impl Into<String>, rounds: impl Into<Vec<f64>>) -> Self {
        Self { portable: true, ..Self::figure(what, "", rounds) }
    }

    pub fn at_least(self, goal: f64) -> Self {
        Self { goal: Some(goal..=f64::INFINITY), ..self }
    }

    pub fn at_most(self, goal: f64) -> Self {
        Self { goal: Some(f64::NEG_INFINITY..=goal), ..self }
    }

    pub fn exactly(self, goal: f64) -> Self {
        Self { goal: Some(goal..=goal), ..self }
    }

    fn result(&self) -> Option<GoalResult> {
        let (low, high) = self.range();
        let (figure, noise) = (median(&self.rounds), (high - low) / 2.0);
        let goal = self.goal.as_ref()?;
        Some(match (goal.start() - figure).max(figure - goal.end()) {
            ..=0.0 => GoalResult::Met,
            by if by <= noise => GoalResult::WithinNoise,
            _ => GoalResult::Missed,
        })
    }

    fn range(&self) -> (f64, f64) {
        let fold = |pick: fn(f64, f64) -> f64| self.rounds.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        (fold(f64::min), fold(f64::max))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (low, high) = self.range();
        let figure = number(median(&self.rounds));
        write!(f, "| {} | {} |", self.what, format!("{figure} {}", self.unit).trim_end())?;
        match self.rounds.len() {
            1 => write!(f, " |")?,
            rounds => write!(f, " {} to {} in {rounds} |", number(low), number(high))?,
        }
        match self.goal.as_ref().map(|goal| (*goal.start(), *goal.end())) {
            None => write!(f, " |")?,
            Some((least, f64::INFINITY)) => write!(f, " at least {} |", number(least))?,
            Some((f64::NEG_INFINITY, most)) => write!(f, " at most {} |", number(most))?,
            Some((exactly, _)) => write!(f, " {} |", number(exactly))?,
        }
        match self.result() {
            None => write!(f, " |"),
            Some(GoalResult::Met) => write!(f, " met |"),
            Some(GoalResult::WithinNoise) => write!(f, " missed, by less than the noise |"),
            Some(GoalResult::Missed) => write!(f, " **missed** |"),
        }
    }
}

/// All rows and failed measurements.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Table {
    pub fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("{row}");
        }
        self.rows.extend(rows);
    }

    /// Adds a failed measurement.
    pub fn fail(&mut self, what: &str, error: &dyn Error) {
        let failure = format!("{what} could not be measured: {error}");
        eprintln!("{failure}");
        self.failures.push(failure);
    }

    /// Returns true if no measurement failed, and each portable row met its goal or missed it within noise.
    pub fn holds(&self) -> bool {
        let missed = |row: &Row| row.portable && row.result() == Some(GoalResult::Missed);
        self.failures.is_empty() && !self.rows.iter().any(missed)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | median | rounds | goal | |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        for failure in &self.failures {
            writeln!(f, "\n{failure}")?;
        }
        Ok(())
    }
}

/// Returns the ratio of each pair.
pub fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

/// Formats a number with three digits, or with more if its integer part needs them.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        0.1.. | 0.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
