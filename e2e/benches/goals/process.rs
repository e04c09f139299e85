//! Reads the age and the CPU time of processes.

use e2e::bench::Result;

/// The kernel counts time in hundredths of a second.
const TICKS: f64 = 100.0;

/// The fields of `/proc/PID/stat` for user and system time, counted after the name in parentheses.
const OWN: [usize; 2] = [11, 12];
/// The fields for the times of the children that have ended.
const CHILDREN: [usize; 2] = [13, 14];
/// The field for the start time of the process since the start of the machine.
const STARTED: [usize; 1] = [19];

/// Returns the CPU time of a process in seconds.
pub fn cpu(pid: u32) -> Result<f64> {
    times(pid, OWN)
}

/// Returns the CPU time of the ended child processes in seconds.
pub fn children_cpu() -> Result<f64> {
    times(std::process::id(), CHILDREN)
}

/// Returns the age of a process in seconds, in steps of ten milliseconds.
pub fn age(pid: u32) -> Result<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let now: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok(now - times(pid, STARTED)?)
}

fn times<const N: usize>(pid: u32, fields: [usize; N]) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, stat) = stat.rsplit_once(") ").ok_or("no process name in stat")?;
    let values: Vec<_> = stat.split(' ').collect();
    let mut ticks = 0.0;
    for field in fields {
        ticks += values.get(field).ok_or("no such field")?.parse::<f64>()?;
    }
    Ok(ticks / TICKS)
}
