//! Finds RabbitMQ: the one of this machine, or one unpacked into the cache folder, from where it runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{debian, packages};

const PACKAGE: &str = "rabbitmq-server";
/// The folder of RabbitMQ's own scripts, below `usr`. Those on the search path must run as root or as
/// the user `rabbitmq`.
const SCRIPTS: &str = "lib/rabbitmq/bin";
/// The folder below `usr` with a folder of RabbitMQ's version.
const VERSIONS: &str = "lib/rabbitmq/lib";
/// The folder of Erlang's programs, below `usr`. They find each other from there.
const PROGRAMS: &str = "lib/erlang/bin";

/// RabbitMQ and Erlang.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    /// The `/usr` of the machine, or one in the cache.
    usr: PathBuf,
    /// True if it is from another release of Debian. Its programs need its libraries, so they run with
    /// this folder in the place of the machine's `/usr`.
    foreign: bool,
}

impl RabbitMq {
    /// Returns the RabbitMQ that `RABBITMQ` selects: `4.0`, or else the machine's.
    ///
    /// # Errors
    ///
    /// If it is not there, and can't be unpacked. The error says what to install.
    pub fn find() -> Result<Self> {
        match env::var("RABBITMQ").as_deref() {
            Ok("4.0") => Ok(Self { usr: debian::rabbitmq()?, foreign: true }),
            Ok(other) => bail!("no RabbitMQ {other} here: set RABBITMQ to 4.0, or unset it for the machine's own"),
            Err(_) => Self::of_machine(),
        }
    }

    /// Returns the installed RabbitMQ, or else the one in the cache.
    fn of_machine() -> Result<Self> {
        let installed = Self { usr: "/usr".into(), foreign: false };
        if installed.place().join(PACKAGE).exists() { Ok(installed) } else { Self::unpacked() }
    }

    /// Returns the RabbitMQ in the cache, which has the version of the machine's distribution.
    pub fn unpacked() -> Result<Self> {
        Ok(Self { usr: packages::unpacked(PACKAGE, |name| name.starts_with("erlang-"))?.join("usr"), foreign: false })
    }

    /// Returns the folder of the scripts.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        self.usr.join(SCRIPTS)
    }

    /// Returns the version, such as `3.10.8`.
    pub fn version(&self) -> Result<String> {
        let folder = self.usr.join(VERSIONS);
        let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut versions = names.filter_map(|name| name.strip_prefix("rabbitmq_server-").map(str::to_owned));
        versions.next().with_context(|| format!("{} has no version of RabbitMQ", folder.display()))
    }

    /// Returns a command that runs one of the scripts.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = self.program(&format!("{SCRIPTS}/{name}"));
        let others = env::var_os("PATH").unwrap_or_default();
        let folders = [self.seen().join(PROGRAMS)].into_iter().chain(env::split_paths(&others));
        // A folder with a colon in its name can't be on the path: Erlang is then that of the machine.
        command.env("PATH", env::join_paths(folders).unwrap_or(others));
        command
    }

    /// Returns a command that runs Erlang's name server.
    pub(crate) fn epmd(&self) -> Command {
        self.program(&format!("{PROGRAMS}/epmd"))
    }

    /// Returns `usr` as its programs see it.
    fn seen(&self) -> &Path {
        if self.foreign { Path::new("/usr") } else { &self.usr }
    }

    /// Returns a command that runs a program below `usr`.
    fn program(&self, path: &str) -> Command {
        let program = self.seen().join(path);
        if !self.foreign {
            return Command::new(program);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--propagation", "private", "sh", "-c"]);
        command.arg(r#"mount --bind "$0" /usr && exec "$@""#).arg(&self.usr).arg(program);
        command
    }
}
