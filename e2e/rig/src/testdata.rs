//! The paths of the project's test data and schemas.

use std::path::PathBuf;

/// Returns the path of `name` below the project's `testdata` folder.
#[must_use]
pub fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

/// Returns the path of `name` below the project's `schemas` folder.
#[must_use]
pub fn schemas(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas")).join(name)
}
