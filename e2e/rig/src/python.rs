//! The Python library fedora-messaging, and Ansible, in cached virtual environments.
//!
//! `testdata/python/requirements.txt` pins the library. A second environment also has the packages
//! of schemas that `schemas/packages.txt` pins. A third one has Ansible, which
//! `testdata/python/ansible-requirements.txt` pins.

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

/// An environment with the library, or with Ansible.
#[derive(Debug, Clone)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    /// Returns the environment. Creates it if it is not in the cache (about 15 s).
    pub fn get() -> Result<Self> {
        Self::with("fedora-messaging", &[testdata("python/requirements.txt")], install)
    }

    /// Returns the environment that also has the packages of schemas (about 45 s).
    pub fn with_schemas() -> Result<Self> {
        Self::with("schemas", &[testdata("python/requirements.txt"), schemas("packages.txt")], install)
    }

    /// Returns the environment that has Ansible and its collection kubernetes.core instead of the
    /// library (about 40 s).
    pub fn with_ansible() -> Result<Self> {
        Self::with("ansible", &[testdata("python/ansible-requirements.txt")], install_ansible)
    }

    fn with(title: &str, requirements: &[PathBuf], install: fn(&[PathBuf], &Path) -> Result<()>) -> Result<Self> {
        Ok(Self { folder: cache::entry_of(title, requirements, |folder| install(requirements, folder))? })
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

    /// Returns the command `ansible-playbook`, without arguments. Its files go into an empty folder.
    pub fn ansible_playbook(&self, folder: &Path) -> Result<Command> {
        // The configuration of the user or of the machine does not count.
        let config = folder.join("ansible.cfg");
        fs::write(&config, "").with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(self.folder.join("bin/ansible-playbook"));
        command
            .env("ANSIBLE_CONFIG", config)
            .env("ANSIBLE_PYTHON_INTERPRETER", self.interpreter())
            .env("HOME", folder)
            .env("LC_ALL", "C.UTF-8")
            // kubernetes.core keeps here which resources the API server at a port has.
            .env("TMPDIR", folder)
            .env_remove("PYTHONPATH");
        Ok(command)
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
    install_with(&[], requirements, folder)
}

/// Installs Ansible, and removes all its collections except kubernetes.core. They are most of its
/// files, so the rest is compiled afterwards. Modules of Ansible do not store what they compile.
fn install_ansible(requirements: &[PathBuf], folder: &Path) -> Result<()> {
    install_with(&["--no-compile"], requirements, folder)?;
    for python in entries(&folder.join("lib"))? {
        for collections in entries(&python.join("site-packages/ansible_collections"))? {
            if collections.is_dir() && !collections.ends_with("kubernetes") {
                fs::remove_dir_all(&collections).with_context(|| format!("cannot remove {}", collections.display()))?;
            }
        }
    }
    let mut compile = Command::new(folder.join("bin/python"));
    output(compile.args(["-m", "compileall", "-q"]).arg(folder.join("lib")))
        .context("Python cannot compile Ansible")?;
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn install_with(options: &[&str], requirements: &[PathBuf], folder: &Path) -> Result<()> {
    let names = requirements.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ");
    eprintln!("Installing {names} into {}.", folder.display());
    let wheel = create_environment(folder)?;
    // The files pin everything. One with hashes is installed alone, because pip then asks for all.
    for file in requirements {
        let mut pip = Command::new(folder.join("bin/python"));
        pip.env("PYTHONPATH", &wheel)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(options)
            .arg("--requirement")
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
