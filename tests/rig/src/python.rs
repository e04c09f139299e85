//! The Python library fedora-messaging, pinned in `testdata/python/requirements.txt`, in a cached
//! virtual environment.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{cache, pki::CertFiles, testdata};

/// An environment that holds the library.
#[derive(Debug, Clone)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    /// The environment; made if it isn't in the cache yet (about 15 s).
    pub fn get() -> Result<Self> {
        let requirements = testdata("python/requirements.txt");
        let pins = fs::read_to_string(&requirements).with_context(|| format!("no {}", requirements.display()))?;
        let name = format!("fedora-messaging-{:08x}", fingerprint(&pins));
        let folder = cache::entry(&name, |folder| install(&requirements, folder))?;
        Ok(Self { folder })
    }

    /// The path of its interpreter.
    #[must_use]
    pub fn interpreter(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// The path of the library's command line program.
    #[must_use]
    pub fn fedora_messaging(&self) -> PathBuf {
        self.folder.join("bin/fedora-messaging")
    }

    /// One of the scripts in `testdata/python`, with the library's configuration file; add arguments.
    #[must_use]
    pub fn script(&self, name: &str, config: &Path) -> Command {
        let mut command = Command::new(self.interpreter());
        command
            .arg(testdata("python").join(name))
            .env("FEDORA_MESSAGING_CONF", config)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONPATH");
        command
    }
}

/// The library's configuration file (TOML) for this broker, these certificates and this prefix.
#[must_use]
pub fn config(url: &str, files: &CertFiles, topic_prefix: &str) -> String {
    format!(
        "amqp_url = {url:?}\ntopic_prefix = {topic_prefix:?}\n\n\
         [tls]\nca_cert = {:?}\ncertfile = {:?}\nkeyfile = {:?}\n\n\
         [client_properties]\napp = \"rig\"\n\n\
         [log_config]\nversion = 1\ndisable_existing_loggers = true\n\n\
         [log_config.handlers.console]\nclass = \"logging.StreamHandler\"\n\n\
         [log_config.root]\nlevel = \"WARNING\"\nhandlers = [\"console\"]\n",
        files.ca.display().to_string(),
        files.cert.display().to_string(),
        files.key.display().to_string()
    )
}

fn install(requirements: &Path, folder: &Path) -> Result<()> {
    eprintln!("Installing fedora-messaging into {}.", folder.display());
    let venv = Command::new("python3")
        .args(["-m", "venv"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .context("python3 does not start: apt-get install python3 python3-venv")?;
    ensure!(
        venv.status.success(),
        "python3 makes no virtual environment: apt-get install python3-venv\n{}",
        String::from_utf8_lossy(&venv.stdout)
    );
    let pip = Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .arg("--requirement")
        .arg(requirements)
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        pip.status.success(),
        "pip could not install testdata/python/requirements.txt: is the package index reachable?\n{}",
        String::from_utf8_lossy(&pip.stderr)
    );
    Ok(())
}

/// FNV-1a: names the environment after what is in it. The same on every machine.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
