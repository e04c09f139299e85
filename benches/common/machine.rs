//! Where and with what it was measured.

/// Whatever goes wrong ends a benchmark.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Resident memory of a process, in KiB.
pub fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// Where and with what it was measured.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read("/proc/loadavg");
    format!(
        "{cores} x {}, load {}; Kubernetes {}, fedora-messaging 3.9.1\n",
        cpu.trim_start_matches([' ', '\t', ':']),
        load.split(' ').next().unwrap_or_default(),
        rig::kube::version().unwrap_or_default()
    )
}
