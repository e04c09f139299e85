//! What the measurements stand on: the real parts, namespaces of their own, and messages in them.

use std::cell::Cell;
use std::time::Duration;

use fedora_message::api::object::FedoraMessage;
use fedora_message::api::v1alpha1::{GROUP, PLURAL, VERSION};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use rig::Rig;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::audit::Audit;
use e2e::bench::operator::{CONCURRENCY, Operator};
use e2e::bench::{Result, manifest, prepare};

/// No step takes longer.
pub const LONG: Duration = Duration::from_mins(10);

/// The real parts.
pub struct World {
    pub rig: Rig,
    pub runtime: Runtime,
    pub client: Client,
    /// Whether it is the short form.
    pub short: bool,
    spaces: Cell<usize>,
}

/// A number in the usual form of the run, and in the short one.
#[derive(Clone, Copy)]
pub struct Of<T> {
    pub full: T,
    pub short: T,
}

/// A number of messages, which a variable of this name may set.
#[derive(Clone, Copy)]
pub struct Count {
    pub variable: &'static str,
    pub usual: Of<usize>,
}

impl World {
    pub fn start(short: bool) -> Result<Self> {
        let rig = Rig::start()?;
        let (runtime, client) = prepare(&rig.kube, &rig.broker)?;
        Ok(Self { rig, runtime, client, short, spaces: Cell::default() })
    }

    /// The number for this form of the run.
    pub fn of<T>(&self, number: Of<T>) -> T {
        if self.short { number.short } else { number.full }
    }

    /// The same, unless the variable says otherwise.
    pub fn count(&self, count: Count) -> Result<usize> {
        match std::env::var(count.variable) {
            Ok(set) => Ok(set.parse()?),
            Err(_) => Ok(self.of(count.usual)),
        }
    }

    /// A new namespace, with the certificate in it.
    pub fn space(&self, title: &str) -> Result<Space<'_>> {
        let number = self.spaces.get();
        self.spaces.set(number + 1);
        let name = format!("{title}-{number}");
        let certs = self.rig.broker.client("publisher")?.secret_yaml("certs", &name);
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        self.rig.kube.apply_text(&format!("{namespace}\n---\n{certs}"))?;
        Ok(Space { name, world: self })
    }

    /// Starts an operator for these namespaces; for all if there are none.
    pub fn operator(&self, spaces: &[&Space], arguments: &[&str]) -> Result<Operator> {
        let names = spaces.iter().map(|space| space.name.as_str()).collect::<Vec<_>>().join(",");
        let scope = ["--watch-namespaces", &names];
        let scope = if spaces.is_empty() { &[] } else { &scope[..] };
        Operator::start(&self.rig.kube, &self.rig.broker, &[scope, arguments].concat())
    }

    /// The API server's audit log, from now on.
    pub fn audit(&self) -> Result<Audit> {
        Audit::from_now(&self.rig.kube)
    }

    /// Of what is measured here, and in which build.
    pub fn versions(&self) -> Result<String> {
        let broker = self.rig.broker.ctl(&["version"])?;
        let build = if cfg!(debug_assertions) { "debug" } else { "optimized" };
        Ok(format!("RabbitMQ {}, etcd without fsync; {} {build}", broker.trim(), fedora_message_operator::VERSION))
    }
}

/// A namespace of a measurement's own.
pub struct Space<'a> {
    pub name: String,
    world: &'a World,
}

impl Space<'_> {
    /// The topic of its messages.
    pub fn topic(&self) -> String {
        format!("bench.{}", self.name)
    }

    /// A message in it, of about 300 bytes.
    pub fn message(&self, number: usize) -> Value {
        let mut message = manifest(&self.name, number);
        message["metadata"]["namespace"] = self.name.clone().into();
        message
    }

    /// Creates so many messages.
    pub fn create(&self, count: usize) -> Result<Vec<FedoraMessage>> {
        self.create_all((0..count).map(|number| self.message(number)))
    }

    /// Creates these messages.
    pub fn create_all(&self, messages: impl IntoIterator<Item = Value>) -> Result<Vec<FedoraMessage>> {
        self.world.runtime.block_on(self.create_each(messages))
    }

    /// Creates these messages, while something else is done.
    pub async fn create_each(&self, messages: impl IntoIterator<Item = Value>) -> Result<Vec<FedoraMessage>> {
        let creations = messages.into_iter().map(async |message| self.create_one(&message).await);
        stream::iter(creations).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// Deletes the messages in it that are sent.
    pub async fn delete_sent(&self) -> Result<()> {
        let api: Api<FedoraMessage> = Api::namespaced(self.world.client.clone(), &self.name);
        let sent = ListParams::default().fields("status.status=true");
        api.delete_collection(&DeleteParams::default(), &sent).await?;
        Ok(())
    }

    /// Creates one message.
    pub async fn create_one(&self, message: &Value) -> Result<FedoraMessage> {
        let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{PLURAL}", self.name);
        let request =
            Request::post(path).header("Content-Type", "application/json").body(message.to_string().into())?;
        Ok(self.world.client.request(request).await?)
    }
}
