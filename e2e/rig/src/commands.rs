//! The commands of the rig's command line, and shared code.

pub(crate) mod demo;
pub(crate) mod say;
pub(crate) mod schemas;
pub(crate) mod tools;
pub(crate) mod up;

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use rig::{Cluster, Rig, project};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::tools::Tool;

/// The Secret that the examples name.
const SECRET: &str = "fedora-messaging-certs";

/// The broker's user in that Secret's certificate.
const USER: &str = "publisher";

/// The CRD and the policy.
const MANIFESTS: [&str; 3] =
    ["crds/fedoramessages.yaml", "crds/fedoramessagesenders.yaml", "manifests/base/admission-policy.yaml"];

/// A flag that Ctrl-C sets. Without it, Ctrl-C ends the program at once, and the guards clean up
/// too.
struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    fn watch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot watch for Ctrl-C")?;
        }
        Ok(Self(flag))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The running parts.
enum Parts {
    /// An API server and a broker.
    Rig(Box<Rig>),
    /// An API server, a broker and a node.
    Cluster(Box<Cluster>),
}

impl Deref for Parts {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        match self {
            Self::Rig(rig) => rig,
            Self::Cluster(cluster) => cluster,
        }
    }
}

/// Gets the tools that are missing, and `more` of them. Starts API server and broker, and a node if
/// `node` is true. Applies the manifests, and stores the Secret that the examples name.
fn start(node: bool, more: &[Tool]) -> Result<Parts> {
    say::note("Getting what is missing. The first time, this takes some minutes.");
    tools::get(node, more)?;
    say::note("Starting Kubernetes and RabbitMQ. This takes about 10 seconds, and 10 more for a node.");
    let started = Instant::now();
    let rig = if node { Parts::Cluster(Box::new(Cluster::start()?)) } else { Parts::Rig(Box::new(Rig::start_any()?)) };
    rig.kube.apply(&MANIFESTS.map(project))?;
    let certificate = rig.broker.client(USER)?;
    rig.kube.apply_text(&certificate.secret_yaml(SECRET, "default"))?;
    say::part("Kubernetes", &format!("{} ({})", rig.kube.url(), rig.kube.server_version()?));
    say::part("RabbitMQ", &rig.broker.url());
    say::part("Secret", &format!("default/{SECRET}: client certificate of the broker's user {USER}"));
    say::note(&format!("Ready after {:.1} s.", started.elapsed().as_secs_f32()));
    Ok(rig)
}

/// Returns the commands to use the rig from another shell.
fn shell_hint(rig: &Parts) -> Vec<String> {
    let kubectl = rig.kube.kubectl_path();
    let folder = kubectl.parent().unwrap_or(&kubectl);
    let shell = match rig {
        Parts::Rig(_) => None,
        Parts::Cluster(cluster) => {
            Some(format!("nsenter --net --target {}    # a shell in the cluster's network", cluster.network().holder()))
        }
    };
    let hints = [
        format!("export KUBECONFIG={}", rig.kube.kubeconfig().display()),
        format!("export PATH=\"$PATH:{}\"    # for kubectl", folder.display()),
    ];
    shell.into_iter().chain(hints).collect()
}
