//! An operator's process, looked at from outside: its threads, open files and memory.

use std::fs;
use std::path::PathBuf;

use e2e::world::Operator;

/// What a process takes from the machine.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Threads.
    pub threads: usize,
    /// Open files, sockets among them.
    pub files: usize,
    /// Memory that is held, in MiB.
    pub memory: usize,
}

/// A running operator.
pub struct Process(PathBuf);

impl Process {
    /// Looks at this one.
    pub fn of(operator: &Operator) -> Self {
        Self(PathBuf::from(format!("/proc/{}", operator.pid)))
    }

    /// What it takes now.
    pub fn usage(&self) -> Usage {
        let status = fs::read_to_string(self.0.join("status")).expect("the operator runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of /proc/PID/status");
            line.split_whitespace().next().and_then(|number| number.parse::<usize>().ok()).expect("a number")
        };
        // Only root may count those of a process that can't be debugged.
        let files = fs::read_dir(self.0.join("fd")).map_or(0, Iterator::count);
        Usage { threads: field("Threads:"), files, memory: field("VmRSS:") / 1024 }
    }
}
