//! The fault suite: what is promised, while something real is broken.
//!
//! `FAULTS_MESSAGES` makes it larger, `FAULTS_SEED` chooses the random moments.

mod api_server;
mod broker;
mod clock;
mod ledger;
mod operator;
