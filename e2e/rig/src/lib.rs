//! The real parts that tests, demo and benchmarks stand on: a Kubernetes API server, a RabbitMQ that
//! is set up like Fedora's, and the Python fedora-messaging library.
//!
//! | module | what it is |
//! |---|---|
//! | [`kube`] | kube-apiserver, etcd and kubectl |
//! | [`broker`] | RabbitMQ: TLS and client certificates only |
//! | [`node`], [`network`], [`images`] | a node for real pods: containerd, kubelet, controllers and scheduler |
//! | [`pki`] | the certificates, made when they are needed |
//! | [`python`], [`consumer`], [`publisher`] | fedora-messaging, as consumer and as reference publisher |
//! | [`schemas`] | the schemas of Fedora's messages, and bodies that fit them or not |
//! | [`proxy`], [`tls_server`] | a network that fails, and a broker that no broker is |
//! | [`cores`] | who may run on which of the machine's cores |
//! | [`clock`] | a system clock that can be set, for one process |
//! | [`guard`] | nothing outlives the process that started it |
//! | [`cache`], [`port`], [`wait`] | what the others stand on |
//!
//! Everything is private to its owner: free loopback ports and a scratch folder each, so that any
//! number of them run at once. Dropping a part ends its processes and removes its folder; so does
//! the end of the process that holds it, however it comes.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod acceptor;
pub mod broker;
pub mod cache;
pub mod clock;
pub mod consumer;
pub mod cores;
pub mod guard;
pub mod images;
pub mod kube;
pub mod network;
pub mod node;
pub mod pki;
pub mod port;
pub mod proxy;
pub mod publisher;
pub mod python;
pub mod schemas;
mod testdata;
pub mod tls_server;
pub mod wait;

pub use broker::Broker;
pub use clock::Clock;
pub use consumer::Consumer;
pub use cores::Apart;
pub use guard::Guard;
pub use kube::Kube;
pub use node::Cluster;
pub use pki::{ClientCert, Pki};
pub use proxy::Proxy;
pub use publisher::Publisher;
pub use testdata::testdata;
pub use tls_server::TlsServer;
pub use wait::{wait_for, wait_until};

use anyhow::{Context, Result, anyhow};

/// An API server and a broker, brought up side by side.
#[derive(Debug)]
pub struct Rig {
    /// The Kubernetes half.
    pub kube: Kube,
    /// The RabbitMQ half.
    pub broker: Broker,
}

impl Rig {
    /// Starts both at once and returns when both answer.
    pub fn start() -> Result<Self> {
        let (kube, broker) = std::thread::scope(|scope| {
            let kube = scope.spawn(Kube::start);
            let broker = Broker::start();
            (kube.join(), broker)
        });
        let kube = kube
            .map_err(|_| anyhow!("the thread that started Kubernetes panicked"))?
            .context("Kubernetes did not start")?;
        Ok(Self { kube, broker: broker.context("RabbitMQ did not start")? })
    }
}
