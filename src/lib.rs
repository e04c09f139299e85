//! fedora-message-operator: a `FedoraMessage` applied to a Kubernetes cluster becomes a message on
//! Fedora's RabbitMQ brokers, exactly as the fedora-messaging library would have sent it.
//!
//! What a message is stands in the crate `fedora_message`, which is pure. This crate is the shell
//! around it; docs/architecture.md draws the map:
//!
//! - `broker`: how a message reaches RabbitMQ; the only module that uses AMQP and TLS.
//! - `cluster`: how the operator lives in Kubernetes; the only module that uses a `kube::Client`.
//! - `delivery`: one attempt to send a message, directly or by a Pod.
//! - `reconciler`: the story of one message. `controller`: the loop and the work queue around it.
//! - `ttl`: deletes finished resources.
//! - `metrics`, `certificates`, `admin`, `traces`: what can be seen of the operator from outside.
//! - `cli`, `commands`: the program.

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
