//! Finds RabbitMQ on this machine, or unpacks it into the cache folder, from where it runs.

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;

use crate::packages;

const PACKAGE: &str = "rabbitmq-server";
/// The prefix of the packages that it needs. Other libraries are on every machine.
const NEEDED: &str = "erlang-";
/// The folder of RabbitMQ's own scripts. Those on the search path must run as root or as the user
/// `rabbitmq`.
const SCRIPTS: &str = "usr/lib/rabbitmq/bin";
/// The folder of Erlang's programs. They find each other from there.
const PROGRAMS: &str = "usr/lib/erlang/bin";

/// RabbitMQ and Erlang below a folder: the machine's root, or one in the cache.
#[derive(Clone, Debug)]
pub struct RabbitMq(PathBuf);

impl RabbitMq {
    /// Returns the installed RabbitMQ, or else the one in the cache.
    ///
    /// # Errors
    ///
    /// If it is not installed, and can't be unpacked. The error says what to install.
    pub fn find() -> Result<Self> {
        let installed = Self("/".into());
        if installed.scripts().join(PACKAGE).exists() { Ok(installed) } else { Self::unpacked() }
    }

    /// Returns the RabbitMQ in the cache, which has the version of the machine's distribution.
    pub fn unpacked() -> Result<Self> {
        packages::unpacked(PACKAGE, NEEDED).map(Self)
    }

    /// Returns the folder of the scripts.
    #[must_use]
    pub fn scripts(&self) -> PathBuf {
        self.0.join(SCRIPTS)
    }

    /// Returns a command that runs one of the scripts.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts().join(name));
        let others = env::var_os("PATH").unwrap_or_default();
        let folders = [self.0.join(PROGRAMS)].into_iter().chain(env::split_paths(&others));
        // A folder with a colon in its name can't be on the path: Erlang is then that of the machine.
        command.env("PATH", env::join_paths(folders).unwrap_or(others));
        command
    }

    /// Returns a command that runs Erlang's name server.
    pub(crate) fn epmd(&self) -> Command {
        Command::new(self.0.join(PROGRAMS).join("epmd"))
    }
}
