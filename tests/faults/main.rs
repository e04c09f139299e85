//! The fault suite: what is promised, while something real is broken.
//!
//! `FAULTS_MESSAGES` makes it larger, `FAULTS_SEED` chooses the random moments.

mod api_server;
mod broker;
mod clock;
mod ledger;
mod operator;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/raw.rs"]
mod raw;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/world.rs"]
mod world;
