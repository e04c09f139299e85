//! Compiles a small library that a process loads before all others, to replace functions of the C
//! library.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::command::output;

/// The environment variable that names the library.
pub(crate) const VARIABLE: &str = "LD_PRELOAD";

/// Compiles the source into a library in `folder`, and returns its path.
pub(crate) fn compile(source: &str, folder: &Path) -> Result<PathBuf> {
    let [file, library] = ["preload.c", "preload.so"].map(|name| folder.join(name));
    fs::write(&file, source)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&file);
    output(&mut compiler).context("the library needs gcc: apt-get install gcc libc6-dev")?;
    Ok(library)
}
