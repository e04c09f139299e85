//! How old processes are, and what they used of the CPU.

use e2e::bench::Result;

/// The kernel counts in hundredths of a second.
const TICKS: f64 = 100.0;

/// Where `/proc/PID/stat` has its times, counted after the name in parentheses: user and system.
const OWN: [usize; 2] = [11, 12];
/// The same, of the children that have ended and were waited for.
const CHILDREN: [usize; 2] = [13, 14];
/// When the process was started, since the machine was.
const BEGUN: [usize; 1] = [19];

/// Seconds that a process has used.
pub fn cpu(pid: u32) -> Result<f64> {
    times(pid, OWN)
}

/// Seconds that the commands have used which this process has run.
pub fn children_cpu() -> Result<f64> {
    times(std::process::id(), CHILDREN)
}

/// How many seconds ago a process was started, in steps of ten milliseconds.
pub fn age(pid: u32) -> Result<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let now: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok(now - times(pid, BEGUN)?)
}

fn times<const N: usize>(pid: u32, fields: [usize; N]) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, stat) = stat.rsplit_once(") ").ok_or("no name in stat")?;
    let values: Vec<_> = stat.split(' ').collect();
    let mut ticks = 0.0;
    for field in fields {
        ticks += values.get(field).ok_or("no such field")?.parse::<f64>()?;
    }
    Ok(ticks / TICKS)
}
