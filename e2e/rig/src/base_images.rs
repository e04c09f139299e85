//! The images on which docker-compose.yml and the Containerfiles stand, made from Debian's packages:
//! no registry of images is needed. Users, paths, environment and start are those of the official
//! images.
//!
//! They trust the authorities that the machine trusts, because they reach registries of packages as
//! the machine does.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command::output, debian::bootstrap, testdata::project};

/// The archive (tar) of a root folder, and the lines of a Containerfile that complete the image.
#[derive(Debug)]
pub struct BaseImage {
    pub(crate) archive: PathBuf,
    pub(crate) changes: &'static [&'static str],
}

impl BaseImage {
    /// Returns the path of the archive.
    #[must_use]
    pub fn archive(&self) -> &Path {
        &self.archive
    }
}

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Returns RabbitMQ 4.0 of Debian 13. It starts as root, and gives its data to the user `rabbitmq`.
pub fn rabbitmq() -> Result<BaseImage> {
    let archive = archive("rabbitmq", "trixie", "rabbitmq-server,openssl,gosu,procps", &[])?;
    let changes = &[
        "ENV HOME=/var/lib/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        r#"ENTRYPOINT ["sh", "-c", "chown -R rabbitmq: /var/lib/rabbitmq && exec gosu rabbitmq rabbitmq-server"]"#,
    ];
    Ok(BaseImage { archive, changes })
}

/// Returns Python 3.14 of Debian 14, with `pip` in `/usr/local`.
pub fn python() -> Result<BaseImage> {
    let hooks = [
        r#"chroot "$1" python3 -m venv /usr/local"#.to_owned(),
        format!(r#"printf '[global]\ncert = {AUTHORITIES}\n' > "$1/usr/local/pip.conf""#),
    ];
    let archive = archive("python", "forky", "python3-venv", &hooks)?;
    Ok(BaseImage { archive, changes: &["ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", r#"CMD ["python3"]"#] })
}

/// Returns the machine's Rust, in the version of the project, on Debian 12 with a C compiler and make.
pub fn rust() -> Result<BaseImage> {
    let rustc = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(project("")))?;
    let toolchain = PathBuf::from(rustc.trim());
    // The folder may be another name's: rustup in the image looks for the project's.
    let active = output(Command::new("rustup").args(["show", "active-toolchain"]).current_dir(project("")))?;
    let name = active.split_whitespace().next().context("no toolchain of rustup")?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let programs = home.context("no home")?.join("bin");
    let hooks = [
        format!(r#"mkdir -p "$1/usr/local/cargo/bin" "$1/usr/local/rustup/toolchains/{name}/lib""#),
        format!(r#"cp -rL {}/bin "$1/usr/local/rustup/toolchains/{name}""#, toolchain.display()),
        format!(r#"cp -rL {}/lib/. "$1/usr/local/rustup/toolchains/{name}/lib""#, toolchain.display()),
        format!(r#"cd {} && cp -L rustup cargo rustc "$1/usr/local/cargo/bin""#, programs.display()),
    ];
    let archive = archive(&format!("rust-{name}"), "bookworm", "gcc,libc6-dev,make", &hooks)?;
    let changes = &["ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo \
         PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    Ok(BaseImage { archive, changes })
}

/// Returns an archive of a release with these packages, after these commands of the shell, to which the
/// root folder is `$1`.
fn archive(name: &str, release: &str, packages: &str, hooks: &[String]) -> Result<PathBuf> {
    let authorities = fs::read_to_string(AUTHORITIES).with_context(|| format!("no {AUTHORITIES}"))?;
    let inputs = format!("{release}{packages}{hooks:?}{authorities}");
    let entry = format!("base-image-{name}-{:08x}", cache::fingerprint(&inputs));
    let folder = cache::entry(&entry, |folder| {
        eprintln!("Making the base image of {name} in {}.", folder.display());
        let packages = format!("{packages},ca-certificates");
        let trust = format!(r#"cp {AUTHORITIES} "$1{AUTHORITIES}""#);
        bootstrap(release, "minbase", &packages, &[hooks, &[trust]].concat(), &folder.join("root.tar"))
    })?;
    Ok(folder.join("root.tar"))
}
