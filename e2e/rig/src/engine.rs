//! A Docker engine of its own, as users have it: with Buildx and Compose. Needs Linux and root.
//!
//! Its containers, images, mounts and control groups end with it. It needs no registry: its images
//! are those of [`base_images`](crate::base_images), and what is built from them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{base_images::BaseImage, command::output, debian, guard::Guard};

const NAME: &str = "dockerd";
const START_WITHIN: Duration = Duration::from_mins(1);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    guard: Guard,
    programs: PathBuf,
}

impl Engine {
    /// Starts an engine in the network of the calling thread. There it makes a bridge, and rules of
    /// the packet filter: call this in a [`Network`](crate::network::Network).
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts an engine that only builds images. Their commands use the machine's network, in which
    /// it changes nothing, and so reach the registries of packages.
    pub fn for_builds() -> Result<Self> {
        Self::start_with(&["--bridge=none", "--iptables=false", "--ip6tables=false"])
    }

    fn start_with(options: &[&str]) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "only root can start a Docker engine: run this as root");
        let engine = Self { guard: Guard::new("engine")?, programs: debian::docker()? };
        engine.guard.make_control_group()?;
        let plugins = engine.programs.join("usr/libexec/docker/cli-plugins");
        let config = serde_json::json!({"cliPluginsExtraDirs": [plugins]});
        fs::write(engine.scratch().join("config.json"), config.to_string())?;

        // Its mounts are in a namespace of their own, and end with it.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", NAME, "--host", &engine.socket()]);
        for (option, place) in [("--data-root", "data"), ("--exec-root", "run"), ("--pidfile", "dockerd.pid")] {
            command.arg(option).arg(engine.scratch().join(place));
        }
        command.arg("--cgroup-parent").arg(format!("/{}", engine.guard.unique_name())).args(options);
        engine.guard.start(NAME, command.env("PATH", engine.path(&[])?))?;
        engine.guard.wait_ready(NAME, START_WITHIN, || engine.run(&["version"]).is_ok())?;
        Ok(engine)
    }

    /// Returns a folder for files. It ends with the engine.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.guard.scratch()
    }

    /// Returns a command with `docker` on its search path, before it the folders `more`.
    pub fn command(&self, program: &str, more: &[&Path]) -> Result<Command> {
        let mut command = Command::new(program);
        command.env("PATH", self.path(more)?).env("DOCKER_HOST", self.socket()).env("DOCKER_CONFIG", self.scratch());
        Ok(command)
    }

    /// Runs `docker`, and returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let docker = self.programs.join("usr/bin/docker").display().to_string();
        output(self.command(&docker, &[])?.args(arguments)).with_context(|| arguments.join(" "))
    }

    /// Makes the image `name`.
    pub fn import(&self, image: &BaseImage, name: &str) -> Result<()> {
        let archive = image.archive.display().to_string();
        let changes = image.changes.iter().flat_map(|change| ["--change", change]);
        let arguments: Vec<_> = ["import"].into_iter().chain(changes).chain([archive.as_str(), name]).collect();
        self.run(&arguments).map(drop)
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.scratch().join("docker.sock").display())
    }

    /// Returns the search path. The machine's programs are before those of Debian 13, of which some
    /// need a newer C library.
    fn path(&self, first: &[&Path]) -> Result<std::ffi::OsString> {
        let machine = env::var_os("PATH").unwrap_or_default();
        let own = ["usr/sbin", "usr/bin"].map(|folder| self.programs.join(folder));
        let first = first.iter().map(|folder| folder.to_path_buf());
        Ok(env::join_paths(first.chain(env::split_paths(&machine)).chain(own))?)
    }
}
