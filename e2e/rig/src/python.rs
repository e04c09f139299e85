//! The Python library fedora-messaging in a cached virtual environment.
//!
//! `testdata/python/requirements.txt` pins the library. A second environment also has the packages
//! of schemas that `schemas/packages.txt` pins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    cache,
    command::output,
    packages,
    pki::CertFiles,
    testdata::{schemas, testdata},
};

/// An environment with the library.
#[derive(Debug, Clone)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    /// Returns the environment. Creates it if it is not in the cache (about 15 s).
    pub fn get() -> Result<Self> {
        Self::with("fedora-messaging", &[testdata("python/requirements.txt")])
    }

    /// Returns the environment that also has the packages of schemas (about 45 s).
    pub fn with_schemas() -> Result<Self> {
        Self::with("schemas", &[testdata("python/requirements.txt"), schemas("packages.txt")])
    }

    fn with(title: &str, requirements: &[PathBuf]) -> Result<Self> {
        let mut pins = String::new();
        for file in requirements {
            pins += &fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
        }
        let name = format!("{title}-{:08x}", cache::fingerprint(&pins));
        let folder = cache::entry(&name, |folder| install(requirements, folder))?;
        Ok(Self { folder })
    }

    /// Returns the path of its interpreter.
    #[must_use]
    pub fn interpreter(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Returns the path of the library's command line program.
    #[must_use]
    pub fn fedora_messaging(&self) -> PathBuf {
        self.folder.join("bin/fedora-messaging")
    }

    /// Returns a command for a script in `testdata/python` with the library's configuration file.
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

/// Returns the library's configuration (TOML) for a broker, certificates and a topic prefix.
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

fn install(requirements: &[PathBuf], folder: &Path) -> Result<()> {
    let names = requirements.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ");
    eprintln!("Installing {names} into {}.", folder.display());
    let wheel = create_environment(folder)?;
    // The files pin everything. One with hashes is installed alone, because pip then asks for all.
    for file in requirements {
        let mut pip = Command::new(folder.join("bin/python"));
        pip.env("PYTHONPATH", &wheel)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"])
            .arg(file);
        output(&mut pip).with_context(|| format!("pip cannot install {names}: is the package index reachable?"))?;
    }
    Ok(())
}

/// Creates an environment. Returns the wheel of pip if the environment has none: Debian has it in a
/// package of its own.
fn create_environment(folder: &Path) -> Result<PathBuf> {
    let create = |more: &[&str]| output(Command::new("python3").args(["-m", "venv"]).args(more).arg(folder));
    if create(&[]).is_ok() {
        return Ok(PathBuf::new());
    }
    create(&["--clear", "--without-pip"]).context("python3 cannot create a virtual environment")?;
    let wheels = packages::unpacked("python3-pip-whl", |_| false)?.join("usr/share/python-wheels");
    let mut files = fs::read_dir(&wheels).with_context(|| format!("no {}", wheels.display()))?.flatten();
    let wheel = files.find(|file| file.file_name().to_string_lossy().starts_with("pip-"));
    wheel.map(|file| file.path()).with_context(|| format!("no pip in {}", wheels.display()))
}
