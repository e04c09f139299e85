//! A node for real Pods: containerd with runc, kubelet, kube-controller-manager and kube-scheduler.
//! Needs Linux, root, and control groups of version 1 or 2.
//!
//! It has its own [`Network`]. Containers, their mounts and their control groups end with it. It
//! changes no setting of the machine.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    Kube, Rig,
    broker::Options,
    command::output,
    guard::Guard,
    images,
    kube::{binaries, node_binaries},
    network::{NODE, Network},
    python::Python,
    wait::wait_until,
};

const START: &str = include_str!("node/start.sh");
const FILES: [(&str, &str); 3] = [
    ("containerd.toml", include_str!("node/containerd.toml")),
    ("kubelet.yaml", include_str!("node/kubelet.yaml")),
    ("cni/10-pods.conflist", include_str!("node/cni.json")),
];
/// The folders of the plugins for networks: Debian's and Fedora's.
const CNI_PLUGINS: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];
const NAME: &str = "node";
/// The names of Fedora's brokers. The broker's certificate is valid for them.
pub const BROKERS: [&str; 2] = ["rabbitmq.fedoraproject.org", "rabbitmq.stg.fedoraproject.org"];
const BROKER_PORT: u16 = 5671;
/// A node needs 8 s on an idle machine, and longer on a busy one.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// A cluster with one node, and a broker that its Pods reach.
#[derive(Debug)]
pub struct Cluster {
    // The fields are dropped in this order, the network last.
    node: Guard,
    rig: Rig,
    network: Network,
}

/// The API server, and the broker, which is at [`NODE`].
impl Deref for Cluster {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl Cluster {
    /// Starts a cluster, and moves the calling thread into its network. Tests call
    /// [`enter`](Self::enter) from each other thread.
    pub fn start() -> Result<Self> {
        ensure!(has_control_groups(), "a node needs Linux with control groups for cpu, memory and pids");
        // Download first, because the network has no connection to the internet.
        let (programs, archives) = (node_binaries()?, images::archives()?);
        let servers = binaries()?;
        Python::get()?;
        let network = Network::new()?;
        network.enter()?;
        let node = NODE.to_string();
        let names = [node.as_str(), "localhost", "127.0.0.1"].into_iter().chain(BROKERS);
        let options = Options {
            server_names: names.map(str::to_owned).collect(),
            address: "0.0.0.0".into(),
            port: Some(BROKER_PORT),
            ..Options::default()
        };
        let rig = Rig::start_with(|| Kube::start_servers(servers, &[], true), &options)?;
        let node = Guard::new(NAME)?;
        let cluster = Self { node, rig, network };
        cluster.start_node(&programs, &archives)?;
        cluster.start_controllers(&programs)?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Moves the calling thread into the cluster's network, with all threads and processes that it
    /// starts later.
    pub fn enter(&self) -> Result<()> {
        self.network.enter()
    }

    /// Returns its network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the guard of the node's processes, for their logs.
    #[must_use]
    pub fn node(&self) -> &Guard {
        &self.node
    }

    /// Imports an image from an archive.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let socket = self.node.scratch().join("containerd/containerd.sock");
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        output(&mut ctr).map(drop)
    }

    /// Returns the control group of all Pods, below each controller's root.
    #[must_use]
    pub fn pods_control_group(&self) -> String {
        format!("{}/kubepods", self.node.unique_name())
    }

    fn start_node(&self, programs: &Path, archives: &[PathBuf]) -> Result<()> {
        let scratch = self.node.scratch();
        self.node.make_control_group()?;
        fs::create_dir(scratch.join("cni"))?;
        let plugins = CNI_PLUGINS.into_iter().find(|folder| Path::new(folder).exists());
        let plugins = plugins.with_context(|| format!("no plugins for networks in {}", CNI_PLUGINS.join(" or ")))?;
        for (file, template) in FILES {
            let text = template
                .replace("SCRATCH", &scratch.display().to_string())
                .replace("CGROUP", &self.node.unique_name())
                .replace("CNI_PLUGINS", plugins)
                .replace("KUBE_CA", &self.kube.ca().display().to_string());
            fs::write(scratch.join(file), text)?;
        }
        fs::write(scratch.join("start.sh"), START)?;
        let images: Vec<_> = archives.iter().map(|path| path.display().to_string()).collect();
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--mount", "--fork", "--mount-proc", "--kill-child=KILL", "--propagation", "private"])
            .args(["bash", "start.sh"])
            .env("SCRATCH", scratch)
            .env("KUBELET", programs.join("kubelet"))
            .env("KUBECONFIG", self.kube.kubeconfig_for("node")?)
            .env("IMAGES", images.join(":"));
        self.node.start(NAME, &command).map(drop)
    }

    fn start_controllers(&self, programs: &Path) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kube.kubeconfig().display());
        let certificates = |name: &str| format!("--cert-dir={}", self.node.scratch().join(name).display());
        for (name, flags) in
            [("kube-controller-manager", self.kube.controller_manager_flags()), ("kube-scheduler", Vec::new())]
        {
            let mut command = Command::new(programs.join(name));
            command
                .args([&kubeconfig, &certificates(name), "--leader-elect=false", "--bind-address=127.0.0.1"])
                .args(flags);
            self.node.start(name, &command)?;
        }
        Ok(())
    }

    fn wait_ready(&self) -> Result<()> {
        let path = "{.items[*].status.conditions[?(@.type=='Ready')].status} {.items[*].spec.taints[*].key}";
        let state = || self.kube.run(&["get", "nodes", "-o", &format!("jsonpath={path}")]);
        let ready = || state().is_ok_and(|state| state.trim_end() == "True");
        self.node.wait_ready(NAME, READY_WITHIN, ready).with_context(|| {
            let logs = ["containerd.log", "kubelet.log"].map(|name| {
                let text = fs::read_to_string(self.node.scratch().join(name)).unwrap_or_default();
                text.lines().rev().take(10).map(|line| ["  ", line, "\n"].concat()).collect::<Vec<_>>().concat()
            });
            let state = state().unwrap_or_default();
            format!(
                "ready, and taints: {state}; containerd's and the kubelet's last lines, last first:\n{}",
                logs.concat()
            )
        })?;
        let account = || self.kube.run(&["get", "serviceaccount", "default"]).is_ok();
        wait_until(READY_WITHIN, "the namespace's service account", account)
    }
}

/// Returns true if the machine can limit containers: in one hierarchy for each controller (version 1),
/// or in one for all (version 2).
fn has_control_groups() -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory", "pids"].iter().all(|name| {
        all.split_whitespace().any(|other| other == *name)
            || Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists()
    })
}
