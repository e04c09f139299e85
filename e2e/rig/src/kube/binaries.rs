//! Finds kube-apiserver, etcd and kubectl: in the developer's own folder, in the cache, as a
//! download, or as a build from the Go modules that `testdata/kube/go.mod` pins.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{cache, command::output, testdata};

/// The programs. The envtest archives use the same names.
const NAMES: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// The Go packages of the programs. The build names etcd `server`.
const PACKAGES: [&str; 3] =
    ["k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl", "go.etcd.io/etcd/server/v3"];
/// The additional programs of a node.
const NODE_NAMES: [&str; 3] = ["kubelet", "kube-controller-manager", "kube-scheduler"];

/// The URL of the archives that `testdata/kube/envtest.sha512` names. Kubernetes publishes them.
const ENVTEST: &str = "https://github.com/kubernetes-sigs/controller-tools/releases/download";

/// Returns the folder of the programs. Finds, downloads or builds them.
///
/// Tries `KUBEBUILDER_ASSETS`, then the cache, then the envtest archive, then a Go build (6 minutes,
/// once).
pub fn binaries() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
        let missing = NAMES.iter().map(|name| folder.join(name)).find(|path| !path.exists());
        let Some(missing) = missing else { return Ok(folder) };
        bail!("KUBEBUILDER_ASSETS is set, but {} is missing: unset it, or complete the folder", missing.display());
    }
    let version = version()?;
    let built = format!("kubernetes-{version}");
    let (archive, _) = envtest()?;
    for name in [&built, &archive] {
        if let Some(folder) = cache::find(name)? {
            return Ok(folder);
        }
    }
    cache::entry(&archive, |folder| download(&archive, folder)).or_else(|_| {
        cache::entry(&built, |folder| {
            build(&version, &PACKAGES.map(str::to_owned), folder)?;
            Ok(fs::rename(folder.join("server"), folder.join("etcd"))?)
        })
    })
}

/// Returns the folder of the programs of a node and its controllers. Finds them in the cache, or builds
/// them (7 minutes, once).
pub fn node_binaries() -> Result<PathBuf> {
    let version = version()?;
    cache::entry(&format!("kubernetes-node-{version}"), |folder| {
        build(&version, &NODE_NAMES.map(|name| format!("k8s.io/kubernetes/cmd/{name}")), folder)
    })
}

/// Returns the version of Kubernetes that `testdata/kube/go.mod` requires, without the `v`.
pub fn version() -> Result<String> {
    let path = testdata("kube/go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("{} requires no k8s.io/kubernetes", path.display()))
}

/// Returns the name (without suffix) and the SHA-512 of the version's envtest archive.
fn envtest() -> Result<(String, String)> {
    let path = testdata("kube/envtest.sha512");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let (sum, file) =
        text.trim().split_once("  ").with_context(|| format!("{} is not a line of sha512sum", path.display()))?;
    let name = file.strip_suffix(".tar.gz").unwrap_or(file);
    Ok((name.to_owned(), sum.to_owned()))
}

/// Downloads the archive, checks its sum and unpacks the programs.
///
/// Fails after 5 s without a connection, because there may be no internet.
fn download(archive: &str, folder: &Path) -> Result<()> {
    let (_, sum) = envtest()?;
    let release = archive.strip_suffix("-linux-amd64").unwrap_or(archive);
    let file = folder.join("archive.tar.gz");
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--location", "--connect-timeout", "5", "--max-time", "300", "--output"]);
    output(curl.arg(&file).arg(format!("{ENVTEST}/{release}/{archive}.tar.gz")))?;
    if !output(Command::new("sha512sum").arg(&file))?.starts_with(&sum) {
        eprintln!("The downloaded {archive} does not have the sum that testdata/kube pins, so it is not used.");
        bail!("wrong sum");
    }
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=2", "--file"]);
    output(tar.arg(&file).arg("--directory").arg(folder))?;
    fs::remove_file(file)?;
    Ok(())
}

/// Builds programs from source.
fn build(version: &str, packages: &[String], folder: &Path) -> Result<()> {
    ensure!(
        output(Command::new("go").arg("version")).is_ok(),
        "Kubernetes {version} is not installed, and there is no Go to build it: install Go 1.26 or newer, or \
         set KUBEBUILDER_ASSETS to a folder with {}",
        NAMES.join(", ")
    );
    eprintln!(
        "Building Kubernetes {version} from source into {}: about 7 minutes on two cores, once.",
        folder.display()
    );
    let start = Instant::now();
    let (major, minor) = major_minor(version)?;
    let stamp = "-X k8s.io/component-base/version";
    let stamps = format!("-s -w {stamp}.gitVersion=v{version} {stamp}.gitMajor={major} {stamp}.gitMinor={minor}");
    let to = format!("{}/", folder.display());
    let mut go = Command::new("go");
    go.current_dir(testdata("kube")).args(["build", "-trimpath", "-ldflags", &stamps, "-o", &to]).args(packages);
    output(&mut go)?;
    eprintln!("Built Kubernetes {version} in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn major_minor(version: &str) -> Result<(&str, &str)> {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => bail!("not a version: {version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_pinned_minor_version() {
        let version = version().unwrap();
        let (major, minor) = major_minor(&version).unwrap();
        let (archive, sum) = envtest().unwrap();
        assert!(archive.starts_with(&format!("envtest-v{major}.{minor}.")), "{archive}");
        assert_eq!(sum.len(), 128);
    }
}
