//! The project's cache folder: what takes minutes to build or download is kept there, each under its
//! version, outside of the checkout, so that a fresh clone does not build it again.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Marks an entry as whole. Written last, so that what a killed build left is never used.
const COMPLETE: &str = ".complete";

/// The cache folder: `fedora-message-operator` below `$XDG_CACHE_HOME` or `~/.cache`.
pub fn folder() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|set| Path::new(set).is_absolute())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    let folder = base.join("fedora-message-operator");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// The path of the entry `name` if it is there and whole.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    let entry = folder()?.join(name);
    Ok(entry.join(COMPLETE).exists().then_some(entry))
}

/// The path of the entry `name`, filled by `fill` if it isn't there yet.
///
/// Several processes may ask at once: one fills, the others wait for it. `fill` is given the empty
/// folder at its final path (a Python environment cannot be moved); until `fill` has returned, nobody
/// takes the folder for an entry, and what an interrupted `fill` left is removed before the next.
pub fn entry(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if let Some(entry) = find(name)? {
        return Ok(entry);
    }
    let _lock = lock(name)?;
    if let Some(entry) = find(name)? {
        return Ok(entry);
    }
    let entry = folder()?.join(name);
    if entry.exists() {
        fs::remove_dir_all(&entry).with_context(|| format!("cannot remove the unfinished {}", entry.display()))?;
    }
    fs::create_dir_all(&entry).with_context(|| format!("cannot create {}", entry.display()))?;
    fill(&entry).inspect_err(|_| {
        // The next one removes it too; so a failure here is of no account.
        let _ = fs::remove_dir_all(&entry);
    })?;
    fs::write(entry.join(COMPLETE), "").with_context(|| format!("cannot write into {}", entry.display()))?;
    Ok(entry)
}

/// Waits for the lock on `name` and holds it until the file is dropped.
fn lock(name: &str) -> Result<File> {
    let path = folder()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Names an entry after what it is made from (FNV-1a): the same on every machine.
#[must_use]
pub fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
