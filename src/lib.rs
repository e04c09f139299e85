//! Publishes each `FedoraMessage` in a Kubernetes cluster to Fedora's RabbitMQ brokers, exactly as
//! the fedora-messaging library would.
//!
//! The pure crate `fedora_message` defines messages and policy. This crate connects it to
//! Kubernetes and RabbitMQ; see docs/architecture.md:
//!
//! - `broker`: publishes to RabbitMQ; the only module that uses AMQP and TLS.
//! - `cluster`: reads and writes Kubernetes objects; the only module that creates a `kube::Client`.
//! - `delivery`: makes one attempt to send a message, directly or by a Pod.
//! - `reconciler`: handles one message. `controller`: the loop and the work queue around it.
//! - `senders`: follows the Senders, and checks them.
//! - `ttl`: deletes finished resources.
//! - `metrics`, `certificates`, `admin`, `traces`: monitor the operator.
//! - `cli`, `commands`: the command line.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admin;
mod broker;
mod certificates;
pub mod cli;
mod cluster;
pub mod commands;
mod controller;
mod credential_reader;
mod delivery;
#[cfg(test)]
mod docs_page;
mod fence;
mod log_throttle;
mod metrics;
mod reconciler;
mod round_robin;
mod schema_file;
mod senders;
mod timer;
mod traces;
mod ttl;
mod wake_pacer;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Parts of the operator that the tests on real parts, the benchmarks and the fuzz targets use. All
/// else is private, so that the compiler reports dead code.
#[doc(hidden)]
pub mod internals {
    pub use crate::broker::address::BrokerAddress;
    pub use crate::broker::connection::Confirmed;
    pub use crate::broker::credentials::Credentials;
    pub use crate::broker::errors::BrokerError;
    pub use crate::broker::login::Login;
    pub use crate::broker::pool::{Brokers, IDLE_TIMEOUT, Pool};
    pub use crate::broker::transport::{TlsTokio, Transport};
    pub use crate::cluster::client::{connect, describe};
    pub use crate::cluster::status::StatusWriter;
    pub use crate::cluster::watch::PENDING;
    pub use crate::commands::manifests::Manifests;
    pub use crate::controller::queue::{Job, MAX_LARGE_BYTES, Next, PodLimits, Queue, Write};
    pub use crate::fence::Fence;
}
