//! The custom resources: their types, their CRDs and their decoders.

pub mod compare;
mod crd;
pub mod deployment_tool;
pub mod names;
pub mod object;
pub mod sender;
mod serde;
pub mod v1alpha1;
