//! `check`: looks at a broker, at the cluster, or at both, and says what it finds, or what failed and what
//! to do; or at schemas, which needs neither.

mod broker;
mod cluster;
mod schemas;

use std::process::ExitCode;

use super::{USAGE, block_on, complain, fail, print};
use crate::cli::CheckArgs;

/// Checks what the arguments name.
#[must_use]
pub fn main(arguments: &CheckArgs) -> ExitCode {
    if arguments.schemas.schemas || arguments.schemas.schema.is_some() {
        return schemas::main(&arguments.schemas);
    }
    match block_on(check(arguments)) {
        Ok(report) => ExitCode::from(report.code),
        Err(error) => fail(&format!("can't start: {error}")),
    }
}

async fn check(arguments: &CheckArgs) -> Report {
    let mut report = Report { code: 0 };
    if arguments.cluster {
        cluster::check(arguments, &mut report).await;
    }
    if let Some((environment, files)) = arguments.way_to_broker() {
        broker::check(&arguments.broker, environment, files, &mut report).await;
    }
    report
}

/// Tells what is found and what failed, and remembers how to end.
struct Report {
    code: u8,
}

impl Report {
    #[expect(clippy::unused_self, reason = "who may tell what is found has the report")]
    fn found(&mut self, what: &str, detail: &str) {
        print(format!("{what:<14}{detail}\n"));
    }

    fn failed(&mut self, what: &str, detail: &str) {
        complain(&format!("{what} failed: {detail}"));
        self.code = self.code.max(1);
    }

    /// It failed because of a file that the command line names.
    fn misused(&mut self, what: &str, detail: &str) {
        self.failed(what, detail);
        self.code = USAGE;
    }
}
