//! Parts from the packages of Debian 13, on any machine that has `mmdebstrap`: they are newer than
//! those of Debian 12.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command::output};

const RELEASE: &str = "trixie";

/// Returns the archive (tar) of a root folder with RabbitMQ 4.0, Erlang 27 and what a container
/// needs beside them. Makes it if it is not in the cache (about a minute).
///
/// # Errors
///
/// If `mmdebstrap` is missing or can't reach a mirror of Debian.
pub fn rabbitmq_archive() -> Result<PathBuf> {
    let folder = cache::entry("rabbitmq-debian13", |folder| {
        eprintln!("Unpacking Debian 13's RabbitMQ into {}.", folder.display());
        bootstrap("minbase", "rabbitmq-server,openssl,gosu,procps", &folder.join("root.tar"))
    })?;
    Ok(folder.join("root.tar"))
}

/// Returns a `/usr` with RabbitMQ 4.0, Erlang 27 and the programs of their scripts. Unpacks it if it is
/// not in the cache (15 s).
///
/// # Errors
///
/// If `mmdebstrap` is missing or can't reach a mirror of Debian.
pub fn rabbitmq() -> Result<PathBuf> {
    let packages = "rabbitmq-server,bash,coreutils,dash,debianutils,findutils,grep,hostname,mawk,procps,sed,util-linux";
    Ok(cache::entry("rabbitmq-usr-debian13", |folder| bootstrap("extract", packages, folder))?.join("usr"))
}

/// Returns the folder into which Docker 26 is unpacked, with Buildx and Compose. Unpacks it if it is
/// not in the cache (about 20 s). Its `runc` and `iptables` need the C library of Debian 13, so the
/// machine has to have them.
///
/// # Errors
///
/// If `mmdebstrap` is missing or can't reach a mirror of Debian.
pub fn docker() -> Result<PathBuf> {
    cache::entry("docker-debian13", |folder| {
        eprintln!("Unpacking Debian 13's Docker into {}.", folder.display());
        bootstrap("extract", "docker.io,docker-cli,docker-buildx,docker-compose", folder)
    })
}

/// Makes a root folder, or an archive of one if `target` ends with `.tar`. `variant` is one of
/// mmdebstrap's.
fn bootstrap(variant: &str, packages: &str, target: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", &format!("--variant={variant}"), &format!("--include={packages}"), RELEASE]);
    output(command.arg(target)).context("is mmdebstrap installed, and a mirror of Debian reachable?").map(drop)
}
