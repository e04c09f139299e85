//! Unpacks packages of Debian and its relatives into the cache folder, without installation and
//! without root.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{cache, command::output};

/// Returns the folder into which a package is unpacked, in the version of the machine's distribution.
/// Packages that it depends on are there too if `needed` returns true for their names. Downloads them
/// if they are not in the cache.
///
/// # Errors
///
/// If the machine has other packages, or they can't be downloaded. The error says what to install.
pub fn unpacked(package: &str, needed: fn(&str) -> bool) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("other");
    cache::entry(&format!("{package}-{codename}"), |folder| unpack(package, needed, folder))
        .with_context(|| format!("{package} is not installed: {} {package}", install_command()))
}

/// A program: the installed one, or one in the cache with its libraries.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Program {
    /// Returns the installed program, or the one of a package that is unpacked into the cache.
    ///
    /// # Errors
    ///
    /// As for [`unpacked`].
    pub fn find(name: &str, package: &str) -> Result<Self> {
        if is_on_path(name) {
            return Ok(Self { path: name.into(), environment: Vec::new() });
        }
        // The machine's C library fits its other programs, and is on every machine.
        let folder = unpacked(package, |name| name.starts_with("lib") && name != "libc6")?;
        let programs = folder.join("usr/sbin");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&path)))?;
        let libraries =
            ["usr/lib", "lib"].map(|libraries| folder.join(format!("{libraries}/{}-linux-gnu", env::consts::ARCH)));
        let environment = vec![("PATH", path), ("LD_LIBRARY_PATH", env::join_paths(libraries)?)];
        Ok(Self { path: programs.join(name), environment })
    }

    /// Returns a command that runs it, without arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        self.offer_to(&mut command);
        command
    }

    /// Lets another command find it on its search path.
    pub fn offer_to(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

/// Returns the command that installs packages on this machine.
#[must_use]
pub fn install_command() -> &'static str {
    if is_on_path("dnf") { "dnf install" } else { "apt-get install" }
}

/// Returns true if there is a program of this name on the search path.
#[must_use]
pub fn is_on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn unpack(package: &str, needed: fn(&str) -> bool, folder: &Path) -> Result<()> {
    ensure!(is_on_path("apt-get") && is_on_path("dpkg-deb"), "only packages of Debian and its relatives are unpacked");
    let archives = folder.join("archives");
    fs::create_dir(&archives)?;
    // A new machine has no lists of packages yet.
    download(package, needed, &archives, &[]).or_else(|_| {
        let lists = archives.join("lists");
        fs::create_dir_all(lists.join("partial"))?;
        let options = ["-o".to_owned(), format!("Dir::State::Lists={}", lists.display())];
        output(Command::new("apt-get").args(&options).args(["update", "-q"]))?;
        download(package, needed, &archives, &options)
    })?;
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("--extract").arg(path).arg(folder))?;
        }
    }
    fs::remove_dir_all(archives).context("the packages can't be removed")
}

fn download(package: &str, needed: fn(&str) -> bool, folder: &Path, options: &[String]) -> Result<()> {
    let only = ["--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    let found = output(Command::new("apt-cache").args(options).arg("depends").args(only).arg(package))?;
    // Each package is at the start of a line, and what it depends on is indented below.
    let names = found.lines().filter(|line| *line == package || needed(line));
    let mut command = Command::new("apt-get");
    output(command.current_dir(folder).args(options).args(["download", "-q"]).args(names)).map(drop)
}
