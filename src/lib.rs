//! Publishes each `FedoraMessage` in a Kubernetes cluster to Fedora's RabbitMQ brokers, exactly as
//! the fedora-messaging library would.
//!
//! The pure crate `fedora_message` defines messages and policy. This crate connects it to
//! Kubernetes and RabbitMQ; see docs/architecture.md:
//!
//! - `broker`: publishes to RabbitMQ; the only module that uses AMQP and TLS.
//! - `cluster`: reads and writes Kubernetes objects; the only module that uses a `kube::Client`.
//! - `delivery`: makes one attempt to send a message, directly or by a Pod.
//! - `reconciler`: handles one message. `controller`: the loop and the work queue around it.
//! - `ttl`: deletes finished resources.
//! - `metrics`, `certificates`, `admin`, `traces`: monitor the operator.
//! - `cli`, `commands`: the command line.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod admin;
pub mod broker;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod delivery;
pub mod log_throttle;
pub mod metrics;
pub mod reconciler;
pub mod schema_file;
#[cfg(feature = "otlp")]
pub mod traces;
pub mod ttl;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod hostile;
