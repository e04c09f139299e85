//! The code that the tests and the benchmarks on real parts share. The package `rig` starts the
//! parts.

#![expect(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    reason = "only tests and benchmarks call these functions"
)]

mod api;
pub mod bench;
pub mod cli;
pub mod fidelity;
mod namespace;
mod operator;
pub mod overlay;
pub mod raw;
mod shared;

pub use namespace::{
    CORE, MESSAGES, Summary, TestNamespace, by_sender, catalog, config_map, message, message_json, numbered,
    permissions, role_rules, secret, sender, uid, with_body, with_foreign_secret, with_secret, with_spec,
};
pub use operator::{
    DEBUG, Operator, audited, latencies, process_status, requests, unused_broker_url, wait_for_requests, write_verb,
};
pub use rig::project;
pub use shared::{
    CRDS, SOON, certificate, install, let_fault_last, message_count, program, read, run, shared, store_pod_policies,
    wait_soon, yaml_blocks,
};
