//! The steps from a resource to the message on the wire.

pub mod authentication;
pub mod body;
pub mod envelope;
pub mod invalid;
pub mod outgoing;
pub mod prepare;
#[cfg(test)]
mod properties;
pub mod secret;
pub mod sender;
pub mod trace_context;
pub mod validate;
