//! How a message reaches RabbitMQ. The only room that knows AMQP and TLS.

pub mod address;
pub mod connection;
pub mod credentials;
pub mod errors;
pub mod keyring;
pub mod pool;
pub mod transport;
