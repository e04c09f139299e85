//! The pure core: the resources, their rules, the form on the wire, and every outcome.
//!
//! Everything here is a pure function of its arguments. The compiler guards that: this crate's
//! `Cargo.toml` lists no client, and `clippy.toml` forbids clocks, randomness, files and the
//! environment.
//!
//! - [`api`]: the custom resource, its CRD and its decoder.
//! - [`bounds`]: the limits on what users can make the operator hold.
//! - [`message`]: from the resource to an [`OutgoingMessage`](message::outgoing::OutgoingMessage)
//!   and its [`Envelope`](message::envelope::Envelope).
//! - [`schema`]: the check of a message against the schema that its sender names.
//! - [`pod`]: the Pod that runs the fedora-messaging CLI, and the meaning of its status.
//! - [`policy`]: the outcomes of an attempt, and their consequences.
//! - [`sender_check`]: the result of checking a Sender, and the status that says it.
//! - [`state`]: the operator's knowledge of a message, and the status that it writes.
//! - [`compact`]: the compact form of messages and statuses that wait.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod api;
pub mod bounds;
pub mod compact;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod message;
pub mod pod;
pub mod policy;
pub mod schema;
pub mod sender_check;
pub mod state;
pub mod text;
