//! Delivery by a Pod: its manifest, the message that it reads, and the meaning of its status.

pub mod cli_message;
pub mod manifest;
pub mod proof;
pub mod status;
#[cfg(test)]
mod tests;
