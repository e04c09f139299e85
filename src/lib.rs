//! fedora-message-operator: a `FedoraMessage` applied to a Kubernetes cluster becomes a message on
//! Fedora's RabbitMQ brokers, exactly as the fedora-messaging library would have sent it.
//!
//! The map of the crate, which docs/architecture.md draws:
//!
//! - [`message`]: what a message is; pure.
//! - [`broker`]: how it reaches RabbitMQ; the only room that knows AMQP and TLS.
//! - [`cluster`]: how the operator lives in Kubernetes; the only room that knows a `kube::Client`.
//! - [`delivery`], [`controller`], [`operator`]: join them; the story of one message is in
//!   [`controller`].
//! - [`metrics`], [`certificates`], [`admin`]: what can be seen of it from outside.
//! - [`schemas`]: the file with the schemas of messages.
//! - `traces`: what a collector gets, in a build with the feature `otlp`.
//! - [`cli`], [`commands`]: the program, wired from these parts.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod admin;
pub mod broker;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod delivery;
pub mod message;
pub mod metrics;
pub mod operator;
pub mod schemas;
#[cfg(feature = "otlp")]
pub mod traces;
