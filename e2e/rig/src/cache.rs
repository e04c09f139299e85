//! The project's cache folder. It keeps downloads and builds that take minutes, by their version.
//!
//! It is outside the checkout, so a fresh clone does not build them again.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Marks an entry as complete. It is written last, so a build that was killed leaves no entry.
const COMPLETE: &str = ".complete";

/// Returns the cache folder: `fedora-message-operator` below `$XDG_CACHE_HOME` or `~/.cache`.
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

/// Returns the path of the entry `name` if it is complete.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    let entry = folder()?.join(name);
    Ok(entry.join(COMPLETE).exists().then_some(entry))
}

/// Returns the path of the entry `name`. Calls `fill` if it does not exist yet.
///
/// If several processes call this at once, one fills the entry and the others wait. `fill` receives
/// the empty folder at its final path, because a Python environment cannot be moved. The folder
/// becomes an entry only after `fill` returns. The next call removes the rest of an interrupted
/// one.
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
        // Ignore an error here: the next call removes the folder too.
        let _ = fs::remove_dir_all(&entry);
    })?;
    fs::write(entry.join(COMPLETE), "").with_context(|| format!("cannot write into {}", entry.display()))?;
    Ok(entry)
}

/// Does the same as [`entry`]. The name has a hash of these files, so a change of any makes a new entry.
pub fn entry_of(title: &str, files: &[PathBuf], fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut text = String::new();
    for file in files {
        text += &fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
    }
    entry(&format!("{title}-{:08x}", fingerprint(&text)), fill)
}

/// Waits for the lock on `name` and holds it until the file is dropped.
fn lock(name: &str) -> Result<File> {
    let path = folder()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Hashes the inputs of an entry for its name (FNV-1a). The hash is the same on every machine.
#[must_use]
pub fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
