//! fedora-message-operator: a `FedoraMessage` applied to a Kubernetes cluster becomes a message on
//! Fedora's RabbitMQ brokers, exactly as the fedora-messaging library would have sent it.
//!
//! The map of the crate, which docs/architecture.md draws:
//!
//! - [`message`]: what a message is; pure.
//! - [`broker`]: how it reaches RabbitMQ; the only room that knows AMQP and TLS.

pub mod broker;
pub mod message;
