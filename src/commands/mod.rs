//! The program's commands, each assembled from the other modules.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Context;

pub mod check;
pub mod completions;
pub mod crd;
pub mod files;
pub mod manifests;
pub mod publish;
pub mod run;

/// The exit code if the command line, or a file that it names, is wrong. clap uses it too.
pub const USAGE: u8 = 2;

/// The maximum number of threads for asynchronous work. On a large machine, a thread for each core would take memory
/// that the work does not need, and would decode as many large objects at a time.
const MAX_THREADS: usize = 4;

/// Runs a command's asynchronous part. One thread could do the work, but it may block on a slow reader of the output.
/// The other threads answer a broker's heartbeats meanwhile.
fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    Ok(runtime.context("can't start")?.block_on(work))
}

/// Prints a command's output. A closed pipe is no error: its reader needs no more.
fn print(text: impl AsRef<[u8]>) -> ExitCode {
    match io::stdout().write_all(text.as_ref()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("can't write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Ends a command with an error message, or with an error and its causes.
fn fail(detail: &(impl Display + ?Sized)) -> ExitCode {
    complain(detail);
    ExitCode::FAILURE
}

/// Ends a command that was called in a wrong way.
fn misused(detail: &(impl Display + ?Sized)) -> ExitCode {
    complain(detail);
    ExitCode::from(USAGE)
}

/// Tells a person something that is no failure.
fn note(detail: &str) {
    complain(&format!("note: {detail}"));
}

fn complain(detail: &(impl Display + ?Sized)) {
    // If standard error is closed, the exit code still reports the failure.
    let _ = writeln!(io::stderr(), "fedora-message-operator: {detail:#}");
}
