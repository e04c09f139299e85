//! The pure parts, as tables: what goes in, and the very words that come out.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod credentials;
mod decide;
mod envelope;
mod fixture;
mod incoming;
mod properties;
mod queue;
mod secret;
mod status;
mod validate;
