//! The schemas of Fedora's messages, from the packages that `schemas/packages.txt` pins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{cache, command::output, python::Python, testdata::schemas};

const CATALOG: &str = "catalog.json";
const CASES: &str = "cases.jsonl";

/// Returns the path of the catalog of all schemas. Creates it if it is not in the cache.
pub fn catalog() -> Result<PathBuf> {
    let make = |folder: &Path| run("export.py", &[&folder.join(CATALOG)]).map(drop);
    let entry = entry("schema-catalog", &["export.py"], make)?;
    Ok(entry.join(CATALOG))
}

/// Returns the path of bodies and headers for each schema, with the library's result
/// (`schemas/cases.py`). Creates them if they are not in the cache (about a minute).
pub fn cases() -> Result<PathBuf> {
    let catalog = catalog()?;
    let make = |folder: &Path| run("cases.py", &[&catalog, &folder.join(CASES)]).map(drop);
    Ok(entry("schema-cases", &["export.py", "cases.py"], make)?.join(CASES))
}

/// Formats a catalog as a Markdown table.
pub fn table(catalog: &Path) -> Result<String> {
    run("export.py", &[Path::new("--table"), catalog])
}

/// Measures the library's mean time to validate a valid message, over `rounds` rounds of all cases.
pub fn library_time(rounds: u32) -> Result<Duration> {
    let seconds = run("timing.py", &[&cases()?, Path::new(&rounds.to_string())])?;
    Ok(Duration::from_secs_f64(seconds.trim().parse().context("schemas/timing.py prints no time")?))
}

/// Returns a cache entry that depends on the packages, the library and these scripts.
fn entry(title: &str, scripts: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut sources = Python::with_schemas()?.interpreter().display().to_string();
    for script in scripts {
        sources += &fs::read_to_string(schemas(script)).with_context(|| format!("no schemas/{script}"))?;
    }
    cache::entry(&format!("{title}-{:08x}", cache::fingerprint(&sources)), fill)
}

fn run(name: &str, arguments: &[&Path]) -> Result<String> {
    let mut python = Command::new(Python::with_schemas()?.interpreter());
    python.arg(schemas(name)).args(arguments);
    python.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    output(&mut python).with_context(|| format!("schemas/{name} failed"))
}
