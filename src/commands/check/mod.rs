//! `check`: checks a broker, a Sender, the cluster, or several of them, and reports each finding, or what failed and how to fix it. It
//! also checks schemas and messages in files, which needs neither.

mod broker;
mod cluster;
mod messages;
mod schemas;
mod sender;

use std::fmt::Display;
use std::process::ExitCode;

use super::{USAGE, block_on, complain, fail, print};
use crate::cli::CheckArgs;

/// Runs the checks that the arguments name.
#[must_use]
pub fn main(arguments: &CheckArgs) -> ExitCode {
    if arguments.schemas.schemas {
        return schemas::main(&arguments.schemas);
    }
    if !arguments.schemas.files.is_empty() {
        return messages::main(arguments);
    }
    match block_on(check(arguments)) {
        Ok(report) => ExitCode::from(report.code),
        Err(error) => fail(&error),
    }
}

async fn check(arguments: &CheckArgs) -> CheckReport {
    let mut report = CheckReport { code: 0 };
    if arguments.cluster {
        cluster::check(arguments, &mut report).await;
    }
    if let Some((environment, files)) = arguments.broker_to_check() {
        broker::check_files(&arguments.broker, environment, files, &mut report).await;
    }
    if let Some(name) = &arguments.sender {
        sender::check(&arguments.broker, name, &mut report).await;
    }
    report
}

/// Prints findings and failures, and keeps the exit code.
struct CheckReport {
    code: u8,
}

impl CheckReport {
    #[expect(clippy::unused_self, reason = "findings and failures are reported in the same way")]
    fn found(&mut self, what: &str, detail: &str) {
        print(format!("{what:<14}{detail}\n"));
    }

    fn failed(&mut self, what: &str, detail: &(impl Display + ?Sized)) {
        complain(&format!("{what} failed: {detail:#}"));
        self.code = self.code.max(1);
    }

    /// Reports a failure that a file on the command line caused.
    fn misused(&mut self, what: &str, detail: &(impl Display + ?Sized)) {
        self.failed(what, detail);
        self.code = USAGE;
    }
}
