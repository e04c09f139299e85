//! A real Kubernetes API server with etcd. It has RBAC, admission and audit log as in a cluster,
//! but no nodes and no controllers.

mod binaries;
mod config;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use self::binaries::{any_binaries, binaries, node_binaries, proxy_binary, version};
use crate::{
    command::output,
    guard::{Guard, Signal},
    network::NODE,
    port::Port,
    proxy::Proxy,
    wait::wait_until,
};

/// The API server's port in the network of a node, which is the usual one.
const PORT: u16 = 6443;

/// A cold API server on a busy machine with two cores needs up to 20 s.
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Users with a token and no permissions, besides the administrator. Tests bind roles to them.
pub const USERS: [&str; 3] = ["operator", "alice", "bob"];

/// An API server and its etcd.
#[derive(Debug)]
pub struct Kube {
    // The first field is dropped first, so the processes end before the ports are released.
    guard: Guard,
    /// The folder of the programs.
    binaries: PathBuf,
    api_port: Port,
    etcd_port: Port,
    etcd_peer_port: Port,
    flags: Vec<String>,
    /// True if a node can join it.
    node: bool,
}

/// The two processes of a [`Kube`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// kube-apiserver.
    ApiServer,
    /// etcd.
    Etcd,
}

impl Process {
    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::Etcd => "etcd",
        }
    }
}

impl Kube {
    /// Starts both, and waits until the API server is ready and the namespace `default` exists.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts both with additional flags for the API server.
    pub fn start_with(flags: &[&str]) -> Result<Self> {
        Self::start_servers(binaries()?, flags, false)
    }

    /// Starts both from a folder of programs. If `node` is true, a node can join them.
    pub(crate) fn start_servers(binaries: PathBuf, flags: &[&str], node: bool) -> Result<Self> {
        let guard = Guard::new("kube")?;
        let api_port = if node { Port::alone(PORT) } else { Port::reserve()? };
        config::write(guard.scratch(), &[&USERS[..], &["admin", "node"]].concat(), api_port.number())?;
        let kube = Self {
            binaries,
            api_port,
            etcd_port: Port::reserve()?,
            etcd_peer_port: Port::reserve()?,
            flags: flags.iter().map(ToString::to_string).collect(),
            node,
            guard,
        };
        // The API server waits for etcd.
        kube.launch(Process::Etcd)?;
        kube.launch(Process::ApiServer)?;
        kube.wait_ready()?;
        Ok(kube)
    }

    /// Returns the path of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.guard.scratch().join("admin.kubeconfig")
    }

    /// Returns the path of the kubeconfig of one of [`USERS`].
    pub fn kubeconfig_for(&self, user: &str) -> Result<PathBuf> {
        let path = self.guard.scratch().join(format!("{user}.kubeconfig"));
        ensure!(path.exists(), "no such user: {user}; there are admin, {}", USERS.join(", "));
        Ok(path)
    }

    /// Returns the path of the administrator's kubeconfig that connects through a proxy in front of
    /// [`Kube::port`].
    pub fn kubeconfig_through(&self, proxy: &Proxy) -> Result<PathBuf> {
        let direct = fs::read_to_string(self.kubeconfig())?;
        let path = self.guard.scratch().join(format!("admin-through-{}.kubeconfig", proxy.port()));
        fs::write(&path, direct.replace(&self.url(), &format!("https://127.0.0.1:{}", proxy.port())))?;
        Ok(path)
    }

    /// Returns the path of the CA of the API server's certificate.
    #[must_use]
    pub(crate) fn ca(&self) -> PathBuf {
        self.guard.scratch().join("server-ca.pem")
    }

    /// Returns additional flags for a kube-controller-manager.
    pub(crate) fn controller_manager_flags(&self) -> Vec<String> {
        self.flags_of(config::CONTROLLER_MANAGER)
    }

    /// Returns the API server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port.number())
    }

    /// Returns the API server's port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.api_port.number()
    }

    /// Returns the path of the audit log. It has one JSON object per finished request, level
    /// Metadata.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.guard.scratch().join("audit.log")
    }

    /// Returns the entries of the audit log.
    pub fn audit_events(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.audit_log())?;
        // The last line may be incomplete.
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(|line| serde_json::from_str(line).context("the audit log contains an invalid line")).collect()
    }

    /// Returns the path of the `kubectl` that [`Kube::kubectl`] runs.
    #[must_use]
    pub fn kubectl_path(&self) -> PathBuf {
        self.binaries.join("kubectl")
    }

    /// Returns a kubectl command as administrator, without arguments.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.kubectl_path());
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.guard.scratch().join("kubectl-cache"))
            .stdin(Stdio::null());
        command
    }

    /// Returns the version of the API server, such as `v1.37.2`.
    pub fn server_version(&self) -> Result<String> {
        let version: Value = serde_json::from_str(&self.run(&["get", "--raw", "/version"])?)?;
        version["gitVersion"].as_str().map(str::to_owned).context("the API server names no version")
    }

    /// Runs kubectl with these arguments. Returns its standard output, or its standard error as
    /// error.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        output(self.kubectl().args(args))
    }

    /// Applies manifests given as text.
    pub fn apply_text(&self, manifests: &str) -> Result<()> {
        let file = self.guard.scratch().join(format!("apply-{}.yaml", config::token()?));
        fs::write(&file, manifests)?;
        self.run(&["apply".as_ref(), "-f".as_ref(), file.as_os_str()])?;
        fs::remove_file(file)?;
        Ok(())
    }

    /// Applies manifest files, and waits until every CRD is served.
    pub fn apply(&self, files: &[PathBuf]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let mut command = self.kubectl();
        command.arg("apply");
        for file in files {
            command.arg("-f").arg(file);
        }
        output(&mut command)?;
        if self.run(&["get", "crd", "-o", "name"])?.trim().is_empty() {
            return Ok(());
        }
        self.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
        Ok(())
    }

    /// Creates a namespace. No controller adds a service account to it.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.run(&["create", "namespace", name]).map(drop)
    }

    /// Stops a process cleanly.
    pub fn stop(&self, process: Process) -> Result<()> {
        self.guard.stop(process.name(), STOP_WITHIN).map(drop)
    }

    /// Kills a process (SIGKILL). Its data and its port stay.
    pub fn kill(&self, process: Process) -> Result<()> {
        self.guard.kill(process.name())
    }

    /// Freezes a process (SIGSTOP) with its connections open.
    pub fn freeze(&self, process: Process) -> Result<()> {
        self.guard.signal(process.name(), Signal::Freeze)
    }

    /// Resumes a frozen process.
    pub fn thaw(&self, process: Process) -> Result<()> {
        self.guard.signal(process.name(), Signal::Thaw)
    }

    /// Restricts a process to these CPU cores.
    pub fn confine(&self, process: Process, cores: &[usize]) -> Result<()> {
        self.guard.confine(process.name(), cores)
    }

    /// Starts a process again with the same data on the same port, and waits until the API server
    /// is ready. Kills the process first if it runs.
    pub fn restart(&self, process: Process) -> Result<()> {
        self.kill(process)?;
        self.launch(process)?;
        self.wait_ready()
    }

    /// Keeps a copy of everything that is stored now, for [`Kube::restore`].
    pub fn back_up(&self) -> Result<()> {
        self.stop(Process::Etcd)?;
        copy_folder(&self.etcd_data(), &self.guard.scratch().join("etcd-backup"))?;
        self.restart(Process::Etcd)
    }

    /// Stops both processes, and starts them again with the copy of [`Kube::back_up`]. All later
    /// writes are lost, and resource versions continue from there.
    pub fn restore(&self) -> Result<()> {
        self.kill(Process::ApiServer)?;
        self.kill(Process::Etcd)?;
        fs::remove_dir_all(self.etcd_data())?;
        copy_folder(&self.guard.scratch().join("etcd-backup"), &self.etcd_data())?;
        self.launch(Process::Etcd)?;
        self.restart(Process::ApiServer)
    }

    fn etcd_data(&self) -> PathBuf {
        self.guard.scratch().join("etcd")
    }

    /// Waits until the API server is ready.
    pub fn wait_ready(&self) -> Result<()> {
        self.guard.wait_ready("kube-apiserver", START_WITHIN, || self.api_port.answers())?;
        let ready = || self.run(&["get", "--raw", "/readyz"]).is_ok();
        self.guard.wait_ready("kube-apiserver", START_WITHIN, ready)?;
        wait_until(START_WITHIN, "the namespace default", || {
            self.run(&["get", "--raw", "/api/v1/namespaces/default"]).is_ok()
        })
    }

    /// Sends a request to etcd through its JSON gateway. etcd's clients use gRPC for the same
    /// requests.
    pub fn etcd(&self, path: &str, json: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.etcd_port.number());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--data", json, &url]);
        serde_json::from_str(&output(&mut curl)?).context("etcd's response is not JSON")
    }

    /// Raises or clears etcd's alarm for used-up disk space. While it is on, etcd stores nothing.
    pub fn set_space_alarm(&self, on: bool) -> Result<()> {
        let action = if on { "ACTIVATE" } else { "DEACTIVATE" };
        let alarm = format!(r#"{{"action": "{action}", "memberID": "1", "alarm": "NOSPACE"}}"#);
        self.etcd("/v3/maintenance/alarm", &alarm).map(drop)
    }

    /// Returns the guard of the processes, for their logs, or to run an additional process.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    fn launch(&self, process: Process) -> Result<()> {
        let mut command = Command::new(self.binaries.join(process.name()));
        let node = if self.node { config::WITH_NODE } else { config::WITHOUT_NODE };
        match process {
            Process::Etcd => command.args(self.flags_of(config::ETCD)),
            Process::ApiServer => {
                command.args(self.flags_of(config::API_SERVER)).args(self.flags_of(node)).args(&self.flags)
            }
        };
        self.guard.start(process.name(), &command).map(drop)
    }

    fn flags_of(&self, template: &str) -> Vec<String> {
        let port = |port: &Port| port.number().to_string();
        let values = [
            ("API_PORT", port(&self.api_port)),
            ("ETCD_PORT", port(&self.etcd_port)),
            ("PEER_PORT", port(&self.etcd_peer_port)),
            ("NODE", NODE.to_string()),
            ("SCRATCH", self.guard.scratch().display().to_string()),
        ];
        config::flags(template, &values)
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}
