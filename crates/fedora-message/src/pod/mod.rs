//! Delivery by a Pod: its manifest, the message it reads, and what its state means.

pub mod cli_message;
pub mod manifest;
pub mod status;
#[cfg(test)]
mod tests;
