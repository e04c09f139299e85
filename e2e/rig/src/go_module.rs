//! Files of Go modules, such as CRDs of other projects, in the cache; and programs that are built from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache;
use crate::command::output;

/// Returns the path of a file of a module. Downloads the module if the file is not in the cache.
pub fn file(module: &str, version: &str, path: &str) -> Result<PathBuf> {
    let name = Path::new(path).file_name().context("no name of a file")?;
    let entry = format!("go-{}-{version}-{:08x}", module.replace('/', "-"), cache::fingerprint(path));
    let folder = cache::entry(&entry, |folder| {
        let answer = output(Command::new("go").args(["mod", "download", "-json", &format!("{module}@{version}")]))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let source = Path::new(answer["Dir"].as_str().context("no folder of the module")?).join(path);
        let text = fs::read(&source).with_context(|| format!("no {}", source.display()))?;
        fs::write(folder.join(name), text).context("cannot write the file")
    })?;
    Ok(folder.join(name))
}

/// Returns the path of the program `name`, whose sources are in the folder `source`. Builds it if it is not in the cache.
pub fn program(source: &Path, name: &str) -> Result<PathBuf> {
    let sources = ["go.mod", "go.sum", "main.go"].map(|file| source.join(file));
    Ok(cache::entry_of(name, &sources, |folder| build(source, ".", &folder.join(name)))?.join(name))
}

/// Builds a package of the module in the folder `source` as the file `program`.
pub(crate) fn build(source: &Path, package: &str, program: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(source).args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(program).arg(package);
    output(&mut go).map(drop)
}
