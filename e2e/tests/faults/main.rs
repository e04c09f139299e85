//! The fault suite: the operator keeps its promises while a real part is broken.
//!
//! `FAULTS_MESSAGES` sets the number of messages, `FAULTS_SEED` the random moments.

mod admin_port;
mod all_at_once;
mod api_server;
mod broker;
mod clock;
mod ledger;
mod operator;
mod tenant;
