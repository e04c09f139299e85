//! Where the project's test data lies.

use std::path::PathBuf;

/// The path of `name` below the project's `testdata` folder.
#[must_use]
pub fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}
