//! Finds kube-apiserver, etcd and kubectl: in the developer's own folder, in the cache, as a build from
//! Go modules, or for the demo as a download. `testdata/kube/go.mod` pins them for one version.
//! `KUBERNETES` selects another one, such as `1.34.4`.

use std::{
    collections::VecDeque,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{cache, command::output, testdata};

/// The programs. The envtest archives use the same names.
const NAMES: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// The Go packages of the programs. The build names etcd `server`.
const PACKAGES: [&str; 3] = [SERVERS[0], SERVERS[1], "k8s.io/kubernetes/cmd/kubectl"];
/// Those of the servers.
const SERVERS: [&str; 2] = ["k8s.io/kubernetes/cmd/kube-apiserver", "go.etcd.io/etcd/server/v3"];
/// The Go packages of the additional programs of a node.
const NODE_PACKAGES: [&str; 3] = [
    "k8s.io/kubernetes/cmd/kubelet",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-scheduler",
];
/// The Go package that translates the addresses of Services.
const PROXY_PACKAGES: [&str; 1] = ["k8s.io/kubernetes/cmd/kube-proxy"];

/// The newest envtest archive for `x86_64`, and its SHA-512.
const ARCHIVE: &str = "envtest-v1.36.2-linux-amd64";
const ARCHIVE_SUM: &str = "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dcf30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08";

/// The time between two lines that tell how far a build is.
const PROGRESS: Duration = Duration::from_secs(30);

/// The URL of the envtest archives. Kubernetes publishes them.
const ENVTEST: &str = "https://github.com/kubernetes-sigs/controller-tools/releases/download";

/// Returns the folder of the programs: `KUBEBUILDER_ASSETS`, or the one in the cache. Builds them if there
/// is none (6 minutes, once).
pub fn binaries() -> Result<PathBuf> {
    let version = version()?;
    found(&version)?.map_or_else(|| built(&version), Ok)
}

/// Does the same as [`binaries`], but prefers a download of another version to a build, unless
/// `KUBERNETES` names one.
pub fn any_binaries() -> Result<PathBuf> {
    let version = version()?;
    let is_any = env::var_os("KUBERNETES").is_none() && env::consts::ARCH == "x86_64";
    found(&version)?.or_else(|| is_any.then(downloaded)?).map_or_else(|| built(&version), Ok)
}

/// Returns the folder that the developer names, or the one in the cache.
fn found(version: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        return cache::find(&name(version));
    };
    let missing = NAMES.iter().map(|name| folder.join(name)).find(|path| !path.exists());
    let Some(missing) = missing else { return Ok(Some(folder)) };
    bail!("KUBEBUILDER_ASSETS is set, but {} is missing: unset it, or complete the folder", missing.display());
}

/// Returns the folder of the envtest archive. Downloads it if it is not in the cache.
fn downloaded() -> Option<PathBuf> {
    cache::entry(ARCHIVE, download).ok()
}

fn built(version: &str) -> Result<PathBuf> {
    let pinned = pinned()?;
    cache::entry(&name(version), |folder| {
        if version == pinned {
            build(version, &PACKAGES, folder)?;
        } else {
            // The output of kubectl is that of the pinned version in all tests.
            let kubectl = found(&pinned)?.map_or_else(|| built(&pinned), Ok)?.join("kubectl");
            build(version, &SERVERS, folder)?;
            fs::copy(kubectl, folder.join("kubectl"))?;
        }
        Ok(fs::rename(folder.join("server"), folder.join("etcd"))?)
    })
}

/// Returns the name of the version's entry in the cache.
fn name(version: &str) -> String {
    format!("kubernetes-{version}")
}

/// Returns the folder of the programs of a node and its controllers. Finds them in the cache, or builds
/// them (7 minutes, once).
pub fn node_binaries() -> Result<PathBuf> {
    let (version, pinned) = (version()?, pinned()?);
    ensure!(version == pinned, "a node has only Kubernetes {pinned}: unset KUBERNETES");
    cache::entry(&format!("kubernetes-node-{version}"), |folder| build(&version, &NODE_PACKAGES, folder))
}

/// Returns the path of kube-proxy. Finds it in the cache, or builds it (half a minute after the programs
/// of a node, once).
pub fn proxy_binary() -> Result<PathBuf> {
    // Two builds at once would compile the same packages twice.
    node_binaries()?;
    let version = version()?;
    let folder =
        cache::entry(&format!("kubernetes-proxy-{version}"), |folder| build(&version, &PROXY_PACKAGES, folder))?;
    Ok(folder.join("kube-proxy"))
}

/// Returns the version of Kubernetes to run, without the `v`: `KUBERNETES`, or else the pinned one.
pub fn version() -> Result<String> {
    env::var("KUBERNETES").or_else(|_| pinned())
}

/// Returns the version that `testdata/kube/go.mod` requires.
fn pinned() -> Result<String> {
    let path = testdata("kube/go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("{} requires no k8s.io/kubernetes", path.display()))
}

/// Downloads the archive, checks its sum and unpacks the programs.
///
/// Fails after 5 s without a connection, because there may be no internet.
fn download(folder: &Path) -> Result<()> {
    let release = ARCHIVE.strip_suffix("-linux-amd64").unwrap_or(ARCHIVE);
    let file = folder.join("archive.tar.gz");
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--location", "--connect-timeout", "5", "--max-time", "300", "--output"]);
    output(curl.arg(&file).arg(format!("{ENVTEST}/{release}/{ARCHIVE}.tar.gz")))?;
    if !output(Command::new("sha512sum").arg(&file))?.starts_with(ARCHIVE_SUM) {
        eprintln!("The downloaded {ARCHIVE} does not have the pinned sum, so it is not used.");
        bail!("wrong sum");
    }
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=2", "--file"]);
    output(tar.arg(&file).arg("--directory").arg(folder))?;
    fs::remove_file(file)?;
    Ok(())
}

/// Builds programs from source.
fn build(version: &str, packages: &[&str], folder: &Path) -> Result<()> {
    ensure!(
        output(Command::new("go").arg("version")).is_ok(),
        "Kubernetes {version} is not installed, and there is no Go to build it: install Go 1.26 or newer, or \
         set KUBEBUILDER_ASSETS to a folder with {}",
        NAMES.join(", ")
    );
    eprintln!(
        "Building Kubernetes {version} from source into {}: up to 7 minutes on two cores, once.",
        folder.display()
    );
    let start = Instant::now();
    let (major, minor) = major_minor(version)?;
    let stamp = "-X k8s.io/component-base/version";
    let stamps = format!("-s -w {stamp}.gitVersion=v{version} {stamp}.gitMajor={major} {stamp}.gitMinor={minor}");
    let to = format!("{}/", folder.display());
    let module = module(version)?;
    let needed = output(Command::new("go").current_dir(&module).args(["list", "-deps"]).args(packages))?;
    let mut go = Command::new("go");
    go.current_dir(module).args(["build", "-v", "-trimpath", "-ldflags", &stamps, "-o", &to]).args(packages);
    run_with_progress(&mut go, &format!("Kubernetes {version}"), u64::try_from(needed.lines().count())?)?;
    eprintln!("Built Kubernetes {version} in {} s.", start.elapsed().as_secs());
    Ok(())
}

/// Runs a command that prints a line on standard error for each of `total` steps. Prints now and then
/// how far it is, and how long the rest takes.
fn run_with_progress(command: &mut Command, what: &str, total: u64) -> Result<()> {
    let start = Instant::now();
    let mut told = start;
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
    let mut last = VecDeque::new();
    for (done, line) in (1u64..).zip(lines) {
        last.push_back(line?);
        if last.len() > 10 {
            last.pop_front();
        }
        if told.elapsed() < PROGRESS {
            continue;
        }
        told = Instant::now();
        // The first steps are not typical.
        let left = if done < total / 10 {
            String::new()
        } else {
            let left = start.elapsed().as_secs() * total.saturating_sub(done) / done / 60 + 1;
            format!(", about {left} min left")
        };
        eprintln!("{what}: {done} of {total} packages are built{left}.");
    }
    ensure!(child.wait()?.success(), "the build of {what} failed:\n{}", last.make_contiguous().join("\n"));
    Ok(())
}

/// Returns the folder of a Go module that requires the version and can build [`SERVERS`].
fn module(version: &str) -> Result<PathBuf> {
    if version == pinned()? {
        return Ok(testdata("kube"));
    }
    cache::entry(&format!("kubernetes-module-{version}"), |folder| write_module(version, folder))
}

/// Writes a Go module that requires the version and its staging modules.
///
/// Kubernetes replaces the staging modules by folders of its repository. They are published as
/// modules too, with 0 as major version.
fn write_module(version: &str, folder: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(folder).args(["mod", "download", "-json", &format!("k8s.io/kubernetes@v{version}")]);
    let downloaded: Value = serde_json::from_str(&output(&mut go)?)?;
    let own = fs::read_to_string(downloaded["GoMod"].as_str().context("Go names no go.mod of Kubernetes")?)?;
    let staging = own.lines().filter_map(|line| line.trim().split_once(" => ./staging/"));
    let (_, minor) = version.split_once('.').with_context(|| format!("not a version: {version}"))?;
    let mut text = format!("module kubernetes\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v{version}\n");
    text.extend(SERVERS.iter().flat_map(|name| ["tool ", name, "\n"]));
    text.extend(staging.flat_map(|(name, _)| ["replace ", name, " => ", name, " v0.", minor, "\n"]));
    fs::write(folder.join("go.mod"), text)?;
    output(Command::new("go").current_dir(folder).args(["mod", "tidy"])).map(drop)
}

fn major_minor(version: &str) -> Result<(&str, &str)> {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => bail!("not a version: {version}"),
    }
}
