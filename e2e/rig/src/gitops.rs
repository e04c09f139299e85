//! A program that judges resources as Argo CD, Flux and Helm do, with the libraries of kstatus, of Argo CD's Lua and of Flux
//! (`testdata/gitops/main.go`). It is built once into the cache.

use std::path::PathBuf;

use anyhow::Result;

use crate::go_module;
use crate::testdata::testdata;

/// Returns the path of the program. Builds it if it is not in the cache (about 2 minutes).
pub fn judge() -> Result<PathBuf> {
    go_module::program(&testdata("gitops"), "gitops")
}
