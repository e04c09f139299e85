//! Shared code of the benchmarks.

mod machine;
pub mod operator;

use std::path::Path;
use std::time::Duration;

use fedora_message::api::v1alpha1::{API_VERSION, PLURAL};
use kube::Client;
use rig::{Broker, Kube};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::api::config;
use crate::{CRDS, message_json, project};

pub use self::machine::{Result, machine};

/// The time limit of each step.
pub const TIMEOUT: Duration = Duration::from_mins(10);
/// The namespace of messages and certificate.
pub const NAMESPACE: &str = "bench";

/// Installs the CRD, creates the namespace with the Secret, and returns a client.
pub fn prepare(kube: &Kube, broker: &Broker) -> Result<(Runtime, Client)> {
    let prepared = install(kube)?;
    kube.apply_text(&broker.client("publisher")?.secret_yaml("certs", NAMESPACE))?;
    Ok(prepared)
}

/// Installs the CRD, creates the namespace, and returns a client.
pub fn install(kube: &Kube) -> Result<(Runtime, Client)> {
    // This fails only if a provider is already installed.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    kube.apply(&CRDS.map(project))?;
    kube.create_namespace(NAMESPACE)?;
    // At first the API server responds to requests for a new kind with 429, and kubectl retries.
    kube.run(&["get", "--raw", &format!("/apis/{API_VERSION}/{PLURAL}")])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(client(&kube.kubeconfig()))?;
    Ok((runtime, client))
}

/// Returns a client of the API server like the operator's, for this kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    Ok(fedora_message_operator::internals::connect(config(kubeconfig).await?)?)
}

/// Returns a message of about 300 bytes.
pub fn manifest(name: &str, number: usize) -> Value {
    let body = json!({"number": number, "text": "x".repeat(150)});
    let message = json!({"topic": format!("bench.{name}"), "body": body});
    let mut manifest = message_json(&format!("{name}-{number}"), &message);
    manifest["metadata"]["namespace"] = json!(NAMESPACE);
    manifest
}

/// Returns the median.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 50)
}

/// Returns a percentile, interpolated between two values.
pub fn quantile(values: &[f64], per_cent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let place = last * per_cent;
    let at = |place: usize| sorted.get(place.min(last)).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place / 100), at(place / 100 + 1));
    low + (high - low) * f64::from(u8::try_from(place % 100).expect("less than 100")) / 100.0
}
