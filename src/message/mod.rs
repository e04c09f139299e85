//! What a message is: its resource, its rules, its form on the wire, and every way it can end.
//!
//! Everything here is a pure function of its arguments. Nothing in this room knows a client, a
//! clock, a broker or an API server; `tests/architecture.rs` holds that line.

pub mod authentication;
pub mod backoff;
pub mod body;
pub mod catalogue;
pub mod conform;
pub mod decide;
pub mod envelope;
pub mod fitting;
pub mod incoming;
pub mod installed;
pub mod lifetime;
pub mod line;
pub mod names;
mod numbers;
pub mod outcome;
pub mod packed;
pub mod pod;
pub mod resource;
mod schema;
pub mod secret;
pub mod status;
mod strict;
pub mod text;
pub mod trace;
pub mod validate;
pub mod verdict;
