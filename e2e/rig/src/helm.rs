//! The real Helm. It is built once from its Go module (`testdata/helm`), into the cache under its version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::go_module;
use crate::kube::Kube;
use crate::testdata::testdata;

/// The module of the program.
const MODULE: &str = "helm.sh/helm/v4";

/// Returns a Helm command as administrator of this API server, without arguments. It reads nothing
/// of the user's own Helm.
pub fn command(kube: &Kube) -> Result<Command> {
    let mut command = Command::new(program()?);
    let home = kube.guard().scratch().join("helm");
    for folder in ["cache", "config", "data"] {
        command.env(format!("HELM_{}_HOME", folder.to_uppercase()), home.join(folder));
    }
    command.env("HELM_PLUGINS", home.join("plugins")).env("KUBECONFIG", kube.kubeconfig());
    Ok(command)
}

/// Returns the path of the program. Builds it if it is not in the cache (about 5 minutes).
pub fn program() -> Result<PathBuf> {
    let source = testdata("helm");
    let folder = cache::entry(&format!("helm-{}", version(&source)?), |folder| {
        go_module::build(&source, &format!("{MODULE}/cmd/helm"), &folder.join("helm"))
    })?;
    Ok(folder.join("helm"))
}

/// Returns the version in `go.mod`, such as `v4.3.1`.
fn version(source: &Path) -> Result<String> {
    let path = source.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix(MODULE)?.strip_prefix(" v")?.split(' ').next());
    version.map(|version| format!("v{version}")).with_context(|| format!("{} does not name {MODULE}", path.display()))
}
