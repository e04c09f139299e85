//! The pure parts, as tables: what goes in, and the very words that come out.

mod credentials;
mod decide;
mod envelope;
mod fallback;
mod fixture;
mod hostile;
mod incoming;
mod installed;
mod lease;
mod lifetime;
mod packed;
mod pages;
mod pod;
mod properties;
mod queue;
mod schedule;
mod schemas;
mod secret;
mod status;
mod terms;
mod validate;
