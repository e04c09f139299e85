//! A program that judges resources as Argo CD, Flux and Helm do, with the libraries of kstatus, of Argo CD's Lua and of Flux
//! (`testdata/gitops/main.go`). It is built once into the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache;
use crate::go_module;
use crate::testdata::testdata;

/// Returns the path of the program. Builds it if it is not in the cache (about 2 minutes).
pub fn judge() -> Result<PathBuf> {
    let source = testdata("gitops");
    let mut pins = String::new();
    for file in ["go.sum", "main.go"] {
        let path = source.join(file);
        pins += &fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    }
    let folder = cache::entry(&format!("gitops-{:08x}", cache::fingerprint(&pins)), |folder| {
        go_module::build(&source, ".", &folder.join("judge"))
    })?;
    Ok(folder.join("judge"))
}
