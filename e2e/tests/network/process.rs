//! The resources of an operator's process: threads, open files and memory.

use e2e::{Operator, process_status};

/// The resources of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Threads.
    pub threads: usize,
    /// Open files and sockets.
    pub files: usize,
    /// Resident memory, in MiB.
    pub memory: usize,
}

/// Measures an operator.
pub fn usage(operator: &Operator) -> Usage {
    // Only root may count the files of a process that can't be debugged.
    let files = std::fs::read_dir(format!("/proc/{}/fd", operator.pid)).map_or(0, Iterator::count);
    Usage { threads: process_status(operator.pid, "Threads:"), files, memory: operator.resident() >> 20 }
}
