//! The paths of the project's files.

use std::path::PathBuf;

/// Returns the path of `name` below the project's folder.
#[must_use]
pub fn project(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(name)
}

/// Returns the path of `name` below the project's `testdata` folder.
#[must_use]
pub fn testdata(name: &str) -> PathBuf {
    project("testdata").join(name)
}

/// Returns the path of `name` below the project's `schemas` folder.
#[must_use]
pub fn schemas(name: &str) -> PathBuf {
    project("schemas").join(name)
}
