//! The setup of the measurements: the real parts, and namespaces with messages.

use std::cell::Cell;

use fedora_message::api::object::FedoraMessage;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use rig::Rig;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::audit::AuditLog;
use e2e::bench::operator::{self, Operator};
use e2e::bench::{Result, manifest, prepare};

/// The real parts and a client.
pub struct Setup {
    pub rig: Rig,
    pub runtime: Runtime,
    pub client: Client,
    /// True in a short run.
    pub short: bool,
    namespaces: Cell<usize>,
}

/// A number for a full run and for a short run.
#[derive(Clone, Copy)]
pub struct Scaled<T> {
    pub full: T,
    pub short: T,
}

/// A number of messages. An environment variable can override it.
#[derive(Clone, Copy)]
pub struct MessageCount {
    pub variable: &'static str,
    pub default: Scaled<usize>,
}

impl Setup {
    pub fn start(short: bool) -> Result<Self> {
        let rig = Rig::start()?;
        let (runtime, client) = prepare(&rig.kube, &rig.broker)?;
        Ok(Self { rig, runtime, client, short, namespaces: Cell::default() })
    }

    /// Returns the number for this run.
    pub fn pick<T>(&self, number: Scaled<T>) -> T {
        if self.short { number.short } else { number.full }
    }

    /// Returns the number of messages for this run, or the value of its variable.
    pub fn count(&self, count: MessageCount) -> Result<usize> {
        match std::env::var(count.variable) {
            Ok(set) => Ok(set.parse()?),
            Err(_) => Ok(self.pick(count.default)),
        }
    }

    /// Creates a namespace with the certificate.
    pub fn namespace(&self, title: &str) -> Result<BenchNamespace<'_>> {
        let number = self.namespaces.get();
        self.namespaces.set(number + 1);
        let name = format!("{title}-{number}");
        let certs = self.rig.broker.client("publisher")?.secret_yaml("certs", &name);
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        self.rig.kube.apply_text(&format!("{namespace}\n---\n{certs}"))?;
        Ok(BenchNamespace { name, setup: self })
    }

    /// Starts an operator for these namespaces, or for all if the list is empty.
    pub fn operator(&self, namespaces: &[&BenchNamespace], arguments: &[&str]) -> Operator {
        let names = namespaces.iter().map(|namespace| namespace.name.as_str()).collect::<Vec<_>>().join(",");
        let scope = ["--watch-namespaces", &names];
        let scope = if namespaces.is_empty() { &[] } else { &scope[..] };
        operator::start(&self.rig.kube, &self.rig.broker, &[scope, arguments].concat())
    }

    /// Opens the API server's audit log at its end.
    pub fn audit(&self) -> Result<AuditLog> {
        AuditLog::from_now(&self.rig.kube)
    }

    /// Describes the measured versions and the build.
    pub fn versions(&self) -> Result<String> {
        let broker = self.rig.broker.ctl(&["version"])?;
        let build = if cfg!(debug_assertions) { "debug" } else { "optimized" };
        Ok(format!("RabbitMQ {}, etcd without fsync; {} {build}", broker.trim(), fedora_message_operator::VERSION))
    }
}

/// A namespace for one measurement.
pub struct BenchNamespace<'a> {
    pub name: String,
    setup: &'a Setup,
}

impl BenchNamespace<'_> {
    /// Returns the topic of its messages.
    pub fn topic(&self) -> String {
        format!("bench.{}", self.name)
    }

    /// Returns a message of about 300 bytes.
    pub fn message(&self, number: usize) -> Value {
        let mut message = manifest(&self.name, number);
        message["metadata"]["namespace"] = self.name.clone().into();
        message
    }

    /// Creates `count` messages.
    pub fn create(&self, count: usize) -> Result<Vec<FedoraMessage>> {
        self.create_all((0..count).map(|number| self.message(number)))
    }

    /// Creates these messages.
    pub fn create_all(&self, messages: impl IntoIterator<Item = Value>) -> Result<Vec<FedoraMessage>> {
        self.setup.runtime.block_on(self.create_each(messages))
    }

    /// Creates these messages asynchronously.
    pub async fn create_each(&self, messages: impl IntoIterator<Item = Value>) -> Result<Vec<FedoraMessage>> {
        operator::create(&self.setup.client, messages).await
    }

    /// Deletes its sent messages.
    pub async fn delete_sent(&self) -> Result<()> {
        let api: Api<FedoraMessage> = Api::namespaced(self.setup.client.clone(), &self.name);
        let sent = ListParams::default().fields("status.status=true");
        api.delete_collection(&DeleteParams::default(), &sent).await?;
        Ok(())
    }

    /// Creates one message.
    pub async fn create_one(&self, message: &Value) -> Result<FedoraMessage> {
        operator::create_one(&self.setup.client, message).await
    }
}
