//! What the benchmarks share.

mod machine;
pub mod operator;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rig::Kube;
use serde_json::{Value, json};

pub use self::machine::{Result, machine, memory};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_fedora-message-operator");
/// Where messages and certificate are.
pub const NAMESPACE: &str = "bench";

/// A client of the API server, as the operator's own.
pub async fn client(kube: &Kube) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kube.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(fedora_message_operator::cluster::client::connect(config)?)
}

/// A message of about 300 bytes.
pub fn manifest(name: &str, number: usize) -> Value {
    json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1",
        "kind": "FedoraMessage",
        "metadata": {"name": format!("{name}-{number}"), "namespace": NAMESPACE},
        "spec": {
            "env": "prod",
            "message": {"topic": format!("bench.{name}"), "body": {"number": number, "text": "x".repeat(150)}},
            "authentication": {"secretRef": {"name": "certs"}},
        },
    })
}
