//! What a message is: its resource, its rules, its form on the wire, and every way it can end.
//!
//! Everything here is a pure function of its arguments. The compiler guards that: this crate's
//! `Cargo.toml` lists no client, and `clippy.toml` forbids clocks, chance, files and the
//! environment.
//!
//! - [`api`]: the custom resource, its CRD, and how it is decoded.
//! - [`message`]: from the resource to an [`OutgoingMessage`](message::validate::OutgoingMessage)
//!   and its [`Envelope`](message::envelope::Envelope).
//! - [`schema`]: checks a message against the schema that its sender names.
//! - [`pod`]: the Pod that runs the fedora-messaging CLI, and what its state means.
//! - [`policy`]: every way an attempt can end, and what follows from it.
//! - [`state`]: what the operator knows of a message, and the status that it writes.
//! - [`compact`]: messages and statuses while they wait, in few bytes.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod api;
pub mod compact;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod message;
pub mod pod;
pub mod policy;
pub mod schema;
pub mod state;
pub mod text;
