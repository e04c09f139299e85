//! Reads, watches and writes Kubernetes objects: the only module that creates a `kube::Client`.

pub mod client;
pub mod events;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod inspect;
pub mod leader_election;
pub mod list;
pub mod permissions;
pub mod pods;
pub mod refetch;
pub mod secrets;
pub mod senders;
pub mod status;
pub mod watch;
