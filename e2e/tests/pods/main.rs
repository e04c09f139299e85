//! Delivery by Pods on a real node: kubelet, containerd and runc, with a broker that Pods reach.
//!
//! All tests share one cluster. Each test has its own namespaces and topics, and its namespaces
//! enforce the Pod Security level `restricted`. A thread that uses the cluster moves into its
//! network.

mod cleanup;

mod cluster;
mod delivery;
mod failures;
mod fallback;
mod foreign;
mod helm;
mod image;
mod install;
mod network_policy;
mod permissions;
mod pipelines;
mod restart;
