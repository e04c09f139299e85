//! The real parts for tests, demo and benchmarks: a Kubernetes API server, a RabbitMQ with
//! Fedora's setup, and the Python fedora-messaging library.
//!
//! | module | contents |
//! |---|---|
//! | [`kube`] | kube-apiserver, etcd and kubectl |
//! | [`broker`] | RabbitMQ: TLS and client certificates only |
//! | [`engine`], [`base_images`], [`debian`] | a Docker engine with Buildx and Compose, from Debian's packages |
//! | [`node`], [`network`], [`images`] | a node for real Pods: containerd, kubelet, controllers and scheduler |
//! | [`services`], [`network_policy`] | Service addresses, DNS and network policies on a node |
//! | [`pki`] | certificates, issued on demand |
//! | [`python`], [`consumer`], [`publisher`] | fedora-messaging, as consumer and as reference publisher |
//! | [`helm`] | Helm |
//! | [`schemas`] | the schemas of Fedora's messages, with valid and invalid bodies |
//! | [`proxy`], [`tls_server`], [`unusual_servers`] | a network that fails, and servers that behave as no broker does |
//! | [`cores`] | CPU cores for each process |
//! | [`clock`] | a system clock that a test can set for one process |
//! | [`resolver`] | a name with several addresses, for one process |
//! | [`guard`] | ends all child processes with their owner |
//! | [`cache`], [`go_module`], [`port`], [`wait`] | shared helpers |
//!
//! Each part has its own loopback ports and its own scratch folder, so any number of them run at once.
//! The drop of a part, or any end of the process that owns it, ends its processes and removes its
//! folder.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod acceptor;
pub mod base_images;
pub mod broker;
pub mod cache;
pub mod clock;
mod command;
pub mod consumer;
pub mod cores;
pub mod debian;
pub mod engine;
pub mod go_module;
pub mod guard;
pub mod helm;
pub mod images;
mod json_lines;
pub mod kube;
pub mod network;
pub mod network_policy;
pub mod node;
pub mod packages;
pub mod pki;
pub mod port;
mod preload;
pub mod proxy;
pub mod publisher;
pub mod python;
pub mod rabbitmq;
pub mod resolver;
pub mod schemas;
pub mod services;
mod testdata;
pub mod tls_server;
pub mod unusual_servers;
pub mod wait;

pub use broker::Broker;
pub use clock::Clock;
pub use consumer::Consumer;
pub use cores::SeparateCores;
pub use engine::Engine;
pub use guard::Guard;
pub use kube::Kube;
pub use node::Cluster;
pub use pki::{ClientCert, Pki};
pub use proxy::Proxy;
pub use publisher::Publisher;
pub use resolver::Resolver;
pub use services::Services;
pub use testdata::{project, testdata};
pub use tls_server::TlsServer;
pub use unusual_servers::UnusualServers;
pub use wait::{wait_for, wait_until};

use anyhow::{Context, Result, anyhow};

use broker::Options;

/// An API server and a broker.
#[derive(Debug)]
pub struct Rig {
    /// The API server.
    pub kube: Kube,
    /// The broker.
    pub broker: Broker,
}

impl Rig {
    /// Starts both in parallel, and waits until both answer.
    pub fn start() -> Result<Self> {
        Self::start_with(Kube::start, &Options::default())
    }

    /// Does the same, if need be with an older version of Kubernetes ([`kube::any_binaries`]).
    pub fn start_any() -> Result<Self> {
        Self::start_with(|| Kube::start_servers(kube::any_binaries()?, &[], false), &Options::default())
    }

    fn start_with(kube: impl FnOnce() -> Result<Kube> + Send, options: &Options) -> Result<Self> {
        let (kube, broker) = std::thread::scope(|scope| {
            let kube = scope.spawn(kube);
            let broker = Broker::start_with(options);
            (kube.join(), broker)
        });
        let kube = kube
            .map_err(|_| anyhow!("the thread that started Kubernetes panicked"))?
            .context("Kubernetes did not start")?;
        Ok(Self { kube, broker: broker.context("RabbitMQ did not start")? })
    }
}
