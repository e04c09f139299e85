//! Container images as archives. `images/build` builds them into the cache folder, without a
//! registry or a container engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command::output, project};

/// The sources of the images. A change of any of them makes a new cache entry.
const SOURCES: [&str; 4] =
    ["images/build", "images/oci-archive", "images/pause/pause.c", "testdata/python/requirements.txt"];

/// The name of the image with the fedora-messaging CLI.
pub const CLI: &str = "localhost/fedora-messaging:3.9.1";
/// The name of the image of a Pod's pause container.
pub const PAUSE: &str = "localhost/pause:1";

/// Returns the name of the image with the operator. The manifests name it, and `images/build` uses that name.
pub fn operator_name() -> Result<String> {
    let manifest = project("manifests/base/kustomization.yaml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("no {}", manifest.display()))?;
    let field = |name| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)).map(|value| value.trim_matches('"'));
        value.with_context(|| format!("no {name}in {}", manifest.display()))
    };
    Ok(format!("{}:{}", field("newName: ")?, field("newTag: ")?))
}

/// Returns the archives of all images except the operator's. Builds them if they are not in the
/// cache (half a minute).
pub fn archives() -> Result<[PathBuf; 2]> {
    let folder = cache::entry_of("images", &SOURCES.map(project), |folder| {
        eprintln!("Building container images into {}.", folder.display());
        build("pause", &folder.join("pause.tar"), &[])?;
        // A test needs no newest packages.
        build("cli", &folder.join("cli.tar"), &["--old-mirror"])
    })?;
    Ok(["pause.tar", "cli.tar"].map(|file| folder.join(file)))
}

/// Builds the archive of the operator's image from the current sources. This takes some minutes if
/// they are not compiled yet.
pub fn operator(archive: &Path) -> Result<()> {
    build("operator", archive, &[])
}

fn build(image: &str, archive: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new(project("images/build"));
    output(command.arg(image).arg(archive).args(options)).context("is mmdebstrap installed?").map(drop)
}
