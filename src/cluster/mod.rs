//! How the operator lives in Kubernetes. The only room that knows a `kube::Client`.

pub mod client;
pub mod queue;
pub mod secrets;
pub mod status;
pub mod watch;
