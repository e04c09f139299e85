//! Delivery by Pods, on a real node: kubelet, containerd and runc, with a broker that Pods reach.
//!
//! All tests share one cluster, each with namespaces and topics of its own, in which the Pod Security
//! level `restricted` is enforced. A thread that asks for the cluster is moved into its network.

mod cleaning;
mod cluster;
mod delivery;
mod fallback;
mod image;
mod install;
mod restart;
mod rights;
mod words;
