//! The program's commands, each wired from the rooms.

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

pub mod check;
pub mod completions;
pub mod crd;
pub mod files;
pub mod manifests;
pub mod publish;
pub mod run;

/// The command line, or a file it names, is wrong; clap exits with it too.
pub const USAGE: u8 = 2;

/// Runs a command's asynchronous part on all cores. This thread alone would do, but not while it waits for somebody
/// who reads slowly what is printed: a broker's heartbeats are answered meanwhile.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

/// Prints what a command was asked for. A reader that has closed the pipe has read enough.
fn print(text: impl AsRef<[u8]>) -> ExitCode {
    match io::stdout().write_all(text.as_ref()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("can't write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Ends a command with a sentence about what is wrong.
fn fail(detail: &str) -> ExitCode {
    complain(detail);
    ExitCode::FAILURE
}

/// Ends a command because of how it was called.
fn misused(detail: &str) -> ExitCode {
    complain(detail);
    ExitCode::from(USAGE)
}

fn complain(detail: &str) {
    // Where nobody can be told, the exit code still tells.
    let _ = writeln!(io::stderr(), "fedora-message-operator: {detail}");
}
