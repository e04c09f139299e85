//! Runs this program once more under callgrind for each case, and reads what that has counted.

use std::fs;
use std::hint::black_box;
use std::process::Command;

use crate::Result;
use crate::cases::{CALLS, CASES};

/// Stands before the name of a case that this program is to run, and not to count.
pub const RUN: &str = "--run";
/// Where callgrind writes.
const COUNTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/callgrind.out");

/// The name of a case, and the instructions of one of its calls.
pub type Count = (String, u32);

/// Does what is counted: callgrind knows this function by its name.
#[inline(never)]
pub fn counted(work: impl FnOnce()) {
    work();
    // The last call of a function can become a jump, with which this one would end.
    black_box(());
}

/// Counts all cases.
pub fn count() -> Result<Vec<Count>> {
    CASES.iter().map(|(name, _)| Ok(((*name).to_owned(), instructions(name)?))).collect()
}

fn instructions(case: &str) -> Result<u32> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", &format!("--toggle-collect={}::counted*", module_path!())])
        .arg(format!("--callgrind-out-file={COUNTS}"))
        .arg(std::env::current_exe()?)
        .args([RUN, case])
        .output()
        .map_err(|error| format!("valgrind can't be started ({error}): .ci/install installs it"))?;
    if !output.status.success() {
        return Err(format!("{case}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let counts = fs::read_to_string(COUNTS)?;
    fs::remove_file(COUNTS)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind wrote no total")?;
    match total.parse::<u64>()? / u64::from(CALLS) {
        0 => Err(format!("{case}: callgrind did not see it").into()),
        mean => Ok(u32::try_from(mean)?),
    }
}
