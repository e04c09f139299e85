//! Reads from an API server as its administrator, in this process.
//!
//! A test that waits reads many times a second. If it ran kubectl for that, the processes would take
//! most of a small machine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rig::Kube;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The time limit of a read.
const WITHIN: Duration = Duration::from_secs(10);

thread_local! {
    /// The connections of this thread, by kubeconfig. A thread may have a network of its own, so others
    /// can't use them.
    static CONNECTIONS: RefCell<HashMap<PathBuf, Connection>> = RefCell::default();
}

struct Connection {
    runtime: Runtime,
    client: Client,
}

/// Returns what the API server has at this path.
///
/// # Errors
///
/// If the API server does not answer within 10 seconds, or answers with an error.
pub fn read<T: DeserializeOwned>(kube: &Kube, path: &str) -> Result<T, String> {
    CONNECTIONS.with_borrow_mut(|connections| {
        let kubeconfig = kube.kubeconfig();
        let kept =
            connections.remove(&kubeconfig).and_then(|connection| Some((connection.read(path).ok()?, connection)));
        // The API server may have closed a connection that was kept.
        let (found, connection) = kept.map_or_else(
            || Connection::open(&kubeconfig).and_then(|connection| Ok((connection.read(path)?, connection))),
            Ok,
        )?;
        connections.insert(kubeconfig, connection);
        Ok(found)
    })
}

impl Connection {
    fn open(kubeconfig: &Path) -> Result<Self, String> {
        // This fails only if a provider is already installed.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Client::try_from(config).map_err(Box::<dyn std::error::Error>::from)
        });
        Ok(Self { client: client.map_err(|error| error.to_string())?, runtime })
    }

    fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = self.runtime.block_on(async { timeout(WITHIN, self.client.request(request)).await });
        answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}
