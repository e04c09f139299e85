//! How a message reaches RabbitMQ. The only room that knows AMQP and TLS.

pub mod address;
pub mod connection;
pub mod credential_cache;
pub mod credentials;
pub mod errors;
pub mod fence;
mod login;
mod pem_diagnostics;
pub mod pool;
pub mod transport;
