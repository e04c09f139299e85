//! Describes the machine and the measured software.

/// The result of a benchmark, which ends with any error.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Describes the machine and the measured software.
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
