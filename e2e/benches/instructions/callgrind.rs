//! Runs this program under callgrind for each case, and reads the count.

use std::fs;
use std::hint::black_box;
use std::process::Command;

use e2e::bench::Result;

/// The option to run a case without callgrind. The name of the case follows.
pub const RUN: &str = "--run";
/// The output file of callgrind.
const COUNTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/callgrind.out");

/// The name of a case, and the instructions of one of its calls.
pub type InstructionCount = (String, u32);

/// Does the counted work. Callgrind finds this function by its name.
#[inline(never)]
pub fn counted(work: impl FnOnce()) {
    work();
    // Prevent a tail call, with which callgrind would stop counting too early.
    black_box(());
}

/// Counts the instructions of one call for each case, which makes `calls` calls.
pub fn count(cases: &[&str], calls: u32) -> Result<Vec<InstructionCount>> {
    cases.iter().map(|name| Ok(((*name).to_owned(), count_case(name, calls)?))).collect()
}

fn count_case(case: &str, calls: u32) -> Result<u32> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", &format!("--toggle-collect={}::counted*", module_path!())])
        .arg(format!("--callgrind-out-file={COUNTS}"))
        .arg(std::env::current_exe()?)
        .args([RUN, case])
        .output()
        .map_err(|error| format!("cannot start valgrind ({error}): .ci/install installs it"))?;
    if !output.status.success() {
        return Err(format!("{case}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let counts = fs::read_to_string(COUNTS)?;
    fs::remove_file(COUNTS)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind wrote no total")?;
    match total.parse::<u64>()? / u64::from(calls) {
        0 => Err(format!("{case}: callgrind did not count it").into()),
        mean => Ok(u32::try_from(mean)?),
    }
}
