//! Parts from the packages of Debian's releases, on any machine that has `mmdebstrap`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command::output};

/// Mirrors may lag behind. A test needs no newest packages.
const OLD_MIRROR: &str = r#"--aptopt=Acquire::Check-Valid-Until "false""#;

/// Returns a `/usr` with RabbitMQ 4.0 of Debian 13, Erlang 27 and the programs of their scripts. Unpacks
/// it if it is not in the cache (15 s).
///
/// # Errors
///
/// If `mmdebstrap` is missing or can't reach a mirror of Debian.
pub fn rabbitmq() -> Result<PathBuf> {
    let packages = "rabbitmq-server,bash,coreutils,dash,debianutils,findutils,grep,hostname,mawk,procps,sed,util-linux";
    let folder = cache::entry("rabbitmq-usr-debian13", |folder| bootstrap("trixie", "extract", packages, &[], folder))?;
    Ok(folder.join("usr"))
}

/// Returns the folder into which Docker 26 of Debian 13 is unpacked, with Buildx and Compose. Unpacks
/// it if it is not in the cache (about 20 s). Its `runc` and `iptables` need the C library of Debian 13,
/// so the machine has to have them.
///
/// # Errors
///
/// If `mmdebstrap` is missing or can't reach a mirror of Debian.
pub fn docker() -> Result<PathBuf> {
    cache::entry("docker-debian13", |folder| {
        eprintln!("Unpacking Debian 13's Docker into {}.", folder.display());
        let packages = "docker.io,docker-cli,docker-buildx,docker-compose";
        bootstrap("trixie", "extract", packages, &[], folder)
    })
}

/// Makes a root folder with packages of a release, or an archive of one if `target` ends with `.tar`.
/// `variant` is one of mmdebstrap's, and `hooks` are commands of the shell, to which the folder is `$1`.
pub(crate) fn bootstrap(release: &str, variant: &str, packages: &str, hooks: &[String], target: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", OLD_MIRROR, &format!("--variant={variant}"), &format!("--include={packages}")]);
    command.args(hooks.iter().map(|hook| format!("--customize-hook={hook}")));
    output(command.arg(release).arg(target))
        .context("is mmdebstrap installed, and a mirror of Debian reachable?")
        .map(drop)
}
