//! How a message reaches RabbitMQ. The only room that knows AMQP and TLS.

pub mod address;
pub mod connection;
pub mod credentials;
pub mod errors;
pub mod gate;
mod handshake;
pub mod keyring;
mod mistaken;
pub mod pool;
pub mod transport;
