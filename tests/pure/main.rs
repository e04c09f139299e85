//! The pure parts, as tables: what goes in, and the very words that come out.

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
