//! `metrics`: prints which metrics the operator tells, as the page of docs that is committed.

use std::process::ExitCode;

use crate::metrics::page;

/// Prints the page.
#[must_use]
pub fn main() -> ExitCode {
    super::print(page())
}
