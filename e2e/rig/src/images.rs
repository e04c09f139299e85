//! Container images as archives, built by `images/build` into the cache folder: no registry, no engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{cache, testdata};

/// What the images are made from; a change of any of it makes another cache entry.
const SOURCES: [&str; 4] =
    ["../images/build", "../images/oci-archive", "../images/pause/pause.c", "python/requirements.txt"];

/// The name of the image with the fedora-messaging CLI.
pub const CLI: &str = "localhost/fedora-messaging:3.9.1";
/// The name of the image that holds a pod's namespaces.
pub const PAUSE: &str = "localhost/pause:1";

/// The name of the image with the operator.
pub const OPERATOR: &str = "localhost/fedora-message-operator:dev";

/// The archives of all images but the operator's; built if they aren't in the cache yet (half a minute).
pub fn archives() -> Result<Vec<PathBuf>> {
    let mut sources = String::new();
    for source in SOURCES {
        let path = testdata(source);
        sources += &fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    }
    let name = format!("images-{:08x}", cache::fingerprint(&sources));
    let folder = cache::entry(&name, |folder| {
        eprintln!("Building container images into {}.", folder.display());
        ["pause", "cli"].iter().try_for_each(|image| build(image, &folder.join(format!("{image}.tar"))))
    })?;
    Ok(["pause.tar", "cli.tar"].iter().map(|file| folder.join(file)).collect())
}

/// Writes the archive of the operator's image, as it is now: some minutes, if it isn't compiled yet.
pub fn operator(archive: &Path) -> Result<()> {
    build("operator", archive)
}

fn build(image: &str, archive: &Path) -> Result<()> {
    let built = Command::new(testdata("../images/build")).arg(image).arg(archive).stdin(Stdio::null()).output()?;
    ensure!(
        built.status.success(),
        "images/build {image} failed: is mmdebstrap there?\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(())
}
