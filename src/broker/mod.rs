//! Publishes messages to RabbitMQ. The only module that uses AMQP and TLS.

pub mod address;
mod broker_certificate;
mod client_key;
pub mod connection;
pub mod credential_cache;
pub mod credentials;
pub mod errors;
mod frames;
mod greeting;
pub mod login;
mod pem;
mod pem_diagnostics;
pub mod pool;
mod public_key;
mod slots;
pub mod transport;
