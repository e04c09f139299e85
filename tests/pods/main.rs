//! Delivery by Pods, on a real node: kubelet, containerd and runc, with a broker that Pods reach.
//!
//! All tests share one cluster, each with namespaces and topics of its own, in which the Pod Security
//! level `restricted` is enforced. A thread that asks for the cluster is moved into its network.

mod cleaning;
mod cluster;
mod delivery;
mod fallback;
mod fidelity;
mod image;
mod install;
#[path = "../real/overlay.rs"]
mod overlay;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/raw.rs"]
mod raw;
mod restart;
mod rights;
mod words;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/world.rs"]
mod world;
