//! Where the project's test data and lists lie.

use std::path::PathBuf;

/// The path of `name` below the project's `testdata` folder.
#[must_use]
pub fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

/// The path of `name` below the project's `schemas` folder.
#[must_use]
pub fn schemas(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas")).join(name)
}
