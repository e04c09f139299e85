//! The schemas of Fedora's messages, as the packages that `schemas/packages.txt` pins ship them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{cache, python::Python, testdata::schemas};

const CATALOGUE: &str = "catalog.json";
const CASES: &str = "cases.jsonl";

/// The catalog of all of them, made if it isn't in the cache yet.
pub fn catalog() -> Result<PathBuf> {
    let make = |folder: &Path| run("export.py", &[&folder.join(CATALOGUE)]).map(drop);
    let entry = entry("schema-catalog", &["export.py"], make)?;
    Ok(entry.join(CATALOGUE))
}

/// Bodies and headers for each schema, with the library's verdict (`schemas/cases.py` says more), made if
/// they aren't in the cache yet (about a minute).
pub fn cases() -> Result<PathBuf> {
    let catalog = catalog()?;
    let make = |folder: &Path| run("cases.py", &[&catalog, &folder.join(CASES)]).map(drop);
    Ok(entry("schema-cases", &["export.py", "cases.py"], make)?.join(CASES))
}

/// A catalog as a table of Markdown.
pub fn table(catalog: &Path) -> Result<String> {
    run("export.py", &[Path::new("--table"), catalog])
}

/// How long the library takes to validate a message that fits: the mean of all of the cases, so many times.
pub fn library_time(rounds: u32) -> Result<Duration> {
    let seconds = run("timing.py", &[&cases()?, Path::new(&rounds.to_string())])?;
    Ok(Duration::from_secs_f64(seconds.trim().parse().context("schemas/timing.py prints no time")?))
}

/// An entry of the cache that depends on the packages, the library and these scripts.
fn entry(title: &str, scripts: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut sources = Python::with_schemas()?.interpreter().display().to_string();
    for script in scripts {
        sources += &fs::read_to_string(schemas(script)).with_context(|| format!("no schemas/{script}"))?;
    }
    cache::entry(&format!("{title}-{:08x}", cache::fingerprint(&sources)), fill)
}

fn run(name: &str, arguments: &[&Path]) -> Result<String> {
    let mut python = Command::new(Python::with_schemas()?.interpreter());
    python.arg(schemas(name)).args(arguments).stdin(Stdio::null());
    python.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    let ran = python.output().context("python does not start")?;
    ensure!(ran.status.success(), "schemas/{name} failed: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).with_context(|| format!("schemas/{name} prints no text"))
}
