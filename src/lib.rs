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
//! - [`cli`], [`commands`]: the program, wired from these parts.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod admin;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod delivery;
pub mod message;
pub mod operator;
