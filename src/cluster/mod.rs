//! How the operator lives in Kubernetes. The only room that knows a `kube::Client`.

pub mod bodies;
pub mod client;
pub mod complaints;
pub mod events;
pub mod inspect;
pub mod janitor;
mod lanes;
mod latest;
pub mod lease;
pub mod pages;
pub mod pods;
pub mod queue;
pub mod rights;
pub mod schedule;
pub mod secrets;
mod shared;
pub mod status;
pub mod watch;
