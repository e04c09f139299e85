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
    Usage {
        threads: process_status(operator.pid, "Threads:"),
        files: operator.open_files(),
        memory: operator.resident() >> 20,
    }
}
