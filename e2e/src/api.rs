//! Requests to an API server as its administrator, from this process.
//!
//! A test that waits reads many times a second. If it ran kubectl for that, the processes would take
//! most of a small machine. And kubectl creates 50 objects a second.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rig::Kube;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The time limit of a request.
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
        let kept = connections.remove(&kubeconfig).and_then(|kept| Some((kept.read(path).ok()?, kept)));
        // The API server may have closed a connection that was kept.
        let (found, connection) = if let Some(kept) = kept {
            kept
        } else {
            let new = Connection::open(&kubeconfig)?;
            (new.read(path)?, new)
        };
        connections.insert(kubeconfig, connection);
        Ok(found)
    })
}

/// Creates objects in a namespace, one after the other. `manifests` are YAML, or JSON without
/// separators.
///
/// # Errors
///
/// If the API server refuses one, or does not answer within 10 seconds.
pub fn create(kube: &Kube, namespace: &str, manifests: &str) -> Result<(), String> {
    let connection = Connection::open(&kube.kubeconfig())?;
    for object in parse(manifests)? {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let api = if text("apiVersion").contains('/') { "apis" } else { "api" };
        let (version, resource) = (text("apiVersion"), text("kind").to_lowercase());
        let path = format!("/{api}/{version}/namespaces/{namespace}/{resource}s?fieldValidation=Strict");
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        let request = request.body(object.to_string().into_bytes()).map_err(|error| error.to_string())?;
        connection.send::<IgnoredAny>(request)?;
    }
    Ok(())
}

/// Returns the configuration of a client for this kubeconfig.
pub(crate) async fn config(kubeconfig: &Path) -> Result<Config, KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await
}

fn parse(manifests: &str) -> Result<Vec<Value>, String> {
    if manifests.starts_with('{') {
        let objects = serde_json::Deserializer::from_str(manifests).into_iter();
        return objects.collect::<Result<_, _>>().map_err(|error| error.to_string());
    }
    let documents = manifests.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| serde_saphyr::from_str(document).map_err(|error| error.to_string())).collect()
}

impl Connection {
    fn open(kubeconfig: &Path) -> Result<Self, String> {
        // This fails only if a provider is already installed.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let client = runtime.block_on(async {
            Client::try_from(config(kubeconfig).await?).map_err(Box::<dyn std::error::Error>::from)
        });
        Ok(Self { client: client.map_err(|error| error.to_string())?, runtime })
    }

    fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.send(Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?)
    }

    fn send<T: DeserializeOwned>(&self, request: Request<Vec<u8>>) -> Result<T, String> {
        let answer = self.runtime.block_on(async { timeout(WITHIN, self.client.request_text(request)).await });
        let text = answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut json = serde_json::Deserializer::from_str(&text);
        // Managed fields are nested more deeply than a body may be.
        json.disable_recursion_limit();
        T::deserialize(&mut json).map_err(|error| error.to_string())
    }
}
