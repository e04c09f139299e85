//! The commands of the rig's command line, and what they share.

pub(crate) mod demo;
pub(crate) mod say;
pub(crate) mod tools;
pub(crate) mod up;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use rig::Rig;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The Secret that the examples name.
const SECRET: &str = "fedora-messaging-certs";

/// The broker's user in that Secret's certificate.
const USER: &str = "publisher";

/// Set once the user wants to leave. Before it exists, Ctrl-C simply ends the program: the guards
/// clean up then too.
struct Leave(Arc<AtomicBool>);

impl Leave {
    fn watch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot watch for Ctrl-C")?;
        }
        Ok(Self(flag))
    }

    fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Brings up API server and broker, applies the manifests and stores the Secret that the examples name.
fn bring_up(apply: &[PathBuf]) -> Result<Rig> {
    say::note("Bringing up Kubernetes and RabbitMQ: about 10 seconds.");
    let start = Instant::now();
    let rig = Rig::start()?;
    rig.kube.apply(apply)?;
    let certificate = rig.broker.client(USER)?;
    rig.kube.apply_text(&certificate.secret_yaml(SECRET, "default"))?;
    say::part("Kubernetes", &format!("{} (version {})", rig.kube.url(), rig::kube::version()?));
    say::part("RabbitMQ", &rig.broker.url());
    say::part("Secret", &format!("default/{SECRET}: certificate of the broker's user {USER}"));
    say::note(&format!("Up in {:.1} s.", start.elapsed().as_secs_f32()));
    Ok(rig)
}

/// What to type in another shell to use the rig.
fn shell_hint(rig: &Rig) -> Vec<String> {
    let kubectl = rig.kube.kubectl_path();
    let folder = kubectl.parent().unwrap_or(&kubectl);
    vec![
        format!("export KUBECONFIG={}", rig.kube.kubeconfig().display()),
        format!("export PATH=\"$PATH:{}\"    # for kubectl", folder.display()),
    ]
}
